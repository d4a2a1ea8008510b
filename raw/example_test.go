package raw_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"e2qcow/qcow2"
	"e2qcow/raw"
)

// Restore an image of the metadata of a filesystem, as a sparse file.
func ExampleWriteFile() {
	ctx := context.Background()
	from, size := sample() // a qcow2 image and its size
	img, err := qcow2.Open(ctx, from, size, qcow2.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	disk, err := os.CreateTemp("", "example-*.img")
	if err != nil {
		log.Fatal(err)
	}
	os.Remove(disk.Name()) // the open file stays
	stats, err := raw.WriteFile(ctx, disk, img, raw.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stats.Size, stats.Data < size)
	// Output: 25165824 true
}
