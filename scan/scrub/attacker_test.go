package scrub

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"e2qcow/ext"
)

// A leafLengths is what an image tells of a leaf: how many names of each length
// stand in it.
type leafLengths map[int]int

// An attackedDirectory is what an attacker sees of a scrambled directory with an
// index.
type attackedDirectory struct {
	leaves  []leafLengths
	lengths leafLengths // of all leaves
	starts  []int       // how many names stand before each leaf
	borders []uint32    // in the index
	names   int
}

// leafBy returns the leaf that a name with a hash would stand in, by the borders
// in the index.
func (a *attackedDirectory) leafBy(hash uint32) int {
	i, found := slices.BinarySearch(a.borders, hash)
	if !found {
		i--
	}
	return i
}

// leafNear returns the leaf that a name with a hash of the source would stand in:
// hashes are even, so as many names stand before it as hashes lie below.
func (a *attackedDirectory) leafNear(hash uint32) int {
	before := int(uint64(hash) * uint64(a.names) >> 32)
	i, found := slices.BinarySearch(a.starts, before)
	if !found {
		i--
	}
	return i
}

// TestAttackerOfLeaves ranks guesses at names, half of them right, by the leaves
// that they would stand in and by the lengths of the words there, as somebody can
// who has the image and a list. By the lengths in the whole directory, and by the
// seed in the image, he is right by chance only. The old seed, which is not in the
// image, helps where names of a length are rarer than leaves.
func TestAttackerOfLeaves(t *testing.T) {
	const n, perLeaf = 4000, 90
	for _, c := range []struct {
		name            string
		longest         int
		limit, withSeed float64 // of the better half of the guesses that may be right
	}{
		{"few lengths", 10, 0.55, 0.55},
		{"many lengths", 200, 0.55, 0.80},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		var names, wrong []string
		for i := range n {
			length := 6 + r.IntN(c.longest)
			names = append(names, fmt.Sprintf("%05d%0*d", 2*i, length, r.Uint32N(10)))
			wrong = append(wrong, fmt.Sprintf("%05d%0*d", 2*i+1, length, r.Uint32N(10)))
		}
		dr := newKeyring([KeySize]byte{9}).get()
		d, leaves := soundDirectory(dr, ext.DirHashHalfMD4, names, perLeaf)
		if _, err := d.place(context.Background(), dr, newWords(newKeyring([KeySize]byte{})), nil); err != nil {
			t.Fatal(err)
		}
		a := attackedDirectory{borders: d.fresh, names: n, lengths: leafLengths{}}
		for range d.fresh {
			a.leaves = append(a.leaves, leafLengths{})
		}
		for name, leaf := range leaves {
			a.leaves[leaf][len(name)]++
			a.lengths[len(name)]++
		}
		before := 0
		for _, l := range a.leaves {
			a.starts = append(a.starts, before)
			for _, count := range l {
				before += count
			}
		}
		for _, attack := range []struct {
			name  string
			limit float64
			score func(name string) float64
		}{
			{"lengths", c.limit, func(name string) float64 { return float64(a.lengths[len(name)]) }},
			{"the new seed", c.limit, func(name string) float64 {
				h, _, _ := d.version.Hash([]byte(name), d.freshSeed)
				return float64(a.leaves[a.leafBy(h)][len(name)])
			}},
			{"the new seed and the distance from a border", c.limit, func(name string) float64 {
				h, _, _ := d.version.Hash([]byte(name), d.freshSeed)
				return -float64(h - a.borders[a.leafBy(h)])
			}},
			{"the old seed", c.withSeed, func(name string) float64 {
				h, _, _ := d.version.Hash([]byte(name), d.seed)
				i, near := a.leafNear(h), 0
				for k := max(i-1, 0); k <= min(i+1, len(a.leaves)-1); k++ {
					near += a.leaves[k][len(name)]
				}
				return float64(near) / float64(a.lengths[len(name)])
			}},
		} {
			type guess struct {
				score float64
				right bool
			}
			var guesses []guess
			for i := range n {
				guesses = append(guesses, guess{attack.score(names[i]), true}, guess{attack.score(wrong[i]), false})
			}
			r.Shuffle(len(guesses), func(i, k int) { guesses[i], guesses[k] = guesses[k], guesses[i] })
			slices.SortStableFunc(guesses, func(a, b guess) int { return cmp.Compare(b.score, a.score) })
			right := 0
			for _, g := range guesses[:n] {
				if g.right {
					right++
				}
			}
			share := float64(right) / n
			t.Logf("%s, %s: %.1f %% of the better half are right", c.name, attack.name, 100*share)
			if share > attack.limit {
				t.Errorf("%s, %s: %.1f %% of the better half are right", c.name, attack.name, 100*share)
			}
		}
	}
}
