package storage

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestOverlaps(t *testing.T) {
	file := func(ino, start, end uint64) extent { return extent{fileID{dev: 1, ino: ino}, start, end} }
	disk := func(dev, start, end uint64) extent { return extent{fileID{block: true, dev: dev}, start, end} }
	exact := func(e ...extent) Region { return Region{exact: e} }
	const end = math.MaxUint64
	mapped := func(dev uint64, over extent) Region {
		return Region{exact: []extent{disk(dev, 0, end)}, under: []extent{over}}
	}
	tests := []struct {
		what string
		a, b Region
		want bool
	}{
		{"nothing and nothing", Region{}, Region{}, false},
		{"a file and itself", exact(file(5, 0, end)), exact(file(5, 0, end)), true},
		{"two files", exact(file(5, 0, end)), exact(file(6, 0, end)), false},
		{"a device and a file with its number", exact(disk(1, 0, end)), exact(file(0, 0, end)), false},
		{"partitions side by side", exact(disk(8, 512, 1024)), exact(disk(8, 1024, 2048)), false},
		{"a partition and its disk", exact(disk(8, 512, 1024)), exact(disk(8, 0, end)), true},
		{"partitions that overlap", exact(disk(8, 512, 1025)), exact(disk(8, 1024, 2048)), true},
		{"one of two files", exact(file(5, 0, end)).With(exact(file(6, 0, end))), exact(file(6, 0, end)), true},
		{"none of two files", exact(file(5, 0, end)).With(exact(file(6, 0, end))), exact(file(7, 0, end)), false},
		{"logical volumes of one disk", mapped(253, disk(8, 0, end)), mapped(254, disk(8, 0, end)), false},
		{"a logical volume and its disk", mapped(253, disk(8, 0, end)), exact(disk(8, 0, end)), true},
		{"a logical volume and itself", mapped(253, disk(8, 0, end)), mapped(253, disk(8, 0, end)), true},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			if got := test.a.Overlaps(test.b); got != test.want {
				t.Errorf("got %v", got)
			}
			if got := test.b.Overlaps(test.a); got != test.want {
				t.Errorf("the other way round: got %v", got)
			}
		})
	}
}

func TestOf(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) Region {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := Of(f)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one, two, hard, soft := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "hard"), filepath.Join(dir, "soft")
	r := open(one)
	if err := os.Link(one, hard); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(one, soft); err != nil {
		t.Fatal(err)
	}
	if !r.Overlaps(open(hard)) || !r.Overlaps(open(soft)) {
		t.Error("a file by another name is another file")
	}
	if r.Overlaps(open(two)) {
		t.Error("two files are one")
	}
	if null := open(os.DevNull); null.Overlaps(null) {
		t.Error("what has no storage overlaps")
	}
	if uses, err := r.Uses(); err != nil || len(uses) > 0 {
		t.Errorf("a file of zeros is in use: %v, %v", uses, err)
	}
}

func TestAdd64(t *testing.T) {
	if got := add64(math.MaxUint64, 1); got != math.MaxUint64 {
		t.Errorf("wrapped to %d", got)
	}
	if got := add64(1, 2); got != 3 {
		t.Errorf("1 + 2 is %d", got)
	}
}
