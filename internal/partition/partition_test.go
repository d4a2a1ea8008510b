package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mib = 1 << 20

// table returns the first bytes of a disk of size bytes that sfdisk has
// partitioned, and its length.
func table(t testing.TB, size int64, script string, options ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", append(append([]string{"-q"}, options...), path)...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/sbin:/usr/sbin")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(b []byte) ([]Partition, error) {
	t, err := Read(bytes.NewReader(b), int64(len(b)), 0)
	return t.Partitions, err
}

// areas returns what of a disk its table lies in, as far as that is known.
func areas(b []byte) map[Area]bool {
	t, _ := Read(bytes.NewReader(b), int64(len(b)), 0)
	set := map[Area]bool{}
	for _, a := range t.Areas {
		set[a] = true
	}
	return set
}

func TestMBR(t *testing.T) {
	b := table(t, 32*mib, "label: dos\nstart=1MiB,size=2MiB,type=83\nstart=4MiB,size=20MiB,type=5\nstart=26MiB,size=1MiB\nstart=5MiB,size=2MiB\nstart=8MiB,size=3MiB\n")
	want := []Partition{{1, 1 * mib, 2 * mib}, {3, 26 * mib, 1 * mib}, {5, 5 * mib, 2 * mib}, {6, 8 * mib, 3 * mib}}
	if got, err := read(b); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	// A chain that leads back to its start.
	ebr := b[4*mib:]
	binary.LittleEndian.PutUint32(ebr[446+16+8:], 0)
	if got, err := read(b); !errors.Is(err, ErrDamaged) || len(got) != 3 {
		t.Errorf("got %v, %v", got, err)
	}
	// And one that leads away.
	binary.LittleEndian.PutUint32(ebr[446+16+8:], 1<<31)
	if _, err := read(b); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestGPT(t *testing.T) {
	b := table(t, 32*mib, "label: gpt\nstart=1MiB,size=2MiB\nstart=4MiB,size=20MiB\n")
	want := []Partition{{1, 1 * mib, 2 * mib}, {2, 4 * mib, 20 * mib}}
	check := func(what string, b []byte) {
		t.Helper()
		if got, err := read(b); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v", what, got, err)
		}
	}
	check("as made", b)
	no := slices.Clone(b)
	clear(no[446:510])
	check("without an MBR", no)
	for what, at := range map[string]int{"header": 512 + 40, "entries": 1024 + 33} {
		bad := slices.Clone(b)
		bad[at]++
		check("damaged "+what, bad)
		copy(bad[len(bad)-512+16:], "xxxx")
		if got, err := read(bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s and backup damaged: got %v, %v", what, got, err)
		}
	}
}

func TestNone(t *testing.T) {
	for _, b := range [][]byte{make([]byte, mib), make([]byte, 512)} {
		if got, err := read(b); !errors.Is(err, ErrNone) {
			t.Errorf("%d zero bytes: %v, %v", len(b), got, err)
		}
	}
	if _, err := Read(bytes.NewReader(nil), 0, 0); !errors.Is(err, ErrNone) {
		t.Errorf("nothing: %v", err)
	}
}

// TestAreas finds what of a disk the table itself lies in, also in what is left
// of a damaged one.
func TestAreas(t *testing.T) {
	mbr := Area{"MBR", 0, 512}
	check := func(what string, b []byte, want ...Area) {
		t.Helper()
		set := map[Area]bool{}
		for _, a := range want {
			set[a] = true
		}
		if got := areas(b); !maps.Equal(got, set) {
			t.Errorf("%s: got %v, want %v", what, got, set)
		}
	}
	b := table(t, 32*mib, "label: dos\nstart=1MiB,size=2MiB,type=83\nstart=4MiB,size=20MiB,type=5\nstart=5MiB,size=2MiB\nstart=8MiB,size=3MiB\n")
	check("MBR", b, mbr, Area{"EBR", 4 * mib, 512}, Area{"EBR", 7 * mib, 512})
	binary.LittleEndian.PutUint32(b[4*mib+446+16+8:], 1<<31)
	check("MBR whose chain leads away", b, mbr, Area{"EBR", 4 * mib, 512})

	const last = 32*mib - 512
	whole := []Area{mbr, {"GPT header", 512, 512}, {"GPT header", last, 512}, {"GPT entries", 1024, 16 << 10}, {"GPT entries", last - 16<<10, 16 << 10}}
	b = table(t, 32*mib, "label: gpt\nstart=1MiB,size=2MiB\nstart=4MiB,size=20MiB\n")
	check("GPT", b, whole...)
	for _, c := range []struct {
		what   string
		damage func([]byte)
		want   []Area
	}{
		{"primary header", func(b []byte) { b[512+40]++ }, whole},
		{"primary entries", func(b []byte) { b[1024+33]++ }, whole},
		{"no primary", func(b []byte) { clear(b[512 : 512+16]) }, whole},
		{"backup header", func(b []byte) { b[last+40]++ }, whole},
		{"backup entries", func(b []byte) { b[last-16<<10+33]++ }, whole},
		{"no backup", func(b []byte) { clear(b[last:]) }, whole},
		{"neither", func(b []byte) { clear(b[512:1024]); clear(b[last:]) }, whole[:1]},
		{"neither sound", func(b []byte) { b[512+40]++; b[last+40]++ }, whole[:3]},
	} {
		bad := slices.Clone(b)
		c.damage(bad)
		check(c.what, bad, c.want...)
	}
	// A disk that has grown: the backup lies where the header says.
	check("GPT of a smaller disk", append(slices.Clone(b), make([]byte, mib)...), whole...)
	check("GPT of a larger disk", b[:16*mib], mbr, whole[1], whole[3])
	no := slices.Clone(b)
	clear(no[446:510])
	check("GPT without an MBR", no, whole[1:]...)
	check("nothing", make([]byte, mib))
}

// FuzzRead looks for tables that are not bounded: every partition lies on the
// disk, whatever a table says.
func FuzzRead(f *testing.F) {
	for _, script := range []string{"label: dos\nsize=4KiB\ntype=5\nsize=4KiB\nsize=8KiB\n", "label: gpt\nsize=4KiB\nsize=4KiB\n"} {
		f.Add(table(f, 64<<10, strings.ReplaceAll(script, "label: gpt", "label: gpt\ntable-length: 4\nfirst-lba: 4"), "--no-tell-kernel"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, sector := range []int64{512, 4096} {
			table, _ := Read(bytes.NewReader(b), int64(len(b)), sector)
			list := table.Partitions
			for _, a := range table.Areas {
				if a.Start < 0 || a.Size <= 0 || a.Size > int64(len(b))-a.Start {
					t.Fatalf("%+v on a disk of %d bytes", a, len(b))
				}
			}
			if len(table.Areas) > 1+4*maxLogical+32 {
				t.Fatalf("the table lies in %d areas", len(table.Areas))
			}
			for _, p := range list {
				if p.Number < 1 || p.Start < 0 || p.Size <= 0 || p.Size > int64(len(b))-p.Start {
					t.Fatalf("%+v on a disk of %d bytes", p, len(b))
				}
			}
			if len(list) > maxEntries/128 {
				t.Fatalf("%d partitions", len(list))
			}
		}
	})
}
