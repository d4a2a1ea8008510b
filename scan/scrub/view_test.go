package scrub

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// TestNamesInInodes has damage put entries of a directory over inodes: what is
// overwritten of one changes what its other fields pass for. Whatever the key
// is, there is an image, and no name in it.
func TestNamesInInodes(t *testing.T) {
	spec := testfs.Spec{Mke2fs: "-b 1024 -N 256 -I 256 -J size=1", Size: 8 << 20}
	for i := range 42 {
		spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir file-%05d-name", i))
	}
	sound, err := os.ReadFile(testfs.Make(t, spec).Path)
	if err != nil {
		t.Fatal(err)
	}
	sb, err := ext.DecodeSuperblock(sound[ext.SuperblockOffset:][:ext.SuperblockSize])
	if err != nil {
		t.Fatal(err)
	}
	geo, err := sb.Geometry()
	if err != nil {
		t.Fatal(err)
	}
	descs := sound[geo.DescBlock(0, 0)*1024:]
	inodes := int(ext.GroupDesc(descs[:geo.DescSize]).InodeTable()) * 1024
	ctx := context.Background()
	step, keys := 4, byte(10)
	if testing.Short() {
		step, keys = 12, 3
	}
	for phase := 0; phase < 24; phase += step {
		data := bytes.Clone(sound)
		for at := inodes + 20*256 + phase; at < inodes+36*256; at += 24 {
			copy(data[at:], fmt.Sprintf("\x14\x00\x00\x00\x18\x00\x0f\x01file-%05d-name", at/24%42))
		}
		for key := range keys {
			index := NewIndex(Options{Key: [KeySize]byte{key}})
			res, err := scan.Scan(ctx, bytes.NewReader(data), int64(len(data)), scan.Options{Visit: index.Visit})
			if err != nil {
				t.Fatal(err)
			}
			v, err := index.View(ctx, res)
			if err != nil {
				t.Fatal(err)
			}
			image := make([]byte, len(data))
			if _, err := v.ReadAt(image, 0); err != nil {
				t.Fatalf("phase %d, key %d: %v", phase, key, err)
			}
			if err := v.Verify(ctx); err != nil {
				t.Fatalf("phase %d, key %d: %v", phase, key, err)
			}
			for i := range 42 {
				if at := bytes.Index(image, fmt.Appendf(nil, "file-%05d-name", i)); at >= 0 {
					t.Fatalf("phase %d, key %d: a name is left at byte %d", phase, key, at)
				}
			}
			if v.Summary().Replaced == 0 {
				t.Fatal("nothing was taken for garbage")
			}
		}
	}
}
