package survey

import (
	"cmp"
	"maps"
	"math/rand"
	"slices"
	"testing"

	"e2qcow/ext"
)

// Of more directories than there may be rows, those are kept that are kept
// whatever the order in which they come, and as many as one in two, four ...
func TestRowsAreSampled(t *testing.T) {
	const most, all = 100, 1000
	inodes := rand.New(rand.NewSource(1)).Perm(all)
	var first []uint32
	for range 3 {
		r := newRows(most)
		rand.Shuffle(len(inodes), func(i, j int) { inodes[i], inodes[j] = inodes[j], inodes[i] })
		for _, ino := range inodes {
			r.add(uint32(ino+11), row{dir: true})
		}
		if n := len(r.list); n > most || n < most/4 || r.zeros == 0 {
			t.Errorf("%d rows, %d zeros", n, r.zeros)
		}
		list := slices.Sorted(maps.Keys(r.list))
		if first == nil {
			first = list
		}
		if !slices.Equal(first, list) {
			t.Errorf("another order leaves %v, not %v", list, first)
		}
	}
}

// Sets of bits take no more memory than they may, and which groups are left does
// not depend on the order.
func TestBitsetsAreBounded(t *testing.T) {
	const groups = 1000
	order := rand.New(rand.NewSource(1)).Perm(groups)
	for range 3 {
		b := newBitsets(groups, 64)
		b.most = 100
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, g := range order {
			if g%3 == 0 {
				b.set(uint32(g), 3, 7)
			}
		}
		if got := b.limit.Load(); got != 250 { // 84 of these have bits
			t.Errorf("the limit is %d", got)
		}
		for g := range uint32(groups) {
			want := g%3 == 0 && g < 250
			if got := b.group(g) != nil; got != want || b.known(g) != (g < 250) {
				t.Fatalf("group %d: %v, known %v", g, got, b.known(g))
			}
		}
		if b.count > b.most {
			t.Errorf("%d sets", b.count)
		}
	}
}

// Bits are set, counted and found as one by one.
func TestBits(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 500 {
		b := newBitsets(1, 200)
		plain := make([]bool, 256)
		for range r.Intn(6) {
			first := r.Intn(200)
			end := first + r.Intn(201-first)
			before := 0
			for i := first; i < end; i++ {
				if plain[i] {
					before++
				}
				plain[i] = true
			}
			if got, _ := b.set(0, uint64(first), uint64(end)); got != uint64(before) {
				t.Fatalf("%d bits of [%d, %d) were set, not %d", got, first, end, before)
			}
		}
		set := b.group(0)
		if set == nil {
			continue
		}
		var got []bool
		at := 0
		for first, end := range set.runs(200) {
			got = append(got, make([]bool, int(first)-at)...)
			for range end - first {
				got = append(got, true)
			}
			at = int(end)
		}
		got = append(got, make([]bool, 256-at)...)
		if !slices.Equal(got, plain) {
			t.Fatalf("%v, want %v", got, plain)
		}
		first := r.Intn(200)
		end := first + r.Intn(201-first)
		want := uint64(0)
		for _, x := range plain[first:end] {
			if x {
				want++
			}
		}
		if n := set.count(uint64(first), uint64(end)); n != want {
			t.Fatalf("%d bits in [%d, %d), not %d", n, first, end, want)
		}
	}
}

// A map of any filesystem has at most maxCells cells, and not few where a
// filesystem has blocks.
func TestMapSizes(t *testing.T) {
	for _, geo := range []*ext.Geometry{
		{BlockSize: 1024, ClusterSize: 1024, BlocksCount: 60, FirstDataBlock: 1, BlocksPerGroup: 8192},
		{BlockSize: 4096, ClusterSize: 4096, BlocksCount: 1, BlocksPerGroup: 32768},
		{BlockSize: 4096, ClusterSize: 4096, BlocksCount: 32768 * 17, BlocksPerGroup: 32768},
		{BlockSize: 4096, ClusterSize: 4096, BlocksCount: 15 << 30, BlocksPerGroup: 32768},
		{BlockSize: 4096, ClusterSize: 65536, BlocksCount: 1 << 20, BlocksPerGroup: 32768 * 16},
		{BlockSize: 1024, ClusterSize: 1024, BlocksCount: 1 << 47, FirstDataBlock: 1, BlocksPerGroup: 8},
		{BlockSize: 4096, ClusterSize: 4096, BlocksCount: 1 << 20, BlocksPerGroup: 24},
	} {
		m := newMap(geo)
		blocks := geo.BlocksCount - uint64(geo.FirstDataBlock)
		if n := uint64(len(m.Cells)); n > maxCells || n < min(blocks, maxCells/4) && m.Size > uint64(geo.ClusterSize/geo.BlockSize) || n*m.Size < blocks || (n-1)*m.Size >= blocks {
			t.Errorf("%+v: %d cells of %d blocks", geo, n, m.Size)
		}
		m.addRange(m.First, geo.BlocksCount, Free)
		m.total(geo.BlocksCount)
		if m.Totals[Free] != blocks {
			t.Errorf("%+v: %d blocks", geo, m.Totals[Free])
		}
	}
}

// A tally knows its median and its largest values.
func TestTally(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for range 100 {
		var parts [3]tally
		var all []Largest
		for i := range 1 + r.Intn(300) {
			l := Largest{Inode: uint32(i + 1), Value: uint64(r.Int63n(1 << r.Intn(40)))}
			all = append(all, l)
			parts[r.Intn(3)].add(l.Value, Largest{Inode: l.Inode})
		}
		sum := new(tally)
		for i := range parts {
			sum.merge(&parts[i])
		}
		h := sum.histogram("x")
		slices.SortFunc(all, func(a, b Largest) int {
			return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Inode, b.Inode))
		})
		if want := all[:min(len(all), maxLargest)]; !slices.Equal(h.Largest, want) {
			t.Fatalf("%v, want %v", h.Largest, want)
		}
		median := all[len(all)-1-(len(all)-1)/2].Value
		if h.Median > median || h.Median < median-median/8 {
			t.Errorf("the median of %d values is %d, not %d", len(all), h.Median, median)
		}
		n := uint64(0)
		for _, c := range h.Buckets {
			n += c
		}
		if n != uint64(len(all)) || h.Count != n {
			t.Errorf("%d of %d values", n, len(all))
		}
	}
	for _, v := range []uint64{0, 1, 15, 16, 17, 1<<40 - 1, 1 << 40, 1<<64 - 1} {
		if b := bucket(v); low(b) > v || b+1 < 496 && low(b+1) <= v {
			t.Errorf("%d is in bucket %d, from %d", v, b, low(b))
		}
	}
}
