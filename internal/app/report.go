package app

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"e2qcow/internal/advise"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// ErrUnreadable says that the work is done, except for metadata that could not
// be read. The report has listed that metadata.
var ErrUnreadable = errors.New("some metadata could not be read")

// SayRescued reports what could not be read of a disk that was copied as it is,
// nil if no damaged image was the source. It returns ErrUnreadable if something
// could not be read.
func (s *Session) SayRescued(r *scan.Rescue) error {
	if r == nil {
		return nil
	}
	return s.sayUnreadable(r.Unreadable(), "the disk")
}

// SayFound reports the damage that a scan found, and the metadata that could
// not be read, now or when the source image was made. res is nil if nothing was
// scanned. It returns ErrUnreadable if a scan lacks metadata.
func (s *Session) SayFound(in *Input, res *scan.Result) error {
	var err error
	if res != nil {
		s.SayProblems(res.Problems())
		err = s.sayUnreadable(res.Unreadable(), "metadata")
	}
	if in.AstrayBytes() > 0 || in.Src.Damage() != nil {
		err = ErrUnreadable
	}
	if i, ok := in.Made(); ok && i.Unreadable > 0 {
		s.Say("%s was made with exit status 3: it lacks %s that could not be read, and they are zero in this image", in.Src.Name(), advise.Count(i.Unreadable, "block"))
		if res != nil {
			err = ErrUnreadable
		}
	}
	return err
}

// Summary returns the sizes of what was read and written.
func (d Done) Summary() string {
	var parts []string
	if d.Scan != nil {
		if sb := d.Scan.Super(); sb != nil {
			parts = append(parts, "filesystem "+advise.Size(sb.BlocksCount(), uint64(sb.BlockSize())))
		}
		parts = append(parts, "metadata "+humanize.IBytes(uint64(d.Scan.MetadataBytes())))
		if d.Files {
			parts = append(parts, "contents "+humanize.IBytes(uint64(d.Scan.UsedBytes()-d.Scan.MetadataBytes())))
		}
	}
	image := "image " + humanize.IBytes(uint64(d.ImageBytes))
	if d.DataBytes < d.ImageBytes {
		image += fmt.Sprintf(" with %s of data", humanize.IBytes(uint64(d.DataBytes)))
	}
	if d.Same != nil {
		image += fmt.Sprintf(" (%s written, %s unchanged)", advise.Count(*d.Written, "block"), advise.Comma(*d.Same))
	}
	return strings.Join(append(parts, image, d.Took().String()), ", ")
}

// Took returns the time since the start, for people.
func (d Done) Took() time.Duration { return time.Since(d.Started).Round(time.Millisecond) }

// SayBehind reports that a device is longer than a raw image of n bytes:
// programs still find old data at the end of the device.
func (s *Session) SayBehind(t *target.Target, n int64) {
	if t.Kind() == target.Device && t.Size() > n {
		s.Say("%s is longer than the image: it is unchanged from byte %d on", t.Name(), n)
	}
}

// SayPrivate says which private data of users an image of a scan contains. opt are
// the options of the scan.
func (s *Session) SayPrivate(res *scan.Result, opt scan.Options) {
	if opt.Files {
		s.Say("the image contains the names, attributes and contents of all files")
		return
	}
	places := []string{"in inodes"}
	if opt.Journal != scan.JournalNone && res.Map.Blocks(scan.Journal) > 0 {
		places = append(places, "in the journal")
	}
	if res.Map.Blocks(scan.Claimed) > 0 {
		places = append(places, "in blocks that damage makes metadata")
	}
	s.Say("the image contains names and attributes of files, and contents that are stored %s; -s replaces them", english.WordSeries(places, "or"))
}

// SayScrambled says that the image is scrambled, by r or because the source is,
// and returns whether that is so. A raw image cannot record it.
func (s *Session) SayScrambled(in *Input, r *Scrambler, raw bool) bool {
	unrecorded := ""
	if raw {
		unrecorded = "; a raw image cannot record that it is scrambled: do not install it with -I"
	}
	switch {
	case r != nil && r.view != nil:
		s.Say("%s%s", r.Summary(), unrecorded)
	case in.Scrambled():
		s.Say("%s is scrambled, so the new image is scrambled too%s", in.Src.Name(), unrecorded)
	default:
		return false
	}
	return true
}

// SayProblems names the damage found, a line for each kind.
func (s *Session) SayProblems(problems []scan.Problem) {
	for _, p := range problems {
		if p.Kind == scan.UnknownFeature {
			s.Say("%s: metadata of that feature may be missing or wrong", p)
			continue
		}
		if p.Count > 1 {
			s.Say("damage: %s (the first of %s)", problem(p), advise.Comma(p.Count))
		} else {
			s.Say("damage: %s", problem(p))
		}
	}
}

// problem returns a text for damage. If the description already names the kind
// of damage, the kind is not repeated.
func problem(p scan.Problem) string {
	kind, text := p.Kind.String(), p.String()
	if rest, ok := strings.CutPrefix(text, kind+": "); ok && strings.HasPrefix(rest, kind) {
		return rest
	}
	return text
}

// maxRanges is the number of ranges in a message.
const maxRanges = 8

// sayUnreadable lists what could not be read and is zero in the image.
func (s *Session) sayUnreadable(ranges []scan.Range, what string) error {
	if len(ranges) == 0 {
		return nil
	}
	total := int64(0)
	for _, r := range ranges {
		total += r.End - r.Start
	}
	s.Say("%s of %s could not be read and are zero in the image: bytes %s", humanize.IBytes(uint64(total)), what, listRanges(ranges))
	return ErrUnreadable
}
