package qcow2

import (
	"context"
	"io"
	"runtime"
	"sort"
	"sync"
)

// An unpackPool decompresses clusters to see whether they can be, in parallel.
type unpackPool struct {
	ctx  context.Context
	r    io.ReaderAt
	size int64
	h    *Header

	batch  []l2Entry
	tried  [triedSlots]uint64 // entries, each in the place that it hashes to
	output int64              // bytes that what was added decompresses to
	left   int64              // clusters that were not tried
	work   chan []l2Entry
	done   sync.WaitGroup

	mu  sync.Mutex
	bad []Finding // those at the lowest guest offsets
	n   int64     // how many were bad
	err error
}

func newUnpackPool(ctx context.Context, r io.ReaderAt, size int64, h *Header) *unpackPool {
	return &unpackPool{ctx: ctx, r: r, size: size, h: h}
}

const (
	// triedSlots is how many entries are remembered, so that one cluster that
	// many entries refer to is decompressed once.
	triedSlots = 1 << 12

	// leastOutput and outputRatio bound the decompressed bytes. zlib makes at
	// most 1,030 bytes from one byte, zstd many more if all bytes are equal.
	leastOutput = 1 << 30
	outputRatio = 2048
)

// add has one compressed cluster tried. What decompresses to more than a file of
// this size holds is let be, and counted.
func (p *unpackPool) add(e l2Entry) {
	slot := &p.tried[e.entry*0x9e3779b97f4a7c15>>52]
	if *slot == e.entry {
		return
	}
	*slot = e.entry
	if p.output += p.h.ClusterSize(); p.output > leastOutput && p.output/outputRatio > p.size {
		p.left++
		return
	}
	if p.work == nil {
		threads := runtime.GOMAXPROCS(0)
		p.work = make(chan []l2Entry, threads)
		for range threads {
			p.done.Go(p.try)
		}
	}
	p.batch = append(p.batch, e)
	if len(p.batch) == 64 {
		p.work <- p.batch
		p.batch = nil
	}
}

// try decompresses clusters till there are no more.
func (p *unpackPool) try() {
	b := make([]byte, p.h.ClusterSize())
	for batch := range p.work {
		for _, e := range batch {
			if p.ctx.Err() != nil {
				break
			}
			if err := unpack(b, p.r, p.size, e.entry, p.h, e.guest); err != nil {
				p.fail(err, e)
			}
		}
	}
}

func (p *unpackPool) fail(err error, e l2Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := asFinding(err, e)
	switch {
	case !ok && p.err == nil:
		p.err = err
	case ok:
		p.n++
		if p.bad = append(p.bad, f); len(p.bad) >= 2*MaxFindings {
			p.trim()
		}
	}
}

// trim keeps the first bad clusters, in the order of the disk.
func (p *unpackPool) trim() {
	sort.Slice(p.bad, func(i, j int) bool { return p.bad[i].Guest < p.bad[j].Guest })
	p.bad = p.bad[:min(len(p.bad), MaxFindings)]
}

// wait returns how many clusters could not be decompressed, and the first of
// them in the order of the disk.
func (p *unpackPool) wait() (int64, []Finding, error) {
	if p.work != nil {
		p.work <- p.batch
		close(p.work)
		p.done.Wait()
	}
	p.trim()
	return p.n, p.bad, p.err
}
