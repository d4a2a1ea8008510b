package scan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

var canary = []byte(testfs.Canary)

// No word of what files hold, held, or what was on the device before, is in
// the view; all structure is.
func TestViewHoldsNoFileData(t *testing.T) {
	value := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(value, bytes.Repeat([]byte("v"), 3000), 0o600); err != nil {
		t.Fatal(err)
	}
	common := []string{"rm deleted", "fallocate small 200 400", "symlink made-link " + string(bytes.Repeat([]byte("m"), 150))}
	withValue := append([]string{"ea_set -f " + value + " large user.value"}, common...)
	dir := tree(t, canary)
	for _, c := range []testfs.Spec{
		{Size: 8 << 20, Mke2fs: "-b 1024 -t ext2", Debugfs: []string{"rm deleted", common[2]}},
		{Size: 16 << 20, Mke2fs: "-b 2048 -t ext3", Debugfs: []string{"rm deleted", common[2]}},
		{Size: 16 << 20, Mke2fs: "-b 4096 -t ext4", Debugfs: common},
		{Size: 64 << 20, Mke2fs: "-b 4096 -t ext4 -g 2048 -E lazy_itable_init=1", Debugfs: common},
		{Size: 8 << 20, Mke2fs: "-b 1024 -t ext4 -O ^has_journal,meta_bg,^resize_inode -g 1024", Debugfs: common},
		{Size: 16 << 20, Mke2fs: "-b 1024 -t ext4 -O bigalloc -C 16384", Debugfs: common},
		{Size: 64 << 20, Mke2fs: "-b 4096 -t ext4 -O bigalloc,quota -C 65536", Debugfs: common},
		{Size: 32 << 20, Mke2fs: "-b 4096 -t ext4 -O inline_data,ea_inode -I 512", Debugfs: withValue},
		{Size: 64 << 20, Mke2fs: "-b 65536 -t ext4 -O ^has_journal", Debugfs: common},
		{Size: 16 << 20, Mke2fs: "-b 1024 -t ext4 -O sparse_super2,orphan_file,project,quota", Debugfs: common},
	} {
		t.Run(c.Mke2fs, func(t *testing.T) {
			c.Stale = true
			data := makeImage(t, c, dir)
			if n := bytes.Count(data, canary); n < len(data)/len(canary)/8 {
				t.Fatalf("the filesystem holds only %d words", n)
			}
			for _, opt := range []Options{{}, {Backups: BackupsAll}, {Backups: BackupsNone, Journal: JournalLive}} {
				res, err := Scan(context.Background(), bytes.NewReader(data), int64(len(data)), opt)
				if err != nil {
					t.Fatal(err)
				}
				if p := res.Problems(); len(p) > 0 {
					t.Errorf("problems of a sound filesystem: %v", p)
				}
				checkResult(t, bytes.NewReader(data), int64(len(data)), res)
				if !strings.Contains(c.Mke2fs, "inline_data") { // else the symlink is in its inode
					checkTree(t, res.Map)
				}
				checkNoCanary(t, res)
			}
		})
	}
}

func checkNoCanary(t *testing.T, res *Result) {
	t.Helper()
	v := res.View()
	found := make(map[Kind]int)
	for run := range res.Map.Runs() {
		buf := make([]byte, run.Count*uint64(res.BlockSize()))
		n, err := v.ReadAt(buf, int64(run.Start)*int64(res.BlockSize()))
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if at := bytes.Index(buf[:n], canary[:6]); at >= 0 {
			if found[run.Kind]++; found[run.Kind] == 1 {
				t.Errorf("%v: file data at byte %d of block %d", run.Kind, at%int(res.BlockSize()), run.Start+uint64(at)/uint64(res.BlockSize()))
			}
		}
	}
}
