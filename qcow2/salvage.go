package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"e2qcow/image"
	"e2qcow/internal/ranges"
)

// SalvageOptions say how a damaged image is opened.
type SalvageOptions struct {
	// Backing opens the backing file, as OpenOptions.Backing does. If it is nil,
	// or returns an error, all that would come from the backing file is lost.
	Backing func(name, format string) (image.Image, error)

	// MaxTables is how many bytes of tables are read at most, 0 for no limit:
	// enough to say how much is lost of most images.
	MaxTables int64
}

// A Salvage is the virtual disk of a damaged qcow2 file, as far as it can be
// read. A read of what is lost fails with an *image.LostError. Its methods are
// safe for concurrent use.
type Salvage struct {
	m          *Image
	loss       *Loss
	notes      []string
	backingErr error // why the backing file was not opened

	mu     sync.Mutex
	failed map[int64]error // by the offset in the disk: clusters that were found to be lost when they were read
}

var (
	_ image.Image      = (*Salvage)(nil)
	_ image.DataFinder = (*Salvage)(nil)
	_ image.LossFinder = (*Salvage)(nil)
)

// OpenSalvage opens the image in the first size bytes of r, however damaged it
// is, as long as its header says what it is. Fields of the header that
// contradict others are mended. What cannot be read is lost: what bad entries in
// tables lead to, what is behind the end of a file that is cut short, what two
// entries claim of which one must be wrong, and what would come from a backing
// file that cannot be opened. Clusters that do not decompress are lost when they
// are read. Refcounts and snapshots are not needed.
//
// The error is ErrNotQcow2, an *UnsupportedError, or a *CorruptError if the
// header does not say enough.
func OpenSalvage(ctx context.Context, r io.ReaderAt, size int64, opt SalvageOptions) (*Salvage, error) {
	head, err := mendHead(ctx, r, size)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(head, size)
	if err != nil {
		return nil, err
	}
	if err := h.unsupported(); err != nil {
		return nil, err
	}
	m := newImage(h, r, size)
	tables := &tableReader{r: r, size: size}
	m.l2.r, m.tableEnd = tables, endless // a table may be cut short
	s := &survey{ctx: ctx, m: m, tables: tables, limit: opt.MaxTables}
	if err := s.run(head); err != nil {
		return nil, err
	}
	v := &Salvage{m: m, notes: append(head.notes, m.Notes()...), failed: make(map[int64]error)}
	if head.guessCompression {
		if err := v.guessCompression(ctx); err != nil {
			return nil, err
		}
	}
	if h.BackingFile != "" || head.backingLost {
		if err := v.openBacking(ctx, opt, head.backingLost, &s.loss); err != nil {
			return nil, err
		}
	}
	v.loss = &s.loss.Loss
	return v, nil
}

// guessCompression finds out how clusters are compressed from the first one.
func (v *Salvage) guessCompression(ctx context.Context) error {
	const magic = 0x28b52ffd // little-endian, as the frames of zstd begin
	m := v.m
	for off := int64(0); off < m.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p, err := m.find(off, m.Size()-off)
		if err != nil {
			off = off&^(m.header.ClusterSize()-1) + m.header.ClusterSize()
			continue
		}
		if p.kind == mapPacked {
			var b [4]byte
			host, _ := packedPlace(p.desc, m.header.ClusterBits)
			if n, _ := m.r.ReadAt(b[:], host); n == len(b) && binary.BigEndian.Uint32(b[:]) == magic {
				m.header.Compression = Zstd
			}
			return nil
		}
		off += p.n
	}
	return nil
}

var errNoBackingName = errors.New("its name cannot be read")

// openBacking opens the backing file, and loses what it lacks.
func (v *Salvage) openBacking(ctx context.Context, opt SalvageOptions, nameLost bool, loss *lossList) error {
	h := v.m.header
	switch {
	case nameLost:
		v.backingErr = errNoBackingName
	case opt.Backing == nil:
		v.backingErr = h.backingError()
	default:
		var backing image.Image
		if backing, v.backingErr = opt.Backing(h.BackingFile, h.BackingFormat); v.backingErr == nil {
			v.m.backing = backing
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	own := slices.Clone(loss.Ranges) // of this file
	for off := int64(0); off < h.Size; {
		start, end := off, h.Size
		if v.backingErr == nil {
			var err error
			start, end, err = image.NextLost(v.m.backing, off)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		if err := v.loseHoles(ctx, start, min(end, h.Size), own, loss); err != nil {
			return err
		}
		off = end
	}
	loss.join()
	return nil
}

// loseHoles loses what of [off, end) is not allocated here, and would come from
// the backing file. own are the lost ranges of this file.
func (v *Salvage) loseHoles(ctx context.Context, off, end int64, own []Range, loss *lossList) error {
	for off < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		limit := end
		if i := ranges.Find(own, off); i < len(own) {
			if own[i].Start <= off {
				off = own[i].End
				continue
			}
			limit = min(end, own[i].Start)
		}
		p, err := v.m.find(off, limit-off)
		if err != nil {
			return err
		}
		if p.kind == mapHole {
			loss.add(LostBacking, off, off+p.n, 0, "it would come from the backing file")
		}
		off += p.n
	}
	return nil
}

// Header returns the header of the file, mended.
func (v *Salvage) Header() *Header { return v.m.header }

// Size returns the size of the virtual disk.
func (v *Salvage) Size() int64 { return v.m.Size() }

// Notes returns messages about the header and parts of the image that are ignored.
func (v *Salvage) Notes() []string { return v.notes }

// Backing returns why the backing file was not opened, nil if it was or there is
// none.
func (v *Salvage) Backing() error { return v.backingErr }

// Loss returns what is known to be lost without reading the disk.
func (v *Salvage) Loss() *Loss { return v.loss }

// Failed returns the ranges that were found to be lost when they were read,
// ascending and disjoint: the first maxFailed of them.
func (v *Salvage) Failed() []Range {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]Range, 0, len(v.failed))
	for start := range v.failed {
		list = append(list, Range{start, min(start+v.m.header.ClusterSize(), v.Size())})
	}
	return ranges.Join(list)
}

