package scrub

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"e2qcow/ext"
)

// Extended attributes, in the tail of an inode or in a block of their own:
//
//	name, behind its prefix   drawn, but for those that programs give (see keptXattr)
//	value                     by the rule of its name (see xattrRules), else drawn
//	padding, gaps             zero
//	e_hash                    right if it was, as it is if it was not
//	h_hash, h_checksum        as right, or as wrong, as before
//
// In a block the kernel looks names up in an order: by prefix, length, bytes.
// So names of one prefix and length in one block get their words in the order
// of the names; elsewhere a name has the same word everywhere.
//
// What e2fsck cannot make sense of, it reads no further than to say so. From
// there on the heads of entries stay, and values are zero.

// keptXattr tells whether a name behind its prefix says nothing of its user:
// the kernel and its security modules gave it.
func keptXattr(index uint8, name []byte) bool {
	switch index {
	case ext.XattrPosixACLAccess, ext.XattrPosixACLDefault, ext.XattrRichACL:
		return len(name) == 0
	case ext.XattrSecurity:
		switch string(name) {
		case "selinux", "capability", "evm", "ima", "apparmor":
			return true
		}
		return isSmack(name)
	case ext.XattrSystem:
		switch string(name) {
		case "data", "posix_acl_access", "posix_acl_default", "richacl":
			return true
		}
	case ext.XattrEncryption:
		return string(name) == "c"
	}
	return len(name) == 0
}

// isSmack tells whether a name in security is one of those of Smack.
func isSmack(name []byte) bool {
	switch string(name) {
	case "SMACK64", "SMACK64IPIN", "SMACK64IPOUT", "SMACK64EXEC", "SMACK64MMAP", "SMACK64TRANSMUTE":
		return true
	}
	return false
}

// A valueRule says what becomes of a value.
type valueRule uint8

const (
	valueDrawn      valueRule = iota
	valueKept                 // it says nothing of its user
	valueLabel                // its parts between colons are drawn by themselves
	valueInline               // the second part of inline data: its file's
	valueEncryption           // an encryption context: kept unless strict
	valueBadContext           // what is none in its place: only its version stays
)

// xattrRule returns the rule for a value. Lists of permissions and
// capabilities are kept as far as they are such: owners stay visible.
func xattrRule(index uint8, name, value []byte) valueRule {
	full := string(name)
	switch {
	case index == ext.XattrPosixACLAccess, index == ext.XattrPosixACLDefault,
		index == ext.XattrSystem && (full == "posix_acl_access" || full == "posix_acl_default"):
		if isACL(value) {
			return valueKept
		}
	case index == ext.XattrSecurity && full == "capability":
		if isCapability(value) {
			return valueKept
		}
	case index == ext.XattrSecurity && (full == "selinux" || isSmack(name)):
		return valueLabel
	case index == ext.XattrSystem && full == "data":
		return valueInline
	case index == ext.XattrEncryption && full == "c":
		if contextKey(value) != 0 {
			return valueEncryption
		}
		return valueBadContext
	}
	return valueDrawn
}

// isACL tells whether a value is a list of permissions as ext4 stores it:
// EXT4_ACL_VERSION, then entries of four bytes, or eight where they name a user
// or a group (struct ext4_acl_entry).
func isACL(value []byte) bool {
	if len(value) < 4 || binary.LittleEndian.Uint32(value) != 1 {
		return false
	}
	for value = value[4:]; len(value) >= 4; {
		n := 4
		switch binary.LittleEndian.Uint16(value) {
		case 0x01, 0x04, 0x10, 0x20: // the owner, the owning group, the mask, others
		case 0x02, 0x08:
			n = 8
		default:
			return false
		}
		if n > len(value) || binary.LittleEndian.Uint16(value[2:]) > 7 {
			return false
		}
		value = value[n:]
	}
	return len(value) == 0
}

