// Package overlay makes an image writable without writing to it: what is written
// is kept apart, block by block, and read in place of the base.
//
//	chunk of 2 MiB   │ blocks of 4 KiB: same as the base │ zero │ slot n │ ...
//	                                                               │
//	spool            │ slot 0 │ slot 1 │ ...  │ slot n │ <─────────┘
//
// A chunk nobody wrote to has no table of blocks. A chunk that was discarded as a
// whole is one bit of a bitmap. So the cost of an overlay is that of the blocks
// in it that are neither zero nor those of the base.
package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/spool"
	"e2qcow/internal/zero"
)

const (
	// BlockSize is the size in bytes of the pieces that changes are kept in.
	BlockSize = 4 << 10

	chunkBlocks = 512
	chunkSize   = chunkBlocks * BlockSize // chunk numbers of 32 bits cover 8 EiB
	shards      = 64

	// tableCost is what a table of blocks counts as: eight times its size, so
	// that tables, which are always in memory, are an eighth of the limit at
	// most.
	tableCost = 8 * 4 * chunkBlocks
)

// DefaultLimit is the limit where Options do not say.
const DefaultLimit = 8 << 30

// Options say how much is kept, and where. The zero Options are usable.
type Options struct {
	Limit int64         // bytes of changes, in whole blocks; 0 is DefaultLimit
	Spool spool.Options // where they are kept
}

// ErrFull says that the overlay holds as many changes as its limit allows.
var ErrFull = fmt.Errorf("the limit of changes is reached: %w", unix.ENOSPC)

// What a block of a chunk is; other values are slot numbers from firstSlot on.
const (
	sameBlock = iota // as the base has it
	zeroBlock
	firstSlot
)

type table [chunkBlocks]uint32

type shard struct {
	mu     sync.RWMutex // guards the tables, and the slots that they name
	tables map[uint32]*table
}

// An Overlay is an image over a base that never changes, and can be written to.
// Its methods are safe for concurrent use; a write is atomic within a chunk.
type Overlay struct {
	base  image.Image
	size  int64
	limit int64
	used  atomic.Int64 // bytes that count against the limit
	spool *spool.Spool

	shards [shards]shard // a chunk belongs to the one of its number modulo shards

	slots slots

	mu      sync.RWMutex    // taken with a shard held, never the other way
	tabled  *roaring.Bitmap // chunks that have a table
	cleared *roaring.Bitmap // chunks that are zero as a whole, and have no table
}

var _ image.Image = (*Overlay)(nil)

// New returns an overlay of base in which nothing is changed.
func New(base image.Image, opt Options) *Overlay {
	o := &Overlay{
		base:    base,
		size:    base.Size(),
		limit:   opt.Limit,
		spool:   spool.New(opt.Spool),
		tabled:  roaring.New(),
		cleared: roaring.New(),
	}
	if o.limit == 0 {
		o.limit = DefaultLimit
	}
	for i := range o.shards {
		o.shards[i].tables = make(map[uint32]*table)
	}
	return o
}

// Close lets go of the changes. Nothing may be called after it.
func (o *Overlay) Close() { o.spool.Close() }

// Size returns the size of the base in bytes.
func (o *Overlay) Size() int64 { return o.size }

// Used returns how many bytes of changes are kept, and Limit how many can be.
func (o *Overlay) Used() int64 { return o.used.Load() }

// Limit returns how many bytes of changes can be kept.
func (o *Overlay) Limit() int64 { return o.limit }

// Advice returns how the base is best read.
func (o *Overlay) Advice() image.Advice { return image.AdviceOf(o.base) }

// Damage returns the damage that reading the base met.
func (o *Overlay) Damage() error { return image.DamageOf(o.base) }

func (o *Overlay) shard(chunk uint32) *shard { return &o.shards[chunk%shards] }

func (o *Overlay) isCleared(chunk uint32) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.cleared.Contains(chunk)
}

// ReadAt reads as io.ReaderAt does.
func (o *Overlay) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d: %w", off, fs.ErrInvalid)
	}
	var end error
	if rest := max(0, o.size-off); int64(len(b)) > rest {
		b, end = b[:rest], io.EOF
	}
	n := 0
	for n < len(b) {
		part := b[n:][:min(int64(len(b)-n), chunkSize-off%chunkSize)]
		if err := o.readChunk(part, off); err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, end
}

