package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// TestRandomDamage damages random bytes of the metadata of several shapes of
// filesystem and asks what TestDamaged asks. The environment variable
// RANDOM_DAMAGE says how many cases there are, RANDOM_SEED the first's seed; a
// case is known by its seed alone.
func TestRandomDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("a long judge, which is asked once")
	}
	cases, first := environment(t, "RANDOM_DAMAGE", 26), environment(t, "RANDOM_SEED", 1)
	tool, host := testfs.Build(t), hostFiles(t)
	shapes := []string{"ext2-1k", "ext3-1k", "ext4-1k", "nocsum-1k", "uninit-1k", "nocsum-4k", "meta-bg", "bigalloc", "inline", "no-64bit", "ea-inode", "quota", "orphan-file"}
	type shape struct {
		*base
		image    []byte
		metadata []int64 // KiB that hold any
	}
	made := make([]shape, len(shapes))
	for i, name := range shapes {
		b := makeBase(t, host, name)
		image, err := os.ReadFile(b.path)
		if err != nil {
			t.Fatal(err)
		}
		made[i] = shape{b, image, metadataOf(t, tool, b.path)}
	}
	for seed := first; seed < first+cases; seed++ {
		s := made[seed%len(made)]
		t.Run(fmt.Sprintf("%d-%s", seed, shapes[seed%len(made)]), func(t *testing.T) {
			t.Parallel()
			image := bytes.Clone(s.image)
			damage(rand.New(rand.NewPCG(uint64(seed), 0)), image, s.metadata)
			source := filepath.Join(testfs.TempDir(t), "source.img")
			if err := os.WriteFile(source, image, 0o644); err != nil {
				t.Fatal(err)
			}
			keepDamaged(t, source)
			if !anySuperblock(image) {
				refused(t, tool, source)
				return
			}
			f := judgeDamaged(t, tool, s.base, source, []string{"-fn", "-fy"})
			t.Logf("KiB of file contents in the dump: %d, read by e2fsck: %d; only probed: %d, cloned: %d, cut off: %d, relocated: %d; e2fsck of two minds: %t",
				len(f.contents), f.parsed, len(f.probes), len(f.clones), len(f.cut), len(f.moved), f.unstable)
		})
	}
}

// refused checks that what has no superblock anywhere is no filesystem to
// e2fsck and to the tool, which leaves nothing behind.
func refused(t *testing.T, tool testfs.Tool, source string) {
	t.Helper()
	if v := testfs.Fsck(t, source, "-fn"); !strings.Contains(v.Text, noFilesystem) {
		t.Errorf("e2fsck finds a superblock:\n%s", v.Text)
	}
	image := filepath.Join(testfs.TempDir(t), "meta.qcow2")
	r := tool.Run(t, "-Q", source, image)
	if r.Exit != 1 || !strings.Contains(r.Stderr, "no ext2, ext3 or ext4 filesystem") {
		t.Errorf("exit %d, want 1 and a message: %s", r.Exit, r.Stderr)
	}
	if _, err := os.Stat(image); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an image was left behind: %v", err)
	}
}

func environment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// metadataOf returns the KiB that hold metadata: those that a dump of the
// sound filesystem holds and that are not zero.
func metadataOf(t *testing.T, tool testfs.Tool, path string) []int64 {
	t.Helper()
	restored := filepath.Join(testfs.TempDir(t), "metadata.img")
	tool.Restore(t, path, restored)
	image, err := os.ReadFile(restored)
	if err != nil {
		t.Fatal(err)
	}
	var metadata []int64
	zero := make([]byte, 1024)
	for kib := int64(0); (kib+1)*1024 <= int64(len(image)); kib++ {
		if !bytes.Equal(image[kib*1024:][:1024], zero) {
			metadata = append(metadata, kib)
		}
	}
	return metadata
}

// damage changes an image in up to 32 places: bits, bytes, words and whole KiB.
func damage(r *rand.Rand, image []byte, metadata []int64) {
	pick := func() []byte { return image[metadata[r.IntN(len(metadata))]*1024:][:1024] }
	random := func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	for range []int{1, 2, 4, 8, 32}[r.IntN(5)] {
		kib := pick()
		switch at := r.IntN(1024); r.IntN(4) {
		case 0:
			kib[at] ^= 1 << r.IntN(8)
		case 1:
			kib[at] = byte(r.Uint32())
		case 2:
			word := []uint32{0, ^uint32(0), r.Uint32(), uint32(r.IntN(len(image) / 1024))}[r.IntN(4)]
			binary.LittleEndian.PutUint32(kib[at&^3:], word)
		case 3:
			switch r.IntN(4) {
			case 0:
				clear(kib)
			case 1:
				copy(kib, bytes.Repeat([]byte{0xFF}, len(kib)))
			case 2:
				random(kib)
			case 3:
				copy(kib, pick())
			}
		}
	}
}
