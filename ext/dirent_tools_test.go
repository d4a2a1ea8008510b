package ext

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// diskImage is a filesystem made and judged by e2fsprogs.
type diskImage struct {
	t         testing.TB
	path      string
	blockSize int
	journal   []uint64 // blocks, once asked for
}

// newDiskImage makes a filesystem of size bytes in blocks of blockSize, with the
// other options of mke2fs.
func newDiskImage(t testing.TB, size int64, blockSize int, options ...string) *diskImage {
	t.Helper()
	made := testfs.Make(t, testfs.Spec{Mke2fs: fmt.Sprint("-b ", blockSize, " ", strings.Join(options, " ")), Size: size})
	return &diskImage{t: t, path: testfs.Copy(t, made.Path), blockSize: blockSize}
}

// debugfs has commands change the image.
func (img *diskImage) debugfs(commands ...string) {
	img.t.Helper()
	testfs.DebugfsWrite(img.t, img.path, commands...)
}

// query runs one command of debugfs and returns what it prints, without the
// prompt that a script would echo.
func (img *diskImage) query(command string) string {
	img.t.Helper()
	return testfs.Run(img.t, "debugfs", "-R", command, img.path)
}

// blocks lists the physical blocks of a file.
func (img *diskImage) blocks(file string) []uint64 {
	img.t.Helper()
	var blocks []uint64
	for f := range strings.FieldsSeq(img.query("blocks " + file)) {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			img.t.Fatal(err)
		}
		blocks = append(blocks, n)
	}
	return blocks
}

// read returns n bytes at offset.
func (img *diskImage) read(offset int64, n int) []byte {
	img.t.Helper()
	f, err := os.Open(img.path)
	if err != nil {
		img.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, offset); err != nil {
		img.t.Fatal(err)
	}
	return b
}

// write replaces bytes at offset.
func (img *diskImage) write(offset int64, b []byte) {
	img.t.Helper()
	f, err := os.OpenFile(img.path, os.O_RDWR, 0)
	if err != nil {
		img.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, offset); err != nil {
		img.t.Fatal(err)
	}
}

// block returns one block.
func (img *diskImage) block(n uint64) []byte {
	return img.read(int64(n)*int64(img.blockSize), img.blockSize)
}

// inodeAt returns where an inode lies.
func (img *diskImage) inodeAt(file string) int64 {
	img.t.Helper()
	// "Inode 12 is part of block group 0\n\tlocated at block 6, offset 0x0b00"
	f := strings.Fields(img.query("imap " + file))
	block, err := strconv.ParseInt(strings.TrimSuffix(f[len(f)-3], ","), 10, 64)
	if err != nil {
		img.t.Fatal(err)
	}
	off, err := strconv.ParseInt(f[len(f)-1], 0, 64)
	if err != nil {
		img.t.Fatal(err)
	}
	return block*int64(img.blockSize) + off
}

// mounted mounts the image through a loop device and calls use with the place.
// It skips the test for who may not mount.
func (img *diskImage) mounted(use func(dir string), options ...string) {
	img.t.Helper()
	if os.Getuid() != 0 {
		img.t.Skip("only root may mount")
	}
	dir := img.t.TempDir()
	testfs.Run(img.t, "mount", "-o", strings.Join(append([]string{"loop"}, options...), ","), img.path, dir)
	defer func() {
		if err := testfs.Unmount(dir); err != nil {
			img.t.Error(err)
		}
	}()
	use(dir)
}
