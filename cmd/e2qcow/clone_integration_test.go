package main_test

import (
	"maps"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"e2qcow/internal/testfs"
)

// TestClone clones filesystems with -a and asks the kernel and e2fsck whether
// they are the same. On a stale device the blocks that nobody wrote hold what
// looks like file contents: none of them may be in the clone.
func TestClone(t *testing.T) {
	tool := testfs.Build(t)
	const megabytes = 40 * mib
	for name, spec := range map[string]testfs.Spec{
		"ext2,1k":                {Mke2fs: "-t ext2 -b 1024", FarOffset: (12 + 256 + 256*256 + 5) << 10},
		"ext3,stale":             {Mke2fs: "-t ext3 -b 1024", Stale: true},
		"ext4,2k":                {Mke2fs: "-t ext4 -b 2048 -g 8192"},
		"ext4,stale":             {Mke2fs: "-t ext4 -b 1024", Stale: true},
		"ext4,4k,stale":          {Mke2fs: "-t ext4 -b 4096", Stale: true},
		"ext4,dirty":             {Mke2fs: "-t ext4 -b 1024 -O fast_commit", Dirty: true},
		"ext4,inline_data":       {Mke2fs: "-t ext4 -b 1024 -O inline_data,ea_inode"},
		"ext4,meta_bg":           {Mke2fs: "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 512"},
		"ext4,bigalloc,stale":    {Mke2fs: "-t ext4 -b 4096 -O bigalloc -C 65536 -g 4096", Stale: true, Size: 128 * mib},
		"ext4,bigalloc,1k,stale": {Mke2fs: "-t ext4 -b 1024 -O bigalloc -C 16384", Stale: true, Size: 96 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec.Fill = testfs.Mounted
			if spec.Size == 0 {
				spec.Size = megabytes
			}
			source := testfs.Make(t, spec).Path
			dir := testfs.TempDir(t)
			file := func(name string) string { return filepath.Join(dir, name) }
			clone := file("clone.img")
			tool.Restore(t, source, clone, "-a")
			tool.Dump(t, source, file("clone.qcow2"), "-az")
			tool.Restore(t, file("clone.qcow2"), file("restored.img"))
			if at := testfs.Difference(t, clone, file("restored.img")); at >= 0 {
				t.Errorf("the clone and what is restored from a qcow2 image of it differ at byte %d", at)
			}
			if v := testfs.QemuCheck(t, file("clone.qcow2")); v.Exit != 0 {
				t.Errorf("qemu-img check: %s", v.Text)
			}
			if info := tool.Run(t, "info", file("clone.qcow2")).Stdout; !strings.Contains(info, `"all data"`) {
				t.Errorf("info does not say that all data is there:\n%s", info)
			}
			tree := func(path string) map[string]string {
				tree := testfs.Tree(t, path)
				if spec.Dirty {
					// Replay of a fast commit sets the times of folders to those of the replay.
					maps.DeleteFunc(tree, func(_, inode string) bool { return strings.Contains(inode, " drwx") })
				}
				return tree
			}
			if diff := cmp.Diff(tree(source), tree(clone)); diff != "" {
				t.Errorf("source (-) and clone (+) differ:\n%.4000s", diff)
			}
			same(t, "e2fsck -fn", testfs.Fsck(t, source, "-fn"), testfs.Fsck(t, clone, "-fn"))
			same(t, "dumpe2fs", testfs.Dumpe2fs(t, source), testfs.Dumpe2fs(t, clone))
			if missing := testfs.Missing(t, clone, source, 512); len(missing) > 0 {
				t.Errorf("sectors %d of the clone are neither zero nor the source's", missing)
			}
			if !spec.Dirty { // else debugfs does not know of what is in the journal
				nothingElse(t, source, clone)
			}
			if !strings.Contains(spec.Mke2fs, "bigalloc") && !spec.Stale {
				testfs.E2imageClone(t, source, file("e2image.img"))
				if missing := testfs.Missing(t, file("e2image.img"), clone, 1024); len(missing) > 0 {
					t.Errorf("e2image clones the 1 KiB blocks %d, and the clone lacks them", missing)
				}
			}
		})
	}
}

