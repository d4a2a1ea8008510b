package main_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"e2qcow/internal/testfs"
)

// A recipe is a case of testdata/damaged: how to make a damaged filesystem,
// and what is to be said of it. testdata/damaged/README.md has the language.
type recipe struct {
	name     string
	rule     string
	base     string
	steps    []step
	says     []string        // by e2fsck or by the tool, of the damage
	harmless string          // why neither minds the damage
	fsck     []string        // options that e2fsck is asked with
	allow    map[string]bool // what the dump needs no excuse for
	contents int             // KiB of file contents that are parsed as structure
}

// A step is a line of a recipe: what to do, and with what.
type step struct{ verb, args string }

// readRecipes returns the recipes of all files in a folder.
func readRecipes(t *testing.T, dir string) []recipe {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var all []recipe
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		subject := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for _, f := range archive.Files {
			r, err := parseRecipe(subject+"/"+f.Name, string(f.Data))
			if err != nil {
				t.Fatalf("%s: %s: %v", file, f.Name, err)
			}
			all = append(all, r)
		}
	}
	return all
}

func parseRecipe(name, text string) (recipe, error) {
	r := recipe{name: name, fsck: []string{"-fn", "-fy"}, allow: make(map[string]bool)}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ": ")
		if !ok {
			return r, fmt.Errorf("no key in %q", line)
		}
		value = strings.TrimSpace(value)
		switch key {
		case "rule":
			r.rule = strings.TrimSpace(r.rule + " " + value)
		case "base":
			r.base = value
		case "debugfs", "put", "keep", "size", "sum", "commit":
			r.steps = append(r.steps, step{key, value})
		case "fsck":
			r.fsck = strings.Fields(value)
		case "says":
			r.says = append(r.says, value)
		case "harmless":
			r.harmless = value
		case "allow":
			switch value {
			case "probes", "clones", "truncation", "relocation", "unstable":
				r.allow[value] = true
			default:
				return r, fmt.Errorf("nothing named %q is allowed", value)
			}
		case "contents":
			n, err := strconv.Atoi(value)
			if err != nil {
				return r, err
			}
			r.contents = n
		default:
			return r, fmt.Errorf("unknown key %q", key)
		}
	}
	switch {
	case r.rule == "" || r.base == "":
		return r, fmt.Errorf("rule or base missing")
	case r.harmless != "" && len(r.says) > 0:
		return r, fmt.Errorf("damage that is reported is not harmless")
	}
	return r, nil
}

// A cook makes the filesystem of a recipe.
type cook struct {
	t    *testing.T
	base *base
	dir  string
	path string // the filesystem being damaged
}

// make makes the filesystem and returns its path.
func (r *recipe) make(t *testing.T, b *base) string {
	t.Helper()
	dir := testfs.TempDir(t)
	c := &cook{t: t, base: b, dir: dir, path: testfs.Copy(t, b.path)}
	for i := 0; i < len(r.steps); i++ {
		args := c.expand(r.steps[i].args)
		switch r.steps[i].verb {
		case "debugfs":
			commands := []string{args}
			for i+1 < len(r.steps) && r.steps[i+1].verb == "debugfs" {
				i++
				commands = append(commands, c.expand(r.steps[i].args))
			}
			testfs.DebugfsWrite(t, c.path, commands...)
		case "put":
			c.put(args)
		case "keep":
			c.keep(args)
		case "size":
			size := c.number(args)
			if strings.HasPrefix(args, "+") || size < 0 {
				size += testfs.Size(t, c.path)
			}
			if err := os.Truncate(c.path, size); err != nil {
				t.Fatal(err)
			}
		case "sum":
			c.sum(args)
		case "commit":
			c.commit(args)
		}
	}
	return c.path
}

var expansion = regexp.MustCompile(`\{[^}]*\}`)

// expand replaces {PLACE} by the number of the place's block, {ino:PATH} by
// an inode number, {htree-node:PATH} by the logical number of the first
// interior block of an index, and {file:NAME} by the path of what keep has kept.
func (c *cook) expand(s string) string {
	return expansion.ReplaceAllStringFunc(s, func(m string) string {
		kind, args, _ := strings.Cut(m[1:len(m)-1], ":")
		switch kind {
		case "ino":
			return strconv.FormatInt(c.base.number(c.t, "imap "+args, `Inode (\d+)`, 0), 10)
		case "file":
			return filepath.Join(c.dir, args)
		case "htree-node":
			return strconv.FormatInt(c.base.number(c.t, "htree_dump "+args, `block (\d+)`, 0), 10)
		}
		return strconv.FormatInt(c.place(m[1:len(m)-1])/c.layout().blockSize, 10)
	})
}

