package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"e2qcow/ext"
)

const (
	testBlockSize = 1024
	testBlocks    = 1 << 16 // of the filesystem
)

// A ring is a journal in memory, with blocks of 1 KiB, written as the kernel
// writes one.
type ring struct {
	data     []byte
	next     uint32 // block
	sequence uint32
	compat   uint32
	incompat uint32
	sum      ext.JournalSum
}

// newRing returns a journal of so many blocks whose log begins at start.
func newRing(blocks, first, start, compat, incompat uint32) *ring {
	r := &ring{data: make([]byte, int(blocks)*testBlockSize), next: start, sequence: 7, compat: compat, incompat: incompat, sum: ^ext.JournalSum(0)}
	sb := r.header(0, 4, 0)
	for off, v := range map[int]uint32{0x0C: testBlockSize, 0x10: blocks, 0x14: first, 0x18: 7, 0x1C: start, 0x24: compat, 0x28: incompat} {
		be.PutUint32(sb[off:], v)
	}
	copy(sb[0x30:], "the journal's id")
	sb[0x50] = 4
	r.mendSuperblock()
	return r
}

func (r *ring) mendSuperblock() {
	sb := r.block(0)
	clear(sb[0xFC:0x100])
	be.PutUint32(sb[0xFC:], ext.CRC32C(^uint32(0), sb))
}

func (r *ring) block(n uint32) []byte { return r.data[int(n)*testBlockSize:][:testBlockSize] }

func (r *ring) header(n, typ, sequence uint32) []byte {
	b := r.block(n)
	be.PutUint32(b, journalMagic)
	be.PutUint32(b[4:], typ)
	be.PutUint32(b[8:], sequence)
	return b
}

func (r *ring) blocks() uint64 { return uint64(len(r.data) / testBlockSize) }

func (r *ring) read(n uint32, buf []byte) error {
	if uint64(n) >= r.blocks() {
		return errors.New("beyond the end")
	}
	copy(buf, r.block(n))
	return nil
}

func (r *ring) superblock(t testing.TB) *ext.JournalSuperblock {
	t.Helper()
	jsb, err := ext.DecodeJournalSuperblock(r.data)
	if err != nil {
		t.Fatal(err)
	}
	return jsb
}

func (r *ring) sums() bool {
	return r.incompat&(ext.JournalIncompatCsumV2|ext.JournalIncompatCsumV3) != 0
}

// advance returns the block to write, and goes on.
func (r *ring) advance(t testing.TB) uint32 {
	n := r.next
	r.next = uint32(r.superblock(t).Next(uint64(n)))
	return n
}

// copies writes a descriptor and copies of the blocks.
func (r *ring) copies(t testing.TB, blocks map[uint64][]byte) {
	jsb := r.superblock(t)
	d := r.header(r.advance(t), 1, r.sequence)
	tag, numbers := 12, slices.Sorted(maps.Keys(blocks))
	at := r.next
	for i, n := range numbers {
		data := r.block(r.advance(t))
		copy(data, blocks[n])
		flags := uint16(0)
		if ext.Escape(data) {
			flags |= 1
		}
		if i > 0 {
			flags |= 2
		}
		if i == len(numbers)-1 {
			flags |= 8
		}
		be.PutUint32(d[tag:], uint32(n))
		be.PutUint16(d[tag+6:], flags)
		sum := jsb.TagChecksum(r.sequence, data)
		size := 8
		switch {
		case r.incompat&ext.JournalIncompatCsumV3 != 0:
			be.PutUint32(d[tag+12:], sum)
			size = 16
		case r.incompat&ext.JournalIncompatCsumV2 != 0:
			be.PutUint16(d[tag+4:], uint16(sum))
			size += 2
		}
		if r.incompat&ext.JournalIncompat64bit != 0 {
			be.PutUint32(d[tag+8:], uint32(n>>32))
			if r.incompat&ext.JournalIncompatCsumV3 == 0 {
				size += 4
			}
		}
		tag += size
		if i == 0 {
			copy(d[tag:], "a filesystem's id")
			tag += 16
		}
	}
	copy(d[tag+8:len(d)-4], bytes.Repeat([]byte("garbage behind "), 100))
	r.mendTail(t, d)
	r.sum.Add(d)
	for range numbers {
		r.sum.Add(r.block(at))
		at = uint32(jsb.Next(uint64(at)))
	}
}

