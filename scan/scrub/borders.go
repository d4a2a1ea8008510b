package scrub

import (
	"math"
	"slices"
)

// A frame is the part of all hashes that the names between two borders of an
// index may have: from its start up to that of the next.
//
// Frames are as wide as the names in them are many. Where words are few, as
// those of one byte, a frame reaches as far as it takes to have enough of them,
// so that each length is dealt out ascending over the frames. A name that stays
// has the frame of its border reach over its hash.

// A scarce is the words of a kind that there are few of: their hashes, ascending,
// each with the number of its word, and how many each frame wants.
type scarce struct {
	words []uint64 // hash<<32 | number
	wants []uint32 // by frame
}

// A fixed is a name that stays: its hash has to be in a frame.
type fixed struct {
	frame uint32
	hash  uint32
}

const allHashes = 1 << 32

// A framer finds frames.
type framer struct {
	weights []uint32 // of each frame: names in it, and one
	targets []uint64 // where frames would begin, were there neither scarce nor fixed
	squeeze uint64   // into which part of its width a frame may be squeezed
	scarce  []*scarce
	fixed   []fixed // ascending by frame, then hash
}

// aim sets the targets: fixed names are in the middle of their frames, and
// the frames between them are as wide as their weights.
func (f *framer) aim() {
	n := len(f.weights)
	f.targets = make([]uint64, n+1)
	type point struct{ weight, hash float64 }
	points := []point{{0, 0}}
	sum := make([]float64, n+1)
	for i, w := range f.weights {
		sum[i+1] = sum[i] + float64(w)
	}
	for _, x := range f.fixed {
		p := point{(sum[x.frame] + sum[x.frame+1]) / 2, float64(x.hash)}
		if last := points[len(points)-1]; p.weight > last.weight && p.hash > last.hash {
			points = append(points, p)
		}
	}
	points = append(points, point{sum[n], allHashes})
	at := 0
	for i := 1; i < n; i++ {
		for at+2 < len(points) && points[at+1].weight < sum[i] {
			at++
		}
		a, b := points[at], points[at+1]
		f.targets[i] = uint64(a.hash+(b.hash-a.hash)*(sum[i]-a.weight)/(b.weight-a.weight)) &^ 1
	}
	f.targets[n] = allHashes
}

// least is the least width of a frame.
func (f *framer) least(i int) uint64 {
	return max((f.targets[i+1]-min(f.targets[i], f.targets[i+1]))/f.squeeze, 2) &^ 1
}

// ends returns the least end of a frame that begins somewhere; none is
// math.MaxUint64.
func (f *framer) ends(i int, start uint64) uint64 {
	end := start + f.least(i)
	for _, s := range f.scarce {
		want := int(s.wants[i])
		if want == 0 {
			continue
		}
		at, _ := slices.BinarySearch(s.words, start<<32)
		if start >= allHashes || at+want > len(s.words) {
			return math.MaxUint64
		}
		end = max(end, s.words[at+want-1]>>32+2)
	}
	for _, x := range f.fixedIn(i) {
		if uint64(x.hash) < start {
			return math.MaxUint64
		}
		end = max(end, uint64(x.hash)+2)
	}
	return end
}

// begins returns the greatest start of a frame that ends somewhere.
func (f *framer) begins(i int, end uint64) (uint64, bool) {
	least := f.least(i)
	if end < least {
		return 0, false
	}
	start := end - least
	for _, s := range f.scarce {
		want := int(s.wants[i])
		if want == 0 {
			continue
		}
		at := len(s.words)
		if end < allHashes {
			at, _ = slices.BinarySearch(s.words, end<<32)
		}
		if at < want {
			return 0, false
		}
		start = min(start, s.words[at-want]>>32)
	}
	for _, x := range f.fixedIn(i) {
		if uint64(x.hash) >= end {
			return 0, false
		}
		start = min(start, uint64(x.hash))
	}
	return start &^ 1, true
}

func (f *framer) fixedIn(i int) []fixed {
	at, _ := slices.BinarySearchFunc(f.fixed, uint32(i), func(x fixed, i uint32) int { return int(x.frame) - int(i) })
	end := at
	for end < len(f.fixed) && f.fixed[end].frame == uint32(i) {
		end++
	}
	return f.fixed[at:end]
}

// frames returns where each frame begins, and the end of the last one; false
// where there are none that hold what they have to.
//
// Going down, each frame is given the last place that leaves enough for those
// behind; going up, the place nearest to its target.
func (f *framer) frames() ([]uint64, bool) {
	n := len(f.weights)
	latest := make([]uint64, n+1)
	latest[n] = allHashes
	for i := n - 1; i >= 0; i-- {
		var ok bool
		if latest[i], ok = f.begins(i, latest[i+1]); !ok {
			return nil, false
		}
	}
	starts := make([]uint64, n+1)
	for i := range n - 1 {
		least := f.ends(i, starts[i])
		if half := (f.targets[i+1] - min(f.targets[i], f.targets[i+1])) / 2; f.squeeze > 2 {
			least = max(least, starts[i]+half&^1)
		}
		starts[i+1] = min(max(f.targets[i+1], least), latest[i+1])
	}
	starts[n] = allHashes
	return starts, true
}
