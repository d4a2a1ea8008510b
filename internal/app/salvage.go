package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// openSalvage opens a damaged qcow2 image. What cannot be read is lost, and said.
func (in *Input) openSalvage(ctx context.Context, o Source) error {
	name := in.Src.Name()
	var opt qcow2.SalvageOptions
	if o.Backing {
		folder, err := openFolder(name)
		if err != nil {
			return err
		}
		defer folder.Close()
		opt.Backing = in.backingOpener(ctx, folder, ".", 1, true)
	}
	img, err := qcow2.OpenSalvage(ctx, in.Src, in.Src.Size(), opt)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.noteSalvage("", img)
	in.Guest = &Guest{img: img, name: name, behind: in.behind}
	return nil
}

// openSalvagedBacking opens a qcow2 image behind a damaged one.
func (in *Input) openSalvagedBacking(ctx context.Context, name string, src interface {
	image.Image
}, folder *os.Root, dir string, depth int) (image.Image, error) {
	img, err := qcow2.OpenSalvage(ctx, src, src.Size(), qcow2.SalvageOptions{Backing: in.backingOpener(ctx, folder, dir, depth, true)})
	if err != nil {
		return nil, err
	}
	if made, ok := infoOf(img.Header()); ok {
		in.behind = append(in.behind, made)
	}
	in.noteSalvage(fmt.Sprintf("backing file %q: ", name), img)
	return img, nil
}

// noteSalvage notes what was found when a damaged image was opened.
func (in *Input) noteSalvage(prefix string, img *qcow2.Salvage) {
	for _, note := range img.Notes() {
		in.notes = append(in.notes, prefix+note)
	}
	if err := img.Backing(); err != nil {
		in.notes = append(in.notes, fmt.Sprintf("%sthe backing file is not read, and what would come from it is lost: %s", prefix, advise.Explain(err)))
	}
	loss := img.Loss()
	if loss.Bytes() > 0 {
		in.notes = append(in.notes, fmt.Sprintf("%sdamaged; of the disk, %s can be read; lost: %s: bytes %s",
			prefix, readable(loss, img.Size()), lostThings(loss), listRanges(loss.Ranges)))
	}
	if loss.Astray > 0 {
		in.notes = append(in.notes, prefix+sayAstray(img))
	}
}

// Lost returns the ranges of the disk that are known to be lost, as --bad-map names
// those of a bad disk; nil if the source was not opened as a damaged image.
func (in *Input) Lost() []scan.Range {
	img := in.Salvaged()
	if img == nil {
		return nil
	}
	var list []scan.Range
	for _, r := range img.Loss().Ranges {
		list = append(list, scan.Range(r))
	}
	return list
}

// AstrayBytes returns how many bytes of the disk in a damaged image read as zero
// though they were something else, while nobody knows where they are.
func (in *Input) AstrayBytes() int64 {
	img := in.Salvaged()
	if img == nil {
		return 0
	}
	return img.Loss().Astray * img.Header().ClusterSize()
}

// sayAstray says that a part of the disk may read as zero, and nobody knows which.
func sayAstray(img *qcow2.Salvage) string {
	n := img.Loss().Astray
	return fmt.Sprintf("%s (%s) of the file are in use, and no table leads to them: if they were a part of the disk, that part reads as zero now, and which part is not known",
		advise.Count(n, "cluster"), advise.Size(uint64(n), uint64(img.Header().ClusterSize())))
}

// Salvaged returns the damaged image in the source, nil if the source is none or
// was not opened as one.
func (in *Input) Salvaged() *qcow2.Salvage {
	if in.Guest == nil {
		return nil
	}
	img, _ := in.Guest.img.(*qcow2.Salvage)
	return img
}

// SaySalvaged reports the clusters that were found to be lost when a program read
// them from the damaged image. It returns ErrUnreadable if any part of the disk is
// lost.
func (s *Session) SaySalvaged(in *Input) error {
	img := in.Salvaged()
	if img == nil {
		return nil
	}
	failed := img.Failed()
	if len(failed) > 0 {
		s.Say("%s: clusters could not be read when they were needed: bytes %s", in.Src.Name(), listRanges(failed))
	}
	if len(failed) == 0 && img.Loss().Bytes() == 0 && img.Loss().Astray == 0 {
		return nil
	}
	return ErrUnreadable
}

// Rescue returns what can be read of a disk that is copied as it is, and the same
// as a *scan.Rescue: nil if the source was not opened as a damaged image.
func (in *Input) Rescue(ctx context.Context, disk image.Image, retries int) (image.Image, *scan.Rescue, error) {
	if in.Salvaged() == nil {
		return disk, nil, nil
	}
	r, err := scan.NewRescue(ctx, disk, retries)
	return r, r, err
}

// A Salvageable says what can be read of a damaged image, in JSON and as text.
type Salvageable struct {
	Readable float64         `json:"readable"` // of the disk, from 0 to 1
	Lost     *jsonUnreadable `json:"lost"`
	Astray   int64           `json:"astray_clusters"` // of the file, in use, while no table leads to them
	text     string
}

