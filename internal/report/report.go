// Package report draws a filesystem: a page of HTML with pictures in it, made
// of what a survey has found. The page asks for nothing from elsewhere and has
// no script.
//
//	survey.Data ─► views (what is said, in words) ─┬─► page.html, the template
//	            └► shapes (SVG: grid, strip, bars) ┘
package report

import (
	"fmt"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/scan/survey"
)

// A Report is what the page is drawn from. The names of its JSON never change.
type Report struct {
	Source     string           `json:"source"`
	Tool       string           `json:"tool"`
	Scrambled  bool             `json:"scrambled"`            // names and times are not those of the filesystem
	Lacking    uint64           `json:"unreadable_when_made"` // blocks that the image lacks
	Filesystem *app.Description `json:"filesystem,omitempty"` // nil if there is no usable superblock
	*survey.Data
}

// Verdict says in a line how the filesystem is doing.
func (r *Report) Verdict() string {
	_, text := r.verdict()
	return text
}

// How a filesystem is doing.
const (
	sound   = "sound"
	notable = "notable" // nothing is damaged, but something is to be done
	damaged = "damaged"
)

func (r *Report) verdict() (state, text string) {
	kinds := len(r.Damage.Findings)
	var parts []string
	if kinds > 0 {
		parts = append(parts, advise.Count(kinds, "kind")+" of damage")
	}
	if n := r.Damage.Ranges; n > 0 {
		parts = append(parts, advise.Count(n, "range")+" of metadata unreadable")
	}
	if r.Lacking > 0 {
		parts = append(parts, advise.Count(r.Lacking, "block")+" of metadata were unreadable when the image was made")
	}
	if len(parts) > 0 {
		return damaged, strings.Join(parts, ", ")
	}
	switch {
	case r.Filesystem == nil:
		return damaged, "no usable superblock"
	case r.Filesystem.ErrorCount > 0:
		return notable, fmt.Sprintf("no damage found, but the kernel has recorded %s", advise.Count(uint64(r.Filesystem.ErrorCount), "error"))
	case r.replays():
		return notable, "no damage found; the journal is to be replayed"
	case r.Filesystem.State[0] != "clean":
		return notable, "no damage found, but not unmounted cleanly"
	}
	return sound, "no damage found"
}

// replays reports whether the journal holds something to replay.
func (r *Report) replays() bool {
	return r.Log != nil && (r.Log.Transactions > 0 || r.Log.FastCommits > 0) ||
		r.Filesystem != nil && r.Filesystem.JournalHead != nil && r.Filesystem.JournalHead.Replay
}
