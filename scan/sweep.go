package scan

import (
	"context"
	"sync"

	"e2qcow/internal/buffer"
)

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

// sweep reads runs, given in ascending order by run(0) to run(n-1) as first
// block and count, in large coalesced requests by several workers at once,
// and calls visit with each piece read. A run longer than a request comes in
// several pieces, in no particular order; runs that overlap are each visited
// whole. Blocks beyond the end of the source are not visited.
//
// What is found in a request goes into a batch, and the batches to merge, in
// the order of the requests: nothing depends on the number of workers.
func (s *scanner) sweep(ctx context.Context, n int, run func(i int) (block, count uint64), visit func(b *batch, tag int, block uint64, data []byte)) error {
	bs := uint64(s.geo.BlockSize)
	q := newSweepQueue(s.requests(n, run), s.merge, s.threads)
	var workers sync.WaitGroup
	for range s.threads {
		workers.Go(func() {
			buf := buffer.New(s.advice.Request)
			defer buf.Free()
			var req request
			for ctx.Err() == nil {
				turn, b, ok := q.take(&req)
				if !ok {
					break
				}
				data := buf.Bytes[:req.length]
				s.readPieces(data, &req)
				for _, p := range req.pieces {
					at := p.block*bs - uint64(req.off)
					visit(b, p.tag, p.block, data[at:at+uint64(p.count)*bs])
				}
				q.deliver(turn, b)
			}
		})
	}
	workers.Wait()
	return ctx.Err()
}

// A sweepQueue hands out the requests of a sweep and has the batches that come
// of them merged in the same order.
type sweepQueue struct {
	next  func(*request) bool
	merge func(*batch)

	mu      sync.Mutex
	moved   sync.Cond // a batch has been merged
	taken   int       // requests handed out
	merged  int       // batches, those of the first requests
	merging bool      // somebody is at it
	waiting []*batch  // that of request n at n modulo the length, nil if not there
	free    []*batch
}

func newSweepQueue(next func(*request) bool, merge func(*batch), threads int) *sweepQueue {
	q := &sweepQueue{next: next, merge: merge, waiting: make([]*batch, 4*threads)}
	q.moved.L = &q.mu
	return q
}

// take fills in the next request, and returns its number and an empty batch to
// deliver. It waits where the batches before it would take too much memory.
func (q *sweepQueue) take(req *request) (turn int, b *batch, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.taken-q.merged >= len(q.waiting) {
		q.moved.Wait()
	}
	if !q.next(req) {
		return 0, nil, false
	}
	turn, q.taken = q.taken, q.taken+1
	if n := len(q.free); n > 0 {
		b, q.free = q.free[n-1], q.free[:n-1]
	} else {
		b = new(batch)
	}
	return turn, b, true
}

// deliver hands over a batch, and merges those whose turn has come.
func (q *sweepQueue) deliver(turn int, b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting[turn%len(q.waiting)] = b
	for !q.merging {
		slot := &q.waiting[q.merged%len(q.waiting)]
		if *slot == nil {
			return
		}
		b, *slot = *slot, nil
		q.merging = true
		q.mu.Unlock()
		q.merge(b)
		q.mu.Lock()
		q.merging = false
		q.merged++
		q.free = append(q.free, b)
		q.moved.Broadcast()
	}
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
	most := uint64(s.advice.Request) / bs // blocks a request
	gap := uint64(s.advice.Bridge) / bs
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
		}
		req.off = int64(first * bs)
		req.length = int((end - first) * bs)
		return true
	}
}
