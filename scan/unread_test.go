package scan

import (
	"bytes"
	"context"
	"testing"

	"e2qcow/internal/testfs"
)

// What cannot be read is unreadable, and is not damage besides: each block of
// metadata of a sound filesystem in turn, and its first sector alone.
func TestUnreadIsNotDamaged(t *testing.T) {
	for _, c := range []testfs.Spec{
		{Size: 2 << 20, Mke2fs: "-b 1024 -t ext4 -O ^has_journal,inline_data -g 512 -N 128 -I 256"},
		{Size: 3 << 20, Mke2fs: "-b 1024 -t ext3 -J size=1 -g 1024 -N 96"},
		{Size: 6 << 20, Mke2fs: "-b 1024 -t ext4 -O quota,orphan_file,meta_bg,^resize_inode,metadata_csum_seed,mmp -J size=1 -g 2048 -N 96"},
		{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -O bigalloc,^has_journal -C 4096 -N 96"},
	} {
		t.Run(c.Mke2fs, func(t *testing.T) {
			data := makeImage(t, c, tree(t, []byte("file data ")))
			sound := scanBytes(t, data, Options{})
			checkTree(t, sound.Map)
			for start, end := range sound.Map.all().runs() {
				for block := start; block < end; block += raceShrink {
					for _, n := range []int64{sector, 1024} {
						r := Range{int64(block) * 1024, int64(block)*1024 + n}
						res, err := Scan(context.Background(), bytes.NewReader(data), int64(len(data)), Options{Bad: []Range{r}})
						if err != nil {
							t.Fatal(err)
						}
						for _, p := range res.AllProblems() {
							t.Errorf("block %d, %v, unread: %v", block, runsKinds(sound.Map, block), p)
						}
					}
				}
			}
		})
	}
}

func runsKinds(m *Map, block uint64) (kinds []Kind) {
	for k := range Kinds() {
		if m.Contains(k, block) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// Damage beside a bad sector is still damage.
func TestDamageBesideUnread(t *testing.T) {
	data := makeImage(t, testfs.Spec{Size: 2 << 20, Mke2fs: "-b 1024 -t ext2 -g 1024 -N 96"}, tree(t, []byte("file data ")))
	for run := range scanBytes(t, data, Options{}).Map.RunsOf(Directory) {
		le.PutUint16(data[run.Start*1024+4:], 3) // rec_len of its first entry
		res := scanBytes(t, data, Options{Bad: []Range{{int64(run.Start)*1024 + sector, int64(run.Start+1) * 1024}}})
		if !hasProblem(res, BadDirectory) {
			t.Error("damage beside a bad sector is not told")
		}
		return
	}
	t.Error("no directory is found")
}