// String returns it in a line.
func (s *Salvageable) String() string { return s.text }

// SalvageableOf returns what can be read of an image.
func SalvageableOf(img *qcow2.Salvage) *Salvageable {
	loss := img.Loss()
	s := &Salvageable{Readable: float64(img.Size()-loss.Bytes()) / float64(max(img.Size(), 1)), text: "all of the disk, by its tables"}
	var list []scan.Range
	for _, r := range loss.Ranges {
		list = append(list, scan.Range(r))
	}
	s.Lost = unreadableOf(list)
	if s.Astray = loss.Astray; s.Astray > 0 {
		s.text = sayAstray(img)
	}
	if loss.Bytes() > 0 {
		s.text = fmt.Sprintf("%s of the disk; lost: %s: bytes %s", readable(loss, img.Size()), lostThings(loss), listRanges(loss.Ranges))
		if s.Astray > 0 {
			s.text += "; " + sayAstray(img)
		}
	}
	return s
}

// readable returns how much of a disk can be read, in percent, rounded down.
func readable(loss *qcow2.Loss, size int64) string {
	good := float64(size-loss.Bytes()) / float64(max(size, 1))
	return fmt.Sprintf("%.1f %%", float64(int64(good*1000))/10)
}

// lostThings returns what was lost, as "3 clusters (192 KiB) and 1 L2 table (512
// MiB of the disk)".
func lostThings(loss *qcow2.Loss) string {
	names := map[qcow2.LossKind]string{
		qcow2.LostCluster:   "cluster",
		qcow2.LostDoubtful:  "doubtful cluster",
		qcow2.LostTablePart: "part of an L2 table",
		qcow2.LostTable:     "L2 table",
		qcow2.LostL1:        "entry of the L1 table",
		qcow2.LostBacking:   "range of the backing file",
	}
	plurals := map[qcow2.LossKind]string{
		qcow2.LostTablePart: "parts of L2 tables",
		qcow2.LostL1:        "entries of the L1 table",
		qcow2.LostBacking:   "ranges of the backing file",
	}
	var list []string
	for kind, n := range loss.Kinds {
		if n.Count == 0 {
			continue
		}
		text := advise.Count(n.Count, names[qcow2.LossKind(kind)])
		if plural := plurals[qcow2.LossKind(kind)]; plural != "" && n.Count != 1 {
			text = advise.Comma(n.Count) + " " + plural
		}
		text += fmt.Sprintf(" (%s", humanize.IBytes(uint64(n.Bytes)))
		if kind != int(qcow2.LostCluster) && kind != int(qcow2.LostDoubtful) {
			text += " of the disk"
		}
		list = append(list, text+")")
	}
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}

// listRanges returns the first ranges of a list as text, and how many more there
// are.
func listRanges[R ~struct{ Start, End int64 }](ranges []R) string {
	var list []string
	for _, r := range ranges[:min(len(ranges), maxRanges)] {
		r := scan.Range(r)
		list = append(list, fmt.Sprintf("%d-%d", r.Start, r.End-1))
	}
	if more := len(ranges) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}

// maxSurvey bounds the bytes of tables that are read to say how much of an image
// could be salvaged.
const maxSurvey = 256 << 20

// A damagedError is an error of a qcow2 image that contradicts itself, with how
// much of it can be read all the same.
type damagedError struct {
	err    error
	advice string
}

func (e *damagedError) Error() string  { return e.err.Error() }
func (e *damagedError) Unwrap() error  { return e.err }
func (e *damagedError) Advice() string { return e.advice }

// Damaged returns err with the advice how to read the qcow2 image of size bytes
// all the same, if err says that the image contradicts itself or that its disk is
// bad.
func Damaged(ctx context.Context, err error, src image.Image) error {
	corrupt := (*qcow2.CorruptError)(nil)
	if !errors.As(err, &corrupt) && !errors.Is(err, unix.EIO) {
		return err
	}
	advice := "get the image again"
	img, failed := qcow2.OpenSalvage(ctx, src, src.Size(), qcow2.SalvageOptions{MaxTables: maxSurvey})
	switch {
	case errors.As(failed, &corrupt):
	case failed != nil:
		advice += "; if this is the only copy, --salvage reads what can be read of it"
	case img.Loss().Bytes() == img.Size():
		advice += "; no part of the disk can be read from this copy"
	case img.Loss().Bytes() == 0 && img.Loss().Astray > 0:
		advice += "; if this is the only copy, --salvage reads it, but " + sayAstray(img)
	case img.Loss().Bytes() == 0:
		advice += "; if this is the only copy, --salvage reads it: by its tables, none of the disk is lost"
	default:
		advice += fmt.Sprintf("; if this is the only copy, --salvage reads %s of the disk; lost: %s", readable(img.Loss(), img.Size()), lostThings(img.Loss()))
	}
	return &damagedError{err, advice}
}
