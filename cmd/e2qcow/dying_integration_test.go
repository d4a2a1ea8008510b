//go:build !386 && !arm

package main_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/internal/fuse"
	"e2qcow/internal/testfs"
)

// A dyingDisk fails to read the pages at some places.
type dyingDisk struct {
	data []byte
	bad  map[int64]bool // bytes at which such pages begin
}

const badPage = 4096 // what the page cache reads at once

func (d *dyingDisk) ReadAt(p []byte, off int64) (int, error) {
	for at := off &^ (badPage - 1); at < off+int64(len(p)); at += badPage {
		if d.bad[at] {
			return 0, unix.EIO
		}
	}
	return bytes.NewReader(d.data).ReadAt(p, off)
}

func (d *dyingDisk) WriteAt([]byte, int64) (int, error) { return 0, unix.EROFS }
func (d *dyingDisk) Size() int64                        { return int64(len(d.data)) }
func (d *dyingDisk) Clear(int64, int64) error           { return unix.EROFS }
func (d *dyingDisk) Room() (free, all int64)            { return 0, 0 }

func (d *dyingDisk) NextData(off int64) (start, end int64, err error) {
	if off >= d.Size() {
		return 0, 0, io.EOF
	}
	return off, d.Size(), nil
}

// TestDyingDisk rescues a disk that fails: ddrescue reads what domain says, and
// the files that are listed as lost are those that own the bad places according to
// debugfs.
func TestDyingDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: serves a disk by FUSE")
	}
	binary, dir := string(testfs.Build(t)), testfs.TempDir(t)
	source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024", Size: 32 * mib, Fill: testfs.Copied}).Path
	data, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	// A directory, and each 40th block of a file.
	disk := &dyingDisk{data: data, bad: map[int64]bool{}}
	var blocks []string
	lose := func(block int64) {
		const per = badPage / 1024
		first := block / per * per
		disk.bad[first*1024] = true
		for i := range int64(per) {
			blocks = append(blocks, strconv.FormatInt(first+i, 10))
		}
	}
	for i, r := range testfs.Blocks(t, source, "/plain/big") {
		if i%40 == 0 {
			lose(r.Start / 1024)
		}
	}
	lose(testfs.Blocks(t, source, "/attr")[0].Start / 1024)

	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := fuse.New(folder, disk, fuse.Options{ReadOnly: true, Source: "dying"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = testfs.Unmount(folder) })

	in := func(name string) string { return filepath.Join(dir, name) }
	run := func(want int, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("%s %q: %v, not %d\n%s", name, args, cmd.ProcessState, want, out)
		}
		return string(out)
	}
	run(3, binary, "domain", "-a", m.Disk(), in("domain.map"))
	run(0, "ddrescue", "-q", "-m", in("domain.map"), m.Disk(), in("rescue.img"), in("rescue.map"))
	run(3, binary, "domain", "-a", "--overwrite", "--bad-map", in("rescue.map"), in("rescue.img"), in("domain.map"))
	run(3, binary, "-Q", "--bad-map", in("rescue.map"), "--lost-files", in("lost.txt"), in("rescue.img"), in("image.qcow2"))
	run(3, binary, "-ra", "--lost-files", in("direct.txt"), m.Disk(), in("clone.img"))

	// Each inode that has a bad block, and no other one.
	owners := map[string]bool{}
	for line := range strings.Lines(testfs.Run(t, "debugfs", "-R", "icheck "+strings.Join(blocks, " "), source)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] != "Block" {
			owners[f[1]] = true
		}
	}
	want := slices.Sorted(func(yield func(string) bool) {
		for ino := range owners {
			if !yield(ino) {
				return
			}
		}
	})
	for _, list := range []string{"lost.txt", "direct.txt"} {
		b, err := os.ReadFile(in(list))
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for line := range strings.Lines(string(b)) {
			ino, _, _ := strings.Cut(line, "\t")
			got = append(got, ino)
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, not %v\n%s", list, got, want, b)
		}
	}
	// What was rescued is what the disk has, but for the bad pages.
	rescued, err := os.ReadFile(in("clone.img"))
	if err != nil {
		t.Fatal(err)
	}
	for at := range disk.bad {
		if !bytes.Equal(rescued[at:at+badPage], make([]byte, badPage)) {
			t.Errorf("byte %d is not lost", at)
		}
		copy(data[at:], make([]byte, badPage))
	}
	if err := os.WriteFile(in("want.img"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, binary, "-ra", in("want.img"), in("want-clone.img"))
	if at := testfs.Difference(t, in("want-clone.img"), in("clone.img")); at >= 0 {
		t.Errorf("the clone differs at byte %d", at)
	}
}