// isCapability tells whether a value is a struct vfs_cap_data of a revision
// that there is, with few capabilities or all.
func isCapability(value []byte) bool {
	if len(value) < 4 {
		return false
	}
	var sets int // of 32 capabilities
	switch revision := binary.LittleEndian.Uint32(value); {
	case revision&^1 == 1<<24 && len(value) == 12:
		sets = 2
	case revision&^1 == 2<<24 && len(value) == 20, revision&^1 == 3<<24 && len(value) == 24:
		sets = 4
	default:
		return false
	}
	for i := range sets {
		set := binary.LittleEndian.Uint32(value[4+4*i:])
		all, known := uint32(1<<32-1), uint32(1<<32-1)
		if i >= 2 {
			all, known = lastCapabilities, lastCapabilities
		}
		if set&^known != 0 || set != all && bits.OnesCount32(set) > maxCapabilities {
			return false
		}
	}
	return true
}

const (
	// lastCapabilities are those from 32 on (CAP_LAST_CAP is 40).
	lastCapabilities = 0x1FF

	// maxCapabilities is how many of 32 are kept, if it is not all: so no four
	// letters or digits pass for capabilities.
	maxCapabilities = 7
)

// Encryption contexts: struct fscrypt_context_v1 and fscrypt_context_v2. What
// names the key, and the nonce, stand at their ends.
const (
	contextV1Len = 28
	contextV1Key = 4
	contextV2Len = 40
	contextV2Key = 8
	nonceLen     = 16
)

// contextKey returns where what names the key stands in a value that has the
// length and the version of an encryption context, else 0.
func contextKey(value []byte) int {
	switch {
	case len(value) == contextV1Len && value[0] == 1:
		return contextV1Key
	case len(value) == contextV2Len && value[0] == 2:
		return contextV2Key
	}
	return 0
}

// xattrValue scrubs a value in place.
func (s *scrubber) xattrValue(d *drawer, rule valueRule, value []byte, inline func([]byte)) {
	switch rule {
	case valueDrawn:
		s.value(d, value)
	case valueLabel:
		for part := range parts(value) {
			s.name(d, part)
		}
	case valueInline:
		inline(value)
	case valueBadContext:
		if len(value) > 0 && (value[0] == 1 || value[0] == 2) {
			value = value[1:]
		}
		s.value(d, value)
	case valueEncryption:
		for part := range contextParts(value, s.strict) {
			s.value(d, part)
		}
	}
}

// contextParts yields the parts of an encryption context that are drawn: of its
// modes and flags, what names the key, and the nonce, those that may be text, and
// the last two in any case if strict says so. Each is drawn by itself, so that
// files under one key stay so: e2fsck compares all but the nonce.
func contextParts(context []byte, strict bool) func(func([]byte) bool) {
	key, nonce := contextKey(context), len(context)-nonceLen
	return func(yield func([]byte) bool) {
		for i, part := range [...][]byte{context[1:key], context[key:nonce], context[nonce:]} {
			if (strict && i > 0 || mostlyText(part)) && !yield(part) {
				return
			}
		}
	}
}

// mostlyText tells whether at least half of the words of four bytes in b may be
// pieces of a text. Of random bytes few are.
func mostlyText(b []byte) bool {
	n, text := 0, 0
	for ; len(b) > 0; b = b[min(len(b), 4):] {
		n++
		if textual(b[:min(len(b), 4)]) {
			text++
		}
	}
	return 2*text >= n
}

// parts yields what is between the colons and NULs of a label.
func parts(label []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(label) > 0 {
			n := bytes.IndexAny(label, ":\x00")
			if n < 0 {
				n = len(label)
			}
			if n > 0 && !yield(label[:n]) {
				return
			}
			label = label[min(n+1, len(label)):]
		}
	}
}

// collectXattrs gives add the words that attributes hold: the names and values
// that are not kept. Inline data is left to those who know the file.
func collectXattrs(r *ext.XattrReader, strict bool, add func([]byte)) {
	for r.Next() {
		e := r.Entry()
		if !keptXattr(e.NameIndex, e.Name) {
			add(e.Name)
		}
		value, ok := r.Value()
		if !ok {
			continue
		}
		switch rule := xattrRule(e.NameIndex, e.Name, value); {
		case rule == valueDrawn:
			add(value)
		case rule == valueLabel:
			for part := range parts(value) {
				add(part)
			}
		case rule == valueBadContext:
			add(value)
		case rule == valueEncryption:
			for part := range contextParts(value, strict) {
				add(part)
			}
		}
	}
}

