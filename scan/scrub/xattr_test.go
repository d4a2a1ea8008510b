package scrub

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/scan"
)

func newScrubber(strict bool) *scrubber {
	return &scrubber{
		shape: shape{blockSize: 1024, inodeSize: 256, inodes: 1000, firstInode: 11},
		keys:  newKeyring([KeySize]byte{1, 2, 3}), words: newWords(newKeyring([KeySize]byte{})), index: NewIndex(Options{}), strict: strict, m: new(scan.Map),
		sums: true, sumSeeds: []sumSeed{{99, 99}},
		lim: limits{inodes: 1000, blocks: 8192, groupClusters: 8192, groupInodes: 1000, blockSize: 1024, lastWrite: 1.7e9},
	}
}

type attribute struct {
	index uint8
	name  string
	value string
	inode uint32
}

// putXattrs writes attributes into area, entries from first on and values down
// from the end; offsets count from base.
func putXattrs(area []byte, base, first int, list []attribute, signed bool) {
	le := binary.LittleEndian
	at, end := first, len(area)
	for _, a := range list {
		b := area[at:]
		b[0], b[1] = byte(len(a.name)), a.index
		le.PutUint32(b[4:], a.inode)
		le.PutUint32(b[8:], uint32(len(a.value)))
		copy(b[16:], a.name)
		hash := ext.XattrHash([]byte(a.name), []byte(a.value), signed)
		if a.inode != 0 {
			hash = ext.XattrHashInode(ext.XattrHash([]byte(a.name), nil, false), ext.XattrValueHash(7, []byte(a.value)))
		} else if len(a.value) > 0 {
			end -= round4(len(a.value))
			le.PutUint16(b[2:], uint16(end-base))
			copy(area[end:], a.value)
		}
		ext.SetXattrEntryHash(b, hash)
		at += round4(16 + len(a.name))
	}
}

func xattrBlock(list []attribute, signed bool) []byte {
	b := make([]byte, 1024)
	le := binary.LittleEndian
	le.PutUint32(b, 0xEA020000)
	le.PutUint32(b[4:], 3)
	le.PutUint32(b[8:], 1)
	putXattrs(b, 0, ext.XattrHeaderLen, list, signed)
	ext.SetXattrBlockHash(b, ext.XattrBlockHash(b))
	ext.SetXattrBlockChecksum(b, ext.XattrBlockChecksum(99, 1234, b))
	return b
}

