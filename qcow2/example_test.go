package qcow2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"e2qcow/image"
	"e2qcow/qcow2"
)

// letters is an image of 1 MiB of which bytes 65536 to 131072 are known: "a".
type letters struct{}

func (letters) Size() int64 { return 1 << 20 }

func (letters) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = 0
		if at := off + int64(i); at >= 65536 && at < 131072 {
			p[i] = 'a'
		}
	}
	return len(p), nil
}

func (letters) NextRun(off int64) (start, end int64, err error) {
	if off >= 131072 {
		return 0, 0, io.EOF
	}
	return max(off, 65536), 131072, nil
}

var _ image.Image = letters{}

// write returns a file with a compressed image of letters, and its size.
func write() (*os.File, int64) {
	f, err := os.CreateTemp("", "example-*.qcow2")
	if err != nil {
		log.Fatal(err)
	}
	os.Remove(f.Name()) // the open file stays
	if _, err := qcow2.WriteFile(context.Background(), f, letters{}, qcow2.WriteOptions{Compression: qcow2.Zlib, ClusterSize: 65536}); err != nil {
		log.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	return f, info.Size()
}

// Read what an image knows of its disk.
func ExampleOpen() {
	f, size := write()
	img, err := qcow2.Open(context.Background(), f, size, qcow2.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for off := int64(0); ; {
		start, end, err := img.NextRun(off)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		b := make([]byte, 3)
		if _, err := img.ReadAt(b, start); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d to %d of %d: %s…\n", start, end, img.Size(), b)
		off = end
	}
	// Output: 65536 to 131072 of 1048576: aaa…
}

// Check an image.
func ExampleCheck() {
	f, size := write()
	report, err := qcow2.Check(context.Background(), f, size, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Status(), report.CompressedClusters)
	// Output: 0 1
}
