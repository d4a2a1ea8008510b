package target

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const mib = 1 << 20

// A piece is a filesystem on a disk.
type piece struct {
	at, size int64
	xfs      bool
	copyOf   bool // it is a copy of a superblock
}

// disk returns the name of a file of so many bytes with filesystems in it, as
// far as their superblocks go, and partitions of an MBR.
func disk(t *testing.T, size int64, pieces []piece, partitions [][2]int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(b []byte, off int64) {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range pieces {
		b := make([]byte, 2048)
		if p.xfs {
			copy(b, "XFSB")
			binary.BigEndian.PutUint32(b[4:], 4096)
			binary.BigEndian.PutUint64(b[8:], uint64(p.size/4096))
		} else {
			binary.LittleEndian.PutUint32(b[1028:], uint32(p.size/1024))
			copy(b[1080:], "\x53\xef")
			if p.copyOf {
				b[1024+0x5a] = 3
			}
		}
		put(b, p.at)
	}
	if len(partitions) > 0 {
		b := make([]byte, 66)
		for i, p := range partitions {
			e := b[16*i:]
			e[4] = 0x83
			binary.LittleEndian.PutUint32(e[8:], uint32(p[0]/512))
			binary.LittleEndian.PutUint32(e[12:], uint32(p[1]/512))
		}
		copy(b[64:], "\x55\xaa")
		put(b, 446)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestHoldings looks for what takes a part of a range, wherever it begins.
func TestHoldings(t *testing.T) {
	for _, test := range []struct {
		what       string
		pieces     []piece
		partitions [][2]int64
		off, n     int64
		want       string // where each begins and ends, in MiB
	}{
		{"nothing", nil, nil, 50 * mib, 30 * mib, ""},
		{"ends before", []piece{{at: 0, size: 50 * mib}}, nil, 50 * mib, 30 * mib, ""},
		{"begins behind", []piece{{at: 80 * mib, size: 10 * mib}}, nil, 50 * mib, 30 * mib, ""},
		{"reaches one block in", []piece{{at: 0, size: 50*mib + 1024}}, nil, 50 * mib, 30 * mib, "0-50"},
		{"around", []piece{{at: 0, size: 200 * mib}}, nil, 50 * mib, 30 * mib, "0-200"},
		{"at its start", []piece{{at: 50 * mib, size: 10 * mib}}, nil, 50 * mib, 30 * mib, "50-60"},
		{"in its middle", []piece{{at: 61 * mib, size: 4 * mib}}, nil, 50 * mib, 30 * mib, "61-65"},
		{"a copy in its middle", []piece{{at: 61 * mib, size: 4 * mib, copyOf: true}}, nil, 50 * mib, 30 * mib, ""},
		{"of another kind", []piece{{at: 0, size: 200 * mib, xfs: true}}, nil, 50 * mib, 30 * mib, "0-200"},
		{"two", []piece{{at: 0, size: 51 * mib, xfs: true}, {at: 70 * mib, size: 100 * mib}}, nil, 50 * mib, 30 * mib, "0-51 70-170"},
		{"from a partition", []piece{{at: 7 * mib, size: 60 * mib}}, [][2]int64{{7 * mib, 60 * mib}}, 50 * mib, 30 * mib, "7-67"},
		{"from where partitions began", []piece{{at: oldStart, size: 60 * mib}}, nil, 50 * mib, 30 * mib, "0-60"},
		{"larger than the disk", []piece{{at: 0, size: 1 << 40}}, nil, 50 * mib, 30 * mib, "0-256"},
		{
			"from before there were partitions",
			[]piece{{at: 0, size: 200 * mib}, {at: 1 * mib, size: 20 * mib}},
			[][2]int64{{1 * mib, 20 * mib}, {50 * mib, 100 * mib}}, 50 * mib, 30 * mib, "",
		},
		{
			"with partitions that hold nothing",
			[]piece{{at: 0, size: 200 * mib}},
			[][2]int64{{1 * mib, 20 * mib}, {50 * mib, 100 * mib}}, 50 * mib, 30 * mib, "0-200",
		},
		{"to the end and beyond", []piece{{at: 0, size: 255 * mib}}, nil, 200 * mib, 1 << 40, "0-255"},
		{"behind the end", []piece{{at: 0, size: 1 << 40}}, nil, 256 * mib, 1 << 40, ""},
	} {
		t.Run(test.what, func(t *testing.T) {
			name := disk(t, 256*mib, test.pieces, test.partitions)
			for _, base := range []int64{0, test.off} {
				opened, err := OpenPart(name, base, Options{Overwrite: true}, nil)
				if err != nil {
					t.Fatal(err)
				}
				list, err := opened.Holdings(test.off-base, test.n)
				refused := opened.CheckPlace(test.off-base, test.n, func(Holding) bool { return false })
				opened.Close()
				if err != nil {
					t.Fatal(err)
				}
				var words []string
				for _, h := range list {
					words = append(words, fmt.Sprintf("%d-%d", (h.Start+base)/mib, (h.End+base)/mib))
				}
				if got := strings.Join(words, " "); got != test.want {
					t.Errorf("counted from %d: %q, want %q", base, got, test.want)
				}
				if errors.Is(refused, ErrHoldsFilesystem) != (test.want != "") {
					t.Errorf("counted from %d: %v", base, refused)
				}
			}
		})
	}
}
