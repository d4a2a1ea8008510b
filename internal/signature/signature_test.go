package signature

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	at := func(size int, pieces map[int]string) []byte {
		b := make([]byte, size)
		for off, s := range pieces {
			copy(b[off:], s)
		}
		return b
	}
	const mib = 1 << 20
	tests := []struct {
		what string
		data []byte
		want string
		fs   bool
	}{
		{"nothing", nil, "", false},
		{"zeros", make([]byte, mib), "", false},
		{"ext", at(4096, map[int]string{1080: "\x53\xef"}), "an ext2, ext3 or ext4 filesystem", true},
		{"ext on a disk with a boot sector", at(mib, map[int]string{510: "\x55\xaa", 450: "\x83", 1080: "\x53\xef"}), "an ext2, ext3 or ext4 filesystem", true},
		{"xfs", at(mib, map[int]string{0: "XFSB"}), "an XFS filesystem", true},
		{"cut off in the magic", []byte("XFS"), "", false},
		{"btrfs", at(mib, map[int]string{65600: "_BHRfS_M"}), "a btrfs filesystem", true},
		{"swap", at(mib, map[int]string{4086: "SWAPSPACE2"}), "swap space", true},
		{"md 0.90", at(mib, map[int]string{mib - 65536: "\xfc\x4e\x2b\xa9"}), "a member of a RAID array", true},
		{"md 1.0", at(mib, map[int]string{mib - 8192: "\xfc\x4e\x2b\xa9"}), "a member of a RAID array", true},
		{"zfs", at(mib, map[int]string{131072 + 5*1024: "\x0c\xb1\xba\x00\x00\x00\x00\x00"}), "a ZFS pool", true},
		{"mbr", at(mib, map[int]string{510: "\x55\xaa", 450: "\x83"}), "a partition table", true},
		{"boot sector without partitions", at(mib, map[int]string{510: "\x55\xaa"}), "", false},
		{"gpt", at(mib, map[int]string{510: "\x55\xaa", 450: "\xee", 512: "EFI PART"}), "a partition table", true},
		{"vfat", at(mib, map[int]string{510: "\x55\xaa", 82: "FAT32   "}), "a FAT filesystem", true},
		{"gzip", []byte("\x1f\x8b\x08\x00"), "gzip data", false},
		{"qcow2", at(mib, map[int]string{0: "QFI\xfb", 1080: "\x53\xef"}), QCOW2, false},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			s, ok, err := Find(bytes.NewReader(test.data), int64(len(test.data)))
			if err != nil {
				t.Fatal(err)
			}
			if ok != (test.want != "") || s.Name != test.want || s.Filesystem != test.fs {
				t.Errorf("got %+v, %v; want %q, filesystem %v", s, ok, test.want, test.fs)
			}
		})
	}
}

func TestFindReadError(t *testing.T) {
	want := errors.New("bad sector")
	r := io.NewSectionReader(failing{want}, 0, 4096)
	if _, _, err := Find(r, 4096); !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestNamesReadOn(t *testing.T) {
	for _, m := range append(filesystems, formats...) {
		if m.name == "" || strings.ContainsAny(m.name, ".:\n") || m.off+int64(len(m.bytes)) > headBytes {
			t.Errorf("%+v: no name that a sentence can hold, or out of reach", m)
		}
	}
}
