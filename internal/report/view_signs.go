package report

import (
	"fmt"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
)

// A sign is one of the vital signs. State is "good", "warn", "bad" or "".
type sign struct {
	Name, Value string
	More        []string
	State       string
}

type sumRow struct {
	Kind, Right, Wrong, First string
	Bad                       bool
}

type backupRow struct {
	Group, Block, State, Fields string
	Bad                         bool
}

// signs fills in how the filesystem is doing.
func (r *Report) signs(p *page) {
	f := r.Filesystem
	if f == nil {
		return
	}
	add := func(name, value, state string, more ...string) {
		p.Signs = append(p.Signs, sign{name, value, more, state})
	}
	state := "good"
	if len(f.State) > 1 {
		state = "bad"
	} else if f.State[0] != "clean" {
		state = "warn"
	}
	add("State", strings.Join(f.State, ", "), state)
	r.errorSign(p)
	r.journalSign(p)
	r.countSigns(p)
	add("Blocks in use", percent(f.Blocks-min(f.BlocksFree, f.Blocks), f.Blocks), "",
		fmt.Sprintf("%s of %s", r.size(f.Blocks-min(f.BlocksFree, f.Blocks)), r.size(f.Blocks)),
		r.size(f.BlocksReserved)+" reserved for root")
	if f.Inodes > 0 {
		add("Inodes in use", percent(uint64(f.Inodes-min(f.InodesFree, f.Inodes)), uint64(f.Inodes)), "",
			fmt.Sprintf("%s of %s", advise.Comma(uint64(f.Inodes-min(f.InodesFree, f.Inodes))), advise.Comma(uint64(f.Inodes))))
	}
	mounts := []string{"last check " + moment(f.LastCheck)}
	if f.MountsToGo > 0 {
		mounts = append(mounts, fmt.Sprintf("a check after %d", f.MountsToGo))
	}
	add("Mounts since the check", advise.Comma(uint64(f.MountCount)), "", mounts...)
	on := []string{"made " + moment(f.Created), "last mount " + moment(f.LastMount)}
	if f.MountedOn != "" {
		on = append(on, fmt.Sprintf("mounted on %q", f.MountedOn))
	}
	add("Last write", moment(f.LastWrite), "", on...)
	if r.Written > 0 {
		add("Written in its life", advise.Size(r.Written, 1), "")
	}
}

// errorSign says which errors the kernel has recorded.
func (r *Report) errorSign(p *page) {
	f := r.Filesystem
	s := sign{Name: "Errors recorded by the kernel", Value: "none", State: "good"}
	if f.ErrorCount > 0 || f.FirstError != nil || f.LastError != nil {
		s.Value, s.State = advise.Comma(uint64(f.ErrorCount)), "bad"
		for _, e := range []struct {
			name string
			*app.FSError
		}{{"first", f.FirstError}, {"last", f.LastError}} {
			if e.FSError == nil {
				continue
			}
			text := fmt.Sprintf("%s: %s in %q, line %d", e.name, moment(e.Time), e.Function, e.Line)
			if e.Inode != 0 {
				text += fmt.Sprintf(", inode %d", e.Inode)
			}
			if e.Block != 0 {
				text += fmt.Sprintf(", block %d", e.Block)
			}
			s.More = append(s.More, text)
		}
	}
	p.Signs = append(p.Signs, s)
}

// journalSign says what the journal holds.
func (r *Report) journalSign(p *page) {
	s := sign{Name: "Journal"}
	j := r.Filesystem.JournalHead
	switch state := r.Log; {
	case j != nil && j.External:
		s.Value = "on another device"
		s.More = append(s.More, "not looked at")
	case state == nil && j == nil:
		s.Value = "none"
	case state == nil:
		s.Value, s.State = "cannot be read", "bad"
	case state.Err != "":
		s.Value, s.State = "replay would fail", "bad"
		s.More = append(s.More, shown(state.Err))
	case r.replays():
		s.Value, s.State = advise.Count(uint64(state.Transactions), "transaction")+" to replay", "warn"
		if state.Replaced > 0 {
			s.More = append(s.More, advise.Count(state.Replaced, "block")+" to be replaced")
		}
		if state.FastCommits > 0 {
			s.More = append(s.More, advise.Count(uint64(state.FastCommits), "block")+" of fast commits")
		}
		if !state.Oldest.IsZero() {
			s.More = append(s.More, "committed from "+moment(state.Oldest)+" to "+moment(state.Newest))
		}
	default:
		s.Value, s.State = "empty", "good"
	}
	if r.Log != nil {
		s.More = append(s.More, r.size(r.Log.Blocks)+" long")
	}
	if j != nil && j.Errno != 0 {
		s.State = "bad"
		s.More = append(s.More, fmt.Sprintf("aborted with error %d", j.Errno))
	}
	p.Signs = append(p.Signs, s)
}

