package report

import (
	"fmt"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/scan/survey"
)

type findingView struct{ ID, Title, Count, What, Place, Fsck string }

type lostRow struct{ Start, Count, Kinds string }

type lostView struct {
	ID, Caption, More string
	Ranges            []lostRow
}

type bitRow struct{ Group, Kind, Start, Count string }

type bitsView struct {
	Caption string
	Runs    []bitRow
}

// idOf returns the id of the element that is about a kind of damage.
func idOf(kind string) string {
	return "of-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(kind))
}

// titleOf returns a kind of damage as a heading.
func titleOf(kind string) string {
	if kind == "" {
		return ""
	}
	return shown(strings.ToUpper(kind[:1]) + kind[1:])
}

// damage fills in what is wrong.
func (r *Report) damage(p *page) {
	d := &r.Damage
	for _, f := range d.Findings {
		unit := "case"
		switch f.Kind {
		case survey.KindMarkedFree, survey.KindMarkedUsed, survey.KindMultiple:
			unit = "block"
		case survey.KindInodeFree, survey.KindInodeUsed:
			unit = "inode"
		case survey.KindChecksum:
			unit = "checksum"
		case survey.KindCounts:
			unit = "count"
		case survey.KindBackup:
			unit = "superblock"
		}
		p.Findings = append(p.Findings, findingView{
			ID: idOf(f.Kind), Title: titleOf(f.Kind), Count: advise.Count(f.Count, unit),
			What: shown(f.What), Place: shown(f.Place), Fsck: shown(f.Fsck),
		})
	}
	p.NoDamage = "Nothing: all structures that were read make sense, and the bitmaps say of all blocks and inodes what the inodes say."
	if d.Unchecked > 0 {
		p.NoDamage = fmt.Sprintf("Nothing was found. The bitmaps of %s were not compared with the inodes: that would take too much memory, or the groups lie behind the end of the source.", advise.Count(uint64(d.Unchecked), "group"))
	}
	if r.Filesystem == nil {
		p.NoDamage = "No superblock could be used, so nothing was looked at."
	}
	if d.Ranges > 0 {
		p.NoDamage = "Nothing but what cannot be read. Because of that, it is not said which blocks and inodes are marked as in use and are not."
	}
	r.lost(p)
	if len(d.Bits) == 0 {
		return
	}
	v := &bitsView{Caption: fmt.Sprintf("The first %s, by group.", advise.Count(len(d.Bits), "run"))}
	for _, b := range d.Bits {
		v.Runs = append(v.Runs, bitRow{advise.Comma(uint64(b.Group)), b.Kind, advise.Comma(b.Start), advise.Comma(b.Count)})
	}
	p.Bits = v
}

// lost fills in what cannot be read.
func (r *Report) lost(p *page) {
	d := &r.Damage
	if d.Ranges == 0 {
		return
	}
	var hit []string
	for _, l := range d.Lost {
		hit = append(hit, advise.Count(l.Blocks, "block")+" of "+l.Kind)
	}
	v := &lostView{ID: idOf(survey.KindUnreadable), Caption: fmt.Sprintf("%s of metadata, %s.", advise.Count(d.Ranges, "range"), advise.ExactBytes(int64(d.Bytes)))}
	if len(hit) > 0 {
		v.Caption += " They hit, at least in part, " + strings.Join(hit, ", ") + "."
	}
	for _, l := range d.Unreadable {
		kinds := strings.Join(l.Kinds, ", ")
		if kinds == "" {
			kinds = "copies, or what was looked for"
		}
		v.Ranges = append(v.Ranges, lostRow{advise.Comma(uint64(l.Start)), advise.Comma(uint64(l.End - l.Start)), kinds})
	}
	if n := d.Ranges - uint64(len(d.Unreadable)); n > 0 {
		v.More = fmt.Sprintf("And %s more.", advise.Comma(n))
	}
	p.Lost = v
}
