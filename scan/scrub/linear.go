package scrub

import (
	"cmp"
	"slices"
)

// spread has names of directories without an index that are drawn the same
// word, or themselves, drawn another.
func (x *Index) spread() {
	slices.SortFunc(x.shorts, func(a, b shortName) int { return cmp.Compare(a.ino, b.ino) })
	dr := x.keys.get()
	defer x.keys.put(dr)
	for start := 0; start < len(x.shorts); {
		ino, end := x.shorts[start].ino, start+1
		for end < len(x.shorts) && x.shorts[end].ino == ino {
			end++
		}
		d := x.dirs[ino]
		if d == nil {
			d = &directory{ino: ino}
		}
		if d.spread(dr, x.shorts[start:end], ino == x.lost) {
			x.dirs[ino] = d
		}
		start = end
	}
	x.shorts = nil
}

// spread gives the short names of a directory words of their own. It reports
// whether that takes more than to draw them; lost says that the directory is
// lost+found.
func (d *directory) spread(dr *drawer, shorts []shortName, lost bool) bool {
	number := func(n *shortName) int {
		if n.number && lost {
			return 1
		}
		return 0
	}
	order := func(a, b *shortName) int {
		return cmp.Or(cmp.Compare(a.length, b.length), cmp.Compare(number(a), number(b)))
	}
	slices.SortFunc(shorts, func(a, b shortName) int { return cmp.Or(order(&a, &b), cmp.Compare(a.id, b.id)) })
	shorts = slices.CompactFunc(shorts, func(a, b shortName) bool { return a.id == b.id && a.length == b.length })
	before := len(d.names)
	for start := 0; start < len(shorts); {
		end := start + 1
		for end < len(shorts) && order(&shorts[end], &shorts[start]) == 0 {
			end++
		}
		d.spreadNames(dr, shorts[start:end], number(&shorts[start]) == 1)
		start = end
	}
	if len(d.names) == before {
		return false
	}
	slices.SortFunc(d.names, func(a, b placedName) int { return cmp.Compare(a.id, b.id) })
	return true
}

// wordsPerName is how many words there have to be for each name of a length for
// the names of the source to be none of them. Of fewer words, which of them are
// left out would tell what the names were.
const wordsPerName = 64

// spreadNames gives names of one length words of their own.
func (d *directory) spreadNames(dr *drawer, names []shortName, number bool) {
	usual, larger := d.alphabets()
	room := uint64(1) // how many words there are, as far as it is less than enough
	length, letters := names[0].length, uint64(len(usual))
	if number {
		length, letters = length-1, uint64(len(digits)) // behind '#'
	}
	for range length {
		room = min(room*letters, wordsPerName*uint64(len(names)))
	}
	word := func(n *shortName, try uint32) (w [maxShort]byte) {
		b := w[:n.length]
		copy(b, n.name[:])
		switch {
		case number:
			dr.numberWord(b, n.id, try)
		case try&wide != 0:
			dr.word(b, larger, n.id, try)
		default:
			dr.word(b, usual, n.id, try)
		}
		return w
	}
	taken := make(map[[maxShort]byte]struct{}, len(names))
	source := map[[maxShort]byte]struct{}{} // none of these is drawn, where words are many
	if uint64(len(names))*wordsPerName <= room {
		for i := range names {
			source[names[i].name] = struct{}{}
		}
	}
	free := func(w [maxShort]byte, n *shortName) bool {
		_, used := taken[w]
		_, old := source[w]
		return !used && !old && w != n.name && !keptName(w[:n.length])
	}
	for i := range names {
		n := &names[i]
		w := word(n, 0)
		if free(w, n) {
			taken[w] = struct{}{}
			continue
		}
		mark := uint32(0)
		if !number && uint64(len(taken)) > room/2 {
			mark = wide
		}
		for k := uint32(1); k < maxOddTries; k++ {
			if k == 1<<10 && !number {
				mark = wide
			}
			w := word(n, k|mark)
			if free(w, n) {
				taken[w] = struct{}{}
				p := placedName{id: n.id, hash: k | mark, length: n.length}
				d.names = append(d.names, p)
				break
			}
		}
	}
}
