package scan

import (
	"bytes"
	"fmt"
	"testing"

	"e2qcow/ext"
	"e2qcow/internal/testfs"
)

// An entry of a directory names an inode that bg_itable_unused says was never
// used. e2fsck then reads the whole table, so the whole table is in the map, with
// both bitmaps of its group; the tables of other groups are not.
func TestNamedInUnusedTable(t *testing.T) {
	const perGroup, inodeSize, blockSize = 192, 256, 1024
	for _, c := range []struct {
		options string
		entry   string // as debugfs makes it
		stale   bool   // the table holds what was on the device before
	}{
		{"-t ext4 -O ^has_journal", "ln <600> /folder/stray", false},
		{"-t ext4 -O ^has_journal,^metadata_csum,uninit_bg", "ln <600> /folder/stray", true},
		{"-t ext4 -O ^has_journal,inline_data", "ln <600> /inline/stray", false},
	} {
		spec := testfs.Spec{Size: 28 << 20, Mke2fs: fmt.Sprint("-b ", blockSize, " -N 768 -E lazy_itable_init=1 ", c.options), Debugfs: []string{"mkdir inline"}, Stale: c.stale}
		dir := tree(t, []byte("file data "))
		sound := scanBytes(t, makeImage(t, spec, dir), Options{})
		spec.Debugfs = append(spec.Debugfs, c.entry)
		stray := scanBytes(t, makeImage(t, spec, dir), Options{})

		if hasProblem(sound, InodePastUnused) {
			t.Errorf("%s: an inode beyond bg_itable_unused is named in a sound filesystem", c.options)
		}
		group := uint32(600-1) / perGroup
		var told *Problem
		for _, p := range stray.AllProblems() {
			if p.Kind == InodePastUnused {
				told = &p
			}
		}
		if told == nil || told.Inode != 600 || told.Group != group {
			t.Errorf("%s: inode 600 of group %d is named: %v", c.options, group, told)
		}
		const tableBlocks = perGroup * inodeSize / blockSize
		for kind, more := range map[Kind]uint64{InodeTable: tableBlocks, InodeBitmap: 1} {
			if was, is := sound.Map.Blocks(kind), stray.Map.Blocks(kind); is != was+more {
				t.Errorf("%s: %d blocks of kind %v, and %d in the sound filesystem, want %d more", c.options, is, kind, was, more)
			}
		}
	}
}

// Each slot of a block of the orphan file can name an inode there, the first and
// the last too: what the inode leads to is in the map.
func TestOrphanFileSlots(t *testing.T) {
	const blockSize = 1024
	spec := testfs.Spec{Size: 28 << 20, Mke2fs: fmt.Sprint("-b ", blockSize, " -N 768 -E lazy_itable_init=1 -t ext4 -O orphan_file,^metadata_csum,uninit_bg"),
		Debugfs: []string{"sif <600> mode 0120777", "sif <600> size 200", "sif <600> blocks 2", "sif <600> block[0] 9000"}}
	sound := makeImage(t, spec, t.TempDir())
	var first uint64
	for run := range scanBytes(t, sound, Options{}).Map.RunsOf(OrphanFile) {
		first = run.Start
		break
	}
	if first == 0 || scanBytes(t, sound, Options{}).Map.Contains(Symlink, 9000) {
		t.Fatal("there is no orphan file, or the symlink is found without it")
	}
	slots := (blockSize - ext.OrphanTailLen) / 4
	for _, slot := range []int{0, 1, slots - 1} {
		image := bytes.Clone(sound)
		le.PutUint32(image[int(first)*blockSize+4*slot:], 600)
		if !scanBytes(t, image, Options{}).Map.Contains(Symlink, 9000) {
			t.Errorf("the target of the symlink that slot %d of %d names is not in the map", slot, slots)
		}
	}
}