func (r *ring) mendTail(t testing.TB, b []byte) {
	if r.sums() {
		be.PutUint32(b[len(b)-4:], r.superblock(t).BlockChecksum(b))
	}
}

func (r *ring) revoke(t testing.TB, blocks ...uint64) {
	b := r.header(r.advance(t), 5, r.sequence)
	records := b[:16]
	for _, n := range blocks {
		if r.incompat&ext.JournalIncompat64bit != 0 {
			records = be.AppendUint64(records, n)
		} else {
			records = be.AppendUint32(records, uint32(n))
		}
	}
	be.PutUint32(b[12:], uint32(len(records)))
	copy(b[len(records):len(b)-4], bytes.Repeat([]byte("garbage behind "), 100))
	r.mendTail(t, b)
}

func (r *ring) commit(t testing.TB) {
	b := r.header(r.advance(t), 2, r.sequence)
	be.PutUint64(b[48:], 1700000000+uint64(r.sequence))
	copy(b[20:48], "garbage in unused checksums")
	copy(b[60:], "garbage behind it")
	switch {
	case r.sums():
		be.PutUint32(b[16:], r.superblock(t).CommitChecksum(b))
	case r.compat&ext.JournalCompatChecksum != 0:
		b[12], b[13] = 1, 4
		be.PutUint32(b[16:], uint32(r.sum))
	}
	r.sum = ^ext.JournalSum(0)
	r.sequence++
}

// text is a block of words.
func text(head string) []byte {
	b := bytes.Repeat([]byte("secret words of a user, "), 50)[:testBlockSize]
	copy(b, head)
	return b
}

// fill writes a log of two transactions and the beginning of a third, which
// goes round the end of a ring of 32 blocks from block 20 on.
func (r *ring) fill(t testing.TB) {
	magic := string(be.AppendUint32(nil, journalMagic))
	r.copies(t, map[uint64][]byte{100: text("gain"), 101: text(magic + "lose"), 102: text(magic + "keep"), 500: text("data")})
	r.revoke(t, 101, 2000, 70000)
	r.commit(t)
	r.copies(t, map[uint64][]byte{100: text("new"), 103: text("x"), 104: text("y"), 501: text(magic), 502: text(""), 99999: text("beyond")})
	r.commit(t)
	r.copies(t, map[uint64][]byte{105: text("no commit follows")})
}

var synthetic = &rename{"secret", "public", func(n uint64) bool { return n >= 500 }}

// scrubRing returns the journal as it is scrubbed, and its index.
func scrubRing(t testing.TB, r *ring, s journalScrub) (*ring, *journalIndex) {
	t.Helper()
	x, err := newJournalIndex(context.Background(), r.superblock(t), testBlockSize, r.blocks(), r.read, s)
	if err != nil {
		t.Fatal(err)
	}
	out := *r
	out.data = bytes.Clone(r.data)
	for n := uint32(r.blocks()); n > 0; n-- {
		x.block(n-1, out.block(n-1))
	}
	return &out, x
}

func renaming(r *rename) journalScrub {
	return journalScrub{keys: newKeyring([KeySize]byte{9}), lim: &limits{blockSize: testBlockSize, blocks: testBlocks, inodes: 1 << 20}, blocks: testBlocks, metadata: r.metadata, name: r.name, inode: func(_ uint32, in ext.Inode) { r.name(0, in) }}
}

