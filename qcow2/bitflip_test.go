package qcow2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// flipForms are forms of qcow2: how qemu-img makes an image of a raw file, and
// what it then does to it.
var flipForms = map[string]struct {
	create []string
	then   [][]string
}{
	"v2":             {create: []string{"-o", "compat=0.10"}},
	"v3":             {create: []string{"-o", "compat=1.1"}},
	"v2,512":         {create: []string{"-o", "compat=0.10,cluster_size=512"}},
	"v3,4k,zlib":     {create: []string{"-c", "-o", "compat=1.1,cluster_size=4k"}},
	"v2,zlib":        {create: []string{"-c", "-o", "compat=0.10"}},
	"v3,zstd":        {create: []string{"-c", "-o", "compat=1.1,compression_type=zstd,cluster_size=4k"}},
	"v3,refcounts1":  {create: []string{"-o", "compat=1.1,refcount_bits=1,cluster_size=4k"}},
	"v3,refcounts64": {create: []string{"-o", "compat=1.1,refcount_bits=64,cluster_size=4k"}},
	"v3,extended":    {create: []string{"-o", "compat=1.1,extended_l2=on,cluster_size=16k"}},
	"v3,snapshot":    {create: []string{"-o", "compat=1.1,cluster_size=4k"}, then: [][]string{{"qemu-img", "snapshot", "-c", "one"}}},
	"v3,zeros":       {create: []string{"-o", "compat=1.1,cluster_size=4k"}, then: [][]string{{"qemu-io", "-c", "write -z 0 64k"}}},
}

// flipImages returns images of all forms, those of our writer too, each with a
// disk of 44 clusters of which some hold data.
func flipImages(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	images := map[string][]byte{}
	for name, form := range flipForms {
		raw, image := filepath.Join(dir, "raw"), filepath.Join(dir, "image")
		if err := os.WriteFile(raw, flipDisk(704<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) {
			t.Helper()
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", args, err, out)
			}
		}
		run(append(append([]string{"qemu-img", "convert", "-O", "qcow2"}, form.create...), raw, image)...)
		for _, args := range form.then {
			run(append(args, image)...)
		}
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		images[name] = b
	}
	for name, opt := range map[string]WriteOptions{
		"ours":      {ClusterSize: 4096},
		"ours,zlib": {ClusterSize: 16384, Compression: Zlib},
		"ours,zstd": {ClusterSize: 4096, Compression: Zstd},
	} {
		d := &disk{size: 704 << 10, runs: []diskRun{{0, flipDisk(704 << 10)}}}
		file, _ := writeTemp(t, d, opt)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		images[name] = b
	}
	return images
}

// flipDisk returns a disk with text, numbers and gaps: what tables could be
// taken for.
func flipDisk(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for off := 0; off+4096 <= size; off += 4096 {
		switch part := b[off:][:4096]; r.IntN(4) {
		case 0:
			copy(part, bytes.Repeat([]byte("some text "), 410))
		case 1:
			for i := 0; i < len(part); i += 8 {
				binary.BigEndian.PutUint64(part[i:], uint64(r.IntN(64))<<9)
			}
		case 2:
			part[r.IntN(len(part))] = 1
		}
	}
	return b
}

// flipPlaces returns the bytes of the header, the tables and the refcounts.
func flipPlaces(t *testing.T, image []byte) []int {
	t.Helper()
	m, err := Open(context.Background(), bytes.NewReader(image), int64(len(image)), OpenOptions{Unverified: true})
	if err != nil {
		t.Fatal(err)
	}
	h := m.header
	var places []int
	add := func(off, n uint64) {
		for i := off; i < min(off+n, uint64(len(image))); i++ {
			places = append(places, int(i))
		}
	}
	add(0, uint64(h.Length)+64)
	add(h.L1Offset, 8*(h.l1Needed()+1))
	add(h.RefcountTableOffset, 24)
	clusters := (uint64(len(image)) + uint64(h.ClusterSize()) - 1) >> h.ClusterBits
	if err := m.eachRefBlock(func(off uint64) {
		add(off, min(uint64(h.ClusterSize()), (clusters+8)*uint64(h.RefcountBits)/8))
	}); err != nil {
		t.Fatal(err)
	}
	entries := (uint64(h.Size)>>h.ClusterBits + 2) << h.l2EntryBits()
	for _, e := range m.l1 {
		if off := e & entryOffset; off != 0 {
			add(off, min(uint64(h.ClusterSize()), entries))
		}
	}
	return places
}

// readWhole reads an image as a restore does: opened, verified, read to its end.
func readWhole(t *testing.T, image []byte) ([]byte, error) {
	t.Helper()
	m, err := Open(context.Background(), bytes.NewReader(image), int64(len(image)), OpenOptions{Unverified: true})
	if err == nil {
		err = m.Verify(t.Context())
	}
	if err == nil && m.Size() > 16<<20 {
		return nil, nil // a flip of the size: certainly another disk
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, m.Size())
	_, err = m.ReadAt(b, 0)
	return b, err
}

// TestBitFlips flips bits of all that says where data is. What is read without
// an error is what it was, unless qemu-img and Check call the image clean: then
// nothing in the file tells. FLIPS=1 takes each bit, else every 61st.
func TestBitFlips(t *testing.T) {
	step := 61
	if os.Getenv("FLIPS") != "" {
		step = 1
	}
	for name, good := range flipImages(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := readWhole(t, good)
			if err != nil {
				t.Fatal(err)
			}
			b := bytes.Clone(good)
			flips, refused, same, clean := 0, 0, 0, 0
			for i, places := len(name)%step, flipPlaces(t, good); i < 8*len(places); i += step {
				at, bit := places[i/8], byte(1)<<(i%8)
				b[at] ^= bit
				flips++
				switch got, err := readWhole(t, b); {
				case err != nil:
					refused++
				case bytes.Equal(got, want):
					same++
				default:
					if what := unclean(t, b); what != "" {
						t.Errorf("byte %#x, bit %#x: another disk is read without an error, though %s", at, bit, what)
					}
					clean++
				}
				b[at] ^= bit
			}
			t.Logf("%d flips: %d refused, %d without effect, %d to another clean image", flips, refused, same, clean)
		})
	}
}

// unclean returns what Check or qemu-img says against an image, or "".
func unclean(t *testing.T, image []byte) string {
	t.Helper()
	r, err := Check(t.Context(), bytes.NewReader(image), int64(len(image)), nil)
	if err != nil || r.Status() != 0 {
		return fmt.Sprintf("Check says %v, %v", r, err)
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("qemu-img", "check", "-f", "qcow2", file).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("qemu-img says %s", out)
	}
	return ""
}
