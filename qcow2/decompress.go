package qcow2

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"e2qcow/internal/deflate"
)

// maxZstdWindow is the largest window that a frame may need: the one that every
// decoder must support according to the specification.
const maxZstdWindow = 8 << 20

// maxFrames bounds the zstd frames of a cluster, which can be empty or hold a byte
// each. Writers make one.
const maxFrames = 64

// An unpacker decompresses clusters. It is used by one goroutine at a time.
type unpacker struct {
	in      []byte
	out     []byte
	deflate deflate.Decoder
	zstd    *zstd.Decoder
}

var unpackers = sync.Pool{New: func() any { return new(unpacker) }}

// packedPlace returns where the bytes of a compressed cluster are by its L2
// entry: where they begin, and how many there are at most.
func packedPlace(entry uint64, clusterBits uint) (off, n int64) {
	shift := packedShift(clusterBits)
	off = int64(entry & (1<<shift - 1))
	sectors := int64(entry&^(entryCompressed|entryCopied)>>shift) + 1
	return off, sectors*512 - off%512
}

// unpack decompresses the cluster that entry says into b, which is as long.
func unpack(b []byte, r io.ReaderAt, fileSize int64, entry uint64, h *Header, guest int64) error {
	u := unpackers.Get().(*unpacker)
	defer unpackers.Put(u)
	off, n := packedPlace(entry, h.ClusterBits)
	bad := func(err error) error {
		return &CorruptError{What: "compressed cluster", Offset: off, Guest: guest, Err: err}
	}
	if off >= fileSize {
		return bad(fmt.Errorf("it lies beyond the end of the file, %#x", fileSize))
	}
	// The last sector may be cut short by the end of the file.
	n = min(n, fileSize-off)
	if int64(cap(u.in)) < n {
		u.in = make([]byte, n)
	}
	in := u.in[:n]
	if k, err := r.ReadAt(in, off); k < len(in) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read qcow2 compressed cluster at %#x: %w", off, unexpectedEOF(err))
	} else if k < len(in) {
		in = in[:k]
	}
	var err error
	if h.Compression == Zstd {
		err = u.decodeZstd(b, in)
	} else {
		err = u.deflate.Decode(b, in)
	}
	if err != nil {
		return bad(err)
	}
	return nil
}

// decodeZstd fills b from zstd frames, behind which in may hold other bytes.
func (u *unpacker) decodeZstd(b, in []byte) error {
	if u.zstd == nil {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return err
		}
		u.zstd = d
	}
	if len(u.out) < len(b) {
		// The decoder is faster if it may write behind the decoded bytes.
		u.out = make([]byte, len(b)+256<<10)
	}
	frames := 0
	for n := 0; n < len(b); {
		if frames++; frames > maxFrames {
			return fmt.Errorf("zstd: more than %d frames", maxFrames)
		}
		length, err := frameLength(in)
		if err != nil {
			return err
		}
		out, err := u.zstd.DecodeAll(in[:length], u.out[:0])
		if err == nil && len(out) > len(b)-n {
			err = errors.New("more data than a cluster")
		}
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		n += copy(b[n:], out)
		in = in[length:]
	}
	return nil
}

// frameLength returns the length of the zstd frame that b begins with.
func frameLength(b []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return 0, fmt.Errorf("zstd frame header: %w", unexpectedEOF(err))
	}
	if h.Skippable {
		return 0, errors.New("zstd: a skippable frame")
	}
	const (
		blockHeader = 3
		typeRLE     = 1
	)
	pos := h.HeaderSize
	for last := false; !last; {
		if len(b)-pos < blockHeader {
			return 0, fmt.Errorf("zstd: %w", io.ErrUnexpectedEOF)
		}
		v := int(b[pos]) | int(b[pos+1])<<8 | int(b[pos+2])<<16
		last = v&1 != 0
		n := v >> 3
		if v>>1&3 == typeRLE {
			n = 1
		}
		if pos += blockHeader; len(b)-pos < n {
			return 0, fmt.Errorf("zstd: %w", io.ErrUnexpectedEOF)
		}
		pos += n
	}
	if h.HasCheckSum {
		if len(b)-pos < 4 {
			return 0, fmt.Errorf("zstd: %w", io.ErrUnexpectedEOF)
		}
		pos += 4
	}
	return pos, nil
}

// clusterCacheBytes bounds the size of a clusterCache.
const clusterCacheBytes = 8 << 20

// A clusterCache keeps decompressed clusters, so that reads of parts of
// clusters, in order, decompress each cluster once.
type clusterCache struct {
	clusterSize int64
	slots       []clusterSlot
}

type clusterSlot struct {
	mu    sync.Mutex
	entry uint64 // what data was decompressed from; 0 for none
	data  []byte
}

func newClusterCache(clusterSize int64) *clusterCache {
	return &clusterCache{clusterSize: clusterSize, slots: make([]clusterSlot, min(clusterCacheBytes/clusterSize, 256))}
}

// readPacked reads bytes of a compressed cluster from off on.
func (m *Image) readPacked(b []byte, off int64, entry uint64) error {
	c := m.unpacked
	in := off & (c.clusterSize - 1)
	host, n := packedPlace(entry, m.header.ClusterBits)
	if table, ok := m.tables.hit(host, n); ok {
		return &CorruptError{What: "compressed cluster", Offset: host, Guest: off - in, Err: &overlapError{table}}
	}
	if in == 0 && int64(len(b)) == c.clusterSize {
		return unpack(b, m.r, m.fileSize, entry, m.header, off)
	}
	s := &c.slots[off/c.clusterSize%int64(len(c.slots))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry != entry {
		if s.data == nil {
			s.data = make([]byte, c.clusterSize)
		}
		s.entry = 0
		if err := unpack(s.data, m.r, m.fileSize, entry, m.header, off-in); err != nil {
			return err
		}
		s.entry = entry
	}
	copy(b, s.data[in:])
	return nil
}
