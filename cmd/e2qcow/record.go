package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"e2qcow/ext"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// A record is where --json or --scramble-map goes: a file that appears when it
// is whole, or a stream. The zero record is nowhere.
type record struct{ to *target.Target }

// openRecord opens where the record of w goes, if one was asked for.
func (s *session) openRecord(ctx context.Context, w *work) (err error) {
	if w.json == "" {
		return nil
	}
	if w.record, err = openBeside(ctx, w, flagJSON, w.json, target.Options{Format: target.JSON}); err == nil {
		s.guard(w.record.Close)
	}
	return err
}

// openBeside opens the file that a flag names. It is neither the source nor the
// target.
func openBeside(ctx context.Context, w *work, flag, name string, opt target.Options) (record, error) {
	opt.Source = w.input.region
	t, err := target.Open(ctx, name, opt)
	if err != nil {
		return record{}, err
	}
	if w.target != nil && t.Is(w.target) {
		t.Close()
		return record{}, usagef("option --%s: %s is the image", flag, t.Name())
	}
	return record{t}, nil
}

// Settle has the record reach the disk.
func (r record) Settle() error {
	if r.to == nil {
		return nil
	}
	return r.to.Settle()
}

// Commit has the record appear.
func (r record) Commit() error {
	if r.to == nil {
		return nil
	}
	return r.to.Commit()
}

// Close gives up a record that was not committed.
func (r record) Close() {
	if r.to != nil {
		r.to.Close()
	}
}

// What --json writes. Names are never changed or given another meaning; new
// ones may come.
type jsonRecord struct {
	Format     int             `json:"format"` // of this object: 1
	Tool       string          `json:"tool"`
	Source     string          `json:"source"`
	Target     string          `json:"target"`
	Output     string          `json:"output"`         // qcow2, raw, e2image or install
	Mode       string          `json:"mode"`           // metadata, scrambled, all data or undo
	Salt       string          `json:"salt,omitempty"` // of --scramble-key, hexadecimal
	Undo       string          `json:"undo,omitempty"`
	Started    time.Time       `json:"started"`
	Seconds    float64         `json:"seconds"`
	ImageSize  int64           `json:"image_size"`               // bytes
	DataSize   int64           `json:"data_size"`                // of these, not holes
	Offset     int64           `json:"offset"`                   // of the filesystem, in the source
	Written    *int64          `json:"blocks_written,omitempty"` // with -c and -n
	Same       *int64          `json:"blocks_same,omitempty"`    // with -c: that were there already
	Filesystem *jsonFilesystem `json:"filesystem,omitempty"`
	Metadata   *jsonMetadata   `json:"metadata,omitempty"`
	Problems   *jsonProblems   `json:"problems,omitempty"`
	Unreadable *jsonUnreadable `json:"unreadable,omitempty"`
}

type jsonFilesystem struct {
	Type      string `json:"type"` // ext2, ext3, ext4 or jbd
	Label     string `json:"label"`
	UUID      string `json:"uuid"`
	BlockSize int64  `json:"block_size"`
	Blocks    uint64 `json:"blocks"`
}

type jsonMetadata struct {
	BlockSize int64             `json:"block_size"`
	Size      int64             `json:"size"`   // bytes
	Blocks    map[string]uint64 `json:"blocks"` // by kind; a block can be of several
}

type jsonProblems struct {
	Count uint64            `json:"count"`
	Kinds map[string]uint64 `json:"kinds"` // how many of each
	List  []jsonProblem     `json:"list"`  // the first of each kind
}

type jsonProblem struct {
	Kind  string  `json:"kind"`
	What  string  `json:"what"`
	Group *uint32 `json:"group,omitempty"` // may be 0
	Inode uint32  `json:"inode,omitempty"`
	Block uint64  `json:"block,omitempty"`
}

type jsonUnreadable struct {
	Size    int64       `json:"size"` // bytes
	Count   int         `json:"count"`
	Ranges  []jsonRange `json:"ranges"` // the first maxJSONRanges
	Omitted int         `json:"omitted"`
}

type jsonRange struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"` // the byte behind the last
}

// maxJSONRanges bounds the length of the record.
const maxJSONRanges = 1 << 18

// writeRecord writes the record, if one was asked for.
func (w *work) writeRecord() error {
	if w.record.to == nil {
		return nil
	}
	b := bufio.NewWriter(w.record.to)
	var object bytes.Buffer
	err := encodeJSON(&object, w.done())
	switch {
	case err != nil:
	case w.dryRun:
		err = writeRuns(b, object.Bytes(), w.runs())
	default:
		_, err = object.WriteTo(b)
	}
	return cmp.Or(err, b.Flush())
}

