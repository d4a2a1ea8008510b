// Package spool keeps bytes that cannot be passed on yet: of a pipe that has to
// be read anywhere, of an image whose first bytes are known last. The beginning
// is held in memory, the rest in a temporary file.
//
//	0                        Memory                     Size
//	│ blocks of 1 MiB,       │ temporary file: no name,  │
//	│ made when written      │ holes where not written   │
package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// Options say where bytes are kept. The zero Options keep the first
// DefaultMemory bytes in memory, the others in os.TempDir.
type Options struct {
	// Memory is how many bytes are held in memory, rounded down to whole
	// MiB, each of them as it is needed. 0 is DefaultMemory; less than 0 is
	// none.
	Memory int64

	// Dir is the folder of the temporary file, which has no name and is gone
	// when the process is, however it ends. "" is os.TempDir.
	Dir string
}

// Folder returns the folder of the temporary file.
func (o Options) Folder() string {
	if o.Dir == "" {
		return os.TempDir()
	}
	return o.Dir
}

// DefaultMemory is how much is held in memory where Options do not say.
const DefaultMemory = 64 << 20

// An Error is a failure of the temporary file.
type Error struct {
	Dir string // its folder
	Err error  // without a name: the file has none
}

func (e *Error) Error() string { return fmt.Sprintf("temporary file in %s: %v", e.Dir, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

const blockSize = 1 << 20

// A Spool holds bytes that are written at any offset and then read at any. Bytes
// that were not written are zero. WriteAt may be called concurrently for bytes
// that do not overlap; so may ReadAt and NextRun, once all is written.
type Spool struct {
	limit int64 // what lies below is in memory
	dir   string

	mu     sync.Mutex // guards what follows, not the bytes of the blocks
	size   int64
	blocks [][]byte // nil where nothing was written
	file   *os.File // nil till it is needed
}

// New returns an empty spool. Nothing is opened yet.
func New(opt Options) *Spool {
	limit := opt.Memory
	if limit == 0 {
		limit = DefaultMemory
	}
	return &Spool{limit: max(0, limit-limit%blockSize), dir: opt.Folder()}
}

// Size returns the length in bytes: the end of what was written, or what Grow
// made it.
func (s *Spool) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Grow makes the spool n bytes long if it is shorter.
func (s *Spool) Grow(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = max(s.size, n)
}

// WriteAt keeps b, as io.WriterAt says. Its error is an *Error.
func (s *Spool) WriteAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) && off < s.limit {
		k := copy(s.block(off / blockSize)[off%blockSize:], b[n:])
		n += k
		off += int64(k)
	}
	if n < len(b) {
		f, err := s.open()
		if err == nil {
			var k int
			k, err = f.WriteAt(b[n:], off-s.limit)
			n += k
			off += int64(k)
		}
		if err != nil {
			return n, s.trouble(err)
		}
	}
	s.Grow(off)
	return n, nil
}

// block returns block i, made if need be.
func (s *Spool) block(i int64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int64(len(s.blocks)) <= i {
		s.blocks = append(s.blocks, nil)
	}
	if s.blocks[i] == nil {
		s.blocks[i] = make([]byte, blockSize)
	}
	return s.blocks[i]
}

// open returns the temporary file, made if need be.
func (s *Spool) open() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		return s.file, nil
	}
	f, err := createUnnamed(s.dir)
	if err != nil {
		return nil, err
	}
	s.file = f
	return f, nil
}

// trouble returns an error of the temporary file without the name that it had.
func (s *Spool) trouble(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &Error{Dir: s.dir, Err: err}
}

// ReadAt reads as io.ReaderAt does. An error other than io.EOF is an *Error.
func (s *Spool) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d: %w", off, fs.ErrInvalid)
	}
	s.mu.Lock()
	size, file, blocks := s.size, s.file, s.blocks
	s.mu.Unlock()
	var end error
	if rest := max(0, size-off); int64(len(b)) > rest {
		b, end = b[:rest], io.EOF
	}
	n := 0
	for n < len(b) && off < s.limit {
		from := off % blockSize
		part := b[n:][:min(int64(len(b)-n), blockSize-from)]
		if i := off / blockSize; i < int64(len(blocks)) && blocks[i] != nil {
			copy(part, blocks[i][from:])
		} else {
			clear(part)
		}
		n += len(part)
		off += int64(len(part))
	}
	if n == len(b) {
		return n, end
	}
	if file != nil {
		k, err := file.ReadAt(b[n:], off-s.limit)
		n += k
		if err != nil && !errors.Is(err, io.EOF) {
			return n, s.trouble(err)
		}
	}
	clear(b[n:]) // the file is as long as what was written
	return len(b), end
}

// NextRun returns the bounds [start, end) of the first run at or after off that
// may hold something other than zeros; at the end of them the error is io.EOF.
func (s *Spool) NextRun(off int64) (start, end int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < s.limit {
		i := off / blockSize
		for i < int64(len(s.blocks)) && s.blocks[i] == nil {
			i++
		}
		if i < int64(len(s.blocks)) {
			start = max(off, i*blockSize)
			for i < int64(len(s.blocks)) && s.blocks[i] != nil {
				i++
			}
			end = min(i*blockSize, s.size)
			if start < end {
				return start, end, nil
			}
		}
		off = s.limit
	}
	if s.file == nil || off >= s.size {
		return 0, 0, io.EOF
	}
	return s.nextFileRun(off)
}

// nextFileRun is NextRun of the temporary file.
func (s *Spool) nextFileRun(off int64) (start, end int64, err error) {
	start, end, err = nextData(s.file, off-s.limit, s.size-s.limit)
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.trouble(err)
	}
	if err != nil {
		return 0, 0, err
	}
	return s.limit + start, min(s.limit+end, s.size), nil
}

// CopyTo passes all bytes to write, in order, in pieces of up to 1 MiB, and lets
// go of the memory as it goes: what was passed reads as zero then.
func (s *Spool) CopyTo(write func([]byte) error) error {
	size := s.Size()
	buf := make([]byte, blockSize)
	for off := int64(0); off < size; off += blockSize {
		b := buf[:min(size-off, blockSize)]
		if _, err := s.ReadAt(b, off); err != nil {
			return err
		}
		s.mu.Lock()
		if i := off / blockSize; i < int64(len(s.blocks)) {
			s.blocks[i] = nil
		}
		s.mu.Unlock()
		if err := write(b); err != nil {
			return err
		}
	}
	return nil
}

// Close gives back what is held. It may be called again.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		closeUnnamed(s.file)
		s.file = nil
	}
	s.blocks = nil
}
