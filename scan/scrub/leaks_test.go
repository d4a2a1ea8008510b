package scrub

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// newInode returns an inode with one link and without a checksum.
func newInode(mode uint16) ext.Inode {
	in := ext.Inode(make([]byte, 256))
	le.PutUint16(in, mode)
	le.PutUint16(in[0x1A:], 1)
	for i := range 3 {
		le.PutUint32(in[0x08+4*i:], 1_600_000_000)
	}
	le.PutUint16(in[inodeExtraSizeOffset:], 32)
	return in
}

// TestInodeLeaks has texts stand where an inode has no numbers, and where some
// program takes for a target what others take for numbers of blocks.
func TestInodeLeaks(t *testing.T) {
	const text = "QzkT7mWrd" // less than the ten bytes that a symlink may have here
	const dtime = 1_600_000_000
	cases := map[string]func() (in ext.Inode, at int){
		"FIFO":        func() (ext.Inode, int) { return newInode(ext.ModeFIFO | 0o644), ext.IBlockOffset },
		"socket":      func() (ext.Inode, int) { return newInode(ext.ModeSocket | 0o644), ext.IBlockOffset + 20 },
		"device":      func() (ext.Inode, int) { return newInode(ext.ModeChar | 0o644), ext.IBlockOffset + 8 },
		"no type":     func() (ext.Inode, int) { return newInode(0), ext.IBlockOffset },
		"extra space": func() (ext.Inode, int) { in := newInode(ext.ModeFIFO); le.PutUint16(in[0x80:], 64); return in, 0xA0 },
		"no magic":    func() (ext.Inode, int) { return newInode(ext.ModeRegular), 0xA4 },
		"extents": func() (ext.Inode, int) {
			in := newInode(ext.ModeRegular | 0o644)
			le.PutUint32(in[0x20:], ext.FlagExtents)
			copy(in.IBlock(), "\x0a\xf3\x00\x00\x04\x00\x00\x00")
			return in, ext.IBlockOffset + 12
		},
		"freed symlink": func() (ext.Inode, int) {
			in := newInode(ext.ModeSymlink | 0o777)
			le.PutUint16(in[0x1A:], 0)
			le.PutUint32(in[0x14:], dtime)
			return in, ext.IBlockOffset
		},
		"symlink with an attribute": func() (ext.Inode, int) {
			in := newInode(ext.ModeSymlink | 0o777)
			le.PutUint32(in[0x04:], uint32(len(text)))
			le.PutUint32(in[0x1C:], 40)
			le.PutUint32(in[0x68:], 77)
			return in, ext.IBlockOffset
		},
		"symlink with blocks": func() (ext.Inode, int) {
			in := newInode(ext.ModeSymlink | 0o777)
			le.PutUint32(in[0x04:], uint32(len(text)))
			le.PutUint32(in[0x1C:], 2)
			return in, ext.IBlockOffset
		},
		"symlink without a length": func() (ext.Inode, int) { return newInode(ext.ModeSymlink | 0o777), ext.IBlockOffset },
		"inline file": func() (ext.Inode, int) {
			in := newInode(ext.ModeRegular | 0o644)
			le.PutUint32(in[0x20:], ext.FlagInlineData)
			return in, ext.IBlockOffset
		},
	}
	for name, build := range cases {
		for _, word := range []string{text, text[:4], text[:3]} {
			for _, right := range []bool{false, true} {
				s := newScrubber(false)
				s.sums = right
				s.lim.blocks = 1 << 31 // any four letters are the number of a block
				in, at := build()
				copy(in[at:], word)
				if right {
					ext.SetInodeChecksum(in, ext.InodeChecksum(99, 12, in))
				}
				s.inode(s.keys.get(), 12, in)
				if bytes.Contains(in, []byte(word)) {
					t.Errorf("%s, checksum %v: %q is left", name, right, word)
				}
			}
		}
	}
}