// done returns what was found and done.
func (w *work) done() jsonRecord {
	r := jsonRecord{
		Format:    1,
		Tool:      toolName(),
		Source:    w.input.src.Name(),
		Target:    w.options.target,
		Output:    w.mode.name(),
		Mode:      infoAllData,
		Started:   w.start.UTC(),
		Seconds:   time.Since(w.start).Seconds(),
		ImageSize: w.imageBytes,
		DataSize:  w.dataBytes,
		Salt:      w.scramble.saltText(),
		Undo:      w.undo,
		Offset:    w.partStart,
	}
	if w.compare || w.dryRun {
		r.Written = &w.written
	}
	if w.compare && !w.dryRun {
		r.Same = &w.same
	}
	if w.scan != nil {
		r.Mode = w.content()
		r.Metadata = metadataOf(w.scan)
		r.Problems = problemsOf(w.scan)
		r.Unreadable = unreadableOf(w.scan.Unreadable())
		if sb := w.scan.Super(); sb != nil {
			r.Filesystem = filesystemOf(sb)
		}
	} else if i, ok := w.input.guest.info(); w.input.normal != nil {
		r.Mode = w.content()
	} else if ok && (i.Mode == infoMetadata || i.Mode == infoScrambled || i.Mode == infoUndo) {
		r.Mode = i.Mode
	}
	return r
}

// encodeJSON writes v for people too.
func encodeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// name returns what a mode writes, in a word.
func (m mode) name() string {
	switch m {
	case toQCOW2:
		return "qcow2"
	case toNormal:
		return "e2image"
	case install:
		return "install"
	}
	return "raw"
}

func metadataOf(res *scan.Result) *jsonMetadata {
	m := &jsonMetadata{BlockSize: int64(res.BlockSize()), Size: res.MetadataBytes(), Blocks: map[string]uint64{}}
	for kind := range scan.Kinds() {
		if n := res.Map.Blocks(kind); n > 0 {
			m.Blocks[kind.String()] = n
		}
	}
	return m
}

func problemsOf(res *scan.Result) *jsonProblems {
	p := &jsonProblems{Kinds: map[string]uint64{}, List: []jsonProblem{}}
	for _, first := range res.Problems() {
		p.Kinds[first.Kind.String()] = first.Count
		p.Count += first.Count
	}
	for _, each := range res.AllProblems() {
		problem := jsonProblem{Kind: each.Kind.String(), What: each.What, Inode: each.Inode, Block: each.Block}
		if each.HasGroup() {
			problem.Group = &each.Group
		}
		p.List = append(p.List, problem)
	}
	return p
}

func unreadableOf(ranges []scan.Range) *jsonUnreadable {
	u := &jsonUnreadable{Count: len(ranges), Ranges: []jsonRange{}}
	for _, r := range ranges {
		u.Size += r.End - r.Start
	}
	for _, r := range ranges[:min(len(ranges), maxJSONRanges)] {
		u.Ranges = append(u.Ranges, jsonRange(r))
	}
	u.Omitted = len(ranges) - len(u.Ranges)
	return u
}

func filesystemOf(sb *ext.Superblock) *jsonFilesystem {
	return &jsonFilesystem{
		Type:      filesystemType(sb),
		Label:     sb.Label(),
		UUID:      uuid(sb.UUID()),
		BlockSize: int64(sb.BlockSize()),
		Blocks:    sb.BlocksCount(),
	}
}

// uuid returns a UUID as people write it.
func uuid(u [16]byte) string {
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// filesystemType returns what mount would call a filesystem, by its features;
// jbd is an external journal.
func filesystemType(sb *ext.Superblock) string {
	const (
		ext3RoCompat = ext.RoCompatSparseSuper | 0x2 | 0x4 // large_file, btree_dir
		ext3Incompat = ext.IncompatFiletype | ext.IncompatRecover | ext.IncompatMetaBg
	)
	more := false
	for bit := uint32(1); bit != 0; bit <<= 1 {
		more = more || bit&ext3RoCompat == 0 && sb.HasRoCompat(bit) || bit&ext3Incompat == 0 && sb.HasIncompat(bit)
	}
	switch {
	case sb.HasIncompat(ext.IncompatJournalDev):
		return "jbd"
	case more:
		return "ext4"
	case sb.HasCompat(ext.CompatHasJournal):
		return "ext3"
	}
	return "ext2"
}
