package scrub_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"e2qcow/internal/testfs"
	"e2qcow/qcow2"
	"e2qcow/scan"
	"e2qcow/scan/scrub"
)

// Dump the metadata of a filesystem without its names.
func Example() {
	ctx, disk := context.Background(), testfs.Sample("../..")
	var opt scrub.Options
	rand.Read(opt.Key[:]) // it never fails
	index := scrub.NewIndex(opt)
	res, err := scan.Scan(ctx, bytes.NewReader(disk), int64(len(disk)), scan.Options{Visit: index.Visit})
	if err != nil {
		log.Fatal(err)
	}
	view, err := index.View(ctx, res)
	if err != nil {
		log.Fatal(err)
	}
	var image bytes.Buffer
	if _, err := qcow2.WriteStream(ctx, &image, view, qcow2.WriteOptions{}); err != nil {
		log.Fatal(err)
	}
	if err := view.Verify(ctx); err != nil { // a word of the source is left
		log.Fatal(err)
	}
	name := []byte("fragmented")
	fmt.Println(bytes.Contains(disk, name), bytes.Contains(image.Bytes(), name))
	// Output: true false
}
