package scrub

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/scan"
)

// TestCertain has blocks of several kinds, that two readings of a filesystem or
// damage take for others too, be certain as what they are, and as nothing else.
func TestCertain(t *testing.T) {
	pointers := make([]byte, 1024)
	for i := range 200 {
		le.PutUint32(pointers[4*i:], uint32(1000+i))
	}
	target := make([]byte, 1024)
	copy(target, strings.Repeat("t", 81))
	node := make([]byte, 1024)
	le.PutUint16(node[4:], 1024)
	le.PutUint16(node[8:], (1024-8)/8)
	le.PutUint16(node[10:], 2)
	le.PutUint32(node[12:], 1)
	le.PutUint32(node[16:], 0x81234560)
	le.PutUint32(node[20:], 2)
	attributes := make([]byte, 1024)
	copy(attributes, "\x00\x00\x02\xea\x01\x00\x00\x00\x01\x00\x00\x00")
	extents := make([]byte, 1024)
	copy(extents, "\x0a\xf3\x00\x00\x54\x00\x00\x00")
	blocks := map[scan.Kind][][]byte{
		scan.IndirectBlock: {pointers},
		scan.Symlink:       {target},
		scan.Directory:     {dirBlock(13, "a name"), indexRoot(ext.DirHashHalfMD4), node},
		scan.Xattr:         {attributes},
		scan.ExtentNode:    {extents},
	}
	x := NewIndex(Options{})
	v := visitorOf(t, x)
	v.Inode(12, indexedDir())
	v.Directory(12, 7, node)
	x.sortOwners()
	s := &scrubber{shape: shape{blockSize: 1024, inodes: 1000}, keys: x.keys, words: x.words, index: x, m: new(scan.Map)}
	s.lim.blocks, s.lim.inodes = 5000, 1000
	for kind, list := range blocks {
		for i, block := range list {
			for as := range blocks {
				if got := s.certain(as, 7, block); got != (as == kind) {
					t.Errorf("block %d of the kind %v is certain as %v: %v", i, kind, as, got)
				}
			}
		}
	}
	// On a filesystem so large that text may be the number of a block.
	s.lim.blocks = 1 << 31
	text := bytes.Repeat([]byte("text"), 256)
	if s.certain(scan.IndirectBlock, 7, text) {
		t.Error("text is certain as numbers of blocks")
	}
}

// TestValueHashes has the hash of a value be one for each reading of the
// filesystem: a recovery of the journal may give the inode another value.
func TestValueHashes(t *testing.T) {
	const ino, name = 77, "note"
	values := valueHashes{ino: {{stored: 0x11111111, change: 0x0F0F0F0F}, {stored: 0x22222222, change: 0x00FF00FF}}}
	for _, h := range values[ino] {
		t.Run(fmt.Sprintf("%#x", h.stored), func(t *testing.T) {
			s := newScrubber(false)
			s.values = values
			in := valueInode()
			le.PutUint32(in[0x08:], h.stored)
			s.inode(s.keys.get(), ino, in)
			want := h.stored ^ h.change
			if got := le.Uint32(in[0x08:]); got != want {
				t.Errorf("the hash in the inode is %#x, want %#x", got, want)
			}
			block := make([]byte, 1024)
			le.PutUint32(block, 0xEA020000)
			le.PutUint32(block[4:], 1)
			le.PutUint32(block[8:], 1)
			e := block[32:]
			e[0], e[1] = byte(len(name)), ext.XattrUser
			le.PutUint32(e[4:], ino)
			le.PutUint32(e[8:], 600)
			copy(e[16:], name)
			ext.SetXattrEntryHash(e, ext.XattrHashInode(ext.XattrHash([]byte(name), nil, false), h.stored))
			s.xattrBlock(s.keys.get(), 1234, block, values)
			if got, right := ext.XattrEntryHash(e), ext.XattrHashInode(ext.XattrHash(e[16:16+len(name)], nil, false), want); got != right {
				t.Errorf("the hash of the entry is %#x, want %#x", got, right)
			}
		})
	}
}