// TestXattrNames has names and values that begin as those which rules keep.
func TestXattrNames(t *testing.T) {
	const security = ext.XattrSecurity
	for _, c := range []struct {
		index       uint8
		name, value string
		nameStays   bool
		valueStays  bool
	}{
		{security, "capability", "\x01\x00\x00\x02\x20\x00\x00\x00" + strings.Repeat("\x00", 12), true, true},
		{security, "capability", "\x01\x00\x00\x02sixteen  letters", true, false},
		{security, "capability", "\x01\x00\x00\x02P\x00i\x00n\x001\x002\x003\x004\x005\x00", true, false},
		{security, "SMACK64", "label-of-somebody", true, false},
		{security, "SMACK64anything", "label-of-somebody", false, false},
		{security, "capabilityOfBob", "value", false, false},
		{security, "selinux", "user_u:role_r:type_of_somebody:s0\x00", true, false},
		{ext.XattrSystem, "data-of-bob", "value", false, false},
		{ext.XattrPosixACLAccess, "", "\x01\x00\x00\x00\x01\x00\x07\x00", true, true},
		{ext.XattrPosixACLAccess, "", "\x01\x00\x00\x00letters", true, false},
		{ext.XattrUser, "capability", "value", false, false},
	} {
		block := xattrBlock([]attribute{{c.index, c.name, c.value, 0}}, false)
		s := newScrubber(false)
		s.xattrBlock(s.keys.get(), 1234, block, nil)
		got := readXattrs(t, ext.NewXattrBlockReader(block))[0]
		if (got.name == c.name) != c.nameStays || (got.value == c.value) != c.valueStays {
			t.Errorf("%q with %q became %q with %q", c.name, c.value, got.name, got.value)
		}
	}
}

// TestStaleSums has checksums that are wrong, or are none of the features' in
// use: what is written depends on the key, and is not right.
func TestStaleSums(t *testing.T) {
	for _, sums := range []bool{false, true} {
		seen := map[string]bool{}
		const keys = 8
		for key := range byte(keys) {
			block := xattrBlock([]attribute{{ext.XattrUser, "pin", "1234", 0}}, false)
			stale := ext.XattrBlockChecksum(99, 1234, block)
			if sums {
				stale ^= 0x55
			}
			ext.SetXattrBlockChecksum(block, stale)
			s := newScrubber(false)
			s.sums, s.keys = sums, newKeyring([KeySize]byte{key})
			s.xattrBlock(s.keys.get(), 1234, block, nil)
			h, _ := ext.DecodeXattrHeader(block)
			seen[fmt.Sprint(h.Checksum)] = true
			if h.Checksum == stale || h.Checksum == ext.XattrBlockChecksum(99, 1234, block) {
				t.Errorf("checksums in use %v: %#x became %#x", sums, stale, h.Checksum)
			}
		}
		if len(seen) < keys {
			t.Errorf("checksums in use %v: %d different ones with %d keys", sums, len(seen), keys)
		}
	}
}

// TestDirectoryLeaks has texts stand between names, behind them, and in folders
// that claim that they are encrypted.
func TestDirectoryLeaks(t *testing.T) {
	put := func(b []byte, ino uint32, recLen, nameLen int, text string) {
		le.PutUint32(b, ino)
		le.PutUint16(b[4:], uint16(recLen))
		b[6], b[7] = byte(nameLen), 1
		copy(b[direntHeader:], text)
	}
	for _, encrypted := range []bool{false, true} {
		s := newScrubber(false)
		s.index.owners = []owner{{7, 1, 12}}
		if encrypted {
			s.index.dirs[12] = &directory{ino: 12, encrypted: true}
		}
		b := make([]byte, s.blockSize)
		put(b, 12, 12, 1, ".Qz7")           // the padding behind "."
		put(b[12:], 2, 12, 2, "..Xw")       // and behind ".."
		put(b[24:], 13, 400, 8, "name-One") // a name, and a gap
		put(b[44:], 14, 20, 11, "deletedName")
		copy(b[100:], "TextBehindTheName")
		put(b[424:], 0, s.blockSize-424, 9, "unusedOne")
		words := []string{"Qz7", "Xw", "name-One", "deletedName", "TextBehindTheName", "unusedOne"}
		s.directoryBlock(s.keys.get(), 7, b)
		for _, w := range words {
			if bytes.Contains(b, []byte(w)) {
				t.Errorf("encrypted %v: %q is left", encrypted, w)
			}
		}
		if b[direntHeader] != '.' || string(b[20:22]) != ".." {
			t.Errorf("encrypted %v: %q", encrypted, b[:24])
		}
	}
}

