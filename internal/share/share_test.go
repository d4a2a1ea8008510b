package share

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// unit is the block size of the filesystem in these tests.
const unit = 4096

// A located is an image in memory of which some ranges lie in a file.
type located struct {
	*bytes.Reader
	runs   []ranges.Range[int64]
	pieces []piece // ascending
	file   []byte  // the file
}

// A piece is a range of the image that lies in the file.
type piece struct{ start, end, at int64 }

func (l *located) NextRun(off int64) (start, end int64, err error) {
	i := ranges.Find(l.runs, off)
	if i == len(l.runs) {
		return 0, 0, io.EOF
	}
	return max(off, l.runs[i].Start), l.runs[i].End, nil
}

func (l *located) Locate(off, limit int64, _ bool) (f image.File, at, n int64) {
	for _, p := range l.pieces {
		switch {
		case off < p.start:
			return nil, 0, min(limit, p.start-off)
		case off < p.end:
			return conn{}, p.at + off - p.start, min(limit, p.end-off)
		}
	}
	return nil, 0, limit
}

// A conn stands for the file.
type conn struct{}

func (conn) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// A file is a target in memory. It refuses what the kernel refuses.
type file struct {
	source []byte
	b      []byte
	shared int64
	left   int // calls till one fails; -1 for none
}

func (f *file) WriteAt(p []byte, off int64) (int, error) { return copy(f.b[off:], p), nil }

func (f *file) ShareUnit() int64 { return unit }

func (f *file) Share(_ image.File, from, off, n int64) error {
	if f.left == 0 {
		rubbish := bytes.Repeat([]byte{0xee}, int(n))
		copy(f.b[off:], rubbish)
		return unix.EOPNOTSUPP
	}
	f.left--
	if from%unit != 0 || off%unit != 0 || n%unit != 0 || n <= 0 {
		return fmt.Errorf("%d bytes at %d to %d do not line up", n, from, off)
	}
	copy(f.b[off:off+n], f.source[from:from+n])
	f.shared += n
	return nil
}

// newLocated makes an image of size bytes with runs and pieces of any length, of
// which most line up with blocks of the file. What lies beside the pieces in the
// file is private.
func newLocated(r *rand.Rand, size int64) *located {
	content := make([]byte, size)
	l := &located{file: bytes.Repeat([]byte("private!"), int(size/2))}
	for at := r.Int64N(3 * unit); ; {
		n := 1 + r.Int64N(40*unit)
		if r.IntN(2) == 0 {
			n = (n + unit - 1) / unit * unit
		}
		if at+n > size {
			break
		}
		for i := range n {
			content[at+i] = byte(1 + r.IntN(255))
		}
		l.runs = ranges.Append(l.runs, at, at+n)
		if r.IntN(4) > 0 {
			start, end := at, at+n
			if r.IntN(3) == 0 {
				start += r.Int64N(n)
			}
			place := 2*start + unit - (2*start)%unit + start%unit // lines up
			if r.IntN(5) == 0 {
				place += 512
			}
			if place+end-start <= int64(len(l.file)) && (len(l.pieces) == 0 || place >= l.pieces[len(l.pieces)-1].at+l.pieces[len(l.pieces)-1].end-l.pieces[len(l.pieces)-1].start) {
				copy(l.file[place:], content[start:end])
				l.pieces = append(l.pieces, piece{start, end, place})
			}
		}
		at += n + r.Int64N(3)*r.Int64N(20*unit)
	}
	l.Reader = bytes.NewReader(content)
	return l
}

// TestShare shares random images, also where sharing fails after some calls: each
// byte of the target is that of the image, and none is from beside a piece.
func TestShare(t *testing.T) {
	shared := int64(0)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		const size = 100 * unit
		img := newLocated(r, size)
		f := &file{source: img.file, b: make([]byte, size), left: -1}
		if seed%3 == 0 {
			f.left = r.IntN(4)
		}
		s := New(f, img)
		rest := image.Image(img)
		if seed%2 == 0 {
			var n, told int64
			var err error
			if rest, n, err = s.All(t.Context(), func(n int64) { told += n }); err != nil {
				t.Fatal(err)
			}
			if n != f.shared || told != n {
				t.Fatalf("seed %d: %d bytes are said to be shared, %d told, %d were", seed, n, told, f.shared)
			}
		}
		want := make([]byte, size)
		_, _ = img.ReadAt(want, 0)
		write := func(start, end int64) error {
			_, err := f.WriteAt(want[start:end], start)
			return err
		}
		for off := int64(0); ; {
			start, end, err := rest.NextRun(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if start < off || end <= start {
				t.Fatalf("seed %d: the run after %d is [%d, %d)", seed, off, start, end)
			}
			if seed%2 == 0 {
				err = write(start, end)
			} else {
				err = s.Share(start, end, start, write)
			}
			if err != nil {
				t.Fatal(err)
			}
			off = end
		}
		if !bytes.Equal(f.b, want) {
			t.Fatalf("seed %d: the target is not the image", seed)
		}
		shared += f.shared
	}
	if shared < 300*unit {
		t.Errorf("hardly anything was shared: %d bytes", shared)
	}
}

// TestNothing shares with what cannot share.
func TestNothing(t *testing.T) {
	img := newLocated(rand.New(rand.NewPCG(1, 1)), 10*unit)
	if New(struct{ io.WriterAt }{&file{}}, img) != nil || New(&file{}, image.Image(struct{ image.Image }{img})) != nil {
		t.Error("a Sharer of what cannot share")
	}
	var none *Sharer
	written := int64(0)
	if err := none.Share(3, 10, 3, func(start, end int64) error { written += end - start; return nil }); err != nil || written != 7 {
		t.Errorf("no Sharer has %d bytes written, %v", written, err)
	}
}
