package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/internal/spool"
)

func TestOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("something"), 0o400); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Name() != name || s.Size() != 9 || s.IsPipe() {
		t.Errorf("%s has %d bytes, pipe %v", s.Name(), s.Size(), s.IsPipe())
	}
	var b [5]byte
	if _, err := s.ReadAt(b[:], 4); err != nil || string(b[:]) != "thing" {
		t.Errorf("read %q, %v", b, err)
	}
	if uses, err := s.Region().Uses(); err != nil || len(uses) > 0 {
		t.Errorf("in use %v, %v", uses, err)
	}
	if _, err := s.f.Write([]byte("x")); err == nil {
		t.Error("it can be written to")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		dir:                           ErrDirectory,
		empty:                         ErrEmpty,
		os.DevNull:                    ErrEmpty,
		filepath.Join(dir, "nothing"): fs.ErrNotExist,
	} {
		s, err := Open(t.Context(), name)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want %v with the name", name, err, want)
		}
	}
}

// TestFIFO has a FIFO as the source, which is waited for, and as a file behind
// one, which is not.
func TestFIFO(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := OpenIn(root, "fifo"); !errors.Is(err, ErrKind) {
		t.Errorf("below a folder: got %v, want %v", err, ErrKind)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := Open(ctx, name); !errors.Is(err, why) || !strings.Contains(err.Error(), name) {
		t.Errorf("nobody writes: got %v, want %v with the name", err, why)
	}
	go func() { _ = os.WriteFile(name, []byte("something"), 0) }()
	s, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.IsPipe() || !IsPipe(name) {
		t.Error("it is no pipe")
	}
	if err := s.Spool(t.Context(), spool.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := s.ReadAt(b, 4); err != nil || string(b) != "thing" {
		t.Errorf("read %q, %v", b, err)
	}
}

// piped returns a source that reads text from a pipe.
func piped(t *testing.T, text []byte) *Source {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = stdin }()
	go func() {
		_, _ = w.Write(text)
		w.Close()
	}()
	s, err := Open(t.Context(), Stdin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestSpool(t *testing.T) {
	text := make([]byte, 5*spoolSize+100)
	copy(text, "head")
	copy(text[spoolSize+page:], "middle")
	text[len(text)-50] = 'x'
	s := piped(t, text)
	if head, err := s.Head(6); err != nil || string(head) != "head\x00\x00" || !s.IsPipe() {
		t.Fatalf("a pipe %v that begins with %q, %v", s.IsPipe(), head, err)
	}
	if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, unix.ESPIPE) {
		t.Errorf("a pipe can be read anywhere: %v", err)
	}
	var told int64
	if err := s.Spool(t.Context(), spool.Options{}, func(done, total int64) { told = done }); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, s.Size())
	if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, text) || s.IsPipe() || told != s.Size() {
		t.Errorf("%d of %d bytes, told of %d, a pipe %v, %v", len(got), len(text), told, s.IsPipe(), err)
	}
	runs := int64(0)
	for off := int64(0); ; {
		start, end, err := s.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || start < off || end <= start {
			t.Fatalf("from %d: run [%d, %d), %v", off, start, end, err)
		}
		runs += end - start
		off = end
	}
	if runs >= s.Size() {
		t.Errorf("%d of %d bytes are in runs", runs, s.Size())
	}
}

func TestSpoolErrors(t *testing.T) {
	s := piped(t, []byte("something"))
	if err := s.Spool(t.Context(), spool.Options{Memory: -1, Dir: filepath.Join(t.TempDir(), "nowhere")}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := s.Spool(ctx, spool.Options{}, nil); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestStdinFile has a file as standard input, fresh and half read.
func TestStdinFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pos := range []int64{0, 4} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(pos, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		stdin := os.Stdin
		os.Stdin = f
		s, err := Open(t.Context(), "/dev/stdin")
		os.Stdin = stdin
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.IsPipe() != (pos > 0) {
			t.Errorf("from byte %d it is a pipe: %v", pos, s.IsPipe())
		}
		if head, err := s.Head(100); err != nil || string(head) != "something"[pos:] {
			t.Errorf("from byte %d it begins with %q, %v", pos, head, err)
		}
	}
}

func TestOpenIn(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "secret"), filepath.Join(inside, "file")} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../secret", "abs": filepath.Join(dir, "secret"), "in": "file"} {
		if err := os.Symlink(to, filepath.Join(inside, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, ok := range map[string]bool{"file": true, "in": true, "out": false, "abs": false, "../secret": false, "nothing": false} {
		s, err := OpenIn(root, name)
		if err == nil {
			s.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNextRun(t *testing.T) {
	const hole = 1 << 20
	name := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{hole, 3 * hole} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), page), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(4 * hole); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for off := int64(0); off < 4*hole; off += hole / 4 {
		got, want := bytes.Repeat([]byte("y"), hole/4), make([]byte, hole/4)
		if _, err := s.f.ReadAt(want, off); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d it reads otherwise, %v", off, err)
		}
		if data := want[0] != 0; s.isHole(off, len(want)) == data {
			t.Errorf("at %d there is a hole: %v", off, data)
		}
	}
	if err := os.Truncate(name, 3*hole+page); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAt(make([]byte, hole/4), 3*hole+hole/2); !errors.Is(err, io.EOF) {
		t.Errorf("what was cut off is read, %v", err)
	}
	if err := os.Truncate(name, 4*hole); err != nil {
		t.Fatal(err)
	}
	known := make([]byte, 4*hole) // 1 where a run is
	last := int64(0)
	for off := int64(0); ; {
		start, end, err := s.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || start < off || end <= start || end > s.Size() {
			t.Fatalf("from %d: run [%d, %d), %v", off, start, end, err)
		}
		for i := start; i < end; i++ {
			known[i] = 1
		}
		off, last = end, end
	}
	if known[hole] == 0 || known[hole+page-1] == 0 || known[3*hole] == 0 || last < 3*hole+page {
		t.Error("bytes that were written are in no run")
	}
	if start, _, err := s.NextRun(3*hole + 10); err != nil || start != 3*hole+10 {
		t.Errorf("from the middle of a run it begins at %d, %v", start, err)
	}
	if _, _, err := s.NextRun(4 * hole); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
