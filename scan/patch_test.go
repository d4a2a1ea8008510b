package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// patchOf scans a disk and returns the patch of it, and its runs.
func patchOf(t *testing.T, disk []byte) (*Patch, []Range) {
	t.Helper()
	res, err := Scan(context.Background(), bytes.NewReader(disk), int64(len(disk)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := res.Patch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var runs []Range
	for off := int64(0); ; {
		start, end, err := p.NextRun(off)
		if errors.Is(err, io.EOF) {
			return p, runs
		}
		if err != nil || start < off || end <= start {
			t.Fatalf("run [%d, %d) after %d: %v", start, end, off, err)
		}
		runs, off = append(runs, Range{start, end}), end
	}
}

// apply writes a patch over a disk.
func apply(t *testing.T, p *Patch, runs []Range, disk []byte) {
	t.Helper()
	for _, r := range runs {
		if _, err := p.ReadAt(disk[r.Start:r.End], r.Start); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// patchTree fills a folder with what leads to most kinds of blocks.
func patchTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 200 {
		name := filepath.Join(dir, strings.Repeat("n", 40)+string(rune('a'+i%26))+string(rune('a'+i/26)))
		if err := os.WriteFile(name, bytes.Repeat([]byte("contents"), 200), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(strings.Repeat("target/", 20), filepath.Join(dir, "slow")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPatchSlack patches a disk that has something beside metadata: what nobody
// reads stays, what is metadata is as in the source.
func TestPatchSlack(t *testing.T) {
	for _, blockSize := range []int{1024, 4096} {
		source := makeImage(t, testfs.Spec{Size: 16 << 20, Mke2fs: fmt.Sprint("-b ", blockSize, " -t ext4")}, patchTree(t))
		target := bytes.Clone(source)
		copy(target, "boot")
		target[1024+0x78] ^= 0xff // the label
		if blockSize > 2048 {
			copy(target[2048:], "behind the superblock")
		}
		link := int64(bytes.Index(source, []byte("target/target/")))
		copy(target[link:], "another/target")
		copy(target[link+200:], "behind the target")
		want := bytes.Clone(target)
		want[1024+0x78] ^= 0xff
		copy(want[link:], "target/target/")
		p, runs := patchOf(t, source)
		if p.Absent() > 0 {
			t.Errorf("blocks of %d bytes: %d blocks are said to lack", blockSize, p.Absent())
		}
		apply(t, p, runs, target)
		for i := range want {
			if target[i] != want[i] {
				t.Fatalf("blocks of %d bytes: byte %d is %#x, want %#x", blockSize, i, target[i], want[i])
			}
		}
		// A NUL ends the target of a symlink.
		target[link+140] = 'x'
		apply(t, p, runs, target)
		if target[link+140] != 0 {
			t.Errorf("blocks of %d bytes: the target of a symlink goes on", blockSize)
		}
	}
}

// TestPatchZeros writes metadata that is zero, of which there is much in every
// filesystem.
func TestPatchZeros(t *testing.T) {
	source := makeImage(t, testfs.Spec{Size: 16 << 20, Mke2fs: "-b 1024 -t ext3"}, t.TempDir())
	res, err := Scan(context.Background(), bytes.NewReader(source), int64(len(source)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, runs := patchOf(t, source)
	target := bytes.Repeat([]byte{0xa5}, len(source))
	apply(t, p, runs, target)
	zeros := 0
	for run := range res.Map.Runs() {
		for b := run.Start; b < run.Start+run.Count; b++ {
			block := source[b*1024:][:1024]
			if !bytes.Equal(target[b*1024:][:1024], block) {
				t.Errorf("block %d of the %v is not as in the source", b, run.Kind)
			}
			if bytes.Count(block, []byte{0}) == len(block) {
				zeros++
			}
		}
	}
	if zeros < 1000 {
		t.Errorf("only %d blocks of metadata are zero", zeros)
	}
}

// TestPatchAbsent takes away what images of other makers lack. The patch then
// leaves it alone.
func TestPatchAbsent(t *testing.T) {
	source := makeImage(t, testfs.Spec{Size: 40 << 20, Mke2fs: "-b 1024 -t ext4"}, patchTree(t))
	res, err := Scan(context.Background(), bytes.NewReader(source), int64(len(source)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	image := bytes.Clone(source)
	lacks := func(kind Kind, except uint64) {
		for run := range res.Map.Runs() {
			if run.Kind == kind {
				for b := run.Start; b < run.Start+run.Count; b++ {
					if b > except {
						clear(image[b*1024:][:1024])
					}
				}
			}
		}
	}
	lacks(Superblock, 1)
	lacks(GroupDescs, 8000)
	lacks(Directory, 0)
	lacks(Journal, 0)
	p, runs := patchOf(t, image)
	if p.Absent() == 0 {
		t.Error("nothing is said to lack")
	}
	target := bytes.Clone(source)
	apply(t, p, runs, target)
	if !bytes.Equal(target, source) {
		t.Error("an image that lacks metadata takes it from the device")
	}
}

// TestPatchUnreadable leaves alone what cannot be read.
func TestPatchUnreadable(t *testing.T) {
	source := makeImage(t, testfs.Spec{Size: 16 << 20, Mke2fs: "-b 1024 -t ext4"}, patchTree(t))
	sound, err := Scan(context.Background(), bytes.NewReader(source), int64(len(source)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var bad Range
	for run := range sound.Map.Runs() {
		if run.Kind == InodeTable {
			bad = Range{int64(run.Start) * 1024, int64(run.Start)*1024 + 512}
			break
		}
	}
	res, err := Scan(context.Background(), bytes.NewReader(source), int64(len(source)), Options{Bad: []Range{bad}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := res.Patch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if lost := res.Unreadable(); len(lost) != 1 || lost[0] != bad {
		t.Fatalf("unreadable: %v, want %v", lost, bad)
	}
	for off := int64(0); ; {
		start, end, err := p.NextRun(off)
		if err != nil {
			break
		}
		if start < bad.End && end > bad.Start {
			t.Errorf("run [%d, %d) holds what cannot be read", start, end)
		}
		off = end
	}
	p.view.dev.r = &badDisk{ReaderAt: bytes.NewReader(source), bad: []int64{bad.Start}, nothing: true}
	if _, err := p.ReadAt(make([]byte, 1024), bad.Start); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("read at %d:", bad.Start)) {
		t.Errorf("a read of what cannot be read by now: %v", err)
	}
}
