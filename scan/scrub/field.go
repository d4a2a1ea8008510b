package scrub

import (
	"encoding/binary"
	"math/bits"
)

// A scrubbed structure begins as zeros. Each byte of it that is not zero was
// written by the rule of a field. So the table of the fields of a structure
// says all that an image can hold of it, and the tests read the same table.

// A rule says what is written for a field.
type rule uint8

const (
	// number is a number that may have any value. It stays as it is in a
	// structure that is genuine, and becomes noise in another.
	number rule = iota + 1

	// bounded is a number that has limits. One that is beyond them becomes
	// noise that is beyond them too, unless it is one of few: see [staysAlone].
	bounded

	// unset is a number that is zero unless something is wrong. It becomes
	// noise where it is not zero, unless it is one of few.
	unset

	// checksum is computed anew: see [scrubber.sum32].
	checksum

	// drawn is text, or a list of names: its own code draws it.
	drawn

	// part is a structure of its own, with rules of its own.
	part

	// place is the number of a block that a journal names: see
	// [journalIndex.number].
	place
)

// A field is a field of a structure.
type field struct {
	off, size int    // bytes
	name      string // the kernel's
	rule      rule

	// possible tells whether a bounded number is within its limits, and whether
	// another is within reason, where it has any.
	possible func(*limits, uint64) bool
}

// limits are the numbers of a filesystem that bound others.
type limits struct {
	inodes        uint64 // s_inodes_count
	blocks        uint64 // s_blocks_count
	groupClusters uint64 // s_clusters_per_group
	groupInodes   uint64 // s_inodes_per_group
	blockSize     uint64 // bytes
	lastWrite     uint64 // s_wtime
}

// A structure is a table of fields, ascending. What no field names is zero.
type structure struct {
	name   string
	size   int // bytes
	fields []field
	mask   []byte // 0xFF at the bytes of numbers
	order  binary.ByteOrder
	judged []int // the fields whose numbers may be other than they should be
}

func newStructure(name string, size int, fields []field) *structure {
	st := &structure{name: name, size: size, fields: fields, mask: make([]byte, size), order: le}
	for i, f := range fields {
		if f.rule == unset || f.possible != nil {
			st.judged = append(st.judged, i)
		}
		if f.rule == number || f.rule == bounded {
			for i := range f.size {
				st.mask[f.off+i] = 0xFF
			}
		}
	}
	return st
}

// newBigEndian returns a structure of a journal.
func newBigEndian(name string, size int, fields []field) *structure {
	st := newStructure(name, size, fields)
	st.order = be
	return st
}

// A standing says how far a structure is what it is taken for.
type standing uint8

const (
	genuine   standing = iota // its checksum is right: all numbers stay
	plausible                 // without a checksum, it passes: numbers beyond their limits become noise
	doubtful                  // its checksum is wrong, but it passes: so does each number that has no limits
	garbage                   // it is none: all numbers become noise
)

// write writes the numbers of a structure into dst, which is zero, from src.
// Both may be shorter than the structure: fields that do not fit are left out.
func (st *structure) write(d *drawer, l *limits, dst, src []byte, how standing) {
	n := min(len(dst), len(src))
	d.replaced = d.replaced || how == garbage
	if how == genuine || how == plausible {
		st.writeLikely(d, l, dst[:n], src[:n], how)
		return
	}
	flaws := maxLone + 1
	if how != garbage {
		flaws = st.flaws(l, src[:n])
	}
	for i := range st.fields {
		f := &st.fields[i]
		if f.off+f.size > n {
			return
		}
		if st.staysAlone(l, src[:n], i, flaws) {
			copy(dst[f.off:], src[f.off:f.off+f.size])
			continue
		}
		f.write(d, l, st.order, dst[f.off:f.off+f.size], src[f.off:f.off+f.size], how)
	}
}

// writeLikely writes the numbers of a structure of which most are as they should
// be: all at once, and what is left one by one.
func (st *structure) writeLikely(d *drawer, l *limits, dst, src []byte, how standing) {
	n := st.whole(len(dst))
	st.copy(dst[:n], src)
	if st.likely(l, src) {
		return
	}
	flaws := st.flaws(l, src)
	for _, i := range st.judged {
		f := &st.fields[i]
		if f.off+f.size > n {
			return
		}
		if st.staysAlone(l, src, i, flaws) {
			copy(dst[f.off:], src[f.off:f.off+f.size])
		} else if f.rule == unset || how != genuine {
			f.write(d, l, st.order, dst[f.off:f.off+f.size], src[f.off:f.off+f.size], how)
		}
	}
}

// whole returns where the last field ends that fits into n bytes.
func (st *structure) whole(n int) int {
	for i := len(st.fields) - 1; i >= 0; i-- {
		if end := st.fields[i].off + st.fields[i].size; end <= n {
			return end
		}
	}
	return 0
}

// copy copies the numbers of a structure.
func (st *structure) copy(dst, src []byte) {
	n := min(len(dst), st.size)
	for i := 0; i+8 <= n; i += 8 {
		mask := le.Uint64(st.mask[i:])
		le.PutUint64(dst[i:], le.Uint64(dst[i:])&^mask|le.Uint64(src[i:])&mask)
	}
	for i := n &^ 7; i < n; i++ {
		dst[i] = dst[i]&^st.mask[i] | src[i]&st.mask[i]
	}
}

