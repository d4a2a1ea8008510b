package zero

import (
	"fmt"
	"testing"
)

func TestIsZero(t *testing.T) {
	for n := range 200 {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Errorf("%d zero bytes: not zero", n)
		}
		for i := range b {
			b[i] = 1
			if IsZero(b) {
				t.Errorf("%d bytes with one set at %d: zero", n, i)
			}
			b[i] = 0
		}
	}
}

func TestNextData(t *testing.T) {
	const unit = 4
	for _, c := range []struct {
		in   string // one digit a byte
		off  int
		want [2]int
	}{
		{"", 0, [2]int{0, 0}},
		{"00000000", 0, [2]int{8, 8}},
		{"000000", 0, [2]int{6, 6}},
		{"0001", 0, [2]int{0, 4}},
		{"0000000100000000", 0, [2]int{4, 8}},
		{"0000000110000000", 0, [2]int{4, 12}},
		{"0000000110000000", 8, [2]int{8, 12}},
		{"0000000110000000", 12, [2]int{16, 16}},
		{"000001", 0, [2]int{4, 6}},
		{"000010000", 0, [2]int{4, 8}},
	} {
		b := []byte(c.in)
		for i := range b {
			b[i] -= '0'
		}
		start, end := NextData(b, c.off, unit)
		if got := [2]int{start, end}; got != c.want {
			t.Errorf("NextData(%q, %d) = %v, want %v", c.in, c.off, got, c.want)
		}
	}
}

func BenchmarkIsZero(b *testing.B) {
	for _, n := range []int{512, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			buf := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if !IsZero(buf) {
					b.Fatal("not zero")
				}
			}
		})
	}
}
