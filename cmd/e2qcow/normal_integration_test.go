package main_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// normalSpecs are filesystems whose tables stand in all the ways there are.
func normalSpecs() map[string]testfs.Spec {
	return map[string]testfs.Spec{
		"ext4,1k":          {Mke2fs: "-t ext4 -b 1024", Size: 33468 << 10, Fill: testfs.Copied},
		"ext4,2k":          {Mke2fs: "-t ext4 -b 2048", Size: 40 * mib, Fill: testfs.Copied},
		"ext4,4k":          {Mke2fs: "-t ext4 -b 4096 -g 4096", Size: 60 * mib, Fill: testfs.Copied},
		"ext4,64k":         {Mke2fs: "-t ext4 -b 65536 -g 512 -N 2048", Size: 256 * mib},
		"ext4,^flex_bg":    {Mke2fs: "-t ext4 -b 1024 -O ^flex_bg -g 2048", Size: 20 * mib},
		"ext4,meta_bg":     {Mke2fs: "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 512", Size: 40 * mib},
		"ext4,bigalloc":    {Mke2fs: "-t ext4 -b 4096 -O bigalloc -C 65536 -g 4096", Size: 128 * mib},
		"ext4,bigalloc,1k": {Mke2fs: "-t ext4 -b 1024 -O bigalloc -C 16384", Size: 96 * mib},
		"ext4,uninit_bg":   {Mke2fs: "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg", Size: 40 * mib},
		"ext4,stale":       {Mke2fs: "-t ext4 -b 1024 -E lazy_itable_init=1", Size: 40 * mib, Stale: true},
		"ext4,mmp":         {Mke2fs: "-t ext4 -b 1024 -O mmp", Size: 20 * mib},
		"ext4,desc_size":   {Mke2fs: "-t ext4 -b 1024 -E desc_size=128", Size: 20 * mib},
		"ext2,revision-0":  {Mke2fs: "-t ext2 -b 1024 -r 0", Size: 20 * mib, Fill: testfs.Copied},
	}
}

// TestNormal writes normal images with e2image and e2qcow, which have to be
// the same, and has both install them.
func TestNormal(t *testing.T) {
	tool := testfs.Build(t)
	for name, spec := range normalSpecs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := testfs.Make(t, spec).Path
			normalRound(t, tool, source)
			dir := testfs.TempDir(t)
			image := filepath.Join(dir, "image")
			tool.Normal(t, source, image)
			tablesOnly(t, testfs.Dumpe2fs(t, source).Text, testfs.Dumpe2fs(t, image, "-i").Text)

			theirs, ours := testfs.Copy(t, source), testfs.Copy(t, source)
			for _, path := range []string{theirs, ours} {
				wreckTables(t, path)
			}
			testfs.E2image(t, "-I", theirs, image)
			if r := tool.Run(t, "-I", ours, image); r.Exit != 0 {
				t.Fatalf("-I: exit %d\n%s", r.Exit, r.Stderr)
			}
			same(t, "e2fsck -fn", testfs.Fsck(t, theirs, "-fn"), testfs.Fsck(t, ours, "-fn"))
			// e2image counts the write and sets its time, and the checksum with it.
			erase := func(path string) {
				testfs.Erase(t, path, 1024+0x30, 1024+0x34)
				testfs.Erase(t, path, 1024+0x178, 1024+0x180)
				testfs.Erase(t, path, 1024+0x274, 1024+0x275)
				testfs.Erase(t, path, 1024+0x3fc, 1024+0x400)
			}
			erase(theirs)
			erase(ours)
			if at := testfs.Difference(t, theirs, ours); at >= 0 {
				t.Errorf("what e2image and e2qcow install differs at byte %d", at)
			}
		})
	}
}