// likely tells whether all numbers of a structure are as they should be.
func (st *structure) likely(l *limits, src []byte) bool {
	for _, i := range st.judged {
		f := &st.fields[i]
		if f.off+f.size > len(src) {
			break
		}
		b := src[f.off : f.off+f.size]
		if f.rule == unset && !allZero(b) || f.rule != unset && !plainBytes(b) && !f.possible(l, uintOf(st.order, b)) {
			return false
		}
	}
	return true
}

// staysAlone tells whether the number of field i stays though it cannot be.
func (st *structure) staysAlone(l *limits, src []byte, i, flaws int) bool {
	f := &st.fields[i]
	b := src[f.off : f.off+f.size]
	return f.size <= 4 && f.flawed(l, st.order, b) && staysAlone(uintOf(st.order, b), b, flaws) &&
		(flaws == 1 || !st.besideFlaw(l, src, i))
}

// write writes one field.
func (f *field) write(d *drawer, l *limits, order binary.ByteOrder, dst, src []byte, how standing) {
	switch f.rule {
	case number, bounded, unset:
	default:
		return
	}
	if f.size > 8 {
		// An identity, such as a UUID: it has no shape that noise could keep.
		if how != garbage && f.rule == number {
			copy(dst, src)
		}
		return
	}
	v := uintOf(order, src)
	fits := f.possible == nil || f.possible(l, v)
	switch {
	case plainBytes(src):
	case f.rule == unset:
		v = d.noise(v, f.size, nil)
	case how == garbage && !fits, f.rule == bounded && how != genuine && !fits, how == plausible && !fits:
		v = d.noise(v, f.size, func(v uint64) bool { return !f.possible(l, v) })
	case how == garbage && f.possible != nil:
		v = d.noise(v, f.size, func(v uint64) bool { return f.possible(l, v) })
	case how == garbage, how == doubtful && f.rule == number:
		v = d.noise(v, f.size, nil)
	}
	putUint(order, dst, v)
}

// plainBytes tells whether all bits of each byte are alike, as in what was
// erased: that says nothing.
func plainBytes(b []byte) bool {
	for _, c := range b {
		if c != 0 && c != 0xFF {
			return false
		}
	}
	return true
}

// flaws counts the flawed fields of a structure.
func (st *structure) flaws(l *limits, src []byte) (n int) {
	for i := range st.fields {
		f := &st.fields[i]
		if f.off+f.size > len(src) {
			break
		}
		if f.flawed(l, st.order, src[f.off:f.off+f.size]) {
			n++
		}
	}
	return n
}

// besideFlaw tells whether the field before or behind field i is flawed: numbers
// that touch may be one piece of contents.
func (st *structure) besideFlaw(l *limits, src []byte, i int) bool {
	for _, k := range [...]int{i - 1, i + 1} {
		if k < 0 || k >= len(st.fields) {
			continue
		}
		if f := &st.fields[k]; f.off+f.size <= len(src) && f.flawed(l, st.order, src[f.off:f.off+f.size]) {
			return true
		}
	}
	return false
}

// flawed tells whether a field is beyond its limits, or should be zero. What was
// erased is no sign of contents.
func (f *field) flawed(l *limits, order binary.ByteOrder, b []byte) bool {
	if plainBytes(b) {
		return false
	}
	return f.rule == unset || f.rule == bounded && !f.possible(l, uintOf(order, b))
}

// noiseTries is how many numbers are drawn to find one that fits.
const noiseTries = 16

// noise draws a number of size bytes in place of v, by v alone: as many bits,
// so the magnitude stays. Zero stays zero. fits, unless nil, says which numbers
// will do; of all ones it is taken for granted that they do.
func (d *drawer) noise(v uint64, size int, fits func(uint64) bool) uint64 {
	if v == 0 {
		return 0
	}
	n := bits.Len64(v)
	for try := range uint32(noiseTries) {
		x, _ := d.random(domainNoise, v, try, uint32(size))
		x = x&(1<<n-1) | 1<<(n-1)
		if (x != v || n < 8) && (fits == nil || fits(x)) {
			return x
		}
	}
	if fits != nil {
		if top := uint64(1) << (n - 1); fits(top) {
			return top
		}
		return 1<<(8*size-1)<<1 - 1
	}
	return 1 << (n - 1)
}

// uintOf returns a number of one, two, four or eight bytes.
func uintOf(order binary.ByteOrder, b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(order.Uint16(b))
	case 4:
		return uint64(order.Uint32(b))
	}
	return order.Uint64(b)
}

// putUint writes such a number.
func putUint(order binary.ByteOrder, b []byte, v uint64) {
	switch len(b) {
	case 1:
		b[0] = byte(v)
	case 2:
		order.PutUint16(b, uint16(v))
	case 4:
		order.PutUint32(b, uint32(v))
	default:
		order.PutUint64(b, v)
	}
}
