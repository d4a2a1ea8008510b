package source

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// A compression is a format in which a whole source can be compressed.
type compression struct {
	magic string
	name  string
	open  func(io.Reader) (io.Reader, error)
	ratio int64 // how much longer the data can be without being taken for a bomb
}

// The ratios are such that a megabyte is decompressed within ten seconds.
var compressions = []compression{
	{"\x1f\x8b", "gzip", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }, 1100},
	{"BZh", "bzip2", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }, 100},
	{"\xfd7zXZ\x00", "xz", openXz, 400},
	{"\x28\xb5\x2f\xfd", "zstd", openZstd, 1100},
}

// freeOutput is how long decompressed data may be whatever the ratio is, in bytes.
const freeOutput = 128 << 20

// maxWindow is the largest window of zstd, or dictionary of xz, that is decoded,
// in bytes.
const maxWindow = 128 << 20

// ErrBomb says that compressed data are far longer than they should be.
var ErrBomb = errors.New("grows suspiciously much when it is decompressed")

// Decompress has a file or a pipe that is compressed as a whole read as the data
// in it: from then on the source is a pipe. head is how the source begins. It
// returns the name of the format, "" where the source is not compressed. With force there is no bound on how long the
// data are; else reading fails with ErrBomb.
func (s *Source) Decompress(head []byte, force bool) (string, error) {
	if s.device {
		return "", nil
	}
	for _, c := range compressions {
		if !bytes.HasPrefix(head, []byte(c.magic)) {
			continue
		}
		compressed := &counter{}
		if s.pipe != nil {
			compressed.r = s.pipe
		} else {
			compressed.r = bufio.NewReaderSize(io.NewSectionReader(s.f, 0, s.size), spoolSize)
		}
		data, err := c.open(compressed)
		if err != nil {
			return "", fmt.Errorf("%s: %s data: %w", s.name, c.name, unexpected(err))
		}
		s.pipe = bufio.NewReaderSize(&decompressor{s: s, c: c, in: compressed, out: data, force: force}, pipeBuffer)
		s.sparse = false
		if _, err := s.pipe.Peek(1); errors.Is(err, io.EOF) {
			return "", s.refuse(ErrEmpty)
		} else if err != nil {
			return "", err
		}
		return c.name, nil
	}
	return "", nil
}

// EndAtDamage has compressed data that are damaged or cut short end there, without
// an error. It is called before Decompress.
func (s *Source) EndAtDamage() { s.endsAtDamage = true }

// Damage returns what ended the compressed data before their end, nil if nothing
// did. It is known when all is read.
func (s *Source) Damage() error { return s.damage }

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// A decompressor reads the data of a source, and names the source in errors.
type decompressor struct {
	s     *Source
	c     compression
	in    *counter
	out   io.Reader
	n     int64 // bytes of data so far
	force bool
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.out.Read(p)
	d.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s data: %w", d.c.name, unexpected(err))
		if d.s.endsAtDamage {
			d.s.damage = err
			return n, io.EOF
		}
		return n, fmt.Errorf("%s: %w", d.s.name, err)
	}
	if !d.force && d.n > freeOutput && d.n/d.c.ratio > d.in.n {
		return n, fmt.Errorf("%s %w: %d bytes of %s data were %d", d.s.name, ErrBomb, d.in.n, d.c.name, d.n)
	}
	return n, err
}

// ErrCut says that compressed data end before they should.
var ErrCut = errors.New("the data are cut short")

// unexpected returns ErrCut for the end of compressed data where they must not
// end. Wrapped, io.ErrUnexpectedEOF would look like the end of a source that is
// whole.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}

func openZstd(r io.Reader) (io.Reader, error) {
	// The decoder lives as long as the source, which is as long as the process.
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
}

// openXz refuses a first block whose dictionary is larger than maxWindow,
// because the decoder would allocate that much memory.
func openXz(r io.Reader) (io.Reader, error) {
	const streamHeader, blockHeader = 12, 1024
	b := bufio.NewReaderSize(r, spoolSize)
	head, err := b.Peek(streamHeader + blockHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if size, ok := xzDictionary(head[min(len(head), streamHeader):]); ok && size > maxWindow {
		return nil, fmt.Errorf("a dictionary of %d bytes is too large", size)
	}
	return xz.NewReader(b)
}

// xzDictionary returns the size of the dictionary that a block header names, as
// "The .xz File Format", 3.1 and 5.3.1, has it.
func xzDictionary(b []byte) (uint64, bool) {
	if len(b) < 2 {
		return 0, false
	}
	flags, pos := b[1], 2
	for _, bit := range []byte{0x40, 0x80} { // sizes that are there, of 1 to 9 bytes each
		if flags&bit == 0 {
			continue
		}
		for n := 0; n < 9 && pos < len(b); n++ {
			pos++
			if b[pos-1]&0x80 == 0 {
				break
			}
		}
	}
	const lzma2 = 0x21
	if pos+3 > len(b) || b[pos] != lzma2 || b[pos+1] != 1 {
		return 0, false
	}
	bits := uint(b[pos+2] & 0x3F)
	if bits > 40 {
		return 0, false
	}
	return uint64(2|bits&1) << (bits/2 + 11), true
}
