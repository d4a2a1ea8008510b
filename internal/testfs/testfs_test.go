package testfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var specs = map[string]Spec{
	"mounted": {Mke2fs: "-t ext4 -b 1024 -O ea_inode", Size: 40 << 20, Fill: Mounted},
	"copied":  {Mke2fs: "-t ext4 -b 1024 -O ea_inode", Size: 40 << 20, Fill: Copied, Fsck: true},
}

// TestFilled checks that the filesystems hold what the judges look for.
func TestFilled(t *testing.T) {
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			fs := Make(t, spec)
			if v := Fsck(t, fs.Path, "-fn"); v.Exit != 0 {
				t.Errorf("e2fsck -fn: exit %d\n%s", v.Exit, v.Text)
			}
			if len(Canaries(t, fs.Path)) < 2000 {
				t.Errorf("%d sectors of file contents found, want 1 MiB of them at least", len(Canaries(t, fs.Path)))
			}
			for command, want := range map[string]string{
				"htree_dump /htree2":        "Indirect levels: 1",
				"stat /frag":                "(ETB1)",
				"stat /links/slow-900":      "Size: 900",
				"stat /links/fast-59":       "Fast link dest",
				"ea_list /attr/value-inode": "user.large (16020)",
				"ea_list /attr/block":       "user.second",
				"stat /special/fifo":        "Type: FIFO",
				"stat " + Samples[7]:        "Type: directory",
			} {
				if got := Debugfs(t, fs.Path, command).Text; !strings.Contains(got, want) {
					t.Errorf("debugfs %s does not say %q:\n%s", command, want, got)
				}
			}
		})
	}
}

func TestDirtyHasAJournalToReplay(t *testing.T) {
	fs := Make(t, Spec{Mke2fs: "-t ext4 -b 1024", Size: 40 << 20, Fill: Mounted, Dirty: true})
	v := Fsck(t, Copy(t, fs.Path), "-fy")
	for _, want := range []string{"recovering journal", "Clearing orphaned inode"} {
		if !strings.Contains(v.Text, want) {
			t.Errorf("e2fsck -fy does not say %q:\n%s", want, v.Text)
		}
	}
}

// TestFsckReads compares the trace with what has to be read of any filesystem.
func TestFsckReads(t *testing.T) {
	fs := Make(t, specs["mounted"])
	reads := FsckReads(t, fs.Path, "-fn")
	for what, blocks := range map[string][]Range{
		"the superblock":       {{1024, 2048}},
		"the root directory":   Blocks(t, fs.Path, "/"),
		"an indexed directory": Blocks(t, fs.Path, "/htree2"),
		"a slow symlink":       Blocks(t, fs.Path, "/links/slow-900"),
		"the journal's header": Blocks(t, fs.Path, "<8>")[:1],
	} {
		for _, block := range blocks {
			if !Contains(reads, block.Start) {
				t.Errorf("e2fsck is not seen to read %s, bytes %d", what, block)
			}
		}
	}
	for _, block := range Blocks(t, fs.Path, "/plain/file-020") {
		if Contains(reads, block.Start) {
			t.Errorf("e2fsck is seen to read the contents of a file, bytes %d", block)
		}
	}
}

func TestTracer(t *testing.T) {
	var tr tracer
	var whole joiner
	for _, line := range []string{
		`7 openat(AT_FDCWD</>, "/i", O_RDWR) = 3</i>`,
		`7 pread64(3</i>, ""..., 1024, 2048) = 1024`,
		`7 lseek(3</i>, 8192, SEEK_SET) = 8192`,
		`7 read(3</i>, ""..., 512) = 512`,
		`7 read(3</i>, ""..., 512) = 512`,
		`7 pwrite64(3</i>, ""..., 1024, 16384) = 1024`,
		`7 pread64(3</i>,  <unfinished ...>`,
		`8 pread64(3</i>, ""..., 100, 100) = 100`,
		`7 <... pread64 resumed>""..., 4096, 15360) = 4096`,
		`7 pread64(3</i>, 0x7ffd, 1024, 99999744) = -1 EIO (Input/output error)`,
	} {
		if line = whole.add(line); line == "" {
			continue
		}
		if err := tr.line(line); err != nil {
			t.Fatal(err)
		}
	}
	want := []Range{{2048, 3072}, {8192, 9216}, {100, 200}, {15360, 16384}, {17408, 19456}}
	if !slices.Equal(tr.reads, want) {
		t.Errorf("reads %v, want %v", tr.reads, want)
	}
	if err := tr.line("7 mmap(3</i>)"); err == nil {
		t.Error("a line without a result is taken")
	}
}

// TestCompare compares files with holes at every place that matters.
func TestCompare(t *testing.T) {
	dir := TempDir(t)
	file := func(name string, size int64, at ...int64) string {
		path := filepath.Join(dir, name)
		if err := emptyFile(path, size); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, off := range at {
			if _, err := f.WriteAt([]byte(Canary), off); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	const size = 10<<20 + 100
	one := file("one", size, 5000, 7<<20)
	for name, c := range map[string]struct {
		other      string
		difference int64
	}{
		"itself":        {one, -1},
		"equal":         {file("equal", size, 7<<20, 5000), -1},
		"lacks a block": {file("lacks", size, 5000), 7 << 20},
		"has one more":  {file("more", size, 5000, 7<<20, size-50), size - 50},
		"longer":        {file("longer", size+1, 5000, 7<<20), size},
		"empty":         {file("empty", 0), 5000},
	} {
		if got := Difference(t, one, c.other); got != c.difference {
			t.Errorf("%s: first difference at %d, want %d", name, got, c.difference)
		}
	}
	if got := Missing(t, one, file("lacks-first", size, 7<<20), 1024); !slices.Equal(got, []int64{4}) {
		t.Errorf("missing blocks %d, want 4", got)
	}
	if got := Missing(t, file("part", size, 7<<20), one, 1024); got != nil {
		t.Errorf("missing blocks %d, want none", got)
	}
	if got := Canaries(t, file("split", size, step-4, 3<<20)); !slices.Equal(got, []int64{step - 4, 3 << 20}) {
		t.Errorf("canaries at %d", got)
	}
}
