package qcow2

import (
	"bytes"
	"os"
	"testing"
)

// TestCheckProgress checks images of all kinds: what is done grows from the first
// tenth on to the whole file.
func TestCheckProgress(t *testing.T) {
	src := randomDisk(7, 256<<20, 4096, 600)
	for _, opt := range []WriteOptions{{ClusterSize: 4096}, {Compression: Zlib}, {Compression: Zstd, ClusterSize: 65536}} {
		path, _ := writeTemp(t, src, opt)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var done, total []int64
		if _, err := Check(t.Context(), bytes.NewReader(b), int64(len(b)), func(d, all int64) {
			done, total = append(done, d), append(total, all)
		}); err != nil {
			t.Fatal(err)
		}
		if len(done) < 10 {
			t.Errorf("%+v: %d bytes, told %d times", opt, len(b), len(done))
			continue
		}
		for i := range done {
			if done[i] > total[i] || i > 0 && done[i] < done[i-1] || total[i] != total[0] {
				t.Errorf("%+v: step %d is %d of %d", opt, i, done[i], total[i])
			}
		}
		if n := len(done); done[0] > total[0]/5 || done[n-1] < total[n-1]*9/10 {
			t.Errorf("%+v: from %d to %d of %d", opt, done[0], done[n-1], total[n-1])
		}
	}
}
