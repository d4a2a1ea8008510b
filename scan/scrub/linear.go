package scrub

import (
	"cmp"
	"slices"
)

// spread has names of directories without an index that are drawn the same
// word, or themselves, drawn another.
func (x *Index) spread() {
	number := func(n *shortName) int {
		if n.number && n.ino == x.lost {
			return 1
		}
		return 0
	}
	order := func(a, b *shortName) int {
		return cmp.Or(cmp.Compare(a.ino, b.ino), cmp.Compare(a.length, b.length), cmp.Compare(number(a), number(b)))
	}
	slices.SortFunc(x.shorts, func(a, b shortName) int { return cmp.Or(order(&a, &b), cmp.Compare(a.id, b.id)) })
	x.shorts = slices.CompactFunc(x.shorts, func(a, b shortName) bool { return a.ino == b.ino && a.id == b.id && a.length == b.length })
	dr := x.keys.get()
	defer x.keys.put(dr)
	for start := 0; start < len(x.shorts); {
		end := start + 1
		for end < len(x.shorts) && order(&x.shorts[end], &x.shorts[start]) == 0 {
			end++
		}
		x.spreadNames(dr, x.shorts[start:end], number(&x.shorts[start]) == 1)
		start = end
	}
	x.shorts = nil
}

// wordsPerName is how many words there have to be for each name of a length for
// the names of the source to be none of them. Of fewer words, which of them are
// left out would tell what the names were.
const wordsPerName = 64

// spreadNames gives names of one length in one directory words of their own.
func (x *Index) spreadNames(dr *drawer, names []shortName, number bool) {
	known := x.dirs[names[0].ino]
	d := known
	if d == nil {
		d = &directory{ino: names[0].ino}
	}
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
	before := len(d.names)
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
	if len(d.names) == before {
		return
	}
	if known == nil {
		x.dirs[d.ino] = d
	}
	slices.SortFunc(d.names, func(a, b placedName) int { return cmp.Compare(a.id, b.id) })
}
