package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// scrubbed returns the scrubbed image of a filesystem, with the blocks that are
// metadata.
func scrubbed(data []byte, key byte) (image []byte, res *scan.Result, err error) {
	ctx := context.Background()
	index := NewIndex(Options{Key: [KeySize]byte{key}, Threads: 2})
	if res, err = scan.Scan(ctx, bytes.NewReader(data), int64(len(data)), scan.Options{Visit: index.Visit}); err != nil {
		return nil, nil, err
	}
	v, err := index.View(ctx, res)
	if err != nil {
		return nil, res, err
	}
	image = make([]byte, v.Size())
	if _, err = v.ReadAt(image, 0); err == nil {
		err = v.Verify(ctx)
	}
	return image, res, err
}

// The canaries that are laid over metadata.
const (
	plainCanary = "Qk3zWordOfSomebodyXu7"
	wideCanary  = "Vq9nLetterToNobodyYt2"
)

// canaryBytes returns the n-th form of a canary.
func canaryBytes(n int) []byte {
	if n%2 == 0 {
		return []byte(plainCanary)
	}
	var b []byte
	for _, c := range utf16.Encode([]rune(wideCanary)) {
		b = append(b, byte(c), byte(c>>8))
	}
	return b
}

// findCanary returns what is left of a canary in an image: twelve bytes of it.
func findCanary(image []byte) []byte {
	for form := range 2 {
		c := canaryBytes(form)
		for i := 0; i+12 <= len(c); i++ {
			if bytes.Contains(image, c[i:i+12]) {
				return c[i : i+12]
			}
		}
	}
	return nil
}

// FuzzView lays text and any bytes over the metadata of small filesystems. There
// is an image, always the same, and no text in it.
func FuzzView(f *testing.F) {
	var bases [][]byte
	var metas [][]uint64
	blockSizes := []int{1024, 1024, 1024, 4096}
	for i, options := range []string{
		"-b 1024 -t ext2 -g 1024 -N 128", "-b 1024 -t ext4 -O ^has_journal,^metadata_csum,inline_data,ea_inode -I 256 -N 128 -g 1024",
		"-b 1024 -t ext4 -O metadata_csum,mmp,orphan_file,quota,^resize_inode -g 1024 -N 128 -J size=1", "-b 4096 -t ext4 -O ^has_journal,bigalloc,^resize_inode -C 16384 -N 128",
	} {
		spec := testfs.Spec{Mke2fs: options, Size: 4 << 20, Debugfs: []string{
			"mkdir folder", "symlink folder/short to/somewhere", "symlink long /" + strings.Repeat("a-long-target/", 10), "ea_set folder user.name a-value-of-somebody",
		}}
		for n := range 30 {
			spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir folder/name-of-%d", n))
		}
		data, err := os.ReadFile(testfs.Make(f, spec).Path)
		if err != nil {
			f.Fatal(err)
		}
		_, res, err := scrubbed(data, 1)
		if err != nil {
			f.Fatal(err)
		}
		var meta []uint64
		for k := range scan.Claimed {
			for run := range res.Map.RunsOf(k) {
				for n := range run.Count {
					if k != scan.Superblock {
						meta = append(meta, run.Start+n)
					}
				}
			}
		}
		slices.Sort(meta)
		bases, metas = append(bases, data), append(metas, slices.Compact(meta))
		f.Add(uint8(i), []byte{0, 5, 0, 0, 0, 0, 9, 0, 1, 1})
	}
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		i := int(base) % len(bases)
		data, meta, bs := bytes.Clone(bases[i]), metas[i], blockSizes[i]
		const size = 5 // block, offset, form
		for n := 0; n < 16 && len(edits) >= size; n, edits = n+1, edits[size:] {
			at := int(meta[int(le.Uint16(edits))%len(meta)])*bs + int(le.Uint16(edits[2:]))%bs
			switch form := int(edits[4]); {
			case form < 64:
				text := canaryBytes(form)
				for k := 0; k < form/2+1 && at+len(text) <= len(data); k++ {
					copy(data[at:], text)
					at += len(text)
				}
			default:
				copy(data[at:], edits[size:min(len(edits), size+form-63)])
			}
		}
		image, _, err := scrubbed(data, 1)
		if leak := (*LeakError)(nil); errors.As(err, &leak) {
			t.Fatal(err)
		} else if err != nil {
			return // there is no filesystem any more
		}
		if left := findCanary(image); left != nil {
			t.Fatalf("%q is left at byte %d", left, bytes.Index(image, left))
		}
		if again, _, _ := scrubbed(data, 1); !bytes.Equal(image, again) {
			t.Fatal("not the same twice")
		}
	})
}
