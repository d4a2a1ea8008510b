package ext

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

func TestDirHashAgainstDebugfs(t *testing.T) {
	t.Parallel()
	img := newDiskImage(t, 1<<20, 1024, "-t", "ext2")
	names := []string{"a", "abc", "abcd", "lost+found", "f\xe9\xffte", strings.Repeat("long name ", 3), strings.Repeat("\xf0xyz", 63)}
	for n := 15; n <= 34; n++ {
		names = append(names, strings.Repeat("n", n))
	}
	const uuid = "01234567-89ab-cdef-1032-547698badcfe"
	var seed [4]uint32
	for i := range seed {
		seed[i] = binary.LittleEndian.Uint32([]byte("\x01\x23\x45\x67\x89\xab\xcd\xef\x10\x32\x54\x76\x98\xba\xdc\xfe")[4*i:])
	}
	var commands, want []string
	for h := DirHashLegacy; h <= DirHashTEAUnsigned; h++ {
		for _, name := range names {
			name = strings.ReplaceAll(name, " ", "_")
			for _, s := range [][4]uint32{{}, seed} {
				arg := ""
				if s != [4]uint32{} {
					arg = " -s " + uuid
				}
				commands = append(commands, fmt.Sprintf("dx_hash -h %d%s %s", h, arg, name))
				major, minor, ok := h.Hash([]byte(name), s)
				if !ok {
					t.Fatalf("hash %d is unknown", h)
				}
				want = append(want, fmt.Sprintf("Hash of %s is 0x%0x (minor 0x%0x)", name, major, minor))
			}
		}
	}
	var got []string
	for line := range strings.Lines(testfs.Debugfs(t, img.path, commands...).Text) {
		if strings.HasPrefix(line, "Hash of") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d hashes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s\ndebugfs: %s\nours:    %s", commands[i], got[i], want[i])
		}
	}
	if _, _, ok := DirHash(6).Hash([]byte("a"), seed); ok {
		t.Error("SipHash is not known, and yet computed")
	}
	if DirHashTEA.Unsigned() != DirHashTEAUnsigned || DirHashLegacyUnsigned.Unsigned() != DirHashLegacyUnsigned {
		t.Error("Unsigned is wrong")
	}
}

func FuzzDirHash(f *testing.F) {
	f.Add([]byte("name"), uint8(1))
	f.Fuzz(func(t *testing.T, name []byte, h uint8) {
		major, _, ok := DirHash(h).Hash(name, [4]uint32{1, 2, 3, 4})
		if ok != (h < 6) || major&1 != 0 || major == 0xFFFFFFFE {
			t.Fatalf("%#x, %v", major, ok)
		}
	})
}

func BenchmarkDirHash(b *testing.B) {
	name := []byte("a name of twenty-one.")
	for h := DirHashLegacy; h <= DirHashTEA; h++ {
		b.Run(fmt.Sprint(h), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Hash(name, [4]uint32{})
			}
		})
	}
}
