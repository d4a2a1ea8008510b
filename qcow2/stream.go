package qcow2

import (
	"context"
	"fmt"
	"io"

	"e2qcow/image"
	"e2qcow/internal/spool"
)

// SpoolOptions say where WriteStream and OpenStream keep data that cannot be
// written, or read, yet. The zero SpoolOptions keep the first 64 MiB in memory
// and the rest in a file in os.TempDir.
type SpoolOptions struct {
	// Memory is how many bytes are kept in memory, rounded down to whole MiB.
	// They are allocated as they are needed. 0 is 64 MiB, less than 0 is none.
	Memory int64

	// Dir is the folder of the temporary file. The file has no name, and is gone
	// when the process ends. "" is os.TempDir.
	Dir string
}

// WriteStream writes to w, in order, the bytes that WriteFile writes to a
// file. The tables, which come first, are known when all data has been read:
// till then the data is spooled as opt.Spool says. The source is read once.
func WriteStream(ctx context.Context, w io.Writer, src image.Image, opt WriteOptions) (Stats, error) {
	q, err := newWriter(ctx, src, opt)
	if err != nil {
		return Stats{}, err
	}
	s := spool.New(spool.Options(opt.Spool))
	defer s.Close()
	dataOffset := q.layout.dataOffset
	if err := q.writeData(ctx, putTo(s, dataOffset)); err != nil {
		return Stats{}, err
	}
	header, err := q.header()
	if err != nil {
		return Stats{}, err
	}
	out := &countedWriter{ctx: ctx, w: w}
	if err := out.write(header); err != nil {
		return Stats{}, err
	}
	put := func(b []byte, off int64) error {
		if off != out.n {
			return fmt.Errorf("qcow2 table for offset %d written to a stream at %d", off, out.n)
		}
		return out.write(b)
	}
	if err := q.writeTables(ctx, put, true); err != nil {
		return Stats{}, err
	}
	s.Grow(q.fileSize() - dataOffset)
	if err := s.CopyTo(out.write); err != nil {
		return Stats{}, err
	}
	return q.stats(), nil
}

// A countedWriter counts the bytes that it writes, and stops when ctx is done.
type countedWriter struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (c *countedWriter) write(b []byte) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	return err
}
