package scan

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMapRuns(t *testing.T) {
	m := new(Map)
	m.add(Directory, 10, 20)
	m.add(InodeTable, 15, 5)
	m.add(Claimed, 5, 40)
	m.add(Superblock, 16, 1)
	m.add(Xattr, 100, 1)
	want := []Run{
		{5, 5, Claimed}, {10, 5, Directory}, {15, 1, InodeTable}, {16, 1, Superblock}, {17, 3, InodeTable},
		{20, 10, Directory}, {30, 15, Claimed}, {100, 1, Xattr},
	}
	if got := slices.Collect(m.Runs()); !slices.Equal(got, want) {
		t.Errorf("runs\n%v, want\n%v", got, want)
	}
	if !m.Contains(Claimed, 16) || m.Contains(Directory, 9) {
		t.Error("Contains does not tell kinds apart")
	}
	if got := m.Blocks(InodeTable); got != 5 {
		t.Errorf("%d blocks of inode tables, want 5", got)
	}
	if got := m.all().count(); got != 41 {
		t.Errorf("%d blocks in all, want 41", got)
	}
}

// The runs are what a table of the first kind of each block says.
func TestMapRunsProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, base := range bases {
		for range 40 {
			m := new(Map)
			first := make(map[uint64]Kind)
			for k := range kinds {
				for _, run := range randomRuns(r, base) {
					m.add(k, run[0], run[1])
					for b := run[0]; b < run[0]+run[1]; b++ {
						if _, ok := first[b]; !ok {
							first[b] = k
						}
					}
				}
			}
			got := make(map[uint64]Kind)
			end := uint64(0)
			for run := range m.Runs() {
				if run.Count == 0 || run.Start < end {
					t.Fatalf("run %v after one that ends at %d", run, end)
				}
				end = run.Start + run.Count
				for b := run.Start; b < end; b++ {
					got[b] = run.Kind
				}
			}
			if !maps.Equal(got, first) {
				t.Fatalf("base %d: kinds differ", base)
			}
		}
	}
}

// Leaving the loop early ends the walks of all kinds.
func TestMapRunsStops(t *testing.T) {
	m := new(Map)
	for k := range kinds {
		m.add(k, uint64(k)*10, 5)
	}
	n := 0
	for range m.Runs() {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d runs seen, want 3", n)
	}
	if got := len(slices.Collect(new(Map).Runs())); got != 0 {
		t.Errorf("an empty map has %d runs", got)
	}
}

func TestMapAddScaled(t *testing.T) {
	large, small := new(Map), new(Map)
	large.add(Superblock, 0, 1)
	large.add(Superblock, 9, 1)
	large.add(Directory, 1, 2)
	large.add(Symlink, 4, 1)
	large.ends = []partial{{block: 5, bytes: 2500, kind: XattrValue}}
	small.addScaled(large, 4096, 1024)
	want := []Run{
		{0, 2, Superblock}, // boot sector and primary
		{4, 8, Directory},
		{16, 4, Claimed}, // whole: where the target ends is not known
		{20, 2, XattrValue},
		{36, 1, Superblock}, // what is behind a copy is slack
	}
	if got := slices.Collect(small.Runs()); !slices.Equal(got, want) {
		t.Errorf("in blocks of 1 KiB %v, want %v", got, want)
	}
	if want := []partial{{block: 22, bytes: 452, kind: XattrValue}}; !slices.Equal(small.ends, want) {
		t.Errorf("ends %v, want %v", small.ends, want)
	}
	same := new(Map)
	same.addScaled(large, 4096, 4096)
	if got, want := slices.Collect(same.Runs()), slices.Collect(large.Runs()); !slices.Equal(got, want) || !slices.Equal(same.ends, large.ends) {
		t.Errorf("in blocks of the same size %v %v", got, same.ends)
	}
}

func TestKindNames(t *testing.T) {
	seen := make(map[string]bool)
	for k := range kinds {
		if n := k.String(); n == "" || n == "unknown" || seen[n] {
			t.Errorf("kind %d is called %q", k, n)
		}
		seen[k.String()] = true
	}
	for k := range problemKinds {
		if n := k.String(); n == "" || n == "unknown" {
			t.Errorf("problem %d is called %q", k, n)
		}
	}
}

// What is kept of damage does not depend on the order in which it is met.
func TestProblemsFirst(t *testing.T) {
	list := []Problem{
		{Kind: BadDirectory, What: "b", Inode: 12, Block: 7}, {Kind: BadDirectory, What: "a", Inode: 12, Block: 7},
		{Kind: BadDirectory, What: "c", Inode: 12, Block: 5}, {Kind: BadDirectory, What: "d", Inode: 13},
		{Kind: BadDescriptor, What: "e", Group: 4}, {Kind: BadDescriptor, What: "f", Group: 3},
	}
	want := []Problem{
		{Kind: BadDescriptor, What: "f", Group: 3, Count: 2},
		{Kind: BadDirectory, What: "c", Inode: 12, Block: 5, Count: 4},
	}
	r := rand.New(rand.NewPCG(11, 12))
	for range 50 {
		var p problems
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, q := range list {
			p.add(q)
		}
		if got := p.list(); !slices.Equal(got, want) {
			t.Fatalf("problems %v, want %v", got, want)
		}
	}
}

// Group 0 is a group.
func TestProblemOfGroup0(t *testing.T) {
	for p, want := range map[Problem]string{
		{Kind: BadDescriptor, What: "wrong checksum"}: "group descriptor: wrong checksum, group 0",
		{Kind: BadInode, What: "flags", Inode: 5}:     "inode: flags, inode 5",
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
