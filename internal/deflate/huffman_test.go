package deflate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// optimum returns how many bits the shortest code takes, whatever its limit, by
// joining the two rarest again and again.
func optimum(counts []uint32) int {
	var w []int
	for _, c := range counts {
		if c > 0 {
			w = append(w, int(c))
		}
	}
	total := 0
	for len(w) > 1 {
		slices.Sort(w)
		total += w[0] + w[1]
		w = append(w[2:], w[0]+w[1])
	}
	return total
}

func TestLengths(t *testing.T) {
	var f lengthFinder
	rnd := rand.New(rand.NewPCG(7, 8))
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for round := range rounds {
		counts := make([]uint32, 2+rnd.IntN(litLenSyms-1))
		for i := range counts {
			if rnd.IntN(3) > 0 {
				counts[i] = rnd.Uint32() >> (24 + rnd.IntN(9)) // a block of 64 KiB in all
			}
		}
		if round%10 == 0 { // a code without a limit would be long
			a, b := uint32(1), uint32(1)
			for i := range min(len(counts), 23) {
				counts[i] = a
				a, b = b, a+b
			}
		}
		for _, limit := range []int{9, codeLimit, maxCodeLen} {
			lengths := make([]uint8, len(counts))
			f.find(lengths, counts, limit)
			kraft, total, used := 0, 0, 0
			for s, n := range lengths {
				if counts[s] > 0 && n == 0 || int(n) > limit {
					t.Fatalf("a symbol used %d times has %d bits, limit %d", counts[s], n, limit)
				}
				if n > 0 {
					kraft += 1 << (limit - int(n))
				}
				if counts[s] > 0 {
					used++
				}
				total += int(counts[s]) * int(n)
			}
			if kraft != 1<<limit {
				t.Fatalf("the code fills %d of %d places", kraft, 1<<limit)
			}
			best := optimum(counts)
			if limit == maxCodeLen && used > 1 && round%10 != 0 && total > best+best/1000 {
				t.Fatalf("%d bits, the shortest code has %d", total, best)
			}
			if limit == codeLimit && used > 1 && total > best+best/8 {
				t.Fatalf("limit %d: %d bits, without a limit %d", limit, total, best)
			}
		}
	}
}
