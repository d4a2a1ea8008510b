package app

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"
	"iter"
	"time"

	"e2qcow/ext"
	"e2qcow/scan"
	"e2qcow/scan/lost"
)

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
	Filesystem *Filesystem     `json:"filesystem,omitempty"`
	Metadata   *jsonMetadata   `json:"metadata,omitempty"`
	Problems   *jsonProblems   `json:"problems,omitempty"`
	Unreadable *jsonUnreadable `json:"unreadable,omitempty"`
	Salvage    *Salvageable    `json:"salvage,omitempty"`    // of a damaged image, with --salvage
	Lost       *jsonLostFiles  `json:"lost_files,omitempty"` // with --lost-files
}

// A Filesystem is what --json says of a filesystem.
type Filesystem struct {
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

// A Done is what a command found and did, as --json writes it and as the report
// says it.
type Done struct {
	Started    time.Time
	Source     string // its name
	Target     string // its name
	Output     string // qcow2, raw, e2image or install
	Mode       string // what the image holds: Metadata, Scrambled, AllData or Undo
	Salt       string // of the scrambling; "" for none
	Undo       string // its name; "" for none
	Offset     int64  // of the filesystem in the source, bytes
	ImageBytes int64  // of the image that was written
	DataBytes  int64  // of these, not holes
	Written    *int64 // blocks that were written, or would be; nil where they are not counted
	Same       *int64 // blocks that the target held already; nil where they are not counted
	Files      bool   // the contents of files are in the image
	Scan       *scan.Result
	Salvage    *Salvageable // what can be read of a damaged image; else nil
	Rescue     *scan.Rescue // of a damaged image that was copied as it is; else nil
	Lost       *lost.Report // the files that are hit; nil if they were not searched
}

// Content returns the kind of contents of an image of in, as the record of an
// image names it. An image made from a scrambled one is scrambled too.
func Content(in *Input, res *scan.Result, scrambles, files bool) string {
	made, ok := in.Made()
	switch {
	case res == nil && in.Normal == nil && ok && (made.Mode == Metadata || made.Mode == Scrambled || made.Mode == Undo):
		return made.Mode
	case res == nil && in.Normal == nil:
		return AllData
	case scrambles || in.Scrambled():
		return Scrambled
	case files:
		return AllData
	}
	return Metadata
}

// WriteRecord writes the record, if one was asked for. Runs are those that a dry
// run would write, nil where they are not listed.
func (o *Output) WriteRecord(d Done, runs iter.Seq2[Run, error]) error {
	if o.Record.to == nil {
		return nil
	}
	b := bufio.NewWriter(o.Record.to)
	var object bytes.Buffer
	err := EncodeJSON(&object, d.record())
	switch {
	case err != nil:
	case runs != nil:
		err = writeRuns(b, object.Bytes(), runs)
	default:
		_, err = object.WriteTo(b)
	}
	return cmp.Or(err, b.Flush())
}

func (d Done) record() jsonRecord {
	r := jsonRecord{
		Format:    1,
		Tool:      Tool(),
		Source:    d.Source,
		Target:    d.Target,
		Output:    d.Output,
		Mode:      d.Mode,
		Salt:      d.Salt,
		Undo:      d.Undo,
		Started:   d.Started.UTC(),
		Seconds:   time.Since(d.Started).Seconds(),
		ImageSize: d.ImageBytes,
		DataSize:  d.DataBytes,
		Offset:    d.Offset,
		Written:   d.Written,
		Same:      d.Same,
		Lost:      lostOf(d.Lost, d.Mode != Scrambled),
	}
	r.Salvage = d.Salvage
	if d.Rescue != nil {
		r.Unreadable = unreadableOf(d.Rescue.Unreadable())
	}
	if d.Scan != nil {
		r.Metadata = metadataOf(d.Scan)
		r.Problems = problemsOf(d.Scan)
		r.Unreadable = unreadableOf(d.Scan.Unreadable())
		if sb := d.Scan.Super(); sb != nil {
			r.Filesystem = FilesystemOf(sb)
		}
	}
	return r
}

// EncodeJSON writes v as JSON, indented for people.
func EncodeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
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

// FilesystemOf returns what the superblock says.
func FilesystemOf(sb *ext.Superblock) *Filesystem {
	return &Filesystem{
		Type:      filesystemType(sb),
		Label:     sb.Label(),
		UUID:      UUID(sb.UUID()),
		BlockSize: int64(sb.BlockSize()),
		Blocks:    sb.BlocksCount(),
	}
}

// UUID returns a UUID as people write it.
func UUID(u [16]byte) string {
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// filesystemType returns the type of a filesystem as mount names it; jbd is an
// external journal.
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
