package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/source"
	"e2qcow/internal/target"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// quiet returns a session whose messages go to a file, and what is in there.
func quiet(t *testing.T) (s *Session, said func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return NewSession(Name, f), func() string {
		t.Helper()
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// A badDisk is a source with a sector that cannot be read.
type badDisk struct {
	image.Image // not what else a source can be asked for
	sector      int64
}

func (d badDisk) ReadAt(p []byte, off int64) (int, error) {
	if off < (d.sector+1)*512 && d.sector*512 < off+int64(len(p)) {
		return 0, unix.EIO
	}
	return d.Image.ReadAt(p, off)
}

// TestUnreadable dumps a filesystem with a bad sector in its inode table.
func TestUnreadable(t *testing.T) {
	src, err := source.Open(t.Context(), testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 4096", Size: 32 << 20}).Path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	res, err := scan.Scan(t.Context(), src, src.Size(), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// What comes last in the image of a sound disk is metadata for sure. A hole of
	// a file is not read.
	var last int64
	for off := int64(0); ; {
		_, end, err := image.Data(res.View()).NextRun(off)
		if err != nil {
			break
		}
		last, off = end, end
	}
	d := badDisk{src, last/512 - 1}

	s, said := quiet(t)
	name := filepath.Join(t.TempDir(), "out")
	dst, err := target.Open(t.Context(), name, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	in := &Input{Src: src}
	res, err = Search{}.Metadata(t.Context(), &Part{Disk: d, Name: "disk"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Raw{}).Write(t.Context(), dst, res.View()); err != nil {
		t.Fatal(err)
	}
	if err := s.SayFound(in, res); !errors.Is(err, ErrUnreadable) {
		t.Errorf("got %v", err)
	}
	want := fmt.Sprintf("e2qcow: 512 B of metadata could not be read and are zero in the image: bytes %d-%d\n", d.sector*512, d.sector*512+511)
	if got := said(); !strings.Contains(got, want) {
		t.Errorf("said %q, which lacks %q", got, want)
	}
}

func TestUnreadableIsBounded(t *testing.T) {
	s, said := quiet(t)
	var list []scan.Range
	for i := range int64(1000) {
		list = append(list, scan.Range{Start: i * 8192, End: i*8192 + 4096})
	}
	if err := s.sayUnreadable(list, "metadata"); !errors.Is(err, ErrUnreadable) {
		t.Errorf("got %v", err)
	}
	if got := said(); !strings.HasSuffix(got, ", 57344-61439, 992 more\n") || !strings.Contains(got, " 3.9 MiB of metadata") {
		t.Errorf("said %q", got)
	}
	if err := s.sayUnreadable(nil, "metadata"); err != nil {
		t.Errorf("nothing unreadable, but %v", err)
	}
}

func TestProblems(t *testing.T) {
	s, said := quiet(t)
	s.SayProblems([]scan.Problem{
		{Kind: scan.BadInode, What: "extents\n\x1b[2J", Inode: 12, Count: 1234},
		{Kind: scan.BadSuperblock, What: "checksum", Count: 1},
		{Kind: scan.BadSuperblock, What: "superblock: impossible size", Count: 1},
		{Kind: scan.BadJournal, What: "journal block 5: cut short", Count: 1},
	})
	want := "e2qcow: damage: inode: extents\\n\\x1b[2J, inode 12 (the first of 1,234)\n" +
		"e2qcow: damage: superblock: checksum\n" +
		"e2qcow: damage: superblock: impossible size\n" +
		"e2qcow: damage: journal block 5: cut short\n"
	if got := said(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
