package scan_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"e2qcow/image"
	"e2qcow/internal/testfs"
	"e2qcow/qcow2"
	"e2qcow/scan"
)

// whole is a disk of which all is known.
type whole struct{ *bytes.Reader }

func (w whole) NextRun(off int64) (start, end int64, err error) {
	if off >= w.Size() {
		return 0, 0, io.EOF
	}
	return off, w.Size(), nil
}

// packSample returns a qcow2 image of the sample filesystem, in clusters of 4 KiB.
func packSample(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := qcow2.WriteStream(t.Context(), &b, whole{bytes.NewReader(testfs.Sample(".."))}, qcow2.WriteOptions{ClusterSize: 4096}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// breakEntry has the L2 entry of byte guest of the disk point behind the end of
// the file.
func breakEntry(file []byte, guest int64) {
	be := binary.BigEndian
	l1 := be.Uint64(file[40:])
	l2 := be.Uint64(file[l1+uint64(guest>>21)*8:]) &^ (1 << 63)
	be.PutUint64(file[l2+uint64(guest>>12&511)*8:], 1<<63|1<<50)
}

// TestDamagedImage scans disks in images that contradict themselves.
func TestDamagedImage(t *testing.T) {
	t.Parallel()
	sound := packSample(t)
	open := func(file []byte, opt qcow2.OpenOptions) (*qcow2.Image, error) {
		return qcow2.Open(t.Context(), bytes.NewReader(file), int64(len(file)), opt)
	}
	scanDisk := func(r io.ReaderAt, size int64, opt scan.Options) (*scan.Result, error) {
		return scan.Scan(t.Context(), r, size, opt)
	}
	img, err := open(sound, qcow2.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	res, err := scanDisk(img, img.Size(), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// The first block that is structure behind the superblock, and one of a file.
	structure, _, err := res.View().NextRun(8192)
	if err != nil {
		t.Fatal(err)
	}
	files, err := scanDisk(img, img.Size(), scan.Options{Files: true})
	if err != nil {
		t.Fatal(err)
	}
	content := int64(-1)
	for run := range files.Map.Runs() {
		if run.Kind == scan.FileData && run.Count*uint64(files.BlockSize()) >= 8192 {
			content = (int64(run.Start)*int64(files.BlockSize()) + 4095) &^ 4095
			break
		}
	}
	if content < 0 {
		t.Fatal("the sample has no large file")
	}

	for name, guest := range map[string]int64{"structure": structure, "content": content, "superblock": 0} {
		file := bytes.Clone(sound)
		breakEntry(file, guest)
		var corrupt *qcow2.CorruptError
		if _, err := open(file, qcow2.OpenOptions{}); !errors.As(err, &corrupt) {
			t.Errorf("%s: opening: %v", name, err)
		}
		for how, wrap := range map[string]func(image.Image) image.Image{
			"image":   func(img image.Image) image.Image { return img },
			"section": func(img image.Image) image.Image { return image.Section(img, 0, img.Size()-4096) },
			"data":    image.Data,
		} {
			img, err := open(file, qcow2.OpenOptions{Unverified: true})
			if err != nil {
				t.Fatal(err)
			}
			disk := wrap(img)
			res, err := scanDisk(disk, disk.Size(), scan.Options{Files: true})
			if err == nil {
				_, err = qcow2.WriteStream(t.Context(), io.Discard, res.View(), qcow2.WriteOptions{})
			}
			if !errors.As(err, &corrupt) {
				t.Errorf("%s, %s: %v", name, how, err)
			}
		}
	}

	// A source that cannot be read has bad sectors, and nothing else.
	sick := &badCluster{img, structure}
	res, err = scanDisk(sick, img.Size(), scan.Options{})
	if err != nil || len(res.Unreadable()) == 0 {
		t.Errorf("bad sectors: %v", err)
	}
}

// badCluster cannot read the cluster at bad.
type badCluster struct {
	io.ReaderAt
	bad int64
}

func (b *badCluster) ReadAt(p []byte, off int64) (int, error) {
	if off < b.bad+4096 && b.bad < off+int64(len(p)) {
		return 0, errors.New("bad sector")
	}
	return b.ReaderAt.ReadAt(p, off)
}
