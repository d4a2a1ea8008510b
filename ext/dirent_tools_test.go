package ext

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// diskImage is a filesystem made and judged by e2fsprogs.
type diskImage struct {
	t         testing.TB
	path      string
	blockSize int
	journal   []uint64 // blocks, once asked for
}

// newDiskImage makes a filesystem of size (as mke2fs reads it) and blockSize.
func newDiskImage(t testing.TB, size string, blockSize int, args ...string) *diskImage {
	t.Helper()
	img := &diskImage{t: t, path: filepath.Join(t.TempDir(), "fs.img"), blockSize: blockSize}
	img.run("mke2fs", append(append([]string{"-q", "-F", "-b", strconv.Itoa(blockSize)}, args...), img.path, size)...)
	return img
}

// run fails the test if the tool is missing or fails.
func (img *diskImage) run(tool string, args ...string) string {
	img.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(tool, args...)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "MKE2FS_CONFIG=/nonexistent", "E2FSPROGS_FAKE_TIME=1700000000", "PATH="+os.Getenv("PATH")+":/sbin:/usr/sbin")
	out, err := cmd.Output()
	if err != nil {
		img.t.Fatalf("%s %s: %v\n%s%s", tool, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// debugfs runs commands on the image, writing to it, and returns what they print.
func (img *diskImage) debugfs(commands ...string) string {
	img.t.Helper()
	script := filepath.Join(img.t.TempDir(), "commands")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		img.t.Fatal(err)
	}
	return img.run("debugfs", "-w", "-f", script, img.path)
}

// query runs one command of debugfs and returns what it prints, without the
// prompt that a script would echo.
func (img *diskImage) query(command string) string {
	img.t.Helper()
	return img.run("debugfs", "-R", command, img.path)
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
	img.run("mount", "-o", strings.Join(append([]string{"loop"}, options...), ","), img.path, dir)
	defer img.run("umount", dir)
	use(dir)
}
