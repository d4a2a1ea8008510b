package main_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/internal/testfs"
)

// TestSample dumps and restores the filesystem that ships with the project.
func TestSample(t *testing.T) {
	packed, err := os.Open("../../testdata/sample.img.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(testfs.TempDir(t), "sample.img")
	f, err := os.Create(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, unpacked); err != nil {
		t.Fatal(err)
	}
	restored := roundTrip(t, testfs.Build(t), source, true)
	sameVerdicts(t, source, restored)
	if v := testfs.Fsck(t, restored, "-fn"); v.Exit != 0 {
		t.Errorf("e2fsck -fn: exit %d\n%s", v.Exit, v.Text)
	}
}