// readChunk reads bytes of one chunk.
func (o *Overlay) readChunk(b []byte, off int64) error {
	chunk := uint32(off / chunkSize)
	s := o.shard(chunk)
	s.mu.RLock()
	t := s.tables[chunk]
	if t == nil {
		cleared := o.isCleared(chunk)
		s.mu.RUnlock()
		if cleared {
			clear(b)
			return nil
		}
		return o.readBase(b, off)
	}
	defer s.mu.RUnlock()
	for len(b) > 0 {
		first := int(off % chunkSize / BlockSize)
		last := int((off%chunkSize + int64(len(b)) - 1) / BlockSize)
		run := t.run(first, last)
		n := min(int64(len(b)), int64(first+run)*BlockSize-off%chunkSize)
		var err error
		switch v := t[first]; v {
		case sameBlock:
			err = o.readBase(b[:n], off)
		case zeroBlock:
			clear(b[:n])
		default:
			_, err = o.spool.ReadAt(b[:n], place(v)+off%BlockSize)
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+n
	}
	return nil
}

// run returns how many blocks from first to last are the same kind, or lie one
// behind the other in the spool.
func (t *table) run(first, last int) int {
	n := 1
	for first+n <= last {
		want := t[first]
		if want >= firstSlot {
			want += uint32(n)
		}
		if t[first+n] != want {
			break
		}
		n++
	}
	return n
}

// readBase reads the base, which is as long as the overlay.
func (o *Overlay) readBase(b []byte, off int64) error {
	n, err := o.base.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteAt writes as io.WriterAt does. The error is ErrFull where the limit is
// reached, a *spool.Error where the spool fails; what comes before the place of
// the failure is written.
func (o *Overlay) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > o.size || int64(len(b)) > o.size-off {
		return 0, fmt.Errorf("writing %d bytes at %d of %d: %w", len(b), off, o.size, fs.ErrInvalid)
	}
	n := 0
	for n < len(b) {
		part := b[n:][:min(int64(len(b)-n), chunkSize-off%chunkSize)]
		k, err := o.writeChunk(part, off)
		n += k
		if err != nil {
			return n, err
		}
		off += int64(k)
	}
	return n, nil
}

// writeChunk writes bytes of one chunk.
func (o *Overlay) writeChunk(b []byte, off int64) (int, error) {
	chunk := uint32(off / chunkSize)
	s := o.shard(chunk)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[chunk] == nil && zero.IsZero(b) {
		if same, err := o.readsZero(chunk, off, off+int64(len(b))); same || err != nil {
			return len(b), err
		}
	}
	t, err := o.table(s, chunk)
	if err != nil {
		return 0, err
	}
	w := chunkWriter{o: o, table: t, start: int64(chunk) * chunkSize}
	n := 0
	for n < len(b) && err == nil {
		var k int
		k, err = w.write(b[n:], off+int64(n))
		n += k
	}
	return n, err
}

// readsZero reports whether bytes of a chunk without a table are known to read as
// zero.
func (o *Overlay) readsZero(chunk uint32, off, end int64) (bool, error) {
	if o.isCleared(chunk) {
		return true, nil
	}
	return o.baseIsZero(off, end)
}

// baseIsZero reports whether the base has no bytes but zeros there.
func (o *Overlay) baseIsZero(off, end int64) (bool, error) {
	start, _, err := image.Data(o.base).NextRun(off)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return start >= end, err
}

// table returns the table of a chunk, made if need be. s is locked.
func (o *Overlay) table(s *shard, chunk uint32) (*table, error) {
	if t := s.tables[chunk]; t != nil {
		return t, nil
	}
	if !o.take(tableCost) {
		return nil, ErrFull
	}
	t := new(table)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cleared.CheckedRemove(chunk) {
		for i := range t {
			t[i] = zeroBlock
		}
	}
	s.tables[chunk] = t
	o.tabled.Add(chunk)
	return t, nil
}

// take counts n bytes against the limit, unless they are too many.
func (o *Overlay) take(n int64) bool {
	if o.used.Add(n) > o.limit {
		o.used.Add(-n)
		return false
	}
	return true
}

// slot returns a free place in the spool.
func (o *Overlay) slot() (uint32, error) {
	if !o.take(BlockSize) {
		return 0, ErrFull
	}
	v, ok := o.slots.get()
	if !ok {
		o.used.Add(-BlockSize)
		return 0, ErrFull
	}
	return v, nil
}

// free gives a place back, if the block has one.
func (o *Overlay) free(v uint32) {
	if v >= firstSlot {
		o.slots.put(v)
		o.used.Add(-BlockSize)
	}
}

// place returns where in the spool the slot lies.
func place(v uint32) int64 { return int64(v-firstSlot) * BlockSize }

// slots hands out places in the spool, those first that were given back.
type slots struct {
	mu   sync.Mutex
	next uint32
	back []uint32
}

func (s *slots) get() (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.back); n > 0 {
		v := s.back[n-1]
		s.back = s.back[:n-1]
		return v, true
	}
	if s.next == math.MaxUint32-firstSlot {
		return 0, false // 16 TiB
	}
	s.next++
	return s.next - 1 + firstSlot, true
}

func (s *slots) put(v uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back = append(s.back, v)
}
