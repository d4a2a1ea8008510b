package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
)

// TestServed has qemu serve images as disks, and e2fsck and its like look at
// them there, without anything being restored.
func TestServed(t *testing.T) {
	tool := testfs.Build(t)
	source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024", Size: 40 * mib, Fill: testfs.Copied}).Path
	for _, options := range []string{"", "-z", "--compress=zstd"} {
		t.Run(options, func(t *testing.T) {
			image := filepath.Join(testfs.TempDir(t), "meta.qcow2")
			tool.Dump(t, source, image, strings.Fields(options)...)
			disk := testfs.Serve(t, image)
			if got, want := testfs.Size(t, disk), testfs.Size(t, source); got != want {
				t.Errorf("the disk has %d bytes, want %d", got, want)
			}
			v := testfs.Fsck(t, disk, "-fn")
			if v.Exit != 0 {
				t.Errorf("e2fsck -fn: exit %d\n%s", v.Exit, v.Text)
			}
			sameVerdicts(t, source, disk)
		})
	}
}