// maxBackupRows is how many copies of the superblock are listed.
const maxBackupRows = 32

// countSigns says how many checksums are right, how many copies of the
// superblock agree, and how many orphans there are.
func (r *Report) countSigns(p *page) {
	right, wrong := uint64(0), uint64(0)
	for _, s := range r.Sums {
		right, wrong = right+s.Right, wrong+s.Wrong
		p.Sums = append(p.Sums, sumRow{s.Kind, advise.Comma(s.Right), advise.Comma(s.Wrong), shown(s.First), s.Wrong > 0})
	}
	switch {
	case right+wrong == 0:
		p.Signs = append(p.Signs, sign{Name: "Checksums", Value: "none", More: []string{"the feature metadata_csum is off"}})
	case wrong > 0:
		p.Signs = append(p.Signs, sign{"Checksums", advise.Comma(wrong) + " wrong", []string{advise.Comma(right) + " right"}, "bad"})
	default:
		p.Signs = append(p.Signs, sign{"Checksums", "all right", []string{advise.Count(right, "checksum") + " compared"}, "good"})
	}
	agree, empty := 0, 0
	for _, b := range r.Backups {
		if b.Agrees() {
			agree++
		} else if b.State == "empty" {
			empty++
		}
		if row := (backupRow{advise.Comma(uint64(b.Group)), advise.Comma(b.Block), b.State, strings.Join(b.Fields, ", "), !b.Agrees() && b.State != "empty"}); len(p.Backups) < maxBackupRows {
			p.Backups = append(p.Backups, row)
		}
	}
	if n := len(r.Backups) - len(p.Backups); n > 0 {
		p.MoreBackups = fmt.Sprintf("And %d more.", n)
	}
	s := sign{Name: "Copies of the superblock", Value: fmt.Sprintf("%d of %d agree", agree, len(r.Backups)), State: "good"}
	switch {
	case len(r.Backups) == 0:
		s.Value, s.State = "none", ""
	case agree+empty < len(r.Backups):
		s.State = "bad"
	case empty > 0:
		s.State = "warn"
		s.More = append(s.More, advise.Count(empty, "copy")+" empty, as in an image made without them")
	}
	p.Signs = append(p.Signs, s)
	o := r.Orphans
	s = sign{Name: "Orphans", Value: "none", State: "good"}
	if o.List+o.File > 0 || o.Broken {
		s.Value, s.State = advise.Count(o.List+o.File, "inode"), "warn"
		s.More = append(s.More, "deleted while open, and to be released")
	}
	if o.Broken {
		s.State = "bad"
		s.More = append(s.More, "the list does not end as it should")
	}
	p.Signs = append(p.Signs, s)
}

// A chip is a feature.
type chip struct{ Name, Note, Class string }

// chips fills in the features.
func (r *Report) chips(p *page) {
	if r.Filesystem == nil {
		return
	}
	for _, name := range r.Filesystem.Features {
		f, known := features[name]
		if !known {
			p.Features = append(p.Features, chip{name, "not known", kindOf(name).Class()})
			continue
		}
		note := "never in a released kernel"
		if f.Kernel != "" {
			note = "Linux " + f.Kernel
		}
		if f.Tools != "" {
			note += ", e2fsprogs " + f.Tools
		}
		p.Features = append(p.Features, chip{name, note, f.Kind.Class()})
	}
	p.FeatureNote = "Each with the Linux kernel and, from 1.41 on, the e2fsprogs that brought it."
}
