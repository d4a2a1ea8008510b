package testfs

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
)

// Sample returns the filesystem of testdata/sample.img.gz, a disk of 24 MiB. root
// is the way from the folder of the test to the folder of the module. Sample is
// for examples, which have no testing.TB: it panics where the file is missing.
func Sample(root string) []byte {
	f, err := os.Open(filepath.Join(root, "testdata", "sample.img.gz"))
	if err != nil {
		panic(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		panic(err)
	}
	disk, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	return disk
}
