package scan

import (
	"errors"

	"e2qcow/image"
	"e2qcow/internal/buffer"
)

var (
	errJournalHole = errors.New("the journal has a hole")
	errLongLog     = errors.New("the log is longer than the space that it takes: not followed further")
)

func (s *scanner) readJournalBlock(n uint32, buf []byte) error {
	block, ok := s.journalFile.Block(n)
	if !ok {
		return errJournalHole
	}
	if !s.ahead.read(s, n, block, buf) {
		s.dev.read(buf, int64(block)*int64(s.geo.BlockSize))
	}
	return nil
}

// A readAhead reads the journal in large pieces when it is read block by block.
type readAhead struct {
	next  uint32 // in the journal: behind the block asked for last
	block uint64 // the first of those in data
	data  []byte
	buf   *buffer.Buffer
}

// read reads block n of the journal, which is that block of the filesystem; it
// returns false where that is not to be read in a piece.
func (a *readAhead) read(s *scanner, n uint32, block uint64, p []byte) bool {
	sequential := n == a.next
	a.next = n + 1
	bs := uint64(len(p))
	if block < a.block || block-a.block >= uint64(len(a.data))/bs {
		a.data = nil
		count := s.journalFile.contiguous(n)
		if !sequential || count < 2 {
			return false
		}
		if a.buf == nil {
			a.buf = buffer.New(image.AdviceOf(s.dev.r).Request)
		}
		a.block, a.data = block, a.buf.Bytes[:min(count, uint64(len(a.buf.Bytes))/bs)*bs]
		if !s.dev.tryRead(a.data, int64(block*bs)) {
			a.data = nil
			return false
		}
	}
	copy(p, a.data[(block-a.block)*bs:])
	return true
}

// free gives the memory back.
func (a *readAhead) free() {
	if a.buf != nil {
		a.buf.Free()
		*a = readAhead{}
	}
}

// A sound log is read some three times, and its blocks are all different and
// written. What a walk may read beyond that, as one block may be mapped in many
// places or lie in a hole of the source:
const (
	logPasses      = 4
	maxLogRepeated = 32 << 20  // bytes
	maxLogHoles    = 256 << 20 // bytes
)

// A logReader reads the blocks of the log for a walk, as long as that costs no
// more than the space that the journal takes lets expect.
type logReader struct {
	s           *scanner
	left, holes int64 // bytes that may be read: in all, in holes
}

func (s *scanner) logReader() *logReader {
	var blocks blockSet
	for _, x := range s.journalFile {
		if start, n, ok := s.validRun(x.Start, uint64(x.Len)); ok {
			blocks.add(start, n)
		}
	}
	return &logReader{s, logPasses*int64(blocks.count())*int64(s.geo.BlockSize) + maxLogRepeated, maxLogHoles}
}

func (l *logReader) read(n uint32, buf []byte) error {
	size := int64(len(buf))
	if block, ok := l.s.journalFile.Block(n); ok {
		if start, stop := l.s.holes.data(int64(block)*size, int64(block+1)*size); start == stop {
			l.holes -= size
		}
	}
	if l.left -= size; l.left < 0 || l.holes < 0 {
		return errLongLog
	}
	return l.s.readJournalBlock(n, buf)
}
