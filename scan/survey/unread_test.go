package survey_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
	"e2qcow/scan/survey"
)

// TestUnreadIsNotDamage: of a sound filesystem, no sector of metadata that cannot
// be read makes a finding or a wrong checksum.
func TestUnreadIsNotDamage(t *testing.T) {
	path := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024 -g 2048", Size: 20 << 20, Fill: testfs.Copied}).Path
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gather := func(bad []scan.Range) (*scan.Result, *survey.Data) {
		t.Helper()
		res, err := scan.Scan(t.Context(), bytes.NewReader(data), int64(len(data)), survey.Watch(scan.Options{Bad: bad}))
		if err != nil {
			t.Fatal(err)
		}
		d, err := survey.Gather(t.Context(), res)
		if err != nil {
			t.Fatal(err)
		}
		return res, d
	}
	sound, _ := gather(nil)
	n := 0
	for run := range sound.Map.Runs() {
		for block := run.Start; block < run.Start+run.Count; block++ {
			// The first of each run, and each seventh.
			if n++; block != run.Start && n%7 != 0 || run.Kind == scan.Journal || block == 1 {
				continue
			}
			at := int64(block)*1024 + 512*int64(n%2)
			_, d := gather([]scan.Range{{Start: at, End: at + 512}})
			for _, f := range d.Damage.Findings {
				t.Errorf("block %d, %v: %+v", block, run.Kind, f)
			}
			for _, s := range d.Sums {
				if s.Wrong > 0 {
					t.Errorf("block %d, %v: %+v", block, run.Kind, s)
				}
			}
		}
	}
}

// TestFewInodes: reserved inodes may lie in more groups than the first.
func TestFewInodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fs")
	testfs.Run(t, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-g", "8192", "-N", "64", "-O", "^resize_inode", path, "64M")
	for _, f := range surveyFile(t, path).Damage.Findings {
		t.Errorf("%+v", f)
	}
}
