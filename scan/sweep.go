package scan

import (
	"context"
	"sync"

	"e2qcow/image"
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

// smallRequest is the length of requests that a source may be asked for many of
// at once: it takes less time to read than to answer.
const smallRequest = 64 << 10

// sweep reads runs, given in ascending order by run(0) to run(n-1) as first
// block and count, in large coalesced requests by several workers at once,
// and calls visit with each piece read. A run longer than a request comes in
// several pieces, in no particular order; runs that overlap are each visited
// whole. Blocks beyond the end of the source are not visited.
//
// There are as many workers as threads, and for small requests as many more as
// the source can answer at once. What is found in a request goes into a batch,
// and the batches to merge, in the order of the requests: nothing depends on
// the number of workers. When so much has been gathered that it has to be read
// first, merging waits for that, and with it the workers.
func (s *scanner) sweep(ctx context.Context, n int, run func(i int) (block, count uint64), visit func(b *batch, tag int, block uint64, data []byte)) error {
	bs := uint64(s.geo.BlockSize)
	advice := image.AdviceOf(s.dev.r)
	merge := func(b *batch) {
		read := b.read
		s.merge(b)
		s.work.read(read, !s.draining)
		if len(s.pending) >= s.maxPending && !s.draining {
			_ = s.drain(ctx) // fails only when ctx ends, which ends the sweep too
		}
	}
	q := newSweepQueue(s.requests(advice, n, run), merge, s.opt.Threads, s.opt.Threads*advice.Request, advice.Depth)
	work := func(most int) {
		var buf *buffer.Buffer
		var req request
		for ctx.Err() == nil {
			turn, b, ok := q.take(&req, most)
			if !ok {
				break
			}
			if buf == nil {
				buf = buffer.New(most)
				defer buf.Free()
			}
			data := buf.Bytes[:req.length]
			b.lost = s.readPieces(data, &req)
			for _, p := range req.pieces {
				at := p.block*bs - uint64(req.off)
				visit(b, p.tag, p.block, data[at:at+uint64(p.count)*bs])
			}
			b.read = req.length
			q.deliver(turn, b)
		}
		q.end()
	}
	var workers sync.WaitGroup
	for range s.opt.Threads {
		workers.Go(func() { work(advice.Request) })
	}
	for range advice.Depth - s.opt.Threads {
		workers.Go(func() { work(smallRequest) })
	}
	workers.Wait()
	return ctx.Err()
}

// A sweepQueue hands out the requests of a sweep, and merges their batches in
// the same order.
type sweepQueue struct {
	next  func(*request) bool
	merge func(*batch)
	most  int // bytes of requests whose batches are not merged

	mu      sync.Mutex
	large   sync.Cond // there may be a request to take
	small   sync.Cond // the same, a small one
	ahead   request   // the next to be taken, unless ended
	ended   bool
	taken   int // requests handed out
	merged  int // batches, those of the first requests
	held    int // bytes of the requests between
	merging bool
	waiting []delivery // that of request n at n modulo the length
	free    []*batch
}

// A delivery is the batch of a request of some length; nil until it is there.
type delivery struct {
	b      *batch
	length int
}

// newSweepQueue makes a queue for some workers, of which all together read so
// many bytes at once, and for as many small requests.
func newSweepQueue(next func(*request) bool, merge func(*batch), workers, bytes, depth int) *sweepQueue {
	q := &sweepQueue{next: next, merge: merge, most: 4 * bytes, waiting: make([]delivery, 4*max(workers, depth))}
	q.large.L, q.small.L = &q.mu, &q.mu
	q.ended = !next(&q.ahead)
	return q
}

// take fills in the next request, and returns its number and an empty batch to
// deliver. It waits while that has more than most bytes, and where the batches
// before it would take too much memory.
func (q *sweepQueue) take(req *request, most int) (turn int, b *batch, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.ended && (q.ahead.length > most || !q.room()) {
		if most > smallRequest {
			q.large.Wait()
		} else {
			q.small.Wait()
		}
	}
	if q.ended {
		return 0, nil, false
	}
	*req, q.ahead = q.ahead, *req
	turn, q.taken, q.held = q.taken, q.taken+1, q.held+req.length
	q.waiting[turn%len(q.waiting)].length = req.length
	q.ended = !q.next(&q.ahead)
	q.wake()
	if n := len(q.free); n > 0 {
		b, q.free = q.free[n-1], q.free[:n-1]
	} else {
		b = new(batch)
	}
	return turn, b, true
}

// room reports whether one request more may be taken.
func (q *sweepQueue) room() bool {
	return q.taken == q.merged || q.taken-q.merged < len(q.waiting) && q.held+q.ahead.length <= q.most
}

// wake wakes the workers that could take the next request, or all workers at
// the end.
func (q *sweepQueue) wake() {
	switch {
	case q.ended:
		q.large.Broadcast()
		q.small.Broadcast()
	case q.room():
		q.large.Signal()
		if q.ahead.length <= smallRequest {
			q.small.Signal()
		}
	}
}

// end has nothing more be taken.
func (q *sweepQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.wake()
}

// deliver hands over a batch, and merges those whose turn has come.
func (q *sweepQueue) deliver(turn int, b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting[turn%len(q.waiting)].b = b
	for !q.merging {
		slot := &q.waiting[q.merged%len(q.waiting)]
		if slot.b == nil {
			return
		}
		b, slot.b = slot.b, nil
		q.merging = true
		q.mu.Unlock()
		q.merge(b)
		q.mu.Lock()
		q.merging = false
		q.merged++
		q.held -= slot.length
		q.free = append(q.free, b)
		q.wake()
	}
}

// readPieces reads a request whole or, where that fails, piece by piece, so
// that a bad sector in a gap between pieces does no harm. It returns the parts
// that could not be read.
func (s *scanner) readPieces(data []byte, req *request) []Range {
	if s.dev.tryRead(data, req.off) {
		return nil
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
	return s.dev.lostIn(req.off, req.off+int64(len(data)))
}

// requests returns a function that cuts runs into requests.
func (s *scanner) requests(advice image.Advice, n int, run func(i int) (block, count uint64)) func(*request) bool {
	bs := uint64(s.geo.BlockSize)
	most := uint64(advice.Request) / bs // blocks a request
	gap := uint64(advice.Bridge) / bs
	// Runs that overlap, as damage has it, are visited each: of one request no
	// more blocks than this, as what is found in them all goes into one batch.
	mostVisits := 4 * most
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
		visits := uint64(0)
		req.pieces = req.pieces[:0]
		for {
			take := min(count, first+most-block)
			req.pieces = append(req.pieces, piece{block, uint32(take), i})
			end = max(end, block+take)
			visits += take
			block, count = block+take, count-take
			if !advance() || block < first || block >= first+most || block > end+gap || visits >= mostVisits {
				break
			}
		}
		req.off = int64(first * bs)
		req.length = int((end - first) * bs)
		return true
	}
}
