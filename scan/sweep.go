package scan

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// requestSize is how many bytes one read asks for at most.
const requestSize = 1 << 20

// A piece is part of a run of blocks to be swept: count blocks from block, to
// be handed to the visitor with the tag of the run.
type piece struct {
	block uint64
	count uint32
	tag   int // index of the run in the list given to sweep
}

// A request is one read, and the pieces found in it.
type request struct {
	off    int64
	length int
	pieces []piece
}

// A buffer pair of one worker of a sweep.
type sweepState struct {
	buf []byte
	req request
}

var sweepPool = sync.Pool{New: func() any { return &sweepState{buf: make([]byte, requestSize)} }}

// sweep reads runs, given in ascending order by run(0) to run(n-1) as first
// block and count, in large coalesced requests by several workers at once,
// and calls visit with each piece read. A run longer than a request comes in
// several pieces, in no particular order; runs that overlap are each visited
// whole. Blocks beyond the end of the source are not visited.
//
// Each worker has a batch of its own, which it hands to merge, called by one
// worker at a time, when a request is done.
func (s *scanner) sweep(ctx context.Context, n int, run func(i int) (block, count uint64), visit func(b *batch, tag int, block uint64, data []byte)) error {
	bs := uint64(s.geo.BlockSize)
	next, mu := s.requests(n, run), new(sync.Mutex)
	group, ctx := errgroup.WithContext(ctx)
	for range s.threads {
		group.Go(func() error {
			st := sweepPool.Get().(*sweepState)
			defer sweepPool.Put(st)
			b := new(batch)
			for ctx.Err() == nil {
				mu.Lock()
				ok := next(&st.req)
				mu.Unlock()
				if !ok {
					break
				}
				data := st.buf[:st.req.length]
				s.readPieces(data, &st.req)
				for _, p := range st.req.pieces {
					at := p.block*bs - uint64(st.req.off)
					visit(b, p.tag, p.block, data[at:at+uint64(p.count)*bs])
				}
				if b.full() {
					s.merge(b)
				}
			}
			s.merge(b)
			return ctx.Err()
		})
	}
	return group.Wait()
}

// readPieces reads a request whole or, where that fails, piece by piece, so
// that a bad sector in a gap between pieces does no harm.
func (s *scanner) readPieces(data []byte, req *request) {
	if s.dev.tryRead(data, req.off) {
		return
	}
	bs := int64(s.geo.BlockSize)
	done := req.off
	for _, p := range req.pieces {
		start, end := int64(p.block)*bs, (int64(p.block)+int64(p.count))*bs
		if start = max(start, done); start < end {
			s.dev.read(data[start-req.off:end-req.off], start)
			done = end
		}
	}
}

// requests returns a function that cuts runs into requests.
func (s *scanner) requests(n int, run func(i int) (block, count uint64)) func(*request) bool {
	bs := uint64(s.geo.BlockSize)
	most := requestSize / bs // blocks a request
	gap := bridge / bs
	i := 0
	var block, count uint64 // what is left of run i
	if n > 0 {
		block, count = run(0)
	}
	advance := func() bool {
		for count == 0 || block >= s.deviceBlocks {
			if i++; i >= n {
				return false
			}
			block, count = run(i)
		}
		count = min(count, s.deviceBlocks-block)
		return true
	}
	return func(req *request) bool {
		if i >= n || !advance() {
			return false
		}
		first := block
		end := block // of the request
		req.pieces = req.pieces[:0]
		for {
			take := min(count, first+most-block)
			req.pieces = append(req.pieces, piece{block, uint32(take), i})
			end = max(end, block+take)
			block, count = block+take, count-take
			if !advance() || block < first || block >= first+most || block > end+gap {
				break
			}
			if block+min(count, 1) > first+most {
				break
			}
		}
		req.off = int64(first * bs)
		req.length = int((end - first) * bs)
		return true
	}
}
