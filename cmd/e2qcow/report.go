package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"e2qcow/internal/target"
	"e2qcow/scan"
)

// report says what was done. It returns errUnreadable where that is not all.
func (s *session) report(w work, took time.Duration) error {
	var err error
	if w.scan != nil {
		s.sayProblems(w.scan.Problems())
		err = s.sayUnreadable(w.scan.Unreadable())
	}
	if i, ok := w.input.guest.info(); ok && i.Unreadable > 0 {
		s.say("%s lacks what could not be read when it was made, %s: zero in this image", w.input.src.Name(), count(i.Unreadable, "block"))
		if w.scan != nil {
			err = errUnreadable // what a dump is to have
		}
	}
	if w.compare {
		// As e2image says it, and where.
		_, _ = fmt.Fprintf(s.stdout, "%d blocks already contained the data to be copied\n", w.same)
	}
	switch {
	case w.quiet:
	case w.dryRun:
		s.say("%s to %s: %s would be written: %s", w.name, w.options.target, count(w.written, "block"), w.summary(took))
	default:
		s.say("%s to %s: %s", w.name, w.target.Name(), w.summary(took))
		s.sayBehind(w)
		s.sayPrivate(w)
	}
	return err
}

// summary returns the measures of what was read and written.
func (w *work) summary(took time.Duration) string {
	var parts []string
	if w.scan != nil {
		if sb := w.scan.Super(); sb != nil {
			parts = append(parts, "filesystem "+size(sb.BlocksCount(), uint64(sb.BlockSize())))
		}
		parts = append(parts, "metadata "+humanize.IBytes(uint64(w.scan.MetadataBytes())))
		if w.options.scan.Files {
			parts = append(parts, "contents "+humanize.IBytes(uint64(w.scan.UsedBytes()-w.scan.MetadataBytes())))
		}
	}
	image := "image " + humanize.IBytes(uint64(w.imageBytes))
	if w.dataBytes < w.imageBytes {
		image += fmt.Sprintf(" with %s of data", humanize.IBytes(uint64(w.dataBytes)))
	}
	if w.compare && !w.dryRun {
		image += fmt.Sprintf(" (%s written, %s there already)", count(w.written, "block"), comma(w.same))
	}
	return strings.Join(append(parts, image, took.Round(time.Millisecond).String()), ", ")
}

// sayBehind says of a device that is longer than a raw image what lies behind
// that: programs that look at the end of a device still find there what they knew.
func (s *session) sayBehind(w work) {
	if w.mode != toRaw || w.to != nil || w.target.Kind() != target.Device || w.target.Size() <= w.imageBytes {
		return
	}
	s.say("%s is longer than the image: from byte %d on it is as it was", w.target.Name(), w.imageBytes)
}

// sayPrivate says what of the users of the filesystem the image gives away.
func (s *session) sayPrivate(w work) {
	switch {
	case w.scramble.view != nil:
		s.say("%s%s", w.scramble.summary(), w.unrecorded())
	case w.input.scrambled():
		s.say("%s is scrambled, and so is what was made of it%s", w.input.src.Name(), w.unrecorded())
	case w.mode == toNormal:
		s.say("the image holds what is in inodes: owners, times, attributes, short symlink targets and, with inline_data, names and contents of small files")
	case w.scan != nil && !w.options.scan.Files:
		s.say("the image holds the names of files, their attributes, and contents that are %s; -s leaves them out", w.contents())
	}
}

// unrecorded says so where nothing in the target records that it is scrambled.
func (w *work) unrecorded() string {
	if w.mode != toRaw {
		return ""
	}
	return "; a raw image cannot record that: install none of it with -I"
}

// contents says where the contents of files are that an image holds.
func (w *work) contents() string {
	places := []string{"in inodes"}
	if w.options.scan.Journal != scan.JournalNone && w.scan.Map.Blocks(scan.Journal) > 0 {
		places = append(places, "in the journal")
	}
	if w.scan.Map.Blocks(scan.Claimed) > 0 {
		places = append(places, "by damage taken for structure")
	}
	return english.WordSeries(places, "or")
}

// sayProblems names the damage found, a line for each kind.
func (s *session) sayProblems(problems []scan.Problem) {
	for _, p := range problems {
		if p.Kind == scan.UnknownFeature {
			s.say("%s: what depends on it may be missing or wrong", p)
			continue
		}
		if p.Count > 1 {
			s.say("damage: %s (the first of %s)", problem(p), comma(p.Count))
		} else {
			s.say("damage: %s", problem(p))
		}
	}
}

// problem returns damage in words. What is wrong often names the kind of damage
// itself.
func problem(p scan.Problem) string {
	kind, text := p.Kind.String(), p.String()
	if rest, ok := strings.CutPrefix(text, kind+": "); ok && strings.HasPrefix(rest, kind) {
		return rest
	}
	return text
}

// maxRanges is how many ranges a person is told of.
const maxRanges = 8

// sayUnreadable lists what could not be read and is zero in the image.
func (s *session) sayUnreadable(ranges []scan.Range) error {
	if len(ranges) == 0 {
		return nil
	}
	var (
		total int64
		list  []string
	)
	for i, r := range ranges {
		total += r.End - r.Start
		if i < maxRanges {
			list = append(list, fmt.Sprintf("%d-%d", r.Start, r.End-1))
		}
	}
	if more := len(ranges) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	s.say("%s of metadata could not be read and are zero in the image: bytes %s", humanize.IBytes(uint64(total)), strings.Join(list, ", "))
	return errUnreadable
}