var ringForms = []struct{ compat, incompat uint32 }{
	{0, 0},
	{0, ext.JournalIncompat64bit},
	{ext.JournalCompatChecksum, 0},
	{ext.JournalCompatChecksum, ext.JournalIncompat64bit | ext.JournalIncompatAsyncCommit},
	{0, ext.JournalIncompatCsumV2},
	{0, ext.JournalIncompatCsumV2 | ext.JournalIncompat64bit},
	{0, ext.JournalIncompatCsumV3},
	{0, ext.JournalIncompatCsumV3 | ext.JournalIncompat64bit},
}

// recovered returns what a recovery does, and the blocks it leaves.
func (r *ring) recovered(t testing.TB) (*ext.JournalRecovery, map[uint64]string) {
	t.Helper()
	w, err := ext.WalkJournal(r.superblock(t), r.blocks(), r.read, nil)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[uint64]string{}
	for n, c := range w.Replay.From(0) {
		b := bytes.Clone(r.block(c.Block))
		if c.Escaped {
			ext.Unescape(b)
		}
		blocks[n] = string(b)
	}
	return w, blocks
}

// The log goes round the end of the ring, which begins behind a gap, and every
// checksum, right or wrong, is what it was.
func TestJournalRing(t *testing.T) {
	t.Parallel()
	// What is damaged, by offset in a block of the log; right sums first.
	damages := []struct{ block, at int }{{-1, 0}, {20, 900}, {21, 200}, {22, 3}, {25, 20}, {26, 17}, {26, 50}, {27, 30}, {28, 300}, {3, 16}, {0, 0x20}}
	for _, form := range ringForms {
		for _, damage := range damages {
			t.Run(fmt.Sprintf("%x %x damaged %d %d", form.compat, form.incompat, damage.block, damage.at), func(t *testing.T) {
				r := newRing(32, 3, 20, form.compat, form.incompat)
				r.fill(t)
				if damage.block >= 0 {
					r.data[damage.block*testBlockSize+damage.at] ^= 0x10
				}
				if r.superblock(t).Check(testBlockSize, r.blocks()) != nil {
					out, _ := scrubRing(t, r, renaming(synthetic))
					for _, b := range out.data[testBlockSize:] {
						if b != 0 {
							t.Fatal("the log is left, though nothing recovers it")
						}
					}
					return
				}
				out, _ := scrubRing(t, r, renaming(synthetic))
				was, want := r.recovered(t)
				is, got := out.recovered(t)
				if damage.block < 0 && (was.Err != nil || was.End != 9 || len(want) != 8) {
					t.Fatalf("the ring is wrong: up to %d, %d blocks, %v", was.End, len(want), was.Err)
				}
				if fmt.Sprint(was.Err) != fmt.Sprint(is.Err) || was.End != is.End || !slices.Equal(was.Log, is.Log) {
					t.Errorf("recovery ended at %d: %v; now at %d: %v", was.End, was.Err, is.End, is.Err)
				}
				scrubbed := map[uint64]string{}
				for n, b := range want {
					if n >= testBlocks {
						scrubbed[testBlocks] = string(make([]byte, testBlockSize))
						continue
					}
					b := []byte(b)
					synthetic.metadata(n, b)
					scrubbed[n] = string(b)
				}
				if !maps.Equal(scrubbed, got) {
					t.Errorf("a replay leaves blocks %v, want %v, or other contents",
						slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(scrubbed)))
				}
				for _, w := range []string{"secret", "garbage", "a filesystem's"} {
					if at := bytes.Index(out.data, []byte(w)); at >= 0 {
						t.Errorf("%q is left in block %d", w, at/testBlockSize)
					}
				}
			})
		}
	}
}

