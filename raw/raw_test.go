package raw_test

import (
	"bytes"
	"context"
	"log"
	"os"
	"path/filepath"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/qcow2"
	"e2qcow/raw"
	"e2qcow/scan"
)

// scanSample returns the metadata of the filesystem of testdata/sample.img.gz.
func scanSample() *scan.View {
	disk := testfs.Sample("..")
	res, err := scan.Scan(context.Background(), bytes.NewReader(disk), int64(len(disk)), scan.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return res.View()
}

// sample returns a qcow2 image of scanSample, and its size.
func sample() (*bytes.Reader, int64) {
	var b bytes.Buffer
	if _, err := qcow2.WriteStream(context.Background(), &b, scanSample(), qcow2.WriteOptions{}); err != nil {
		log.Fatal(err)
	}
	return bytes.NewReader(b.Bytes()), int64(b.Len())
}

// TestWriteFile writes a view and the qcow2 image of that view.
func TestWriteFile(t *testing.T) {
	view := scanSample()
	want := make([]byte, view.Size())
	if _, err := view.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	from, size := sample()
	img, err := qcow2.Open(t.Context(), from, size, qcow2.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, write func(f *os.File) (raw.Stats, error)) {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		stats, err := write(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) || stats.Size != view.Size() || stats.Data == 0 || stats.Data > view.Size()/2 {
			t.Errorf("%s: the file differs from the view, or is not sparse: %+v", name, stats)
		}
	}
	last := int64(0)
	write("view", func(f *os.File) (raw.Stats, error) {
		return raw.WriteFile(t.Context(), f, view, raw.Options{Threads: 1, Progress: func(done, total int64) { last = total - done }})
	})
	if last != 0 {
		t.Errorf("%d bytes were never done", last)
	}
	write("qcow2", func(f *os.File) (raw.Stats, error) { return raw.WriteFile(t.Context(), f, img, raw.Options{}) })
}