func (c *cook) layout() *layout {
	c.t.Helper()
	l, err := c.base.layout()
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// number reads an integer; K and M stand for 2¹⁰ and 2²⁰.
func (c *cook) number(s string) int64 {
	c.t.Helper()
	shift := 0
	switch {
	case strings.HasSuffix(s, "K"):
		shift = 10
	case strings.HasSuffix(s, "M"):
		shift = 20
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 0, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n << shift
}

// place returns the byte at which something lies in the sound filesystem.
func (c *cook) place(s string) int64 {
	c.t.Helper()
	s, offset, plus := strings.Cut(s, "+")
	var at int64
	if plus {
		at = c.number(offset)
	}
	kind, args, _ := strings.Cut(s, ":")
	arg := strings.Split(args, ":")
	count := func(i int) int64 {
		if i >= len(arg) || arg[i] == "" {
			return 0
		}
		return c.number(arg[i])
	}
	bs := int64(1024)
	if kind != "byte" && !(kind == "super" && args == "") {
		bs = c.layout().blockSize
	}
	group := func(n int64) groupLayout {
		l := c.layout()
		if n >= int64(len(l.groups)) {
			c.t.Fatalf("%s: there are %d groups", s, len(l.groups))
		}
		return l.groups[n]
	}
	switch kind {
	case "byte":
		return at + count(0)
	case "block":
		return at + count(0)*bs
	case "super":
		if args == "" {
			return at + 1024
		}
		return at + group(count(0)).super*bs
	case "desc": // desc:GROUP[:COPY], COPY the group whose descriptor table is meant
		group(count(0))
		return at + c.layout().desc(count(0), count(1))
	case "block-bitmap":
		return at + group(count(0)).blockBitmap*bs
	case "inode-bitmap":
		return at + group(count(0)).inodeBitmap*bs
	case "mmp":
		super := c.read(1024, 1024)
		return at + int64(binary.LittleEndian.Uint32(super[0x168:]))*bs
	case "table":
		return at + group(count(0)).table*bs
	case "inode":
		return at + c.base.number(c.t, "imap "+args, `located at block (\d+)`, 0)*bs + c.base.number(c.t, "imap "+args, `offset (0x[0-9a-f]+)`, 0)
	case "data": // data:PATH:LOGICAL
		return at + c.base.number(c.t, fmt.Sprintf("bmap %s %d", arg[0], count(1)), `(?m)^(\d+)`, 0)*bs
	case "node": // node:PATH:TAG:N, the tags of debugfs stat: ETB0, IND, DIND
		return at + c.base.number(c.t, "stat "+arg[0], `\(`+arg[1]+`\):(\d+)`, int(count(2)))*bs
	case "xattr":
		return at + c.base.number(c.t, "stat "+args, `File ACL: (\d+)`, 0)*bs
	}
	c.t.Fatalf("no such place: %s", s)
	return 0
}

func (c *cook) open() *os.File {
	c.t.Helper()
	f, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

func (c *cook) read(off, n int64) []byte {
	c.t.Helper()
	f := c.open()
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *cook) write(b []byte, off int64) {
	c.t.Helper()
	f := c.open()
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		c.t.Fatal(err)
	}
}

// put writes at a place: PLACE FORMAT VALUE...
func (c *cook) put(args string) {
	c.t.Helper()
	f := strings.Fields(args)
	if len(f) < 3 {
		c.t.Fatalf("put %s: want PLACE FORMAT VALUE...", args)
	}
	at := c.place(f[0])
	var b []byte
	switch f[1] {
	case "fill": // LENGTH BYTE
		b = make([]byte, c.number(f[2]))
		for i := range b {
			b[i] = byte(c.number(f[3]))
		}
	case "zero": // LENGTH
		b = make([]byte, c.number(f[2]))
	case "from": // PLACE LENGTH
		b = c.read(c.place(f[2]), c.number(f[3]))
	case "flip": // MASK
		b = c.read(at, 1)
		b[0] ^= byte(c.number(f[2]))
	case "text":
		b = []byte(f[2])
	default:
		b = c.words(f[1], f[2:])
	}
	if end := at + int64(len(b)); end <= testfs.Size(c.t, c.path) && bytes.Equal(c.read(at, int64(len(b))), b) {
		c.t.Fatalf("put %s: these bytes are there already", args)
	}
	c.write(b, at)
}

// words returns numbers in a format.
func (c *cook) words(format string, values []string) []byte {
	c.t.Helper()
	var b []byte
	for _, v := range values {
		n := uint64(c.number(v))
		switch format {
		case "byte":
			b = append(b, byte(n))
		case "le16":
			b = binary.LittleEndian.AppendUint16(b, uint16(n))
		case "le32":
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		case "be32":
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		default:
			c.t.Fatalf("no such format: %s", format)
		}
	}
	return b
}

// keep writes blocks to a file of the host: NAME PLACE COUNT.
func (c *cook) keep(args string) {
	c.t.Helper()
	f := strings.Fields(args)
	if len(f) != 3 {
		c.t.Fatalf("keep %s: want NAME PLACE COUNT", args)
	}
	b := c.read(c.place(f[1]), c.number(f[2])*c.layout().blockSize)
	if err := os.WriteFile(filepath.Join(c.dir, f[0]), b, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is the checksum of ext4, which neither begins nor ends inverted.
func crc32c(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

// sum makes a checksum right: that of a superblock, of a journal's superblock, or
// of an MMP block.
//
//	super|journal|mmp PLACE
func (c *cook) sum(args string) {
	c.t.Helper()
	kind, place, _ := strings.Cut(args, " ")
	at := c.place(place)
	b := c.read(at, 1024)
	switch kind {
	case "super":
		binary.LittleEndian.PutUint32(b[0x3FC:], crc32c(^uint32(0), b[:0x3FC]))
	case "journal":
		clear(b[0xFC:0x100])
		binary.BigEndian.PutUint32(b[0xFC:], crc32c(^uint32(0), b))
	case "mmp":
		seed := crc32c(^uint32(0), c.read(1024+0x68, 16)) // the uuid
		binary.LittleEndian.PutUint32(b[0x3FC:], crc32c(seed, b[:0x3FC]))
	default:
		c.t.Fatalf("sum %s: no such checksum", args)
	}
	c.write(b, at)
}

// commit writes a fast commit as the kernel would: an inode as it stands, and
// a range that is added to it.
//
//	TRANSACTION PATH LOGICAL COUNT BLOCK
func (c *cook) commit(args string) {
	c.t.Helper()
	f := strings.Fields(args)
	if len(f) != 5 {
		c.t.Fatalf("commit %s: want TRANSACTION PATH LOGICAL COUNT BLOCK", args)
	}
	const (
		tagAddRange, tagInode, tagTail, tagHead = 1, 6, 8, 9
		journalMaxlen, journalIncompat          = 0x10, 0x28 // in the journal's superblock
		journalFastCommits, journalFastCommit   = 0x54, 0x20 // how many blocks, the feature
	)
	le := binary.LittleEndian
	words := func(w ...int64) (b []byte) {
		for _, v := range w {
			b = le.AppendUint32(b, uint32(v))
		}
		return b
	}
	transaction, logical, count, block := c.number(f[0]), c.number(f[2]), c.number(f[3]), c.number(f[4])
	ino := c.number(c.expand("{ino:" + f[1] + "}"))
	var b []byte
	tag := func(typ uint16, length int, value []byte) {
		b = le.AppendUint16(b, typ)
		b = le.AppendUint16(b, uint16(length))
		b = append(b, value...)
	}
	tag(tagHead, 8, words(0, transaction))
	inode := append(words(ino), c.read(c.place("inode:"+f[1]), 160)...)
	tag(tagInode, len(inode), inode)
	tag(tagAddRange, 16, words(ino, logical, count, block))
	tag(tagTail, int(c.layout().blockSize)-len(b)-4, words(transaction))
	b = le.AppendUint32(b, crc32c(0, b))

	// The area is at the end of the journal; the kernel leaves its first block
	// unused. Fast commits are replayed only if the journal has the feature.
	at := c.place("data:<8>:0")
	super := c.read(at, 1024)
	be := binary.BigEndian
	first := be.Uint32(super[journalMaxlen:]) - be.Uint32(super[journalFastCommits:]) + 1
	be.PutUint32(super[journalIncompat:], be.Uint32(super[journalIncompat:])|journalFastCommit)
	c.write(super, at)
	c.write(b, c.place(fmt.Sprintf("data:<8>:%d", first)))
}