// With another UUID all sums follow.
func TestJournalUUID(t *testing.T) {
	t.Parallel()
	for _, form := range ringForms {
		r := newRing(32, 3, 20, form.compat, form.incompat)
		be.PutUint32(r.data[0x40:], 1)
		copy(r.data[0x100:], "a filesystem's id")
		r.mendSuperblock()
		r.fill(t)
		s := renaming(synthetic)
		s.uuid = func(uuid []byte) {
			for i := range uuid {
				uuid[i] ^= 0x55
			}
		}
		out, _ := scrubRing(t, r, s)
		if err := out.superblock(t).Check(testBlockSize, out.blocks()); err != nil {
			t.Error(err)
		}
		if w, blocks := out.recovered(t); w.Err != nil || w.End != 9 || len(blocks) != 8 {
			t.Errorf("%x %x: recovery ends at %d: %v", form.compat, form.incompat, w.End, w.Err)
		}
		if bytes.Contains(out.data, []byte("'s id")) {
			t.Error("a UUID is left")
		}
	}
}

// Copies that are holes of the journal are nothing to be remembered.
func TestJournalHoles(t *testing.T) {
	t.Parallel()
	r := newRing(32, 1, 20, 0, 0)
	r.fill(t)
	copies := make(map[uint32]bool)
	if _, err := ext.WalkJournal(r.superblock(t), r.blocks(), r.read, func(n uint32, kind ext.JournalBlockKind) { copies[n] = kind == ext.JournalData }); err != nil {
		t.Fatal(err)
	}
	read := func(n uint32, buf []byte) error {
		if copies[n] {
			return errHole
		}
		return r.read(n, buf)
	}
	x, err := newJournalIndex(context.Background(), r.superblock(t), testBlockSize, r.blocks(), read, renaming(synthetic))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.roles) == 0 || len(copies) < 8 {
		t.Fatalf("%d roles, %d copies", len(x.roles), len(copies))
	}
	for n := range x.roles {
		if copies[n] {
			t.Errorf("block %d has a role", n)
		}
	}
}

