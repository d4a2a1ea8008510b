package qcow2

import (
	"fmt"
	"os"
	"sync"
)

// SpoolOptions say where data waits that cannot be written yet: the first
// bytes in memory, the rest in a temporary file that has no name and is gone
// when the program is, however it ends.
type SpoolOptions struct {
	// Memory is how many bytes are held in memory, in blocks of 1 MiB as they
	// are needed. 0 is DefaultSpoolMemory; less than 0 is none.
	Memory int64

	// Dir is the folder of the temporary file. "" is os.TempDir.
	Dir string
}

// DefaultSpoolMemory is how much a spool holds in memory where SpoolOptions
// do not say.
const DefaultSpoolMemory = 64 << 20

const spoolBlock = 1 << 20

// A spool holds bytes that are written anywhere and then read in order. Bytes
// that were not written are zero.
//
//	│ blocks in memory        │ temporary file ...
//	0                         limit
type spool struct {
	limit int64
	dir   string

	mu     sync.Mutex // guards what follows, not the bytes of the blocks
	blocks [][]byte
	file   *os.File
}

func newSpool(opt SpoolOptions) *spool {
	limit := opt.Memory
	if limit == 0 {
		limit = DefaultSpoolMemory
	}
	limit = max(0, limit-limit%spoolBlock)
	return &spool{limit: limit, dir: opt.Dir}
}

// writeAt keeps b. It may be called in parallel for bytes that do not overlap.
func (s *spool) writeAt(b []byte, off int64) error {
	for len(b) > 0 && off < s.limit {
		n := copy(s.block(off / spoolBlock)[off%spoolBlock:], b)
		b = b[n:]
		off += int64(n)
	}
	if len(b) == 0 {
		return nil
	}
	f, err := s.open()
	if err == nil {
		err = writeAt(f, b, off-s.limit)
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// block returns block i, made if need be.
func (s *spool) block(i int64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int64(len(s.blocks)) <= i {
		s.blocks = append(s.blocks, nil)
	}
	if s.blocks[i] == nil {
		s.blocks[i] = make([]byte, spoolBlock)
	}
	return s.blocks[i]
}

// open returns the temporary file, made if need be.
func (s *spool) open() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		return s.file, nil
	}
	f, err := os.CreateTemp(s.dir, "qcow2-spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	s.file = f
	return f, nil
}

// grow makes the spool n bytes long, if it is shorter, with zeros.
func (s *spool) grow(n int64) error {
	if n <= s.limit {
		return nil
	}
	f, err := s.open()
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() < n-s.limit {
		err = f.Truncate(n - s.limit)
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// ReadAt reads what was written before; the spool has grown to behind it.
func (s *spool) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) && off < s.limit {
		from := off % spoolBlock
		part := b[n:][:min(int64(len(b)-n), spoolBlock-from)]
		s.mu.Lock()
		var block []byte
		if i := off / spoolBlock; i < int64(len(s.blocks)) {
			block = s.blocks[i]
		}
		s.mu.Unlock()
		if block == nil {
			clear(part)
		} else {
			copy(part, block[from:])
		}
		n += len(part)
		off += int64(len(part))
	}
	if n == len(b) {
		return n, nil
	}
	f, err := s.open()
	if err != nil {
		return n, fmt.Errorf("spool: %w", err)
	}
	k, err := f.ReadAt(b[n:], off-s.limit)
	if err != nil && k < len(b)-n {
		return n + k, fmt.Errorf("spool: %w", err)
	}
	return n + k, nil
}

// copyTo passes the first n bytes to write, in order, and lets go of the
// memory as it goes.
func (s *spool) copyTo(write func([]byte) error, n int64) error {
	if err := s.grow(n); err != nil {
		return err
	}
	buf := make([]byte, spoolBlock)
	for off := int64(0); off < n; off += spoolBlock {
		b := buf[:min(n-off, spoolBlock)]
		if _, err := s.ReadAt(b, off); err != nil {
			return err
		}
		if i := off / spoolBlock; i < int64(len(s.blocks)) {
			s.blocks[i] = nil
		}
		if err := write(b); err != nil {
			return err
		}
	}
	return nil
}

// close gives back the temporary file.
func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}