func readXattrs(t *testing.T, r ext.XattrReader) (list []attribute) {
	t.Helper()
	for r.Next() {
		e := r.Entry()
		value, _ := r.Value()
		list = append(list, attribute{e.NameIndex, string(e.Name), string(value), e.ValueInode})
		if ok := slices.ContainsFunc([]bool{false, true}, func(signed bool) bool { return e.Hash == ext.XattrHash(e.Name, value, signed) }); !ok && e.ValueInode == 0 {
			t.Errorf("hash of %q is wrong", e.Name)
		}
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	return list
}

const (
	acl        = "\x01\x00\x00\x00\x01\x00\x06\x00\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x04\x00\x10\x00\x07\x00\x20\x00\x04\x00"
	cap2       = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	encryption = "\x01\x01\x04\x02\xde\x01\xc4\xf0\x80\x02\xaa\xfe\x90a\x07\xf1\x88\x13\xd2\x05\xe6\x9b\x1f\x83\xc9\x02\xb7\xee"
)

var everyKind = []attribute{
	{ext.XattrUser, "canary-name", "canary-value of the user", 0},
	{ext.XattrPosixACLAccess, "", acl, 0},
	{ext.XattrSecurity, "capability", cap2, 0},
	{ext.XattrSecurity, "selinux", "canary_u:object_r:canary_t:s0\x00", 0},
	{ext.XattrEncryption, "c", encryption, 0},
	{ext.XattrUser, "canary-none", "", 0},
}

func TestXattrBlock(t *testing.T) {
	for _, signed := range []bool{false, true} {
		block := xattrBlock(append(everyKind, attribute{ext.XattrUser, "caf\xc3\xa9-canary", "x", 0}), signed)
		copy(block[400:], "canary in the gap")
		ext.SetXattrBlockChecksum(block, ext.XattrBlockChecksum(99, 1234, block))
		s := newScrubber(false)
		s.xattrBlock(s.keys.get(), 1234, block, nil)
		if !ext.VerifyXattrBlock(99, 1234, block) {
			t.Error("the checksum is wrong")
		}
		if h, _ := ext.DecodeXattrHeader(block); h.Hash != ext.XattrBlockHash(block) || h.Refcount != 3 {
			t.Errorf("header %+v", h)
		}
		if bytes.Contains(block, []byte("canary")) {
			t.Error("a canary is left")
		}
		got := readXattrs(t, ext.NewXattrBlockReader(block))
		for i, a := range everyKind {
			g := got[i]
			if g.index != a.index || len(g.name) != len(a.name) || len(g.value) != len(a.value) {
				t.Errorf("%+v became %+v", a, g)
			}
			if kept := a.index != ext.XattrUser; kept != (g.name == a.name) {
				t.Errorf("name %q became %q", a.name, g.name)
			}
		}
		for _, i := range []int{1, 2, 4} {
			if got[i].value != everyKind[i].value {
				t.Errorf("value of %q became %q", everyKind[i].name, got[i].value)
			}
		}
		if label := got[3].value; label[8] != ':' || label[len(label)-1] != 0 {
			t.Errorf("label became %q", label)
		}
	}
}

func TestXattrStrict(t *testing.T) {
	s := newScrubber(true)
	one, two := xattrBlock(everyKind[4:5], false), xattrBlock([]attribute{{ext.XattrEncryption, "c", encryption[:12] + "another nonce 16", 0}}, false)
	s.xattrBlock(s.keys.get(), 1234, one, nil)
	s.xattrBlock(s.keys.get(), 1234, two, nil)
	a, b := readXattrs(t, ext.NewXattrBlockReader(one))[0].value, readXattrs(t, ext.NewXattrBlockReader(two))[0].value
	if a[:12] != b[:12] || a[12:] == b[12:] || a[:4] != encryption[:4] || a[4:12] == encryption[4:12] {
		t.Errorf("contexts became %q and %q", a, b)
	}
}

// TestXattrOrder checks that the kernel finds names in a block.
func TestXattrOrder(t *testing.T) {
	var list []attribute
	for i := range 20 {
		list = append(list, attribute{ext.XattrUser, fmt.Sprintf("attr-%02d", i), "v", 0})
	}
	block := xattrBlock(list, false)
	s := newScrubber(false)
	s.xattrBlock(s.keys.get(), 1234, block, nil)
	got := readXattrs(t, ext.NewXattrBlockReader(block))
	if !slices.IsSortedFunc(got, func(a, b attribute) int { return bytes.Compare([]byte(a.name), []byte(b.name)) }) {
		t.Errorf("out of order: %v", got)
	}
}

// TestXattrHash checks that a wrong hash and a wrong checksum stay wrong, but by
// nothing that tells of what was there.
func TestXattrHash(t *testing.T) {
	block := xattrBlock(everyKind[:1], false)
	ext.SetXattrEntryHash(block[ext.XattrHeaderLen:], 0x12345678)
	ext.SetXattrBlockChecksum(block, ext.XattrBlockChecksum(99, 1234, block)^0xff)
	s := newScrubber(false)
	s.xattrBlock(s.keys.get(), 1234, block, nil)
	r := ext.NewXattrBlockReader(block)
	r.Next()
	value, _ := r.Value()
	switch ext.XattrEntryHash(block[ext.XattrHeaderLen:]) {
	case 0, 0x12345678, ext.XattrHash(r.Entry().Name, value, false):
		t.Error("the hash is right, none, or as it was")
	}
	h, _ := ext.DecodeXattrHeader(block)
	switch h.Checksum ^ ext.XattrBlockChecksum(99, 1234, block) {
	case 0, 0xff:
		t.Error("the checksum is right, or as wrong as it was")
	}
}

// TestXattrValueInode checks the hash of an entry whose value is elsewhere.
func TestXattrValueInode(t *testing.T) {
	value := bytes.Repeat([]byte("canary value "), 500)
	block := xattrBlock([]attribute{{ext.XattrUser, "canary", string(value), 77}}, false)
	s := newScrubber(false)
	d := s.keys.get()
	stored := ext.XattrValueHash(7, value)
	s.value(d, value)
	s.xattrBlock(d, 1234, block, valueHashes{77: {{stored, stored ^ ext.XattrValueHash(7, value)}}})
	r := ext.NewXattrBlockReader(block)
	r.Next()
	e := r.Entry()
	if want := ext.XattrHashInode(ext.XattrHash(e.Name, nil, false), ext.XattrValueHash(7, value)); e.Hash != want {
		t.Errorf("hash %#x, want %#x", e.Hash, want)
	}
}

// makeInode returns an inode of 256 bytes with attributes in its tail.
func makeInode(list []attribute) ext.Inode {
	in := make(ext.Inode, 256)
	binary.LittleEndian.PutUint16(in[128:], 32)
	binary.LittleEndian.PutUint32(in[160:], 0xEA020000)
	putXattrs(in, 164, 164, list, false)
	return in
}

func TestInodeXattrs(t *testing.T) {
	in := makeInode([]attribute{{ext.XattrSystem, "data", "canary", 0}, {ext.XattrUser, "canary", "canary2", 0}})
	s := newScrubber(false)
	s.inodeXattrs(s.keys.get(), in, nil, func(value []byte) { copy(value, "inline") })
	got := readXattrs(t, ext.NewInodeXattrReader(in))
	if bytes.Contains(in, []byte("canary")) || len(got) != 2 || got[0].name != "data" || got[0].value != "inline" {
		t.Errorf("became %+v", got)
	}
	in = makeInode(nil)
	clear(in[160:164])
	copy(in[200:], "canary")
	s.inodeXattrs(s.keys.get(), in, nil, nil)
	if bytes.Contains(in, []byte("canary")) {
		t.Error("without attributes, slack is left")
	}
}

// TestXattrBroken checks what stays of what cannot be a list.
func TestXattrBroken(t *testing.T) {
	s := newScrubber(false)
	long := xattrBlock(everyKind[:2], false)
	at := ext.XattrHeaderLen + round4(16+len(everyKind[0].name)) + 16
	copy(long[at:], "\xff\x01canary canary canary") // an entry that runs over the end
	long = long[:at+200]
	s.xattrBlock(s.keys.get(), 1234, long, nil)
	if r := ext.NewXattrBlockReader(long); bytes.Contains(long, []byte("canary")) || !r.Next() || !r.Next() || r.Next() || r.Err() == nil {
		t.Errorf("became %q, %v", long, r.Err())
	}

	into := xattrBlock(everyKind[:2], false) // the second value is the first name
	second := into[at-16:]
	binary.LittleEndian.PutUint16(second[2:], ext.XattrHeaderLen+16)
	s.xattrBlock(s.keys.get(), 1234, into, nil)
	if bytes.Contains(into, []byte("canary")) {
		t.Errorf("became %q", into)
	}
	none := []byte("no header at all, canary canary canary, canary canary")
	s.xattrBlock(s.keys.get(), 1234, none, nil)
	if bytes.Contains(none, []byte("canary")) {
		t.Errorf("became %q", none)
	}
}

// FuzzXattrs scrubs what may be attributes: nothing outside changes shape, and
// it is the same every time.
func FuzzXattrs(f *testing.F) {
	f.Add(xattrBlock(everyKind, false))
	f.Add(xattrBlock(everyKind[:2], true))
	f.Add([]byte(makeInode(everyKind[:1])))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		s := newScrubber(false)
		d := s.keys.get()
		one, two := bytes.Clone(data), bytes.Clone(data)
		s.xattrBlock(d, 1234, one, nil)
		s.xattrBlock(d, 1234, two, nil)
		if !bytes.Equal(one, two) {
			t.Error("not the same twice")
		}
		if h, ok := ext.DecodeXattrHeader(data); ok {
			was, stored := h.Checksum == ext.XattrBlockChecksum(99, 1234, data), h.Checksum
			h, _ = ext.DecodeXattrHeader(one)
			if now := h.Checksum == ext.XattrBlockChecksum(99, 1234, one); now != was {
				t.Errorf("the checksum was right: %v, is: %v", was, now)
			}
			if stored == 0 && !was && h.Checksum != 0 {
				t.Error("there is a checksum where none was")
			}
		}
		if len(data) >= 128 {
			s.inodeXattrs(d, ext.Inode(bytes.Clone(data)), nil, nil)
		}
	})
}