// Nothing but the superblock is left where nothing is to be recovered.
func TestJournalWithoutLog(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*ring) (*ext.JournalSuperblock, int){
		"clean": func(r *ring) (*ext.JournalSuperblock, int) {
			be.PutUint32(r.data[0x1C:], 0)
			return r.superblock(t), testBlockSize
		},
		"shared": func(r *ring) (*ext.JournalSuperblock, int) {
			be.PutUint32(r.data[0x40:], 2)
			return r.superblock(t), testBlockSize
		},
		"block size": func(r *ring) (*ext.JournalSuperblock, int) { return r.superblock(t), 4096 },
		"external":   func(*ring) (*ext.JournalSuperblock, int) { return nil, testBlockSize },
	} {
		r := newRing(32, 1, 20, 0, 0)
		r.fill(t)
		jsb, blockSize := edit(r)
		copy(r.data[0x51:], "pad")
		copy(r.data[0x60:], text("padding")[:0x90])
		copy(r.data[0x140:], text("users")[:600])
		x, err := newJournalIndex(context.Background(), jsb, blockSize, r.blocks(), r.read, renaming(synthetic))
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint32(r.blocks()) {
			was := bytes.Clone(r.block(n))
			x.block(n, r.block(n))
			if n == 0 && (!bytes.Equal(was[:0x50], r.block(n)[:0x50]) || len(bytes.TrimRight(r.block(n), "\x00")) > 0x120) {
				t.Errorf("%s: the superblock is %x", name, r.block(n))
			}
			if n > 0 && len(bytes.TrimRight(r.block(n), "\x00")) > 0 {
				t.Errorf("%s: block %d is left", name, n)
			}
		}
	}
	b := text("no superblock")
	if journalSuperblock(newKeyring([KeySize]byte{9}).get(), &limits{}, b, nil); len(bytes.TrimRight(b, "\x00")) > 0 {
		t.Error("a block that is no superblock is left")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := newRing(32, 1, 20, 0, 0)
	if _, err := newJournalIndex(ctx, r.superblock(t), testBlockSize, r.blocks(), r.read, renaming(synthetic)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// fastCommits writes fast commits to an area, as the kernel does.
func (r *ring) fastCommits(n uint32, transaction uint32, names ...string) {
	b := r.block(n)
	off, crc := 0, uint32(0)
	tag := func(typ uint16, value ...byte) {
		le.PutUint16(b[off:], typ)
		le.PutUint16(b[off+2:], uint16(len(value)))
		copy(b[off+4:], value)
		crc = ext.CRC32C(crc, b[off:off+4+len(value)])
		off += 4 + len(value)
	}
	words := func(w ...uint32) (b []byte) {
		for _, v := range w {
			b = le.AppendUint32(b, v)
		}
		return b
	}
	tag(9, words(0, transaction)...)
	tag(1, append(words(12, 1, 1, 5000), "secret padding"...)...)
	for _, name := range names {
		tag(3, append(words(2, 13), name...)...)
	}
	tag(6, append(words(13), text("inode")[:160]...)...)
	tag(7, []byte("secret padding")...)
	le.PutUint16(b[off:], 8)
	le.PutUint16(b[off+2:], uint16(len(b)-off-4))
	le.PutUint32(b[off+4:], transaction)
	le.PutUint32(b[off+8:], ext.CRC32C(crc, b[off:off+8]))
	copy(b[off+12:], "secret rest")
}

// A scan of fast commits ends where it did, for the same reason.
func TestFastCommits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit  func(area []byte)
		valid uint32
		left  string
	}{
		"good":        {func([]byte) {}, 1, "a public"},
		"bad crc":     {func(b []byte) { b[60] ^= 1 }, 0, ""},
		"bad second":  {func(b []byte) { copy(b[1024:], b[:1024]); b[1024+60] ^= 1 }, 1, "a public"},
		"features":    {func(b []byte) { copy(b[4:], "features") }, 0, ""},
		"transaction": {func(b []byte) { b[8] = 99 }, 0, ""},
		"no head":     {func(b []byte) { b[0] = 3 }, 0, ""},
		"unknown":     {func(b []byte) { b[12] = 77 }, 0, ""},
		"too long":    {func(b []byte) { le.PutUint16(b[14:], 5000) }, 0, ""},
		"tail elsewhere": {func(b []byte) {
			clear(b)
			copy(b, "\x09\x00\x08\x00\x00\x00\x00\x00\x09\x00\x00\x00\x08\x00\x08\x00secretss")
		}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(1100, 1, 20, 0, ext.JournalIncompatFastCommit)
			be.PutUint32(r.data[0x54:], 64)
			r.fill(t)
			first, _ := r.superblock(t).FastCommitArea()
			r.fastCommits(first, 9, "a secret", "another secret")
			c.edit(r.data[int(first)*testBlockSize:])
			out, _ := scrubRing(t, r, renaming(synthetic))
			was, _ := r.recovered(t)
			is, _ := out.recovered(t)
			if was.FastCommits != c.valid || is.FastCommits != c.valid {
				t.Errorf("%d blocks were valid, %d are", was.FastCommits, is.FastCommits)
			}
			if one, other := fastCommitTags(r, t, was.End), fastCommitTags(out, t, is.End); !slices.Equal(one, other) {
				t.Errorf("the tags were %v and are %v", one, other)
			}
			if bytes.Contains(out.data, []byte("secret")) {
				t.Error("a word is left")
			}
			if !bytes.Contains(out.data, []byte(c.left)) {
				t.Errorf("%q is gone", c.left)
			}
		})
	}
}

// fastCommitTags lists the types of the tags that a scan sees, up to where all
// that counts ends.
func fastCommitTags(r *ring, t testing.TB, transaction uint32) (types []ext.FastCommitType) {
	first, end := r.superblock(t).FastCommitArea()
	s := ext.NewFastCommitScan(transaction)
	last := 0
	for n := first; n < end; n++ {
		if !s.Block(r.block(n), func(tag *ext.FastCommitTag) {
			types = append(types, tag.Type)
			if tag.Type == ext.FastCommitTail {
				last = len(types)
			}
		}) {
			break
		}
	}
	if last > 0 {
		types = types[:last]
	}
	return append(types, ext.FastCommitType(s.Blocks()))
}