// TestNormalDamaged writes normal images of filesystems that are damaged.
func TestNormalDamaged(t *testing.T) {
	tool := testfs.Build(t)
	spec := testfs.Spec{Mke2fs: "-t ext4 -b 1024", Size: 40 * mib, Fill: testfs.Copied}
	for name, command := range map[string]string{
		"bad inode checksum":      "sif <2> checksum 0x1234",
		"bad descriptor checksum": "set_bg 1 checksum 0x1234",
		"bad bitmap":              "freeb 100 20",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := testfs.Copy(t, testfs.Make(t, spec).Path)
			testfs.DebugfsWrite(t, path, command)
			normalRound(t, tool, path)
		})
	}
	t.Run("no primary", func(t *testing.T) {
		t.Parallel()
		source := testfs.Make(t, spec).Path
		path := testfs.Copy(t, source)
		testfs.Erase(t, path, 1024, 4096)
		dir := testfs.TempDir(t)
		sound, found, named := filepath.Join(dir, "sound"), filepath.Join(dir, "found"), filepath.Join(dir, "named")
		tool.Normal(t, source, sound)
		tool.Normal(t, path, found)
		tool.Normal(t, path, named, "-b", "8193", "-B", "1024") // e2image has no -b for normal images
		a, b := readNormal(t, found), readNormal(t, named)
		if !bytes.Equal(a, b) {
			t.Errorf("with -b the image is another: %d and %d bytes, first unlike %d", len(a), len(b), firstUnlike(a, b))
		}
		_, want, _ := strings.Cut(testfs.Dumpe2fs(t, sound, "-i").Text, "Group 0:")
		_, got, _ := strings.Cut(testfs.Dumpe2fs(t, named, "-i").Text, "Group 0:")
		same(t, "dumpe2fs -i, of the groups,", testfs.Verdict{Text: want}, testfs.Verdict{Text: got})
	})
}

// normalRound compares the normal image that e2image makes of a filesystem to
// that of e2qcow.
func normalRound(t *testing.T, tool testfs.Tool, source string, options ...string) {
	t.Helper()
	dir := testfs.TempDir(t)
	theirs, ours := filepath.Join(dir, "e2image"), filepath.Join(dir, "e2qcow")
	testfs.E2image(t, append(options, source, theirs)...)
	tool.Normal(t, source, ours, options...)
	a, b := readNormal(t, theirs), readNormal(t, ours)
	if !bytes.Equal(a, b) {
		t.Errorf("e2image and e2qcow do not write the same: %d and %d bytes, first unlike %d", len(a), len(b), firstUnlike(a, b))
	}
	same(t, "dumpe2fs -i", testfs.Dumpe2fs(t, theirs, "-i"), testfs.Dumpe2fs(t, ours, "-i"))
	same(t, "debugfs -i", testfs.DebugfsImage(t, theirs), testfs.DebugfsImage(t, ours))

	// Read back, it is what it was made of.
	again := filepath.Join(dir, "again")
	tool.Normal(t, ours, again)
	if at := testfs.Difference(t, ours, again); at >= 0 {
		t.Errorf("the normal image of the normal image differs at byte %d", at)
	}
}

// readNormal returns a normal image without what it says of itself: the device
// and the inode that it lies in, and the time.
func readNormal(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[240:252])
	return b
}

func firstUnlike(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// tablesOnly checks that what dumpe2fs says of a filesystem and of its normal
// image differs in the lines about the journal, and the mmp block, only.
func tablesOnly(t *testing.T, whole, tables string) {
	t.Helper()
	journal := regexp.MustCompile(`(?m)^(Journal (features|size|length|sequence|start|checksum type|checksum|errno)|Total journal (size|blocks)|Max transaction length|Fast commit length|dumpe2fs: .*):? .*\n|^MMP_block:\n(    .*\n)*`)
	trim := func(s string) string { return strings.TrimSpace(journal.ReplaceAllString(s, "")) }
	if a, b := trim(whole), trim(tables); a != b {
		same(t, "dumpe2fs, without the journal,", testfs.Verdict{Text: a}, testfs.Verdict{Text: b})
	}
}

// wreckTables writes ones over what a normal image holds.
func wreckTables(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sb := make([]byte, 1024)
	if _, err := f.ReadAt(sb, 1024); err != nil {
		t.Fatal(err)
	}
	blockSize := int64(1024) << binary.LittleEndian.Uint32(sb[24:])
	for _, m := range regexp.MustCompile(`(?:bitmap|Inode table) at (\d+)`).FindAllStringSubmatch(testfs.Dumpe2fs(t, path).Text, -1) {
		block, _ := strconv.ParseInt(m[1], 10, 64)
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 512), block*blockSize); err != nil {
			t.Fatal(err)
		}
	}
}
