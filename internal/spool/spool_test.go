package spool

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestSpool writes at random and reads again, in memory, in a file and in both.
func TestSpool(t *testing.T) {
	const size = 5*blockSize + 777
	for _, memory := range []int64{-1, 0, 2 * blockSize, 3*blockSize - 1, 100 * blockSize} {
		dir := t.TempDir()
		s := New(Options{Memory: memory, Dir: dir})
		defer s.Close()
		random := rand.New(rand.NewPCG(1, uint64(memory)))
		want := make([]byte, size)
		for range 20 {
			off := random.Int64N(size)
			b := bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(int(min(size-off, 300_000)))+1)
			copy(want[off:], b)
			if n, err := s.WriteAt(b, off); n != len(b) || err != nil {
				t.Fatalf("memory %d: wrote %d of %d bytes, %v", memory, n, len(b), err)
			}
		}
		s.Grow(size)
		if s.Size() != size {
			t.Fatalf("memory %d: %d bytes long", memory, s.Size())
		}
		got := bytes.Repeat([]byte{1}, size)
		if n, err := s.ReadAt(got, 0); n != size || err != nil || !bytes.Equal(got, want) {
			t.Errorf("memory %d: read %d bytes, %v, equal %v", memory, n, err, bytes.Equal(got, want))
		}
		if n, err := s.ReadAt(make([]byte, 10), size-4); n != 4 || !errors.Is(err, io.EOF) {
			t.Errorf("memory %d: across the end %d bytes, %v", memory, n, err)
		}
		if n, err := s.ReadAt(make([]byte, 10), size+4); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("memory %d: behind the end %d bytes, %v", memory, n, err)
		}
		checkRuns(t, s, want)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("memory %d: names left behind: %v, %v", memory, left, err)
		}
		var all bytes.Buffer
		err := s.CopyTo(func(b []byte) error { _, err := all.Write(b); return err })
		if err != nil || !bytes.Equal(all.Bytes(), want) {
			t.Errorf("memory %d: copied %d bytes, %v", memory, all.Len(), err)
		}
	}
}

// checkRuns checks that runs ascend, and that what is in none is zero.
func checkRuns(t *testing.T, s *Spool, want []byte) {
	t.Helper()
	last := int64(0)
	zeros := func(end int64) {
		if b := want[last:end]; !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("[%d, %d) is in no run and not zero", last, end)
		}
	}
	for {
		start, end, err := s.NextRun(last)
		if errors.Is(err, io.EOF) {
			zeros(int64(len(want)))
			return
		}
		if err != nil || start < last || end <= start || end > s.Size() {
			t.Fatalf("after %d: run [%d, %d), %v", last, start, end, err)
		}
		zeros(start)
		if mid := start + (end-start)/2; mid > start {
			if from, to, err := s.NextRun(mid); from != mid || to != end || err != nil {
				t.Errorf("in the middle of [%d, %d): [%d, %d), %v", start, end, from, to, err)
			}
		}
		last = end
	}
}

// TestHoles has little written in much.
func TestHoles(t *testing.T) {
	for _, memory := range []int64{-1, 8 * blockSize} {
		s := New(Options{Memory: memory, Dir: t.TempDir()})
		defer s.Close()
		if _, _, err := s.NextRun(0); !errors.Is(err, io.EOF) {
			t.Errorf("empty: %v", err)
		}
		const far = 40 << 30
		for _, off := range []int64{3 * blockSize, far} {
			if _, err := s.WriteAt([]byte("x"), off); err != nil {
				t.Fatal(err)
			}
		}
		var total int64
		for off := int64(0); ; {
			start, end, err := s.NextRun(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			total += end - start
			off = end
		}
		if total > 2*blockSize || s.Size() != far+1 {
			t.Errorf("memory %d: %d bytes in runs, %d in all", memory, total, s.Size())
		}
	}
}

// TestErrors spools where nothing can be, and only where it has to be.
func TestErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	s := New(Options{Memory: blockSize, Dir: dir})
	defer s.Close()
	if _, err := s.WriteAt(make([]byte, 100), blockSize-100); err != nil {
		t.Errorf("in memory: %v", err)
	}
	_, err := s.WriteAt(make([]byte, 100), blockSize-50)
	var trouble *Error
	if !errors.As(err, &trouble) || trouble.Dir != dir || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("in a missing folder: %v", err)
	}
	if want := "temporary file in " + dir + ": no such file or directory"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if New(Options{}).dir != os.TempDir() {
		t.Error("the default folder is another")
	}
}
