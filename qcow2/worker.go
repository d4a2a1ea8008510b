package qcow2

import (
	"fmt"
	"math"

	"e2qcow/internal/ordered"
	"e2qcow/internal/share"
	"e2qcow/internal/zero"
)

// A segment is a run of clusters of one chunk that are alike. A packed one is
// a single cluster.
type segment struct {
	kind  clusterKind
	guest uint64 // number of the first cluster
	n     uint32
	data  []byte // what goes into the file
	host  int64  // where it goes
	pad   int64  // how many bytes before host are nobody's
}

// A dataWorker writes chunks of data.
type dataWorker struct {
	*writer
	put        func(b []byte, off int64) error
	sharer     *share.Sharer // nil where nothing is shared
	unshared   []segment     // of segments, what is to be written
	segments   []segment
	compressor compressor
	compressed []byte // the data of packed segments
}

// Prepare splits the chunk into segments, and compresses their clusters if
// requested.
func (d *dataWorker) Prepare(c *ordered.Chunk) error {
	d.segments = d.segments[:0]
	d.compressed = d.compressed[:0]
	if d.opt.Compression != Uncompressed && d.compressor == nil {
		var err error
		d.compressor, err = newCompressor(d.opt.Compression, d.opt.Level, d.layout.clusterSize())
		if err != nil {
			return err
		}
		d.compressed = make([]byte, 0, c.Cap()+compressSlack)
	}
	unit := int(d.layout.clusterSize())
	for _, s := range c.Spans {
		for pos := 0; pos < len(s.Data); {
			start, end := zero.NextData(s.Data, pos, unit)
			d.addZero(s, pos, start)
			if d.compressor == nil {
				d.addPlain(s, start, end)
			} else {
				d.addPacked(s, start, end)
			}
			pos = end
		}
	}
	return nil
}

// addZero adds the bytes [start, end) of s, which are zero.
func (d *dataWorker) addZero(s ordered.Span, start, end int) {
	if start == end || !d.opt.MarkZeros {
		return
	}
	bits := d.layout.clusterBits
	d.segments = append(d.segments, segment{
		kind:  zeroClusters,
		guest: uint64(s.Off+int64(start)) >> bits,
		n:     uint32((end - start) >> bits),
	})
}

// addPlain adds the bytes [start, end) of s, to be stored as they are.
func (d *dataWorker) addPlain(s ordered.Span, start, end int) {
	if start == end {
		return
	}
	bits := d.layout.clusterBits
	d.segments = append(d.segments, segment{
		kind:  plainClusters,
		guest: uint64(s.Off+int64(start)) >> bits,
		n:     uint32((end - start) >> bits),
		data:  s.Data[start:end],
	})
}

// addPacked adds the clusters [start, end) of s, compressed where they shrink.
func (d *dataWorker) addPacked(s ordered.Span, start, end int) {
	unit := int(d.layout.clusterSize())
	plain := start // what lies before pos and does not shrink
	for pos := start; pos < end; pos += unit {
		from := len(d.compressed)
		out, ok := d.compressor.compress(d.compressed, s.Data[pos:pos+unit])
		if !ok {
			continue
		}
		d.addPlain(s, plain, pos)
		plain = pos + unit
		d.compressed = out
		d.segments = append(d.segments, segment{
			kind:  packedClusters,
			guest: uint64(s.Off+int64(pos)) >> d.layout.clusterBits,
			n:     1,
			data:  out[from:],
		})
	}
	d.addPlain(s, plain, end)
}

// Commit gives each segment its place in the file.
func (d *dataWorker) Commit(c *ordered.Chunk) error {
	for i := range d.segments {
		if err := d.commitSegment(&d.segments[i]); err != nil {
			return err
		}
	}
	for _, s := range c.Spans {
		d.read += int64(len(s.Data))
	}
	d.progress()
	return nil
}