// A valueHash is the hash of a value as the inode that holds it has it, and by
// what it changes.
type valueHash struct{ stored, change uint32 }

// valueHashes has those of the inodes that hold values: of each inode one for
// each reading of the filesystem that has another.
type valueHashes map[uint32][]valueHash

// of returns that of an inode which has a hash.
func (v valueHashes) of(ino, stored uint32) (valueHash, bool) {
	for _, h := range v[ino] {
		if h.stored == stored {
			return h, true
		}
	}
	return valueHash{}, false
}

// xattrHeaderFields is struct ext4_xattr_header, xattrEntryFields struct
// ext4_xattr_entry, up to the name.
var (
	xattrHeaderFields = newStructure("attribute header", ext.XattrHeaderLen, []field{
		{0x00, 4, "h_magic", number, nil},
		{0x04, 4, "h_refcount", bounded, below(1 << 16)},
		{0x08, 4, "h_blocks", bounded, below(1 << 8)},
		{0x0C, 4, "h_hash", checksum, nil},
		{0x10, 4, "h_checksum", checksum, nil},
	})
	xattrEntryFields = newStructure("attribute entry", ext.XattrEntryLen, []field{
		{0x0, 1, "e_name_len", number, nil},
		{0x1, 1, "e_name_index", number, nil},
		{0x2, 2, "e_value_offs", number, nil},
		{0x4, 4, "e_value_inum", bounded, possibleInode},
		{0x8, 4, "e_value_size", bounded, below(1 << 24)},
		{0xC, 4, "e_hash", checksum, nil},
	})
)

// xattrBlock scrubs attribute block n in place.
func (s *scrubber) xattrBlock(d *drawer, n uint64, block []byte, values valueHashes) {
	h, ok := ext.DecodeXattrHeader(block)
	if !ok {
		clear(block)
		return
	}
	seed, right := s.xattrSum(n, block)
	hash := ext.XattrBlockHash(block)
	d.source = append(d.source[:0], block[:ext.XattrHeaderLen]...)
	clear(block[:ext.XattrHeaderLen])
	switch {
	case h.Valid():
		xattrHeaderFields.write(d, &s.lim, block, d.source, plausible)
		x := newXattrs(block, ext.XattrHeaderLen)
		defer x.release()
		x.read(ext.NewXattrBlockReader(block), values)
		x.scrub(s, d, nil, true)
		x.clearRest()
		ext.SetXattrBlockHash(block, d.sumOf(h.Hash, ext.XattrBlockHash(block), h.Hash == hash))
	case h.KnownMagic():
		// Of which e2fsck looks at the magic number and the counts.
		clear(block)
		xattrHeaderFields.write(d, &s.lim, block, d.source, plausible)
	default:
		clear(block)
		xattrHeaderFields.write(d, &s.lim, block, d.source, garbage)
	}
	ext.SetXattrBlockChecksum(block, d.sumOf(h.Checksum, ext.XattrBlockChecksum(seed, n, block), right))
}

// xattrSum tells whether the checksum of attribute block n is right, and what
// the new one begins with.
func (s *scrubber) xattrSum(n uint64, block []byte) (fresh uint32, right bool) {
	for _, x := range s.sumSeeds {
		fresh = x.fresh
		if ext.VerifyXattrBlock(x.old, n, block) {
			return fresh, s.sums
		}
	}
	return fresh, false
}