// nothingElse checks that what looks like contents of files in a clone lies
// where debugfs says that files were written: e2image copies what was never
// written too.
func nothingElse(t *testing.T, source, clone string) {
	t.Helper()
	size := numberOf(t, source, "Block size")
	written := map[int64]bool{}
	var questions []string
	for ino := range numberOf(t, source, "Inode count") {
		questions = append(questions, "stat <"+strconv.FormatInt(ino+1, 10)+">")
	}
	for inode := range strings.SplitSeq(testfs.Debugfs(t, source, questions...).Text, "debugfs: stat ") {
		if strings.Contains(inode, "Links: 0 ") {
			continue
		}
		for _, m := range runs.FindAllStringSubmatch(inode, -1) {
			first, _ := strconv.ParseInt(m[1], 10, 64)
			last, err := strconv.ParseInt(m[2], 10, 64)
			if err != nil {
				last = first
			}
			for block := first; block <= last; block++ {
				written[block] = true
			}
		}
	}
	if len(written) == 0 {
		t.Fatal("debugfs names no blocks")
	}
	var leaked []int64
	for _, off := range testfs.Canaries(t, clone) {
		if !written[off/size] {
			leaked = append(leaked, off/size)
		}
	}
	if len(leaked) > 0 {
		t.Errorf("%d sectors of what nobody wrote, the first in blocks %d", len(leaked), leaked[:min(len(leaked), 5)])
	}
}

// runs is how debugfs shows a run of blocks: (0-11):100-111, or (0-11[u])
// where it is uninitialised.
var runs = regexp.MustCompile(`\([0-9-]+\):(\d+)(?:-(\d+))?`)

var statLines = regexp.MustCompile(`(?m)^(Block size|Inode count): +(\d+)$`)

// numberOf returns a number that dumpe2fs tells.
func numberOf(t *testing.T, path, name string) int64 {
	t.Helper()
	for _, m := range statLines.FindAllStringSubmatch(testfs.Dumpe2fs(t, path, "-h").Text, -1) {
		if m[1] == name {
			n, _ := strconv.ParseInt(m[2], 10, 64)
			return n
		}
	}
	t.Fatalf("dumpe2fs does not tell the %s of %s", name, path)
	return 0
}

// TestThereAndBack takes filesystems to raw, to qcow2 and back, contents too
// and not: all raw forms are equal, also as e2image makes them of our images.
func TestThereAndBack(t *testing.T) {
	tool := testfs.Build(t)
	for _, size := range []string{"1024", "2048", "4096"} {
		for _, all := range []string{"", "-a"} {
			t.Run(size+all, func(t *testing.T) {
				t.Parallel()
				source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b " + size, Size: 40 * mib, Fill: testfs.Copied}).Path
				dir := testfs.TempDir(t)
				file := func(name string) string { return filepath.Join(dir, name) }
				options := strings.Fields(all)
				tool.Restore(t, source, file("1.raw"), options...)
				tool.Dump(t, file("1.raw"), file("2.qcow2"), options...)
				tool.Restore(t, file("2.qcow2"), file("2.raw"))
				tool.Dump(t, file("2.qcow2"), file("3.qcow2"), options...)
				tool.Restore(t, file("3.qcow2"), file("3.raw"))
				testfs.E2imageRaw(t, file("3.qcow2"), file("e2image.raw"))
				testfs.QemuConvert(t, file("3.qcow2"), file("qemu.raw"))
				for _, other := range []string{"2.raw", "3.raw", "qemu.raw", "e2image.raw"} {
					// The restore of e2image always zeroes the last byte.
					if at := testfs.Difference(t, file("1.raw"), file(other)); at >= 0 && (other != "e2image.raw" || at != testfs.Size(t, file("1.raw"))-1) {
						t.Errorf("1.raw and %s differ at byte %d", other, at)
					}
				}
			})
		}
	}
}
