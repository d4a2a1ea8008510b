package ext

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// putDirent writes an entry at b and returns what follows it.
func putDirent(b []byte, ino uint32, recLen int, typ uint8, name string) []byte {
	binary.LittleEndian.PutUint32(b, ino)
	raw := uint16(recLen)
	if recLen >= 1<<16 {
		raw = 0
	}
	binary.LittleEndian.PutUint16(b[4:], raw)
	b[6], b[7] = uint8(len(name)), typ
	copy(b[8:], name)
	return b[min(recLen, len(b)):]
}

func names(chain []byte, blockSize int) ([]string, error) {
	var got []string
	r := NewDirReader(chain, blockSize)
	for r.Next() {
		if e := r.Entry(); e.Inode != 0 {
			got = append(got, fmt.Sprintf("%d %s", e.Inode, e.Name))
		}
	}
	return got, r.Err()
}

func TestRecLen(t *testing.T) {
	for _, c := range []struct {
		raw       uint16
		blockSize int
		want      int
	}{
		{12, 1024, 12}, {0, 4096, 0}, {65535, 4096, 65535},
		{0, 65536, 65536}, {65535, 65536, 65536}, {65532, 65536, 65532}, {12, 65536, 12}, {5, 65536, 65540},
	} {
		if got := RecLen(c.raw, c.blockSize); got != c.want {
			t.Errorf("RecLen(%d, %d) = %d, want %d", c.raw, c.blockSize, got, c.want)
		}
	}
}