// FuzzJournal scrubs hostile journals: in whatever order and however often,
// a block is scrubbed to the same bytes, and no text is left.
func FuzzJournal(f *testing.F) {
	for _, form := range ringForms {
		r := newRing(32, 3, 20, form.compat, form.incompat)
		r.fill(f)
		f.Add(r.data)
	}
	r := newRing(1100, 1, 2, 0, ext.JournalIncompatFastCommit|ext.JournalIncompatCsumV3)
	be.PutUint32(r.data[0x54:], 64)
	r.mendSuperblock()
	r.fill(f)
	first, _ := r.superblock(f).FastCommitArea()
	r.fastCommits(first, 9, "a secret")
	const ahead, blocks = 32, 1024 + 64
	f.Add(append(bytes.Clone(r.data[:ahead*testBlockSize]), r.data[int(first)*testBlockSize:][:4*testBlockSize]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2*testBlockSize {
			return
		}
		r := &ring{data: bytes.Clone(b[:len(b)/testBlockSize*testBlockSize])}
		if be.Uint32(r.data[0x28:])&ext.JournalIncompatFastCommit != 0 && r.blocks() > ahead {
			// With fast commits the log has to be long: what is behind its
			// first blocks is of their area.
			area := r.data[ahead*testBlockSize:]
			r.data = append(bytes.Clone(r.data[:ahead*testBlockSize]), make([]byte, (blocks-ahead)*testBlockSize)...)
			copy(r.data[(blocks-63)*testBlockSize:], area)
			be.PutUint32(r.data[0x54:], 64)
		}
		// Let the mutations reach the log.
		sb := r.header(0, 4, 0)
		be.PutUint32(sb[0x0C:], testBlockSize)
		be.PutUint32(sb[0x10:], uint32(r.blocks()))
		clear(sb[0x40:0x44])
		sb[0x50] = 4
		r.mendSuperblock()
		reads := uint64(0)
		s := journalScrub{
			keys: newKeyring([KeySize]byte{9}), lim: &limits{blockSize: testBlockSize, blocks: testBlocks, inodes: 1 << 20},
			blocks:   testBlocks,
			metadata: func(_ uint64, data []byte) { clear(data) },
			name:     func(_ uint32, name []byte) { clear(name) },
			inode:    func(_ uint32, in ext.Inode) { clear(in) },
		}
		x, err := newJournalIndex(context.Background(), r.superblock(t), testBlockSize, r.blocks(), func(n uint32, buf []byte) error {
			reads++
			return r.read(n, buf)
		}, s)
		if err != nil {
			t.Fatal(err)
		}
		if reads > 1500*(r.blocks()+1) {
			t.Fatalf("%d reads of %d blocks", reads, r.blocks())
		}
		if uint64(len(x.roles)) > r.blocks() {
			t.Fatalf("%d roles for %d blocks", len(x.roles), r.blocks())
		}
		out, _ := scrubRing(t, r, s)
		for n := uint32(1); uint64(n) < r.blocks(); n++ {
			was, is := r.block(n), bytes.Clone(r.block(n))
			x.block(n, is)
			if !bytes.Equal(is, out.block(n)) {
				t.Fatalf("block %d is scrubbed in two ways", n)
			}
			left := 0
			for i, c := range is {
				if c < ' ' || c > '~' || c != was[i] {
					left = 0
				} else if left++; left >= 8 && len(slices.Compact(slices.Sorted(slices.Values(is[i+1-left:i+1])))) >= 4 {
					t.Fatalf("block %d has %q", n, is[i+1-left:i+1])
				}
			}
		}
	})
}