// TestWholeLeaks lays texts over sound filesystems where nothing is, and has
// names be numbers in other places: nothing stays, and no run ends.
func TestWholeLeaks(t *testing.T) {
	const text = "Qk3zWordOfSomebodyXu7"
	for _, features := range []string{"metadata_csum", "^metadata_csum"} {
		data, err := os.ReadFile(testfs.Make(t, testfs.Spec{
			Mke2fs: "-t ext4 -b 1024 -N 64 -O ^has_journal,^resize_inode," + features, Size: 4 << 20,
			Debugfs: []string{"mkdir aBcDeFgH", "mkdir lost+found/#123", "mkdir #456", "write /dev/null file",
				"sif file atime @0x44634261", "sif file ctime @0x48674665"},
		}).Path)
		if err != nil {
			t.Fatal(err)
		}
		const descs, boot = 2 * 1024, 0
		copy(data[boot:], text)
		copy(data[descs+64:], text) // behind the descriptor of the only group
		copy(data[descs+1000:], text)
		copy(data[1024+ext.SuperblockSize-0x200:], text) // in s_reserved
		if features == "^metadata_csum" {
			copy(data[1024+0x200:], text) // s_mount_opts
		}
		for key := range byte(3) {
			image, _, err := scrubbed(data, key)
			if err != nil {
				t.Fatalf("%s, key %d: %v", features, key, err)
			}
			for _, word := range []string{text[:8], text[8:], "#123", "#456"} {
				if at := bytes.Index(image, []byte(word)); at >= 0 {
					t.Errorf("%s, key %d: %q is left at byte %#x", features, key, word, at)
				}
			}
			if features == "metadata_csum" && !bytes.Contains(image, []byte("aBcD")) {
				t.Errorf("%s: a time that is a word is gone", features)
			}
		}
	}
}

// TestHeaderWithoutFlag has an inode with the header of extents and without their
// flag: what is behind the extents in use, numbers of blocks to e2fsck, stays, and
// no text does.
func TestHeaderWithoutFlag(t *testing.T) {
	s := newScrubber(false)
	in := newInode(ext.ModeRegular | 0o644)
	copy(in.IBlock(), "\x0a\xf3\x01\x00\x04\x00\x00\x00")
	le.PutUint32(in.IBlock()[12:], 0)
	le.PutUint16(in.IBlock()[16:], 2)
	le.PutUint32(in.IBlock()[20:], 3000)
	le.PutUint32(in.IBlock()[28:], 1234)
	copy(in.IBlock()[32:], "TextOfSomebody")
	le.PutUint32(in.IBlock()[48:], 4321)
	s.inode(s.keys.get(), 12, in)
	if a, b := le.Uint32(in.IBlock()[28:]), le.Uint32(in.IBlock()[48:]); a != 1234 || b != 4321 {
		t.Errorf("the numbers became %d and %d", a, b)
	}
	if run := leftOf([]byte("TextOfSomebody"), in); len(run) > 2 {
		t.Errorf("%q is left", run)
	}
	le.PutUint32(in[0x20:], ext.FlagExtents)
	if s.inode(s.keys.get(), 12, in); !allZero(in.IBlock()[24:]) {
		t.Errorf("%x stays behind the extents", in.IBlock()[24:])
	}
}
