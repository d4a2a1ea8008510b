package survey_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
	"e2qcow/scan/survey"
)

var update = flag.Bool("update", false, "write the golden files again")

func open(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".img.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func gather(t *testing.T, disk []byte, threads int) *survey.Data {
	t.Helper()
	res, err := scan.Scan(t.Context(), bytes.NewReader(disk), int64(len(disk)), survey.Watch(scan.Options{Threads: threads}))
	if err != nil {
		t.Fatal(err)
	}
	d, err := survey.Gather(t.Context(), res)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The sample of 24 MiB, as testdata/make-sample lays it out.
const (
	sampleBlock       = 1024
	sampleBlockBitmap = 194 // of group 0
	sampleInodeTable  = 200
	sampleBackup      = 8193
)

// damageBitmap marks blocks of a file as free, and a free block as in use.
func damageBitmap(disk []byte) {
	bitmap := disk[sampleBlockBitmap*sampleBlock:]
	for bit := 1000; bit < 1040; bit++ { // in the file "large"
		bitmap[bit/8] &^= 1 << (bit % 8)
	}
	bitmap[8000/8] |= 1 << (8000 % 8)
}

// damage damages the sample in ways that e2fsck tells apart.
func damage(disk []byte) {
	damageBitmap(disk)
	disk[sampleInodeTable*sampleBlock+11*256+4] ^= 1    // i_size of inode 12, without its checksum
	disk[sampleBackup*sampleBlock+0x10] ^= 1            // s_free_inodes_count of the copy: only its checksum is wrong
	disk[sampleInodeTable*sampleBlock+19*256+42] = 0xff // i_block of inode 20: no extent header
}

// The data of filesystems is what the golden files have, with any number of
// threads.
func TestGolden(t *testing.T) {
	sample := func(change func([]byte)) func(*testing.T) []byte {
		return func(*testing.T) []byte {
			disk := testfs.Sample("../..")
			change(disk)
			return disk
		}
	}
	for _, test := range []struct {
		name string
		disk func(*testing.T) []byte
	}{
		{"sample", sample(func([]byte) {})},
		{"damaged", sample(damage)},
		{"no-primary", sample(func(disk []byte) { clear(disk[:2048]) })},
		{"tiny", func(t *testing.T) []byte { return open(t, "tiny") }},
		{"blockmap", func(t *testing.T) []byte { return open(t, "blockmap") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := test.disk(t)
			got := encode(t, gather(t, disk, 1))
			if again := encode(t, gather(t, disk, 8)); !bytes.Equal(got, again) {
				t.Error("one thread and eight give different data")
			}
			name := filepath.Join("testdata", test.name+".json")
			if *update {
				if err := os.WriteFile(name, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the data differ from %s; go test -update writes it again:\n%s", name, got)
			}
		})
	}
}

// What the survey says of bitmaps is what e2fsck says.
func TestJudged(t *testing.T) {
	disk := testfs.Sample("../..")
	damageBitmap(disk)
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("e2fsck", "-fn", path).Output()
	m := regexp.MustCompile(`(?m)^Block bitmap differences: *(\+.*)$`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("e2fsck names no bits:\n%s", out)
	}
	var got []string
	for _, b := range gather(t, disk, 0).Damage.Bits {
		sign := map[string]string{survey.KindMarkedFree: "+", survey.KindMarkedUsed: "-"}[b.Kind]
		if b.Count == 1 {
			got = append(got, fmt.Sprintf("%s%d", sign, b.Start))
		} else {
			got = append(got, fmt.Sprintf("%s(%d--%d)", sign, b.Start, b.Start+b.Count-1))
		}
	}
	if want := strings.Fields(string(m[1])); !slices.Equal(got, want) {
		t.Errorf("%q, e2fsck says %q", got, want)
	}
}

// Blocks that two files have are found where e2fsck finds them.
func TestMultiplyClaimed(t *testing.T) {
	disk := testfs.Sample("../..")
	inode := func(n int) []byte { return disk[sampleInodeTable*sampleBlock+(n-1)*256:][:256] }
	copy(inode(23)[40:100], inode(21)[40:100]) // i_block
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("e2fsck", "-fn", path).Output()
	m := regexp.MustCompile(`Multiply-claimed block\(s\) in inode 21: (.*)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("e2fsck finds none:\n%s", out)
	}
	for _, f := range gather(t, disk, 0).Damage.Findings {
		if f.Kind == survey.KindMultiple {
			first, last := 0, 0
			if n, _ := fmt.Sscanf(string(m[1]), "%d--%d", &first, &last); n < 2 {
				last = first
			}
			if want := fmt.Sprintf("block %d", first); f.Place != want || f.Count != uint64(last-first+1) {
				t.Errorf("%d from %s, e2fsck says %s", f.Count, f.Place, m[1])
			}
			return
		}
	}
	t.Error("not found")
}

// encode returns JSON with a line for each field; cells in a line each.
func encode(t *testing.T, d *survey.Data) []byte {
	t.Helper()
	var fields map[string]json.RawMessage
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(fields, "", "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, out); err != nil {
		t.Fatal(err)
	}
	return append(bytes.ReplaceAll(b.Bytes(), []byte("],["), []byte("],\n[")), '\n')
}

// The blocks of all classes are the blocks of the filesystem, and those of sound
// filesystems contradict nothing.
func TestTotals(t *testing.T) {
	for name, disk := range map[string][]byte{"sample": testfs.Sample("../.."), "tiny": open(t, "tiny"), "blockmap": open(t, "blockmap")} {
		d := gather(t, disk, 0)
		total := d.Map.First
		for _, n := range d.Map.Totals {
			total += n
		}
		if total != d.Blocks {
			t.Errorf("%s: %d blocks in the map, %d in the filesystem", name, total, d.Blocks)
		}
		if len(d.Damage.Findings) > 0 || len(d.Map.Marks) > 0 {
			t.Errorf("%s: %+v", name, d.Damage.Findings)
		}
	}
}

// The largest files have their paths.
func TestName(t *testing.T) {
	disk := testfs.Sample("../..")
	d := gather(t, disk, 0)
	if err := survey.Name(t.Context(), bytes.NewReader(disk), int64(len(disk)), scan.Options{}, d); err != nil {
		t.Fatal(err)
	}
	got := []string{d.Shape.Sizes.Largest[0].Path, d.Shape.Sizes.Largest[1].Path, d.Shape.Depths.Largest[0].Path, d.Shape.Entries.Largest[0].Path, d.Shape.Entries.Largest[1].Path}
	want := []string{"/large", "/fragmented", "/usr/share/doc/e2qcow/examples", "/indexed", "/"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Gather refuses a scan that did not show its structures.
func TestNotWatched(t *testing.T) {
	disk := open(t, "tiny")
	res, err := scan.Scan(t.Context(), bytes.NewReader(disk), int64(len(disk)), scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := survey.Gather(t.Context(), res); err == nil {
		t.Error("no error")
	}
}
