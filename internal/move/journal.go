package move

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"e2qcow/internal/folder"
)

// A Journal is a file that holds a plan and how far it is carried out.
type Journal struct {
	f      file
	name   string
	slots  int64 // where they begin
	room   int64 // of each
	seq    uint64
	anchor uint32
	done   bool
}

// A file is what the journal needs of one.
type file interface {
	Disk
	io.Closer
}

// The header, and the head of a slot, each fill a block. Numbers are
// little-endian; the checksum, crc32c, is of all that comes before it.
const (
	block   = 4096
	magic   = "e2qcow move 1\n"
	sumAt   = block - 4
	maxRuns = 1 << 30 // bytes
)

// The fields of the header, behind the magic.
const (
	fromAt = 16 + 8*iota
	toAt
	sizeAt
	windowAt
	nearAt
	countAt   // of runs
	lengthAt  // of the runs, in bytes
	runsSumAt // checksum of them
	anchorAt
)

// The fields of the head of a slot.
const (
	seqAt = 8 * iota
	slotWindowAt
	beforeAt // checksum of the window before
	dataLenAt
	dataSumAt
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNotJournal says that a file is not the journal of a move.
var ErrNotJournal = errors.New("is not the journal of a move, or is damaged")

// Create writes the journal of a plan that has not begun, which appears when it
// is whole. A file of that name is an error.
func Create(name string, p *Plan, d io.ReaderAt) (*Journal, error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: unix.EEXIST}
	}
	anchor, err := p.anchor(d)
	if err != nil {
		return nil, err
	}
	e, err := folder.Find(name)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if err := e.CheckDevices(); err != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	f, err := e.Draft()
	if err != nil {
		return nil, err
	}
	j := &Journal{f: f.File, name: name, anchor: anchor}
	runs := p.encode()
	j.lay(p, int64(len(runs)))
	if err = j.takeRoom(f.File); err == nil {
		err = j.begin(p, runs)
	}
	if err == nil {
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
	var path *os.PathError
	if errors.As(err, &errno) && !errors.As(err, &path) {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	return err
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
		runs = binary.AppendUvarint(runs, uint64(r.start-at))
		runs = binary.AppendUvarint(runs, uint64(r.end-r.start))
		at = r.end
	}
	return runs
}

// begin writes header and runs.
func (j *Journal) begin(p *Plan, runs []byte) error {
	h := make([]byte, block)
	copy(h, magic)
	le := binary.LittleEndian
	near := uint64(0)
	if p.near {
		near = 1
	}
	for at, n := range map[int]uint64{
		fromAt: uint64(p.From), toAt: uint64(p.To), sizeAt: uint64(p.Size), windowAt: uint64(p.window), nearAt: near,
		countAt: uint64(len(p.runs)), lengthAt: uint64(len(runs)), runsSumAt: uint64(crc32.Checksum(runs, castagnoli)), anchorAt: uint64(j.anchor),
	} {
		le.PutUint64(h[at:], n)
	}
	le.PutUint32(h[sumAt:], crc32.Checksum(h[:sumAt], castagnoli))
	if _, err := j.f.WriteAt(h, 0); err != nil {
		return err
	}
	if _, err := j.f.WriteAt(runs, block); err != nil {
		return err
	}
	return j.f.Sync()
}

// lay places the slots behind length bytes of runs.
func (j *Journal) lay(p *Plan, length int64) {
	j.slots = block + (length+block-1)/block*block
	j.room = block
	if p.near {
		j.room += min(p.window, p.Size)
	}
}

// Open opens the journal of a move that was begun, and returns its plan.
func Open(name string) (*Journal, *Plan, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{f: f, name: name}
	var p *Plan
	info, err := f.Stat()
	switch {
	case err == nil && info.Mode().IsRegular():
		p, err = j.load(info.Size())
	case err == nil:
		err = ErrNotJournal
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s %w", name, err)
	}
	return j, p, nil
}