// fillTree makes a folder of n files with names of several lengths.
func fillTree(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	d := filepath.Join(dir, "d")
	if err := os.Mkdir(d, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("%03d%s", i, strings.Repeat("x", i%40))
		if err := os.WriteFile(filepath.Join(d, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (img *diskImage) list(dir string) []string {
	img.t.Helper()
	var want []string
	for line := range strings.Lines(img.query("ls -p " + dir)) {
		// "/12/100644/0/0/name/size/"
		if f := strings.Split(strings.TrimSpace(line), "/"); len(f) > 5 && f[1] != "0" {
			want = append(want, f[1]+" "+f[5])
		}
	}
	return want
}

func TestDirReaderAgainstDebugfs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		blockSize int
		files     int
		args      []string
	}{
		{1024, 20, []string{"-t", "ext2", "-O", "^dir_index"}},
		{1024, 300, []string{"-t", "ext4"}},
		{4096, 100, []string{"-t", "ext4", "-O", "metadata_csum"}},
		{4096, 3, []string{"-t", "ext4", "-O", "inline_data", "-I", "256"}},
		{65536, 400, []string{"-t", "ext4"}},
		{65536, 400, []string{"-t", "ext2", "-O", "^dir_index"}},
	} {
		t.Run(fmt.Sprintf("%d %s", c.blockSize, strings.Join(c.args, " ")), func(t *testing.T) {
			img := newDiskImage(t, 64<<20, c.blockSize, append([]string{"-d", fillTree(t, c.files)}, c.args...)...)
			want := img.list("/d")
			var got []string
			add := func(chain []byte) {
				n, err := names(chain, c.blockSize)
				if err != nil {
					t.Error(err)
				}
				got = append(got, n...)
			}
			if img.inodeFlags("/d")&inlineDataFlag != 0 {
				inode := img.read(img.inodeAt("/d"), 256)
				parent, chain, ok := InlineDirectory(inode[0x28 : 0x28+60])
				if !ok || parent != 2 {
					t.Fatalf("parent = %d, %v", parent, ok)
				}
				want = want[2:] // "." and "..", which debugfs makes up
				add(chain)
				r := NewInodeXattrReader(inode)
				for r.Next() {
					if v, ok := r.Value(); ok && r.Entry().IsInlineData() {
						add(v)
					}
				}
			} else {
				for _, b := range img.blocks("/d") {
					add(img.block(b))
				}
				first := img.block(img.blocks("/d")[0])
				ino := binary.LittleEndian.Uint32(first)
				if !LooksLikeDirectory(first, ino) || LooksLikeDirectory(first, ino+1) {
					t.Error("LooksLikeDirectory does not recognise the first block")
				}
				if blocks := img.blocks("/d"); len(blocks) > 1 && LooksLikeDirectory(img.block(blocks[1]), ino) {
					t.Error("LooksLikeDirectory recognises the second block")
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-debugfs +ours:\n%s", diff)
			}
		})
	}
}

func TestInlineDirectoryAgainstKernel(t *testing.T) {
	t.Parallel()
	img := newDiskImage(t, 4<<20, 4096, "-t", "ext4", "-O", "inline_data", "-I", "512")
	img.mounted(func(dir string) {
		d := filepath.Join(dir, "d")
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if err := os.WriteFile(filepath.Join(d, fmt.Sprint("file", i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	inode := img.read(img.inodeAt("/d"), 512)
	if img.inodeFlags("/d")&inlineDataFlag == 0 {
		t.Fatal("the directory is not inline")
	}
	_, chain, _ := InlineDirectory(inode[0x28:])
	got, err := names(chain, 4096)
	if err != nil {
		t.Error(err)
	}
	r := NewInodeXattrReader(inode)
	parts := 0
	for r.Next() {
		if v, ok := r.Value(); ok && r.Entry().IsInlineData() {
			more, err := names(v, 4096)
			if err != nil {
				t.Error(err)
			}
			got = append(got, more...)
			parts++
		}
	}
	if diff := cmp.Diff(img.list("/d")[2:], got); diff != "" || parts != 1 {
		t.Errorf("%d parts; -debugfs +ours:\n%s", parts, diff)
	}
}

// inlineDataFlag is EXT4_INLINE_DATA_FL.
const inlineDataFlag = 0x10000000

// inodeFlags returns the flags of a file's inode.
func (img *diskImage) inodeFlags(file string) uint32 {
	return binary.LittleEndian.Uint32(img.read(img.inodeAt(file)+0x20, 4))
}

func TestDirReaderStops(t *testing.T) {
	for _, c := range []struct {
		name   string
		at     int // of the entry made wrong
		recLen uint16
		nlen   uint8
	}{
		{"zero", 24, 0, 1}, {"eight", 24, 8, 0}, {"odd", 24, 13, 1}, {"beyond", 24, 2000, 1}, {"name", 24, 12, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			block := make([]byte, 1024)
			rest := putDirent(block, 11, 12, 2, ".")
			rest = putDirent(rest, 2, 12, 2, "..")
			putDirent(rest, 12, 1000, 1, "a")
			binary.LittleEndian.PutUint16(block[c.at+4:], c.recLen)
			block[c.at+6] = c.nlen
			got, err := names(block, 1024)
			if diff := cmp.Diff([]string{"11 .", "2 .."}, got); diff != "" {
				t.Error(diff)
			}
			var de *DirentError
			if !errors.As(err, &de) || de.Offset != c.at || de.RecLen != int(c.recLen) || de.NameLen != int(c.nlen) {
				t.Errorf("err = %v", err)
			}
		})
	}
	if _, err := names(make([]byte, 4), 1024); err == nil {
		t.Error("a chain of four bytes passes")
	}
}

// TestSalvageAgainstE2fsck damages a directory in many ways and compares with
// what e2fsck keeps of it.
func TestSalvageAgainstE2fsck(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-t", "ext2", "-O", "^dir_index", "-N", "64"},
		{"-t", "ext4", "-O", "^has_journal,metadata_csum,^resize_inode", "-N", "64"},
	} {
		t.Run(args[1], func(t *testing.T) {
			img := newDiskImage(t, 256<<10, 1024, append([]string{"-d", fillTree(t, 18)}, args...)...)
			at := int64(img.blocks("/d")[0]) * 1024
			sound, err := os.ReadFile(img.path)
			if err != nil {
				t.Fatal(err)
			}
			salvagedByE2fsck := 0
			rnd := rand.New(rand.NewPCG(1, 2))
			cases := 150
			if testing.Short() {
				cases = 30
			}
			for i := range cases {
				block := bytes.Clone(sound[at : at+1024])
				var offsets []int
				r := NewDirReader(block, 1024)
				for r.Next() {
					offsets = append(offsets, r.Entry().Offset)
				}
				for range 1 + rnd.IntN(3) {
					off := offsets[rnd.IntN(len(offsets))]
					switch rnd.IntN(6) {
					case 0:
						binary.LittleEndian.PutUint16(block[off+4:], uint16(rnd.Uint32()))
					case 1:
						binary.LittleEndian.PutUint16(block[off+4:], uint16(rnd.IntN(280))*4)
					case 2:
						binary.LittleEndian.PutUint16(block[off+4:], 8)
					case 3:
						block[off+6] = uint8(rnd.Uint32())
					case 4:
						binary.LittleEndian.PutUint32(block[off:], rnd.Uint32N(80))
					case 5:
						copy(block[rnd.IntN(1000):], block[off:])
					}
				}
				if err := os.WriteFile(img.path, sound, 0o600); err != nil {
					t.Fatal(err)
				}
				img.write(at, block)
				out, err := exec.Command("e2fsck", "-fy", img.path).CombinedOutput()
				if ee := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &ee) || ee.ExitCode()&^7 != 0) {
					t.Fatalf("e2fsck: %v\n%s", err, out)
				}
				if bytes.Contains(out, []byte("Salvage? yes")) {
					salvagedByE2fsck++
				}
				var mine []uint32
				r = NewDirReader(block, 1024)
				for r.Next() {
					mine = append(mine, r.Entry().Inode)
				}
				if r.Suspect() {
					mine = nil
					SalvageDirents(block, 1024, 64, false, nil, func(d *Dirent) { mine = append(mine, d.Inode) })
				}
				for _, e := range img.list("/d") {
					ino, name, _ := strings.Cut(e, " ")
					n, err := strconv.ParseUint(ino, 10, 32)
					if err != nil {
						t.Fatal(err)
					}
					if name != "." && name != ".." && !slices.Contains(mine, uint32(n)) {
						t.Fatalf("case %d: e2fsck kept inode %d, %q, we did not see it in %v\n%s\n%x", i, n, name, mine, out, block)
					}
				}
			}
			if salvagedByE2fsck < cases/3 {
				t.Errorf("only %d cases made e2fsck salvage", salvagedByE2fsck)
			}
		})
	}
}

func TestSalvageRules(t *testing.T) {
	three := func(edit func(b []byte)) []byte {
		block := make([]byte, 1024)
		rest := putDirent(block, 11, 12, 2, ".")
		rest = putDirent(rest, 2, 12, 2, "..")
		rest = putDirent(rest, 12, 16, 1, "first")
		rest = putDirent(rest, 13, 16, 1, "second")
		putDirent(rest, 14, 1024-56, 1, "third")
		edit(block)
		return block
	}
	for _, c := range []struct {
		name   string
		chain  []byte
		inodes []uint32
	}{
		{"sound", three(func([]byte) {}), []uint32{11, 2, 12, 13, 14}},
		{"hole of eight", three(func(b []byte) {
			copy(b[32:], bytes.Clone(b[24:1016]))
			binary.LittleEndian.PutUint16(b[28:], 8)
			binary.LittleEndian.PutUint16(b[32+4:], 16)
			binary.LittleEndian.PutUint16(b[64+4:], 1024-64)
		}), []uint32{11, 2, 12, 13, 14}},
		{"absorbed", three(func(b []byte) { b[40+6] = 200 }), []uint32{11, 2, 12, 14}},
		{"cut", three(func(b []byte) { binary.LittleEndian.PutUint16(b[56+4:], 2000) }), []uint32{11, 2, 12, 13, 14}},
		{"given up", three(func(b []byte) { binary.LittleEndian.PutUint16(b[40+4:], 0) }), []uint32{11, 2, 12}},
		{"cut, but no such inode", three(func(b []byte) {
			binary.LittleEndian.PutUint16(b[40+4:], 4000)
			binary.LittleEndian.PutUint32(b[40:], 1000)
		}), []uint32{11, 2, 12}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []uint32
			SalvageDirents(c.chain, 1024, 100, false, nil, func(d *Dirent) {
				if !slices.Contains(got, d.Inode) {
					got = append(got, d.Inode)
				}
			})
			if diff := cmp.Diff(c.inodes, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLooksLikeInlineDirectory(t *testing.T) {
	iblock := make([]byte, 60)
	binary.LittleEndian.PutUint32(iblock, 2)
	putDirent(iblock[4:], 12, 56, 1, "a")
	if !LooksLikeInlineDirectory(iblock, 60, 4096, 100, 11) {
		t.Error("a sound one is refused")
	}
	for name, edit := range map[string]func([]byte){
		"parent": func(b []byte) { b[0] = 5 },
		"entry":  func(b []byte) { b[4] = 200 },
		"length": func(b []byte) { b[8] = 60 },
	} {
		b := bytes.Clone(iblock)
		edit(b)
		if LooksLikeInlineDirectory(b, 60, 4096, 100, 11) {
			t.Errorf("%s: accepted", name)
		}
	}
	if LooksLikeInlineDirectory(iblock, 61, 4096, 100, 11) || LooksLikeInlineDirectory(iblock[:59], 60, 4096, 100, 11) {
		t.Error("a wrong size is accepted")
	}
}

func FuzzDirReader(f *testing.F) {
	block := make([]byte, 1024)
	rest := putDirent(block, 11, 12, 2, ".")
	rest = putDirent(rest, 2, 12, 2, "..")
	putDirent(rest, 12, 1000, 1, "a")
	f.Add(block, false)
	f.Add([]byte{0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 12, 0, 1, 0, 'a', 0, 0, 0, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, chain []byte, big bool) {
		blockSize := 4096
		if big {
			blockSize = 65536
		}
		var inodes []uint32
		r := NewDirReader(chain, blockSize)
		end := 0
		for r.Next() {
			e := r.Entry()
			if e.Offset != end || len(e.Name) != int(e.NameLen) {
				t.Fatalf("entry %+v after offset %d", e, end)
			}
			end += e.RecLen
			if e.Inode != 0 {
				inodes = append(inodes, e.Inode)
			}
		}
		if (r.Err() == nil) != (end == len(chain)) {
			t.Fatalf("err = %v at %d of %d", r.Err(), end, len(chain))
		}
		var salvaged []uint32
		SalvageDirents(chain, blockSize, 1000, true, nil, func(d *Dirent) {
			if d.Inode == 0 || d.RecLen > len(chain)-d.Offset {
				t.Fatalf("salvaged %+v", d)
			}
			salvaged = append(salvaged, d.Inode)
		})
		for _, ino := range inodes {
			if !slices.Contains(salvaged, ino) {
				t.Fatalf("inode %d is in the chain, but not among the salvaged %v", ino, salvaged)
			}
		}
		LooksLikeDirectory(chain, 11)
		LooksLikeInlineDirectory(chain, 60, blockSize, 100, 11)
	})
}

func BenchmarkDirReader(b *testing.B) {
	block := make([]byte, 4096)
	rest := block
	for len(rest) > 64 {
		rest = putDirent(rest, 12, 32, 1, "a name of twenty-one.")
	}
	putDirent(rest, 12, len(rest), 1, "last")
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	var sum uint32
	for b.Loop() {
		r := NewDirReader(block, 4096)
		for r.Next() {
			sum += r.Entry().Inode
		}
	}
	if sum == 0 {
		b.Fatal("nothing read")
	}
}
