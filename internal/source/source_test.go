package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("something"), 0o400); err != nil {
		t.Fatal(err)
	}
	s, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Name() != name || s.Size() != 9 || s.IsDevice() {
		t.Errorf("%s has %d bytes, device %v", s.Name(), s.Size(), s.IsDevice())
	}
	var b [5]byte
	if _, err := s.ReadAt(b[:], 4); err != nil || string(b[:]) != "thing" {
		t.Errorf("read %q, %v", b, err)
	}
	if point, err := s.WritableMount(); err != nil || point != "" {
		t.Errorf("mounted at %q, %v", point, err)
	}
	if _, err := s.f.Write([]byte("x")); err == nil {
		t.Error("it can be written to")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, fifo := filepath.Join(dir, "empty"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		dir:                           ErrDirectory,
		empty:                         ErrEmpty,
		fifo:                          ErrKind,
		os.DevNull:                    ErrKind,
		filepath.Join(dir, "nothing"): fs.ErrNotExist,
	} {
		s, err := Open(name)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want %v with the name", name, err, want)
		}
	}
}
