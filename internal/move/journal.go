package move

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"e2qcow/internal/folder"
	"e2qcow/internal/storage"
)

// A Journal is a file that holds a plan and how far it is carried out.
type Journal struct {
	f     file
	name  string
	id    [16]byte // of the move
	slots int64    // where they begin
	room  int64    // of each
	seq   uint64
	done  bool
}

// A file has the methods that the journal needs.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	io.Closer
}

// The header, and the head of a slot, each fill a block. Numbers are
// little-endian; the checksum, crc32c, is of all that comes before it.
const (
	block    = 4096
	magic    = "e2qcow move 2\n"
	magicOld = "e2qcow move 1\n"
	sumAt    = block - 4
	// maxRuns is how many bytes of runs are read. In memory they take at most
	// eight times that.
	maxRuns = 64 << 20
)

// The fields of the header, behind the magic.
const (
	fromAt = 16 + 8*iota
	toAt
	sizeAt
	windowAt
	diskSizeAt
	countAt   // of runs
	lengthAt  // of the runs, in bytes
	runsSumAt // checksum of them
	anchorAt
	idAt                     // 16 bytes
	superblockAt = idAt + 16 // superSize bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Why a journal is not used.
var (
	ErrNotJournal = errors.New("is not the journal of a move, or is damaged")
	ErrOldJournal = errors.New("is the journal of a move that an earlier version of e2qcow began")
	ErrFragmented = errors.New("is in too many pieces for a journal")
)

// Create writes and locks the journal of a plan that has not begun. The journal
// appears when it is complete. It is an error if the name exists.
func Create(name string, p *Plan, d Disk) (*Journal, error) {
	e, err := folder.Find(name)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := e.CheckDevices(); err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	if kind, err := e.Kind(); err != nil {
		return nil, err
	} else if kind != 0 {
		return nil, &fs.PathError{Op: "create", Path: name, Err: unix.EEXIST}
	}
	if p.anchor, err = p.sum(d, p.From, p.previous(p.windows()), p.buffer()); err != nil {
		return nil, err
	}
	f, err := e.Draft()
	if err != nil {
		return nil, err
	}
	j := &Journal{f: f.File, name: name, id: p.id}
	if err = j.fill(p, f.File); err == nil {
		err = f.Appear(false)
	}
	if err == nil {
		err = e.Sync(f.File)
	}
	if err != nil {
		f.Discard()
		f.Close()
		return nil, named(name, err)
	}
	return j, nil
}

// named gives an error of the system the name of the journal.
func named(name string, err error) error {
	var errno unix.Errno
	var path *fs.PathError
	if errors.As(err, &errno) && !errors.As(err, &path) {
		return &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return err
}

// fill locks the file of a journal, gives it its room, and writes the plan.
func (j *Journal) fill(p *Plan, f *os.File) error {
	if err := storage.Lock(f); err != nil {
		return err
	}
	runs := p.encode()
	if len(runs) > maxRuns {
		return fmt.Errorf("the filesystem %w: %d", ErrFragmented, len(p.runs))
	}
	j.lay(p, int64(len(runs)))
	if err := j.takeRoom(f); err != nil {
		return err
	}
	return j.begin(p, runs)
}

// takeRoom gives f all the room that the journal will need, lest it is lacking
// midway.
func (j *Journal) takeRoom(f *os.File) error {
	end := j.slots + 2*j.room
	if err := unix.Fallocate(int(f.Fd()), 0, 0, end); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return &os.PathError{Op: "allocate", Path: j.name, Err: err}
	}
	return f.Truncate(end)
}

// encode returns the runs: for each the gap before it and its length.
func (p *Plan) encode() []byte {
	var runs []byte
	at := int64(0)
	for _, r := range p.runs {
		runs = binary.AppendUvarint(runs, uint64(r.Start-at))
		runs = binary.AppendUvarint(runs, uint64(r.End-r.Start))
		at = r.End
	}
	return runs
}

// begin writes header and runs.
func (j *Journal) begin(p *Plan, runs []byte) error {
	h := make([]byte, block)
	copy(h, magic)
	le := binary.LittleEndian
	for at, n := range map[int]uint64{
		fromAt: uint64(p.From), toAt: uint64(p.To), sizeAt: uint64(p.Size), windowAt: uint64(p.windowSize), diskSizeAt: uint64(p.diskSize),
		countAt: uint64(len(p.runs)), lengthAt: uint64(len(runs)), runsSumAt: uint64(crc32.Checksum(runs, castagnoli)), anchorAt: uint64(p.anchor),
	} {
		le.PutUint64(h[at:], n)
	}
	copy(h[idAt:], p.id[:])
	copy(h[superblockAt:], p.super[:])
	le.PutUint32(h[sumAt:], crc32.Checksum(h[:sumAt], castagnoli))
	if err := writeFull(j.f, h, 0); err != nil {
		return err
	}
	if err := writeFull(j.f, runs, block); err != nil {
		return err
	}
	return j.f.Sync()
}

// lay places the slots behind length bytes of runs.
func (j *Journal) lay(p *Plan, length int64) {
	j.slots = block + (length+block-1)/block*block
	j.room = block
	if p.near {
		j.room += min(p.windowSize, p.Size)
	}
}

// Open opens and locks the journal of a move that was begun, and returns its
// plan. A journal decides what is written to a disk. So it must be a regular
// file, not a symlink, that belongs to the caller or root and that nobody else
// can write to.
func Open(name string) (*Journal, *Plan, error) {
	f, err := folder.OpenOwn(name, os.O_RDWR)
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{f: f, name: name}
	var (
		p    *Plan
		info fs.FileInfo
	)
	if err = storage.Lock(f); err == nil {
		info, err = f.Stat()
	}
	if err == nil {
		if p, err = j.load(info.Size()); err != nil {
			err = fmt.Errorf("%s %w", name, err)
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return j, p, nil
}

// load reads the plan from a journal of size bytes.
func (j *Journal) load(size int64) (*Plan, error) {
	h := make([]byte, block)
	if size < block {
		return nil, ErrNotJournal
	}
	if err := readFull(j.f, h, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	switch {
	case le.Uint32(h[sumAt:]) != crc32.Checksum(h[:sumAt], castagnoli):
		return nil, ErrNotJournal
	case string(h[:len(magicOld)]) == magicOld:
		return nil, ErrOldJournal
	case string(h[:len(magic)]) != magic:
		return nil, ErrNotJournal
	}
	field := func(at int) int64 { return int64(le.Uint64(h[at:])) }
	p := &Plan{From: field(fromAt), To: field(toAt), Size: field(sizeAt), diskSize: field(diskSizeAt), windowSize: field(windowAt), anchor: uint32(field(anchorAt))}
	copy(p.id[:], h[idAt:])
	copy(p.super[:], h[superblockAt:])
	j.id = p.id
	length, count := field(lengthAt), field(countAt)
	switch {
	case !p.possible(), p.windowSize < align, p.windowSize > maxWindow, p.windowSize%align != 0:
		return nil, ErrNotJournal
	case length < 0, length > maxRuns, length > size-block, count < 1, count > length/2:
		return nil, ErrNotJournal
	}
	p.lay()
	runs := make([]byte, length)
	if err := readFull(j.f, runs, block); err != nil {
		return nil, err
	}
	if int64(crc32.Checksum(runs, castagnoli)) != field(runsSumAt) || !p.decode(runs, int(count)) {
		return nil, ErrNotJournal
	}
	j.lay(p, length)
	if size < j.slots+2*j.room {
		return nil, ErrNotJournal
	}
	return p, nil
}

// decode decodes count runs in the form of encode. It returns false if they are
// not runs that New makes: disjoint, with all of the superblock except the
// marked sector.
func (p *Plan) decode(runs []byte, count int) bool {
	at := int64(0)
	super := false
	p.runs = make([]run, 0, count)
	for i := range count {
		gap, n := binary.Uvarint(runs)
		length, m := binary.Uvarint(runs[max(n, 0):])
		if n <= 0 || m <= 0 || gap == 0 && i > 0 || gap > uint64(p.Size-at) || length == 0 || length > uint64(p.Size-at)-gap {
			return false
		}
		runs = runs[n+m:]
		r := run{Start: at + int64(gap)}
		r.End = r.Start + int64(length)
		at = r.End
		if r.Start < markEnd && superAt < r.End {
			return false
		}
		super = super || r.Start == markEnd && r.End >= superEnd
		p.runs = append(p.runs, r)
	}
	return super && len(runs) == 0
}

// Shrink frees the room of the journal when the move is done, if the filesystem
// can.
func (j *Journal) Shrink() {
	f, ok := j.f.(*os.File)
	if !ok || !j.done {
		return
	}
	for i := range int64(2) {
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, j.slots+i*j.room+block, j.room-block)
	}
}

// Close closes the journal, which stays.
func (j *Journal) Close() { j.f.Close() }
