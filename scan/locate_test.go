package scan

import (
	"bytes"
	"context"
	"errors"
	"syscall"
	"testing"

	"e2qcow/image"
	"e2qcow/internal/testfs"
)

// A fileReader is a reader that locates all its bytes, as a regular file does.
type fileReader struct{ *bytes.Reader }

func (r fileReader) Locate(off, limit int64, _ bool) (f image.File, at, n int64) {
	return r, off, limit
}

func (fileReader) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

// TestLocate reads views, with bad sectors of all kinds and without: what is
// located then lies in the source byte for byte, and is known. Old data behind the
// end of a structure and lost bytes are not located.
func TestLocate(t *testing.T) {
	data := makeImage(t, testfs.Spec{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -J size=1 -N 90"}, tree(t, []byte("file data ")))
	whole := scanBytes(t, data, Options{})
	// Old data lies behind each superblock, symlink and end of a table.
	old := []byte("old data ")
	view := whole.View()
	b := make([]byte, 1024)
	for start, end := range whole.Map.all().runs() {
		for block := start; block < end; block++ {
			off := int64(block) * 1024
			if _, err := view.ReadAt(b, off); err != nil {
				t.Fatal(err)
			}
			if s, _, ok := view.slack.blocks.next(block); ok && s <= block {
				if used := len(bytes.TrimRight(b, "\x00")) + 1; used < len(b) {
					copy(data[off+int64(used):off+1024], bytes.Repeat(old, 120))
				}
			}
		}
	}
	var bad [][]Range
	bad = append(bad, nil)
	for k := range Kinds() {
		for run := range whole.Map.RunsOf(k) {
			off := int64(run.Start) * 1024
			bad = append(bad, []Range{{off + sector, off + 2*sector}}, []Range{{off, off + int64(run.Count)*1024}})
			break
		}
	}
	located := int64(0)
	for _, bad := range bad {
		res, err := Scan(context.Background(), fileReader{bytes.NewReader(data)}, int64(len(data)), Options{Bad: bad})
		if err != nil {
			t.Fatal(err)
		}
		view := res.View()
		if f, _, n := view.Locate(0, view.Size(), false); f != nil || n < view.Size() {
			t.Fatalf("%d bytes are located (%v) before they were read", n, f)
		}
		all := make([]byte, view.Size())
		if _, err := view.ReadAt(all, 0); err != nil {
			t.Fatal(err)
		}
		for off := int64(0); off < view.Size(); {
			f, at, n := view.Locate(off, view.Size()-off, true)
			if n <= 0 || off+n > view.Size() {
				t.Fatalf("bad %v: %d bytes at %d", bad, n, off)
			}
			if f != nil {
				if !bytes.Equal(all[off:off+n], data[at:at+n]) {
					t.Errorf("bad %v: the %d bytes at %d read otherwise", bad, n, off)
				}
				for _, lost := range res.Unreadable() {
					if lost.Start < off+n && off < lost.End {
						t.Errorf("bad %v: lost bytes are located in [%d, %d)", bad, off, off+n)
					}
				}
				if start, end, err := view.NextRun(off); err != nil || start > off || end < off+n {
					t.Errorf("bad %v: [%d, %d) is located and not known", bad, off, off+n)
				}
				located += n
			}
			off += n
		}
	}
	if known := whole.UsedBytes(); located < known*int64(len(bad))/2 {
		t.Errorf("only %d bytes were located, of %d known ones %d times", located, known, len(bad))
	}
}
