package main_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// TestInstall wrecks the metadata of filesystems and writes them back from each
// kind of image; e2fsprogs then says what it said before. The undo of that is
// the wreck.
func TestInstall(t *testing.T) {
	tool := testfs.Build(t)
	for name, spec := range map[string]testfs.Spec{
		"ext2,1k":        {Mke2fs: "-t ext2 -b 1024", FarOffset: (12 + 256 + 256*256 + 5) << 10},
		"ext3,2k":        {Mke2fs: "-t ext3 -b 2048"},
		"ext4,4k":        {Mke2fs: "-t ext4 -b 4096 -g 4096"},
		"ext4,meta_bg":   {Mke2fs: "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 512"},
		"ext4,ea_inode":  {Mke2fs: "-t ext4 -b 1024 -O ea_inode,inline_data"},
		"ext4,stale":     {Mke2fs: "-t ext4 -b 4096", Stale: true},
		"ext4,dirty":     {Mke2fs: "-t ext4 -b 1024 -O orphan_file", Dirty: true},
		"ext4,bigalloc":  {Mke2fs: "-t ext4 -b 4096 -O bigalloc -C 65536 -g 4096", Size: 128 * mib},
		"ext4,quota,mmp": {Mke2fs: "-t ext4 -b 1024 -O quota,mmp", Fill: testfs.Copied, Size: 40 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "ext4,4k" && name != "ext4,ea_inode" {
				t.Skip("not among the cases for -short")
			}
			t.Parallel()
			if spec.Size == 0 {
				spec.Fill, spec.Size = testfs.Mounted, 40*mib
			} else if spec.Fill == testfs.Empty {
				spec.Fill = testfs.Mounted
			}
			source := testfs.Make(t, spec).Path
			dir := testfs.TempDir(t)
			file := func(name string) string { return filepath.Join(dir, name) }
			tool.Dump(t, source, file("ours.qcow2"), "-z")
			testfs.E2image(t, "-Q", source, file("theirs.qcow2"))
			testfs.QemuConvert(t, file("theirs.qcow2"), file("theirs.img"))
			installRound(t, tool, source, file("ours.qcow2"), source)
			installRound(t, tool, source, file("theirs.qcow2"), file("theirs.img"))
			if name == "ext4,4k" {
				installRound(t, tool, source, source, source)
				installRound(t, tool, source, file("theirs.img"), file("theirs.img"))
			}
		})
	}
}

// installRound wrecks a copy of source and installs an image on it, which holds
// the disk in the file has.
func installRound(t *testing.T, tool testfs.Tool, source, image, has string) {
	t.Helper()
	name := filepath.Base(image)
	device := testfs.Copy(t, source)
	if n := wreck(t, device, has); n < 20 {
		t.Fatalf("%s: only %d blocks to wreck", name, n)
	}
	wrecked := testfs.Copy(t, device)
	undo := filepath.Join(testfs.TempDir(t), "undo.qcow2")
	if r := tool.Run(t, "-I", "-f", "--undo", undo, device, image); r.Exit != 0 {
		t.Fatalf("%s: exit %d\n%s", name, r.Exit, r.Stderr)
	}
	sameVerdicts(t, source, device)
	if v := testfs.QemuCheck(t, undo); v.Exit != 0 {
		t.Errorf("%s: qemu-img check of the undo: exit %d\n%s", name, v.Exit, v.Text)
	}
	if r := tool.Run(t, "-I", device, undo); r.Exit != 0 {
		t.Fatalf("%s: undo: exit %d\n%s", name, r.Exit, r.Stderr)
	}
	if at := testfs.Difference(t, device, wrecked); at >= 0 {
		t.Errorf("%s: put back, the device is not as before, at byte %d", name, at)
	}
}

// wreck writes over each third block of the metadata on the disk in the file
// device that is also in the file has, and returns how many that are.
func wreck(t *testing.T, device, has string) int {
	t.Helper()
	disk, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(has)
	if err != nil {
		t.Fatal(err)
	}
	res, err := scan.Scan(context.Background(), bytes.NewReader(disk), int64(len(disk)), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, size := 0, uint64(res.BlockSize())
	for run := range res.Map.Runs() {
		for b := run.Start; b < run.Start+run.Count; b++ {
			block := disk[b*size:][:size]
			if b%3 == 0 && (b+1)*size <= uint64(len(image)) && bytes.Equal(block, image[b*size:][:size]) {
				copy(block, bytes.Repeat([]byte("wreck"), int(size)/5+1))
				n++
			}
		}
	}
	if err := os.WriteFile(device, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}