// inodeXattrs scrubs what lies behind the fixed fields of an inode, in place;
// the inode's checksum is the caller's. inline scrubs the value of system.data.
func (s *scrubber) inodeXattrs(d *drawer, in ext.Inode, values valueHashes, inline func([]byte)) {
	area := in.InBodyXattrs()
	if area == nil {
		return
	}
	r := ext.NewInodeXattrReader(in)
	if !r.Found() {
		clear(area)
		return
	}
	x := newXattrs(in, len(in)-len(area)+ext.XattrMagicLen)
	defer x.release()
	x.read(r, values)
	x.scrub(s, d, inline, false)
	x.clearRest()
}

// An xattrEntry is an entry as scrubbing sees it.
type xattrEntry struct {
	head, name, end int // offsets of the entry, its name and the end of that
	value, valueEnd int // offsets; equal where there is none to be scrubbed
	index           uint8
	hashed          bool // whether e_hash is to be kept right
	signed          bool // with the bytes of the name taken as signed
	valueInode      uint32
	valueHash       valueHash // of that inode
	rule            valueRule
	old             []byte // the name as it was
}

// xattrs is a list of attributes that is being scrubbed, and which of the
// bytes around it are somebody's.
type xattrs struct {
	area    []byte
	first   int // offset of the first entry
	used    []bool
	entries []xattrEntry
	names   []byte // backs the old names
}

var xattrsPool = sync.Pool{New: func() any { return new(xattrs) }}

func newXattrs(area []byte, first int) *xattrs {
	x := xattrsPool.Get().(*xattrs)
	x.area, x.first = area, first
	x.used = slices.Grow(x.used[:0], len(area))[:len(area)]
	clear(x.used)
	x.take(0, first)
	x.entries, x.names = x.entries[:0], x.names[:0]
	return x
}

func (x *xattrs) release() {
	x.area = nil
	xattrsPool.Put(x)
}

// take marks bytes as somebody's; false if they lie outside or some already are.
func (x *xattrs) take(from, to int) bool {
	if from < 0 || to > len(x.area) || from > to || slices.Contains(x.used[from:to], true) {
		return false
	}
	for i := from; i < to; i++ {
		x.used[i] = true
	}
	return true
}

func round4(n int) int { return (n + 3) &^ 3 }

// read goes through the list as e2fsck does: entries and values are given
// their bytes one after the other, and the first for which that fails ends the
// values.
func (x *xattrs) read(r ext.XattrReader, values valueHashes) {
	sound := true
	next := x.first
	for r.Next() {
		e := r.Entry()
		nameEnd := e.Offset + ext.XattrEntryLen + len(e.Name)
		next = min(round4(nameEnd), len(x.area))
		if !x.take(e.Offset, next) {
			x.keepHead(e.Offset)
			return
		}
		x.names = append(x.names, e.Name...)
		n := xattrEntry{
			head: e.Offset, name: e.Offset + ext.XattrEntryLen, end: nameEnd,
			index: e.NameIndex, valueInode: e.ValueInode,
			old: x.names[len(x.names)-len(e.Name):],
		}
		switch {
		case e.ValueInode != 0:
			x.judgeValueInode(&n, e, values[e.ValueInode])
		case e.ValueSize == 0:
			x.judge(&n, e, nil)
		default:
			off, size, ok := r.ValueRange()
			padded := round4(size)
			if sound = sound && ok && x.take(off, min(off+padded, len(x.area))); sound {
				n.value, n.valueEnd = off, off+size
				n.rule = xattrRule(e.NameIndex, e.Name, x.area[off:off+size])
				x.judge(&n, e, x.area[off:min(off+padded, len(x.area))])
			}
		}
		x.entries = append(x.entries, n)
	}
	if r.Err() != nil {
		x.keepHead(next)
	}
}

// judge finds out whether e_hash is right, with the padding of the value.
func (x *xattrs) judge(n *xattrEntry, e *ext.Xattr, value []byte) {
	for _, n.signed = range []bool{false, true} {
		if e.Hash != 0 && e.Hash == ext.XattrHash(e.Name, value, n.signed) {
			n.hashed = true
			return
		}
	}
}

