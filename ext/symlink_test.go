package ext

import (
	"encoding/binary"
	"strings"
	"testing"
	"unsafe"

	ext4 "github.com/dsoprea/go-ext4"
)

func TestSymlinkTarget(t *testing.T) {
	const both = TargetInInode | TargetInBlock
	for _, c := range []struct {
		what   string
		target string // i_block
		size   uint32
		blocks uint32 // sectors
		acl    uint32
		flags  uint32
		want   TargetPlace
		sound  bool
	}{
		{"fast", "bob", 3, 0, 0, 0, TargetInInode, true},
		{"fast, 59 bytes", strings.Repeat("x", 59), 59, 0, 0, 0, TargetInInode, true},
		{"slow", "\x61\x62", 60, 2, 0, 0, TargetInBlock, false},
		{"slow, of a length that would fit", "\x61\x62", 10, 2, 0, 0, both, false},
		{"fast, with a large attribute", "bob", 3, 32, 0, 0, both, true},
		{"fast, one letter, with a large attribute", "b", 1, 32, 0, 0, both, true},
		{"fast, with an attribute block", "bob", 3, 2, 77, 0, TargetInInode, true},
		{"fast, with an attribute block and a large attribute", "bob", 3, 34, 77, 0, both, true},
		{"slow, with an attribute block", "\x61\x62", 60, 4, 77, 0, TargetInBlock, false},
		{"slow, with an attribute block, i_blocks wrong", "\x61\x62", 60, 2, 77, 0, both, false},
		{"no size", "", 0, 0, 0, 0, both, false},
		{"shorter than i_size", "bob", 5, 0, 0, 0, TargetInInode, false},
		{"longer than i_size", "bobby", 3, 0, 0, 0, TargetInInode, false},
		{"inline", strings.Repeat("x", 60), 100, 0, 0, FlagInlineData, TargetInInode, false},
		{"encrypted", "\x10\x00" + strings.Repeat("\x00", 16), 18, 32, 0, FlagEncrypt, both, true},
		{"encrypted, longer than i_size", "\x10\x01", 18, 32, 0, FlagEncrypt, both, false},
	} {
		in := make(Inode, 128)
		le := binary.LittleEndian
		le.PutUint16(in[unsafe.Offsetof(ext4.InodeData{}.IMode):], ModeSymlink|0o777)
		le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.ISizeLo):], c.size)
		le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.IBlocksLo):], c.blocks)
		le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.IFileAclLo):], c.acl)
		le.PutUint32(in[unsafe.Offsetof(ext4.InodeData{}.IFlags):], c.flags)
		copy(in.IBlock(), c.target)
		if got := in.SymlinkTarget(true, 1024); got != c.want {
			t.Errorf("%s: target in %b, want %b", c.what, got, c.want)
		}
		if got := in.HasSoundTarget(); got != c.sound {
			t.Errorf("%s: sound is %v", c.what, got)
		}
	}
}
