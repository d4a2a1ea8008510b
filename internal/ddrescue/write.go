package ddrescue

import (
	"bufio"
	"fmt"
	"io"
	"iter"

	"e2qcow/internal/ranges"
)

// WriteDomain writes a map of a disk of size bytes in which the ranges, which
// ascend and are disjoint, are finished and all else is untried: as the domain of
// a rescue, ddrescue -m reads what is finished. It returns how many bytes that is.
func WriteDomain(w io.Writer, size int64, what string, list iter.Seq[ranges.Range[int64]]) (int64, error) {
	b := bufio.NewWriter(w)
	_, _ = fmt.Fprintf(b, "# %s\n# current_pos  current_status  current_pass\n0x00000000     ?               1\n#      pos        size  status\n", what)
	total, at := int64(0), int64(0)
	line := func(start, end int64, status byte) {
		if start < end {
			_, _ = fmt.Fprintf(b, "0x%08X  0x%08X  %c\n", start, end-start, status)
		}
	}
	last := ranges.Range[int64]{}
	finish := func() {
		line(at, last.Start, '?')
		line(last.Start, last.End, '+')
		total += last.End - last.Start
		at = max(at, last.End)
	}
	for r := range list {
		r.End = min(r.End, size)
		if r.Start >= r.End {
			continue
		}
		if r.Start == last.End {
			last.End = r.End
			continue
		}
		finish()
		last = r
	}
	finish()
	line(at, size, '?')
	return total, b.Flush()
}