// judgeValueInode finds out whether e_hash is right by one of the hashes that the
// inode of the value may have.
func (x *xattrs) judgeValueInode(n *xattrEntry, e *ext.Xattr, hashes []valueHash) {
	for _, n.valueHash = range hashes {
		for _, n.signed = range []bool{false, true} {
			if n.hashed = e.Hash == ext.XattrHashInode(ext.XattrHash(e.Name, nil, n.signed), n.valueHash.stored); n.hashed {
				return
			}
		}
	}
}

// keepHead keeps of an entry that cannot be one what makes it so: that it is
// there, and the length of its name.
func (x *xattrs) keepHead(off int) {
	const head = 4 // e_name_len, e_name_index, e_value_offs
	if off+head > len(x.area) || !x.take(off, off+head) {
		return
	}
	if b := x.area[off:]; b[0] == 0 && b[1] == 0 && (b[2] != 0 || b[3] != 0) {
		b[2], b[3] = 1, 0
	} else {
		b[2], b[3] = 0, 0
	}
}

// scrub scrubs values, then names, in an order if they are to keep it, then
// the hashes.
func (x *xattrs) scrub(s *scrubber, d *drawer, inline func([]byte), ordered bool) {
	for i := range x.entries {
		n := &x.entries[i]
		value := x.area[n.value:n.valueEnd]
		if n.rule == valueInline && inline == nil {
			n.rule = valueDrawn
		}
		s.xattrValue(d, n.rule, value, inline)
		clear(x.area[n.valueEnd:min(n.value+round4(len(value)), len(x.area))])
		clear(x.area[n.end:min(round4(n.end), len(x.area))])
		if !keptXattr(n.index, n.old) {
			s.name(d, x.area[n.name:n.end])
		}
	}
	if ordered {
		x.order()
	}
	for i := range x.entries {
		n := &x.entries[i]
		name, head := x.area[n.name:n.end], x.area[n.head:n.name]
		stored := ext.XattrEntryHash(head)
		is := ext.XattrHash(name, x.area[n.value:n.valueEnd], n.signed)
		if n.valueInode != 0 {
			is = ext.XattrHashInode(ext.XattrHash(name, nil, n.signed), n.valueHash.stored^n.valueHash.change)
		}
		d.source = append(d.source[:0], head...)
		clear(head)
		xattrEntryFields.write(d, &s.lim, head, d.source, plausible)
		ext.SetXattrEntryHash(head, d.sumOf(stored, is, n.hashed))
	}
}

// order gives the words of names of one prefix and length to these names in
// the order of the names.
func (x *xattrs) order() {
	if len(x.entries) < 2 {
		return
	}
	drawn := make([]*xattrEntry, 0, len(x.entries))
	for i := range x.entries {
		if n := &x.entries[i]; !keptXattr(n.index, n.old) {
			drawn = append(drawn, n)
		}
	}
	group := func(a, b *xattrEntry) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.old), len(b.old)))
	}
	slices.SortStableFunc(drawn, func(a, b *xattrEntry) int { return cmp.Or(group(a, b), bytes.Compare(a.old, b.old)) })
	for len(drawn) > 0 {
		end := 1
		for end < len(drawn) && group(drawn[0], drawn[end]) == 0 {
			end++
		}
		x.orderGroup(drawn[:end])
		drawn = drawn[end:]
	}
}

// orderGroup does so for one group, in the order of the old names.
func (x *xattrs) orderGroup(group []*xattrEntry) {
	var words [][]byte
	for i, n := range group {
		if i == 0 || !bytes.Equal(n.old, group[i-1].old) {
			words = append(words, bytes.Clone(x.area[n.name:n.end]))
		}
	}
	slices.SortFunc(words, bytes.Compare)
	rank := 0
	for i, n := range group {
		if i > 0 && !bytes.Equal(n.old, group[i-1].old) {
			rank++
		}
		copy(x.area[n.name:n.end], words[rank])
	}
}

// clearRest zeroes what is nobody's.
func (x *xattrs) clearRest() {
	for i, used := range x.used {
		if !used {
			x.area[i] = 0
		}
	}
}
