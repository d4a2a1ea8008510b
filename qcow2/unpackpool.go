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
	packed int64 // bytes of what was added, as compressed
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

// add has one compressed cluster tried, which is n bytes long in the file. If
// clusters refer to more than the file can hold, the rest is let be: their
// refcounts tell.
func (p *unpackPool) add(e l2Entry, n int64) {
	// A cluster shorter than a sector counts for one or two.
	const perSector = 64
	if p.packed += n; p.packed/perSector > p.size {
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

// trim keeps the first of what is bad, in the order of the disk.
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
