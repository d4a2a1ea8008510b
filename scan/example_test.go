package scan_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"

	"e2qcow/internal/testfs"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// Dump the metadata of a filesystem as a qcow2 image.
func ExampleScan() {
	disk := testfs.Sample("..") // any io.ReaderAt will do
	res, err := scan.Scan(context.Background(), bytes.NewReader(disk), int64(len(disk)), scan.Options{})
	if err != nil {
		log.Fatal(err)
	}
	image, err := os.CreateTemp("", "example-*.qcow2")
	if err != nil {
		log.Fatal(err)
	}
	os.Remove(image.Name()) // the open file stays
	stats, err := qcow2.WriteFile(context.Background(), image, res.View(), qcow2.WriteOptions{BlockSize: int(res.BlockSize())})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stats.VirtualSize, stats.DataBytes < res.MetadataBytes())
	// Output: 25165824 true
}

// List the damage of a filesystem whose root directory was overwritten.
func ExampleResult_Problems() {
	disk := testfs.Sample("..")
	root := bytes.Index(disk, []byte("lost+found")) &^ 1023
	copy(disk[root:], bytes.Repeat([]byte{0xff}, 1024))
	res, err := scan.Scan(context.Background(), bytes.NewReader(disk), int64(len(disk)), scan.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range res.Problems() {
		fmt.Println(p.Kind, p.Inode, p.Count)
	}
	// Output: directory 2 1
}

// Count the blocks of each kind.
func ExampleMap_Runs() {
	disk := testfs.Sample("..")
	res, err := scan.Scan(context.Background(), bytes.NewReader(disk), int64(len(disk)), scan.Options{})
	if err != nil {
		log.Fatal(err)
	}
	blocks := map[scan.Kind]uint64{}
	for run := range res.Map.Runs() {
		blocks[run.Kind] += run.Count
	}
	fmt.Println(blocks[scan.Superblock], blocks[scan.InodeTable], blocks[scan.Directory])
	// Output: 2 8 41
}