// load reads the plan from a journal of size bytes.
func (j *Journal) load(size int64) (*Plan, error) {
	h := make([]byte, block)
	if size < block {
		return nil, ErrNotJournal
	}
	if _, err := j.f.ReadAt(h, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(h[:len(magic)]) != magic || le.Uint32(h[sumAt:]) != crc32.Checksum(h[:sumAt], castagnoli) {
		return nil, ErrNotJournal
	}
	field := func(at int) int64 { return int64(le.Uint64(h[at:])) }
	p := &Plan{From: field(fromAt), To: field(toAt), Size: field(sizeAt)}
	length := field(lengthAt)
	const most = 1 << 62
	switch {
	case p.From < 0, p.To < 0, p.Size <= 0, p.From > most, p.To > most, p.Size > most:
		return nil, ErrNotJournal
	case length < 0, length > maxRuns, length > size-block:
		return nil, ErrNotJournal
	}
	if p.lay(); p.window != field(windowAt) || p.near != (field(nearAt) != 0) {
		return nil, ErrNotJournal
	}
	j.anchor = uint32(field(anchorAt))
	runs := make([]byte, length)
	if _, err := j.f.ReadAt(runs, block); err != nil {
		return nil, err
	}
	if int64(crc32.Checksum(runs, castagnoli)) != field(runsSumAt) || !p.decode(runs, field(countAt)) {
		return nil, ErrNotJournal
	}
	j.lay(p, length)
	if size < j.slots+2*j.room {
		return nil, ErrNotJournal
	}
	return p, nil
}

// decode appends count runs as encode wrote them; false means that there are
// none such.
func (p *Plan) decode(runs []byte, count int64) bool {
	at := int64(0)
	for range count {
		gap, n := binary.Uvarint(runs)
		length, m := binary.Uvarint(runs[max(n, 0):])
		if n <= 0 || m <= 0 || gap > uint64(p.Size-at) || length == 0 || length > uint64(p.Size-at)-gap {
			return false
		}
		runs = runs[n+m:]
		start := at + int64(gap)
		at = start + int64(length)
		p.runs = append(p.runs, run{start, at})
	}
	return count >= 0
}

// A slot is what the journal says of how far a move is.
type slot struct {
	seq    uint64
	window int64  // near: the one in data; far: the next
	before uint32 // checksum of the window before that
	data   []byte
}

// put writes a slot and has it reach the disk.
func (j *Journal) put(window int64, before uint32, data []byte) error {
	j.seq++
	h := make([]byte, block)
	le := binary.LittleEndian
	le.PutUint64(h[seqAt:], j.seq)
	le.PutUint64(h[slotWindowAt:], uint64(window))
	le.PutUint64(h[beforeAt:], uint64(before))
	le.PutUint64(h[dataLenAt:], uint64(len(data)))
	le.PutUint64(h[dataSumAt:], uint64(crc32.Checksum(data, castagnoli)))
	le.PutUint32(h[sumAt:], crc32.Checksum(h[:sumAt], castagnoli))
	at := j.slots + int64(j.seq%2)*j.room
	if _, err := j.f.WriteAt(data, at+block); err != nil {
		return err
	}
	if _, err := j.f.WriteAt(h, at); err != nil {
		return err
	}
	return j.f.Sync()
}

// newest returns the newest slot that is whole; found is false where none is,
// as before the first was written.
func (j *Journal) newest() (s slot, found bool, err error) {
	for i := range int64(2) {
		at := j.slots + i*j.room
		h := make([]byte, block)
		if _, err := j.f.ReadAt(h, at); err != nil {
			return s, false, err
		}
		le := binary.LittleEndian
		seq, n := le.Uint64(h[seqAt:]), int64(le.Uint64(h[dataLenAt:]))
		if le.Uint32(h[sumAt:]) != crc32.Checksum(h[:sumAt], castagnoli) || seq <= s.seq || n < 0 || n > j.room-block {
			continue
		}
		data := make([]byte, n)
		if got, err := j.f.ReadAt(data, at+block); got < len(data) {
			return s, false, err
		}
		if uint64(crc32.Checksum(data, castagnoli)) != le.Uint64(h[dataSumAt:]) {
			continue
		}
		s = slot{seq, int64(le.Uint64(h[slotWindowAt:])), uint32(le.Uint64(h[beforeAt:])), data}
		found = true
	}
	j.seq = s.seq
	if s.window < 0 {
		return s, false, ErrNotJournal
	}
	return s, found, nil
}

// Done tells whether the journal says that the move was carried out to its end.
func (j *Journal) Done(p *Plan) (bool, error) {
	s, found, err := j.newest()
	return found && s.window == p.windows(), err
}

// Shrink gives back the room that the journal of a move that is done needs no
// more, as far as its filesystem can.
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
