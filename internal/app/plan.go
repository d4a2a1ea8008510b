package app

import (
	"math"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/progress"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// The phases that several commands have.
const (
	scanning      = "scan"
	scanningOther = "scan other"
	scrambling    = "scramble"
	measuring     = "measure"
	reading       = "read"
	copying       = "copy"
	verifying     = "verify"
	comparing     = "compare"
	syncing       = "sync"

	Undoing    = "undo"
	Installing = "install"
	Moving     = "move"
)

// Rates that are assumed of phases till they show their own, in bytes of the image
// a second: those of two cores of 2024 with the source in the page cache.
const (
	plainRate    = 2500 << 20
	zlibRate     = 600 << 20
	zstdRate     = 1500 << 20
	scrambleRate = 2000 << 20
	scrubRate    = 300 << 20
	verifyRate   = 2000 << 20
	compareRate  = 2000 << 20
	syncRate     = 1500 << 20
)

// A Plan says what writing an image consists of.
type Plan struct {
	AsItIs      bool // nothing is scanned
	Scrambled   bool
	DryRun      bool
	Compression qcow2.Compression
}

// Steps returns the steps of the plan.
func (p Plan) Steps() []progress.Step {
	write := progress.Step{Name: copying, Bytes: progress.AsFirst, Rate: plainRate}
	sync := progress.Step{Name: syncing, Bytes: progress.AsFirst, Rate: syncRate}
	const shrinks = 10 // metadata by compression, at least
	switch p.Compression {
	case qcow2.Zlib:
		write.Rate, sync.Rate = zlibRate, shrinks*syncRate
	case qcow2.Zstd:
		write.Rate, sync.Rate = zstdRate, shrinks*syncRate
	}
	if p.Scrambled {
		write.Rate = min(write.Rate, scrubRate)
	}
	if p.AsItIs {
		write.Rate = 0
		return []progress.Step{write, sync}
	}
	steps := []progress.Step{{Name: scanning}}
	if p.Scrambled {
		steps = append(steps, progress.Step{Name: scrambling, Bytes: progress.AsFirst, Rate: scrambleRate})
	}
	if p.DryRun {
		write.Name = reading
	}
	steps = append(steps, write)
	if p.Scrambled {
		steps = append(steps, progress.Step{Name: verifying, Bytes: progress.AsFirst, Rate: verifyRate})
	}
	if p.DryRun {
		return steps
	}
	return append(steps, sync)
}

// InstallSteps returns the steps of putting metadata back, with an undo or without.
// The device is as fast as the source, or nothing is known about it.
func InstallSteps(undo bool) []progress.Step {
	steps := []progress.Step{{Name: scanning}}
	if undo {
		steps = append(steps, progress.Step{Name: Undoing, Bytes: progress.AsFirst})
	}
	return append(steps, progress.Step{Name: Installing, Bytes: progress.AsFirst})
}

// MoveSteps returns the steps of moving the filesystem on p: all that is in use is
// read once and written once.
func MoveSteps(p *Part) []progress.Step {
	move := progress.Step{Name: Moving, Bytes: progress.AsFirst}
	if sb := SuperblockAt(p.Disk); sb != nil {
		used := sb.BlocksCount() - min(sb.FreeBlocksCount(), sb.BlocksCount())
		move.Bytes = 2 * int64(min(used, math.MaxInt64/ext.MaxBlockSize/2)) * int64(sb.BlockSize())
	}
	return []progress.Step{{Name: scanning}, move}
}

// Unread estimates how many bytes of the metadata on p a scan does not read: a
// journal that is not replayed, and bitmaps. It is 0 where the disk has holes, as
// these bytes may lie in them.
func (o Search) Unread(p *Part) int64 {
	sb := SuperblockAt(p.Disk)
	if sb == nil {
		return 0
	}
	if start, end, err := image.Data(p.Disk).NextRun(0); err != nil || start != 0 || end != p.Disk.Size() {
		return 0
	}
	n := int64(0)
	if geo, err := sb.Geometry(); err == nil {
		n = int64(geo.GroupCount) * int64(geo.BlockSize)
	}
	if o.Scan.Journal == scan.JournalWhole && sb.HasCompat(ext.CompatHasJournal) {
		n += sb.JournalSize()
	}
	return min(n, p.Disk.Size())
}

// Reading begins the phase in which an image is read and nothing is written. It
// returns the function that counts bytes.
func Reading(shown *progress.Reporter) func(done, total int64) {
	return shown.Phase(reading, progress.Bytes)
}

// Measuring is Reading where the image is measured.
func Measuring(shown *progress.Reporter) func(done, total int64) {
	return shown.Phase(measuring, progress.Bytes)
}

// CompareSteps returns the steps of a comparison of two disks, of which so many
// bytes are not read by the scans.
func CompareSteps(unread int64) []progress.Step {
	return []progress.Step{
		{Name: scanning},
		{Name: scanningOther, Bytes: progress.AsFirst},
		{Name: comparing, Bytes: progress.AsFirst, Rate: compareRate, Fresh: unread},
	}
}

// ScanningBoth returns the functions that count in the two scans of a comparison.
func ScanningBoth(shown *progress.Reporter) [2]func(done, total int64) {
	return [2]func(done, total int64){phaseFrom(shown, scanning), phaseFrom(shown, scanningOther)}
}

// Comparing returns the function that counts the compared bytes.
func Comparing(shown *progress.Reporter) func(done, total int64) {
	return phaseFrom(shown, comparing)
}

// phaseFrom returns a function that begins a phase when it is first called, and
// counts in it.
func phaseFrom(shown *progress.Reporter, name string) func(done, total int64) {
	if shown == nil {
		return nil
	}
	var count func(done, total int64)
	return func(done, total int64) {
		if count == nil {
			count = shown.Phase(name, progress.Bytes)
		}
		count(done, total)
	}
}