func (d *dataWorker) commitSegment(s *segment) error {
	w := d.writer
	bits := w.layout.clusterBits
	known := int64(s.n) << bits
	switch s.kind {
	case zeroClusters:
		w.mapping.add(zeroClusters, s.guest, s.n, 0, bits)
		return nil
	case plainClusters:
		s.pad = w.fileSize() - w.end
		s.host = w.end + s.pad
		w.mapping.add(plainClusters, s.guest, s.n, uint64(s.host), bits)
		if w.opt.Compression != Uncompressed {
			for range s.n {
				w.shared = append(w.shared, 1)
			}
		}
	case packedClusters:
		if n := len(w.shared); n > 0 && w.shared[n-1] == math.MaxUint16 {
			s.pad = w.fileSize() - w.end
		}
		s.host = w.end + s.pad
		entry, err := packedEntry(s.host, len(s.data), bits)
		if err != nil {
			return err
		}
		w.mapping.addPacked(s.guest, entry, bits)
		first := (s.host - w.layout.dataOffset) >> bits
		last := (s.host + int64(len(s.data)) - 1 - w.layout.dataOffset) >> bits
		for i := first; i <= last; i++ {
			if i == int64(len(w.shared)) {
				w.shared = append(w.shared, 0)
			}
			w.shared[i]++
		}
		w.packed += known
	}
	w.end = s.host + int64(len(s.data))
	w.data += known
	return nil
}

// packedShift returns how many bits of a compressed cluster's entry are its
// offset; the bits above are how many more sectors it has.
func packedShift(clusterBits uint) uint { return 62 - (clusterBits - 8) }

// packedEntry returns the L2 entry of a compressed cluster of n bytes at off.
func packedEntry(off int64, n int, clusterBits uint) (uint64, error) {
	shift := packedShift(clusterBits)
	if off >= 1<<shift {
		return 0, fmt.Errorf("compressed clusters of %d bytes end at %d bytes of image", 1<<clusterBits, int64(1)<<shift)
	}
	sectors := uint64(off%512+int64(n)-1) / 512
	return entryCompressed | sectors<<shift | uint64(off), nil
}

// A segment up to this size is moved beside the one before it, so that both
// are written with one call: a call costs more than the copy.
const smallSegment = 32 << 10

// Finish shares the segments with the source where that is possible, and writes
// the others.
func (d *dataWorker) Finish(*ordered.Chunk) error {
	if d.sharer == nil {
		return d.writeAll(d.segments)
	}
	d.unshared = d.unshared[:0]
	for _, s := range d.segments {
		if s.kind != plainClusters || s.pad > 0 {
			d.unshared = append(d.unshared, s)
			continue
		}
		start := int64(s.guest) << d.layout.clusterBits
		end := start + int64(len(s.data))
		_ = d.sharer.Share(start, min(end, d.layout.size), s.host, func(from, to int64) error {
			d.unshared = append(d.unshared, segment{kind: s.kind, data: s.data[from-start : to-start], host: s.host + from - start})
			return nil
		})
		if end > d.layout.size {
			past := d.layout.size - start
			d.unshared = append(d.unshared, segment{kind: s.kind, data: s.data[past:], host: s.host + past})
		}
	}
	return d.writeAll(d.unshared)
}

// writeAll writes segments, few large writes for many small segments.
func (d *dataWorker) writeAll(segments []segment) error {
	var (
		run  []byte // data of consecutive segments, adjacent in the file
		host int64  // where run begins
		kind clusterKind
	)
	for i := range segments {
		s := &segments[i]
		if len(s.data) == 0 {
			continue
		}
		if len(run) > 0 && s.kind == kind && s.host == host+int64(len(run)) && len(s.data) <= smallSegment {
			// Data of one kind lies in one buffer, in order.
			run = run[:len(run)+len(s.data)]
			copy(run[len(run)-len(s.data):], s.data)
			continue
		}
		if err := d.write(kind, run, host); err != nil {
			return err
		}
		if s.pad > 0 && d.fillPads {
			if err := d.put(make([]byte, s.pad), s.host-s.pad); err != nil {
				return err
			}
		}
		run, host, kind = s.data, s.host, s.kind
	}
	return d.write(kind, run, host)
}

// write writes the data of segments of a kind. In the clusters of a file, which
// are zero so far, pages of zeros stay holes.
func (d *dataWorker) write(kind clusterKind, b []byte, off int64) error {
	switch {
	case len(b) == 0:
		return nil
	case d.opt.Dense || kind != plainClusters || d.layout.clusterSize() <= tablePage:
		return d.put(b, off)
	}
	return putPages(d.put, b, off)
}
