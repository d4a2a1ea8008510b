// Package ordered is the pipeline of every sink: the known bytes of an image
// are cut into chunks, which several workers prepare in parallel, commit one
// after the other in ascending order, and finish in parallel again.
//
//	         ┌ worker: Prepare ┐          ┌ Finish
//	chunks ──┼ worker: Prepare ┼─ Commit ─┼ Finish
//	         └ worker: Prepare ┘ in order └ Finish
//
// A worker holds one chunk from the moment it takes it to the end of Finish,
// so memory is bounded by the workers, of which there are twice as many as
// threads: while some wait for their turn or for a disk, others compute.
// What is committed depends on the image alone, not on the number of threads.
package ordered

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"sync"

	"e2qcow/image"
	"e2qcow/internal/buffer"
)

// A Worker does the work on one chunk at a time. Each worker is used by one
// goroutine, so it can keep buffers of its own.
type Worker interface {
	// Prepare is called first, in parallel with every other call.
	Prepare(c *Chunk) error
	// Commit is called with one chunk at a time, in ascending order.
	Commit(c *Chunk) error
	// Finish is called last, in parallel with every other call.
	Finish(c *Chunk) error
}

// Options say how an image is cut up and by how many it is worked on.
type Options struct {
	// Granule is the unit that runs are aligned to, in bytes.
	Granule int
	// ChunkSize is the most bytes a chunk holds; it is made a multiple of
	// Granule. 0 is what the image would have one read ask for.
	ChunkSize int
	// Threads is how many threads there are to compute on, half the number
	// of workers. 0 is GOMAXPROCS.
	Threads int
}

// DefaultChunkSize is the size of a chunk where neither Options nor the image
// name one.
const DefaultChunkSize = image.DefaultRequest

// Run cuts the known bytes of img into chunks and puts each through the stages
// of a worker made by newWorker. The first error of any stage, of the walk or
// of ctx ends it and is returned, once every worker has stopped. An error of the
// image, of Prepare or of Commit comes when all chunks before it are committed:
// of several it is that of the first in the image.
func Run(ctx context.Context, img image.Image, opt Options, newWorker func() Worker) error {
	advice := image.AdviceOf(img)
	chunkSize := opt.ChunkSize
	if chunkSize == 0 {
		chunkSize = advice.Request
	}
	chunkSize = max(chunkSize-chunkSize%opt.Granule, opt.Granule)
	threads := opt.Threads
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}

	workers := workersFor(threads, chunkSize)
	p := &pipeline{
		img:    img,
		depth:  max(1, (advice.Depth+workers-1)/workers),
		cutter: cutter{runs: NewRuns(img, opt.Granule), size: chunkSize, bridge: int64(advice.Bridge)},
	}
	p.turned.L = &p.mu
	stop := context.AfterFunc(ctx, func() { p.fail(context.Cause(ctx)) })
	defer stop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var running sync.WaitGroup
	for range workers {
		running.Go(func() { p.work(newWorker, chunkSize) })
	}
	running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && ctx.Err() != nil {
		return context.Cause(ctx) // stop had no time to say so
	}
	return p.err
}

// workersFor returns how many workers there are: two a thread, unless chunks
// would then take more than a quarter of the memory that the Go runtime has
// been limited to (GOMEMLIMIT).
func workersFor(threads, chunkSize int) int {
	quarter := debug.SetMemoryLimit(-1) / 4
	return int(max(1, min(int64(2*threads), quarter/int64(chunkSize))))
}

// A pipeline is the state that the workers of one Run share.
type pipeline struct {
	img   image.Image
	depth int // reads at once of one worker

	take    sync.Mutex // held to take the next chunk
	cutter  cutter
	tickets int64

	mu     sync.Mutex
	turned sync.Cond // turn or err has changed
	turn   int64     // the ticket whose turn it is to be committed
	err    error     // the first error
}

// fail records err, if it is the first, and wakes those who wait for a turn.
func (p *pipeline) fail(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.mu.Unlock()
	p.turned.Broadcast()
}

func (p *pipeline) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}

// work takes chunks until there are no more or something failed.
func (p *pipeline) work(newWorker func() Worker, chunkSize int) {
	var (
		w Worker
		c Chunk
	)
	defer func() {
		if c.memory != nil {
			c.memory.Free()
		}
	}()
	for !p.failed() {
		ticket, err := p.next(&c)
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil && w == nil {
			// Memory is taken only by workers that find work.
			w = newWorker()
			c.memory = buffer.New(chunkSize)
			c.buf = c.memory.Bytes
		}
		if err == nil {
			err = c.read(p.img, p.depth)
		}
		if err == nil {
			err = w.Prepare(&c)
		}
		// An error waits too, lest it depends on who is the first to have one.
		if !p.await(ticket) {
			return
		}
		if err == nil {
			err = p.commit(w, &c)
		}
		if err == nil {
			err = w.Finish(&c)
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
}

// next fills c with the runs of the next chunk and returns its ticket, which an
// error has too.
func (p *pipeline) next(c *Chunk) (int64, error) {
	p.take.Lock()
	defer p.take.Unlock()
	ticket := p.tickets
	p.tickets++
	return ticket, p.cutter.next(c)
}

// await waits for the turn of ticket; false means that something failed.
func (p *pipeline) await(ticket int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.turn != ticket && p.err == nil {
		p.turned.Wait()
	}
	return p.err == nil
}

// commit commits c, whose turn it is, and begins the next turn.
func (p *pipeline) commit(w Worker, c *Chunk) error {
	if err := w.Commit(c); err != nil {
		return err
	}
	p.mu.Lock()
	p.turn++
	p.mu.Unlock()
	p.turned.Broadcast()
	return nil
}
