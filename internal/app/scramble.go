package app

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/progress"
	"e2qcow/scan"
	"e2qcow/scan/scrub"
)

// A Scramble says how private data is replaced. The zero Scramble replaces
// nothing.
type Scramble struct {
	Options *scrub.Options // nil where nothing is replaced
	Salt    []byte         // that the key was derived with; nil for a random key
}

// On reports whether anything is replaced.
func (s Scramble) On() bool { return s.Options != nil }

// SaltText returns the salt as it is recorded, "" where there is none.
func (s Scramble) SaltText() string { return hex.EncodeToString(s.Salt) }

// A Scrambler scrambles what one scan finds. A nil Scrambler changes nothing.
type Scrambler struct {
	how   Scramble
	index *scrub.Index
	view  *scrub.View // nil before Image
}

// Begin returns a Scrambler, nil where nothing is replaced.
func (s Scramble) Begin() *Scrambler {
	if !s.On() {
		return nil
	}
	return &Scrambler{how: s, index: scrub.NewIndex(*s.Options)}
}

// Watch returns the options of a scan that shows the scrambler every block that
// is read. The scan takes only the part of the journal that recovery reads.
func (r *Scrambler) Watch(opt scan.Options) scan.Options {
	if r == nil {
		return opt
	}
	opt.Visit = r.index.Visit
	if opt.Journal == scan.JournalWhole {
		opt.Journal = scan.JournalLive
	}
	return opt
}

// Image returns the image of what the scan found, which messages call name.
func (r *Scrambler) Image(ctx context.Context, res *scan.Result, name string, shown *progress.Reporter) (image.Image, error) {
	if r == nil {
		return res.View(), nil
	}
	r.index.Progress = shown.Phase(scrambling, progress.Names)
	view, err := r.index.View(ctx, res)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r.view = view
	return view, nil
}

// Summary returns a text that says what was replaced, what stays, and what
// could not be kept sound.
func (r *Scrambler) Summary() string {
	sum := r.view.Summary()
	parts := []string{"scrambled: names, symlink targets and attribute values are replaced; the tree, sizes, times and owners are not"}
	if r.how.Options.Unverified {
		parts = append(parts, "the image was not searched for words of the source")
	}
	if r.how.Salt != nil {
		parts = append(parts, fmt.Sprintf("--scramble-salt %s with the same key gives the same names", r.how.SaltText()))
	}
	if sum.Unsound > 0 {
		parts = append(parts, fmt.Sprintf("the index of %s was sound and may now be damaged: e2fsck finds out", advise.Count(sum.Unsound, "directory")))
	}
	if sum.Misplaced > 0 {
		parts = append(parts, fmt.Sprintf("%s of indexed directories lie in another block of the index (%s in the same block)", advise.Count(sum.Misplaced, "name"), advise.Comma(sum.Names)))
	}
	if sum.Replaced > 0 {
		parts = append(parts, advise.Count(sum.Replaced, "block")+" of invalid metadata replaced: e2fsck reports something else there")
	}
	if sum.Indexed > 0 && sum.Symlinks {
		parts = append(parts, fmt.Sprintf("symlinks through %s may lead elsewhere", advise.Count(sum.Indexed, "indexed directory")))
	}
	return strings.Join(parts, "; ")
}

// A jsonName is a line of the file of --scramble-map. Names that are no UTF-8
// are bytes, in base64.
type jsonName struct {
	Directory uint32 `json:"directory"` // inode
	Old       string `json:"old,omitempty"`
	OldBytes  []byte `json:"old_bytes,omitempty"`
	New       string `json:"new,omitempty"`
	NewBytes  []byte `json:"new_bytes,omitempty"`
}

// Finish ends the search for words of the source, after the whole image was
// read, and writes old and new names to a file, if there is one.
func (r *Scrambler) Finish(ctx context.Context, names Beside, shown *progress.Reporter) error {
	if r == nil || r.view == nil {
		return nil
	}
	r.view.Progress = shown.Phase(verifying, progress.Bytes)
	if err := r.view.Verify(ctx); err != nil {
		return err
	}
	return r.writeNames(ctx, names)
}

// writeNames writes old and new names to a file, if there is one.
func (r *Scrambler) writeNames(ctx context.Context, to Beside) error {
	if to.to == nil {
		return nil
	}
	b := bufio.NewWriter(to.to)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := r.view.Renames(ctx, func(r scrub.Rename) error {
		n := jsonName{Directory: r.Directory}
		if utf8.Valid(r.Old) {
			n.Old = string(r.Old)
		} else {
			n.OldBytes = r.Old
		}
		if utf8.Valid(r.New) {
			n.New = string(r.New)
		} else {
			n.NewBytes = r.New
		}
		return e.Encode(n)
	})
	if err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return to.settle()
}