// maxFailed bounds the clusters that are known to be lost from reading them.
const maxFailed = 1 << 16

var errLost = errors.New("the image is damaged there")

// ReadAt reads the virtual disk. The error of a read of what is lost is an
// *image.LostError.
func (v *Salvage) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("qcow2: read at negative offset %d", off)
	}
	n := 0
	for n < len(b) && off < v.Size() {
		limit := min(int64(len(b)-n), v.Size()-off)
		if r, ok := v.loss.next(off); ok && r.Start <= off {
			return n, &image.LostError{Start: r.Start, End: r.End, Err: errLost}
		} else if ok {
			limit = min(limit, r.Start-off)
		}
		p, err := v.m.find(off, limit)
		if err != nil {
			return n, v.lose(off, err)
		}
		if err := v.readPart(b[n:][:p.n], off, p); err != nil {
			return n, err
		}
		n += int(p.n)
		off += p.n
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// readPart reads all of part p, which begins at off, into b.
func (v *Salvage) readPart(b []byte, off int64, p part) error {
	if p.kind == mapPacked {
		if err := v.known(off); err != nil {
			return v.lose(off, err)
		}
	}
	err := v.m.readPart(b, off, p)
	if err == nil {
		return nil
	}
	var lost *image.LostError
	switch {
	case errors.As(err, &lost): // of the backing file, which may be hidden elsewhere
		return &image.LostError{Start: max(lost.Start, off), End: min(lost.End, off+p.n), Err: lost.Err}
	case p.kind == mapPacked:
		return v.lose(off, err)
	}
	return err
}

// known returns why the cluster at off could not be read before, nil if it was not
// tried.
func (v *Salvage) known(off int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed[off&^(v.m.header.ClusterSize()-1)]
}

// lose returns the error of a read that met a lost cluster.
func (v *Salvage) lose(off int64, err error) error {
	size := v.m.header.ClusterSize()
	start := off &^ (size - 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.failed) < maxFailed {
		v.failed[start] = err
	}
	return &image.LostError{Start: start, End: min(start+size, v.Size()), Err: err}
}

// NextLost returns the next range that is known to be lost.
func (v *Salvage) NextLost(off int64) (start, end int64, err error) {
	r, ok := v.loss.next(off)
	if !ok {
		return 0, 0, io.EOF
	}
	return max(r.Start, off), r.End, nil
}

// NextRun returns the next run of clusters as Image.NextRun does. What is lost is
// in runs.
func (v *Salvage) NextRun(off int64) (start, end int64, err error) { return v.next(off, true) }

// NextData returns the next run of clusters as Image.NextData does. What is lost
// is in runs.
func (v *Salvage) NextData(off int64) (start, end int64, err error) { return v.next(off, false) }

func (v *Salvage) next(off int64, zeros bool) (start, end int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("qcow2: run after negative offset %d", off)
	}
	start, end, err = v.nextPart(off, zeros)
	for err == nil {
		var s, e int64
		s, e, err = v.nextPart(end, zeros)
		if err == nil && s > end || errors.Is(err, io.EOF) {
			return start, end, nil
		}
		end = e
	}
	return 0, 0, err
}

// nextPart returns a run like next, but one that may go on behind its end.
func (v *Salvage) nextPart(off int64, zeros bool) (start, end int64, err error) {
	lost, ok := v.loss.next(off)
	if ok && lost.Start <= off {
		return off, lost.End, nil
	}
	start, end, err = v.m.nextKnown(off, zeros)
	switch {
	case ok && (err != nil || lost.Start <= start):
		return lost.Start, lost.End, nil //nolint:nilerr // the error is of an entry that is lost
	case ok && err == nil:
		end = min(end, lost.Start)
	}
	return start, end, err
}
