package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"e2qcow/image"
	"e2qcow/internal/zero"
)

// A chunkWriter writes to a chunk whose shard is locked.
type chunkWriter struct {
	o     *Overlay
	table *table
	start int64 // of the chunk
}

// write writes the first bytes of b: a part of one block, or whole blocks that go
// to the spool in one call. It returns how many bytes that were.
func (w *chunkWriter) write(b []byte, off int64) (int, error) {
	i := int((off - w.start) / BlockSize)
	n := w.wholes(b, off)
	switch {
	case n == 0:
		b = b[:min(int64(len(b)), w.end(i)-off)]
		return len(b), w.writePart(b, off, i)
	case zero.IsZero(b[:min(int64(len(b)), BlockSize)]):
		end := w.end(i)
		return int(end - off), w.clear(i)
	}
	return w.writeWholes(b, off, i, n)
}

// end returns where block i ends. The last one of the disk can be short.
func (w *chunkWriter) end(i int) int64 {
	return min(w.start+int64(i+1)*BlockSize, w.o.size)
}

// wholes returns how many blocks b covers from off on.
func (w *chunkWriter) wholes(b []byte, off int64) int {
	end := off + int64(len(b))
	switch {
	case off%BlockSize != 0:
		return 0
	case end == w.o.size:
		return int((int64(len(b)) + BlockSize - 1) / BlockSize)
	}
	return len(b) / BlockSize
}

// writeWholes writes the first of n blocks, up to one that is zero or lies
// elsewhere in the spool than behind the others.
func (w *chunkWriter) writeWholes(b []byte, off int64, i, n int) (int, error) {
	var (
		first, count uint32
		fresh        []uint32
		length       int
		full         error
	)
	for int(count) < n {
		piece := b[length:min(len(b), length+BlockSize)]
		if zero.IsZero(piece) {
			break
		}
		v := w.table[i+int(count)]
		isNew := v < firstSlot
		if isNew {
			if v, full = w.o.slot(); full != nil {
				break
			}
		}
		if count > 0 && v != first+count {
			if isNew {
				w.o.free(v)
			}
			break
		}
		if isNew {
			fresh = append(fresh, v)
		}
		if count == 0 {
			first = v
		}
		count++
		length += len(piece)
	}
	if count == 0 {
		return 0, full
	}
	if _, err := w.o.spool.WriteAt(b[:length], place(first)); err != nil {
		for _, v := range fresh {
			w.o.free(v)
		}
		return 0, err
	}
	for j := range count {
		w.table[i+int(j)] = first + j
	}
	return length, nil
}

// writePart writes a part of block i.
func (w *chunkWriter) writePart(b []byte, off int64, i int) error {
	v := w.table[i]
	if v >= firstSlot {
		_, err := w.o.spool.WriteAt(b, place(v)+off%BlockSize)
		return err
	}
	begin := w.start + int64(i)*BlockSize
	merged := make([]byte, w.end(i)-begin)
	if v == sameBlock {
		if err := w.o.readBase(merged, begin); err != nil {
			return err
		}
	}
	copy(merged[off-begin:], b)
	if zero.IsZero(merged) {
		return w.clear(i)
	}
	v, err := w.o.slot()
	if err != nil {
		return err
	}
	if _, err := w.o.spool.WriteAt(merged, place(v)); err != nil {
		w.o.free(v)
		return err
	}
	w.table[i] = v
	return nil
}

// clear makes block i zero.
func (w *chunkWriter) clear(i int) error {
	same, err := w.o.baseIsZero(w.start+int64(i)*BlockSize, w.end(i))
	if err != nil {
		return err
	}
	w.o.free(w.table[i])
	w.table[i] = zeroBlock
	if same {
		w.table[i] = sameBlock
	}
	return nil
}

// Clear makes n bytes from off on zero, as a discard does. Whole chunks cost
// nothing, and what the base has as zeros is as if it had never been written.
func (o *Overlay) Clear(off, n int64) error {
	if off < 0 || n < 0 || off > o.size || n > o.size-off {
		return fmt.Errorf("clearing %d bytes at %d of %d: %w", n, off, o.size, fs.ErrInvalid)
	}
	end := off + n
	var zeros [chunkSize]byte
	first := (off + chunkSize - 1) / chunkSize
	last := end / chunkSize // the first chunk that is not cleared as a whole
	if end == o.size && end > off {
		last = (end + chunkSize - 1) / chunkSize
	}
	if first >= last {
		_, err := o.WriteAt(zeros[:min(n, chunkSize)], off)
		if err == nil && n > chunkSize {
			_, err = o.WriteAt(zeros[:n-chunkSize], off+chunkSize)
		}
		return err
	}
	if head := first*chunkSize - off; head > 0 {
		if _, err := o.WriteAt(zeros[:head], off); err != nil {
			return err
		}
	}
	if err := o.clearChunks(first, last); err != nil {
		return err
	}
	if tail := end - last*chunkSize; tail > 0 {
		_, err := o.WriteAt(zeros[:tail], last*chunkSize)
		return err
	}
	return nil
}

// clearChunks makes whole chunks zero.
func (o *Overlay) clearChunks(first, last int64) error {
	for i := range o.shards {
		o.shards[i].mu.Lock()
		defer o.shards[i].mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for it := o.tabledFrom(first); it.HasNext(); {
		chunk := it.Next()
		if int64(chunk) >= last {
			break
		}
		s := o.shard(chunk)
		for _, v := range s.tables[chunk] {
			o.free(v)
		}
		delete(s.tables, chunk)
		o.used.Add(-tableCost)
	}
	o.tabled.RemoveRange(uint64(first), uint64(last))
	data := image.Data(o.base)
	for off := first * chunkSize; off < last*chunkSize; {
		start, end, err := data.NextRun(off)
		if errors.Is(err, io.EOF) || err == nil && start >= last*chunkSize {
			break
		}
		if err != nil {
			return err
		}
		end = min((end+chunkSize-1)/chunkSize, last)
		o.cleared.AddRange(uint64(start/chunkSize), uint64(end))
		off = end * chunkSize
	}
	return nil
}
