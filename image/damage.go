package image

import "io"

// A DamageReporter is a reader of an image file that notices when the file
// contradicts itself, as a qcow2 image can. A caller that takes a failed read for
// a bad sector must not take such a file for a disk with bad sectors.
type DamageReporter interface {
	// Damage returns the first contradiction that a read came across, nil where
	// there was none.
	Damage() error
}

// DamageOf returns the damage that r reports, nil where r is no DamageReporter.
func DamageOf(r io.ReaderAt) error {
	if d, ok := r.(DamageReporter); ok {
		return d.Damage()
	}
	return nil
}
