package scan

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// pending returns a filesystem as it was before some commands of debugfs, with
// all that they change in its journal, and as it is after them.
func pending(t testing.TB, c testfs.Spec, commands ...string) (before, after []byte) {
	t.Helper()
	dir := tree(t, []byte("file data "))
	clean := makeImage(t, c, dir)
	c.Debugfs = commands
	after = makeImage(t, c, dir)
	var changed []string
	var blocks bytes.Buffer
	bs := blockSizeOf(clean)
	for at := 0; at < len(clean); at += bs {
		if !bytes.Equal(clean[at:at+bs], after[at:at+bs]) {
			changed = append(changed, fmt.Sprint(at/bs))
			blocks.Write(after[at : at+bs])
		}
	}
	if len(changed) == 0 {
		t.Fatal("the commands change nothing")
	}
	path := filepath.Join(t.TempDir(), "blocks")
	if err := os.WriteFile(path, blocks.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Debugfs = []string{"jo", "jw -b " + strings.Join(changed, ",") + " " + path, "jc"}
	return makeImage(t, c, dir), after
}

// What replay would make metadata is in the map, and what is before it too.
func TestScanSeesTheStateAfterReplay(t *testing.T) {
	for _, c := range []testfs.Spec{
		{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -O ^metadata_csum -J size=1 -N 256"},
		{Size: 32 << 20, Mke2fs: "-b 4096 -t ext4 -O ^64bit,^metadata_csum,uninit_bg"},
		{Size: 8 << 20, Mke2fs: "-b 1024 -t ext3 -J size=1 -N 256"},
	} {
		t.Run(c.Mke2fs, func(t *testing.T) {
			// Enough of them that the inode table's unused end is named too.
			var commands []string
			for i := range 40 {
				commands = append(commands, fmt.Sprintf("mkdir new-folder-%d", i))
			}
			commands = append(commands, "symlink new-link "+strings.Repeat("t", 200), "rm long-link")
			before, after := pending(t, c, commands...)
			size := int64(len(before))
			for _, mode := range []JournalMode{JournalWhole, JournalLive} {
				dirty := scanBounded(t, bytes.NewReader(before), size, Options{Journal: mode})
				replayed := scanBounded(t, bytes.NewReader(after), size, Options{Journal: mode})
				checkTree(t, replayed.Map)
				if n := replayed.Map.Blocks(Directory); n < 44 {
					t.Fatalf("%d blocks of directories, want one at least for each of 44 directories", n)
				}
				if !dirty.Super().NeedsRecovery() {
					t.Fatal("there is nothing to replay")
				}
				missing := 0
				for kind := range kinds {
					for _, block := range runsOf(replayed.Map, kind) {
						if !dirty.Map.all().contains(block) {
							if missing++; missing < 5 {
								t.Errorf("%v at block %d, after replay, is not in the map", kind, block)
							}
						}
					}
				}
				checkCopies(t, dirty, before, after, blockSizeOf(before))
			}
			// Without the journal, only what stands there now is of interest.
			none := scanBounded(t, bytes.NewReader(before), size, Options{Journal: JournalNone})
			if n := none.Map.Blocks(Journal); n != 1 {
				t.Errorf("%d blocks of the journal, want its superblock", n)
			}
		})
	}
}

// The superblock that replay brings begins another orphan list.
func TestScanSeesTheSuperblockAfterReplay(t *testing.T) {
	const orphan, target = 200, 3000
	for _, c := range []testfs.Spec{
		{Size: 8 << 20, Mke2fs: "-b 1024 -t ext3 -J size=1 -N 256"},
		{Size: 32 << 20, Mke2fs: "-b 4096 -t ext3 -N 256"},
	} {
		t.Run(c.Mke2fs, func(t *testing.T) {
			field := fmt.Sprintf("sif <%d> ", orphan)
			before, _ := pending(t, c, field+"mode 0120777", field+"size 200", field+"blocks 8",
				fmt.Sprint(field, "block[0] ", target), fmt.Sprint("ssv last_orphan ", orphan))
			res := scanBounded(t, bytes.NewReader(before), int64(len(before)), Options{})
			if !res.Map.Contains(Symlink, target) {
				t.Error("the target of a symlink on the orphan list is not in the map")
			}
		})
	}
}

// checkCopies checks that of each block of metadata that replay would change
// there is a copy in the view, where the journal has it.
func checkCopies(t *testing.T, res *Result, before, after []byte, bs int) {
	t.Helper()
	journal := runsOf(res.Map, Journal)
	for run := range res.Map.Runs() {
		for block := run.Start; block < run.Start+run.Count; block++ {
			at := int(block) * bs
			want := after[at : at+bs]
			if run.Kind == Journal || bytes.Equal(before[at:at+bs], want) {
				continue
			}
			copied := slices.ContainsFunc(journal, func(j uint64) bool {
				got := make([]byte, bs)
				if _, err := res.View().ReadAt(got, int64(j)*int64(bs)); err != nil {
					t.Fatal(err)
				}
				return bytes.Equal(got, want)
			})
			if !copied && block != ext.SuperblockOffset/uint64(bs) {
				t.Errorf("the copy of block %d in the journal is not in the view", block)
			}
		}
	}
}

// Sectors that cannot be read while the state after replay is looked at are
// sectors of the journal or of the metadata, and listed once the view is read.
func TestReplayWithBadSectors(t *testing.T) {
	c := testfs.Spec{Size: 4 << 20, Mke2fs: "-b 1024 -t ext4 -O ^metadata_csum,^resize_inode -J size=1 -N 128"}
	before, _ := pending(t, c, "mkdir new-folder", "symlink new-link "+strings.Repeat("t", 200))
	size := int64(len(before))
	sound, err := Scan(context.Background(), bytes.NewReader(before), size, Options{Journal: JournalLive})
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, sound.Map)
	for start, end := range sound.Map.all().runs() {
		for s := int64(start) * 1024; s < int64(end)*1024; s += sector {
			res, err := Scan(context.Background(), &badDisk{ReaderAt: bytes.NewReader(before), bad: []int64{s}}, size, Options{Journal: JournalLive})
			if err != nil {
				if s/1024 != 1 {
					t.Fatalf("sector at %d: %v", s, err)
				}
				continue
			}
			readAll(t, res.View())
			if lost := res.Unreadable(); !slices.Equal(lost, []Range{{s, s + sector}}) {
				t.Errorf("sector at %d: %v listed", s, lost)
			}
		}
	}
}
