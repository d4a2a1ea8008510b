package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/internal/testfs"
)

const (
	gib = 1 << 30
	tib = 1 << 40
)

// TestSizes dumps and restores filesystems that e2image makes images of that
// qemu cannot open, or none. They are sparse files, on tmpfs where there is one.
func TestSizes(t *testing.T) {
	tool := testfs.Build(t, "-race=false") // which would take ten times as long
	for _, c := range []struct {
		name, options string
		size          int64
		short         bool
	}{
		{"600GiB,1k", "-t ext4 -b 1024 -i 67108864", 600 * gib, true},
		{"8.1TiB", "-t ext4 -i 67108864", 8*tib + tib/10&^4095, true},
		{"20TiB", "-t ext4 -i 67108864 -O ^resize_inode", 20 * tib, false},
		{"60TiB", "-t ext4 -i 67108864 -O ^resize_inode", 60 * tib, false},
		{"20TiB,meta_bg", "-t ext4 -i 67108864 -O ^resize_inode,meta_bg", 20 * tib, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && !c.short {
				t.Skip("not among the cases for -short")
			}
			dir := testfs.TempDir(t)
			needsFileOf(t, dir, c.size)
			source := testfs.Make(t, testfs.Spec{Mke2fs: c.options, Size: c.size}).Path
			image, restored := filepath.Join(dir, "meta.qcow2"), filepath.Join(dir, "restored.img")

			tool.Dump(t, source, image)
			if v := testfs.QemuCheck(t, image); v.Exit != 0 {
				t.Errorf("qemu-img check: exit %d\n%s", v.Exit, v.Text)
			}
			tool.Restore(t, image, restored)
			if got := testfs.Size(t, restored); got != c.size {
				t.Errorf("restored image has %d bytes, want %d", got, c.size)
			}
			same(t, "dumpe2fs -h", testfs.Dumpe2fs(t, source, "-h"), testfs.Dumpe2fs(t, restored, "-h"))
			questions := testfs.Questions("/", "/lost+found")
			same(t, "debugfs", testfs.Debugfs(t, source, questions...), testfs.Debugfs(t, restored, questions...))
			if missing := testfs.Missing(t, restored, source, 1024); len(missing) > 0 {
				t.Errorf("the 1 KiB blocks %d of the restored image are neither zero nor the source's", missing)
			}
			if info, err := os.Stat(image); err != nil || info.Size() > 8*allocated(t, source) {
				t.Errorf("the image is much larger than what the source allocates: %d bytes, %d bytes, %v", info.Size(), allocated(t, source), err)
			}
		})
	}
}

// needsFileOf skips the test if a file in dir cannot have that many bytes.
func needsFileOf(t *testing.T, dir string, size int64) {
	t.Helper()
	probe := filepath.Join(dir, "probe")
	f, err := os.Create(probe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer os.Remove(probe)
	if err := f.Truncate(size); err != nil {
		if !strings.HasPrefix(dir, "/dev/shm/") {
			t.Skipf("needs /dev/shm or another filesystem with files of %d bytes", size)
		}
		t.Fatal(err)
	}
}

// allocated returns how many bytes of a file are no holes.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}
