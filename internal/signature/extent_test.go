package signature

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestExtent asks real filesystems of a stated size how large they are.
func TestExtent(t *testing.T) {
	const size = 320 << 20
	for name, tool := range map[string][]string{
		"an ext2, ext3 or ext4 filesystem": {"mke2fs", "-qF", "-t", "ext4"},
		"an XFS filesystem":                {"mkfs.xfs", "-q", "-f"},
		"a btrfs filesystem":               {"mkfs.btrfs", "-q", "-f"},
		"an NTFS filesystem":               {"mkfs.ntfs", "-qQF"},
		"a FAT filesystem":                 {"mkfs.vfat"},
		"an exFAT filesystem":              {"mkfs.exfat"},
		"an F2FS filesystem":               {"mkfs.f2fs", "-q", "-f"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(tool[0]); err != nil {
				t.Skipf("%s is not installed", tool[0])
			}
			path := filepath.Join(t.TempDir(), "fs")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool[0], append(tool[1:], path)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s, _, err := Find(f, size)
			if err != nil || s.Name != name {
				t.Fatalf("it looks like %q, %v", s.Name, err)
			}
			if got := s.Extent(f); got > size || got < size-4<<20 {
				t.Errorf("of %d bytes it takes %d", size, got)
			}
		})
	}
}

// TestExtentsOfNoise has every kind asked for its size where there is noise, or
// nothing: no size is negative.
func TestExtentsOfNoise(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for name := range extents {
		if !slices.ContainsFunc(filesystems, func(m magic) bool { return m.name == name }) {
			t.Errorf("%s is never found", name)
		}
		for range 100 {
			b := make([]byte, rnd.IntN(2*headForExtent))
			for i := range b {
				b[i] = byte(rnd.Uint32() | rnd.Uint32())
			}
			if got := (Signature{Name: name}).Extent(bytes.NewReader(b)); got < 0 {
				t.Errorf("%s takes %d bytes", name, got)
			}
		}
	}
	if got := fmt.Sprint((Signature{Name: "a LUKS container"}).Extent(bytes.NewReader(nil))); got != "0" {
		t.Errorf("what does not say how large it is takes %s bytes", got)
	}
}