func BenchmarkXattrBlock(b *testing.B) {
	source := xattrBlock(everyKind, false)
	block := make([]byte, len(source))
	s := newScrubber(false)
	d := s.keys.get()
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	for b.Loop() {
		copy(block, source)
		s.xattrBlock(d, 1234, block, nil)
	}
}

// TestContextOfText has text stand in an encryption context: no part of it stays,
// and files under one key still are.
func TestContextOfText(t *testing.T) {
	s := newScrubber(false)
	const v2 = "\x02\x01\x04\x02\x00\x00\x00\x00"
	nonce, random := encryption[12:], encryption[4:]
	for _, c := range []struct{ value, kept string }{
		{encryption, encryption},
		{encryption[:12] + "Qx7nonceOfNobody", encryption[:12]},
		{encryption[:4] + "keyOfBob" + nonce, encryption[:4]},
		{"\x01abc" + random, "\x01"},
		{v2 + nonce + nonce, v2 + nonce + nonce},
		{v2 + "identifierOfSome" + nonce, v2},
		{v2 + nonce + "Q\x00x\x007\x00n\x00o\x00n\x00c\x00e\x00", v2 + nonce},
		{"\x02modesOf" + nonce + nonce, "\x02"},
		{"\x01of another length", "\x01"},
	} {
		fresh := []byte(c.value)
		s.xattrValue(s.keys.get(), xattrRule(ext.XattrEncryption, []byte("c"), fresh), fresh, nil)
		if !bytes.HasPrefix(fresh, []byte(c.kept)) {
			t.Errorf("%q became %q", c.value, fresh)
		}
		if run := longest([]byte(c.value[len(c.kept):]), fresh); len(run) > 4 && !strings.Contains(random+nonce, string(run)) {
			t.Errorf("%q became %q", c.value, fresh)
		}
		again := []byte(c.value)
		s.xattrValue(s.keys.get(), xattrRule(ext.XattrEncryption, []byte("c"), again), again, nil)
		if !bytes.Equal(again, fresh) {
			t.Errorf("%q became %q, and %q", c.value, fresh, again)
		}
	}
}

