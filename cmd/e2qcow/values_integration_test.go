package main_test

import (
	"context"
	"os"
	"slices"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// valuesOf returns where the values of attributes lie that have inodes of
// their own, but for blocks that are structure as well.
func valuesOf(t *testing.T, path string) []testfs.Range {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := scan.Scan(context.Background(), f, testfs.Size(t, path), scan.Options{XattrValues: true})
	if err != nil {
		t.Fatal(err)
	}
	var ranges []testfs.Range
	bs := int64(res.BlockSize())
	for run := range res.Map.RunsOf(scan.XattrValue) {
		for block := run.Start; block < run.Start+run.Count; block++ {
			if !isStructure(res.Map, block) {
				ranges = append(ranges, testfs.Range{Start: int64(block) * bs, End: int64(block+1) * bs})
			}
		}
	}
	return ranges
}

// isStructure tells whether a block is more than part of a value.
func isStructure(m *scan.Map, block uint64) bool {
	for k := range scan.Kinds() {
		if k != scan.XattrValue && m.Contains(k, block) {
			return true
		}
	}
	return false
}

// withoutValues returns ranges without those that lie in values, having shown
// that e2fsck says and does the same when values are zeros.
func withoutValues(t *testing.T, source, option string, ranges []testfs.Range) []testfs.Range {
	t.Helper()
	if len(ranges) == 0 {
		return nil
	}
	values := valuesOf(t, source)
	left := slices.DeleteFunc(ranges, func(r testfs.Range) bool {
		return testfs.Contains(values, r.Start) && testfs.Contains(values, r.End-1)
	})
	zeroed := testfs.Copy(t, source)
	for _, r := range values {
		testfs.Erase(t, zeroed, r.Start, r.End)
	}
	if len(left) == len(ranges) {
		return left
	}
	same(t, "e2fsck "+option+" with values erased", testfs.Fsck(t, testfs.Copy(t, source), option), testfs.Fsck(t, testfs.Copy(t, zeroed), option))
	return left
}