// TestEncryptedTargets has symlinks claim that they are encrypted. No target
// stays, nor words of one that is none.
func TestEncryptedTargets(t *testing.T) {
	s := newScrubber(false)
	const cipher = "\x90a\x07\xf1\x88\x13\xd2\x05\xe6\x9b\x1f\x83\xc9\x02\xb7\xee"
	for _, target := range []string{
		"\x10\x00" + cipher, "to/a/folder/of/somebody", "ab", "\x10\x00to/a/folder/of/s", "t\x00o\x00/\x00a\x00f\x00o\x00l\x00d\x00e\x00r\x00",
	} {
		for _, slow := range []bool{false, true} {
			var before, fresh []byte
			right := int(le.Uint16([]byte(target)))+2 == len(target)
			if slow {
				before = make([]byte, 1024)
				copy(before, target)
				fresh = bytes.Clone(before)
				s.blockAs(s.keys.get(), scan.EncryptedSymlink, 7, fresh)
				right = int(le.Uint16(before)) <= len(before)-2
			} else {
				in := ext.Inode(make([]byte, 256))
				le.PutUint16(in, ext.ModeSymlink|0o777)
				le.PutUint32(in[4:], uint32(len(target)))
				le.PutUint16(in[0x1A:], 1)
				le.PutUint32(in[0x20:], ext.FlagEncrypt)
				copy(in.IBlock(), target)
				before = bytes.Clone(in)
				fresh = in
				s.inode(s.keys.get(), 12, in)
				before, fresh = before[ext.IBlockOffset:][:ext.IBlockSize], fresh[ext.IBlockOffset:][:ext.IBlockSize]
			}
			if run := leftOf([]byte(target)[2:], fresh); len(run) > 2 {
				t.Errorf("slow %v: of %q there is left %q", slow, target, run)
			}
			if length := int(le.Uint16(fresh)); right != (length == int(le.Uint16(before))) {
				t.Errorf("slow %v: the length of %q became %d", slow, target, length)
			}
		}
	}
}
