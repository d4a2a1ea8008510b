package app

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/partition"
	"e2qcow/internal/signature"
	"e2qcow/scan/locate"
)

// A Description is what there is to know of a filesystem from its superblock
// and the head of its journal, in JSON. The names never change, as those of
// jsonRecord.
type Description struct {
	*Filesystem
	Features    []string `json:"features"`
	State       []string `json:"state"` // clean or not clean, with errors, orphans
	Groups      uint32   `json:"groups"`
	FlexGroups  uint32   `json:"flex_groups"` // groups that have their tables together; 1 without flex_bg
	InodeSize   uint32   `json:"inode_size"`
	ClusterSize uint32   `json:"cluster_size"` // unit of allocation, bytes; the block size without bigalloc

	BlocksFree     uint64 `json:"blocks_free"`
	BlocksReserved uint64 `json:"blocks_reserved"`
	Inodes         uint32 `json:"inodes"`
	InodesFree     uint32 `json:"inodes_free"`

	Created     time.Time `json:"created,omitzero"`
	LastMount   time.Time `json:"last_mount,omitzero"`
	MountedOn   string    `json:"mounted_on,omitempty"`
	LastWrite   time.Time `json:"last_write,omitzero"`
	LastCheck   time.Time `json:"last_check,omitzero"`
	MountCount  uint16    `json:"mount_count"`
	MountsToGo  int16     `json:"max_mount_count"`
	ErrorCount  uint32    `json:"error_count"`
	FirstError  *FSError  `json:"first_error,omitempty"`
	LastError   *FSError  `json:"last_error,omitempty"`
	JournalHead *Journal  `json:"journal,omitempty"`
}

// An FSError is an error that the kernel has recorded.
type FSError struct {
	Time     time.Time `json:"time,omitzero"`
	Function string    `json:"function"`
	Line     uint32    `json:"line"`
	Inode    uint32    `json:"inode,omitempty"`
	Block    uint64    `json:"block,omitempty"`
}

// A Journal is the state of a filesystem's journal.
type Journal struct {
	Blocks   uint32 `json:"blocks"`
	Replay   bool   `json:"replay"` // the filesystem needs a replay of the journal
	Errno    int32  `json:"errno"`
	External bool   `json:"external,omitempty"` // the journal is on another device, which is not read
	Unread   string `json:"unread,omitempty"`   // why no more is known
}

// Describe returns what there is to know of the filesystem whose primary
// superblock is sb, on a disk.
func Describe(disk io.ReaderAt, sb *ext.Superblock) *Description {
	st := sb.Status()
	d := &Description{
		Filesystem:     FilesystemOf(sb),
		Features:       sb.Features(),
		FlexGroups:     sb.GroupsPerFlex(),
		BlocksFree:     st.FreeBlocks,
		BlocksReserved: st.ReservedBlocks,
		Inodes:         st.Inodes,
		InodesFree:     st.FreeInodes,
		Created:        st.Created,
		LastMount:      st.Mounted,
		MountedOn:      sb.LastMountedOn(),
		LastWrite:      st.Written,
		LastCheck:      st.Checked,
		MountCount:     st.Mounts,
		MountsToGo:     st.MaxMounts,
		ErrorCount:     st.Errors,
		FirstError:     errorOf(st.FirstError),
		LastError:      errorOf(st.LastError),
		JournalHead:    journalOf(disk, sb),
	}
	d.State = []string{"not clean"}
	if st.State&ext.StateValid != 0 {
		d.State[0] = "clean"
	}
	if st.State&ext.StateErrors != 0 {
		d.State = append(d.State, "with errors")
	}
	if st.State&ext.StateOrphans != 0 {
		d.State = append(d.State, "orphans being released")
	}
	if geo, err := sb.Geometry(); err == nil {
		d.Groups, d.InodeSize, d.ClusterSize = geo.GroupCount, geo.InodeSize, geo.ClusterSize
	}
	return d
}

func errorOf(e ext.ErrorRecord) *FSError {
	if e == (ext.ErrorRecord{}) {
		return nil
	}
	return &FSError{e.Time, e.Function, e.Line, e.Inode, e.Block}
}

// journalOf returns the state of the journal, nil where there is none.
func journalOf(disk io.ReaderAt, sb *ext.Superblock) *Journal {
	if !sb.HasCompat(ext.CompatHasJournal) || sb.HasIncompat(ext.IncompatJournalDev) {
		return nil
	}
	j := &Journal{Replay: sb.NeedsRecovery()}
	if sb.JournalInode() == 0 {
		j.External = true
		return j
	}
	block, node, ok := sb.JournalHead()
	buf := make([]byte, max(sb.BlockSize(), ext.JournalSuperblockSize))
	read := func() bool {
		n, err := disk.ReadAt(buf, int64(block)*int64(sb.BlockSize()))
		return block < sb.BlocksCount() && (err == nil || errors.Is(err, io.EOF)) && n == len(buf)
	}
	if ok && node {
		if tree := ext.ExtentNode(buf); read() && tree.Valid() && tree.Depth() == 0 {
			block = tree.Extent(0).Start
		} else {
			ok = false
		}
	}
	if !ok || !read() {
		j.Unread = "the superblock does not say where it lies"
		return j
	}
	jsb, err := ext.DecodeJournalSuperblock(buf)
	if err != nil {
		j.Unread = err.Error()
		if binary.BigEndian.Uint32(buf) == 0 {
			j.Unread = "its first block is empty"
		}
		return j
	}
	j.Blocks, j.Errno = jsb.MaxLen, jsb.Errno
	j.Replay = j.Replay || jsb.Start != 0
	return j
}

// A Holding is what a disk holds.
type Holding struct {
	Description *Description
	Partitions  []Partition
	Sectors     string // that the partition table counts other sectors than the device has, else ""
	Name        string // of what there is in place of a filesystem, "" for nothing known
	Hint        string // what to do about it, "" for nothing known
	Disk        bool   // it is what a disk or a partition holds, not a file of another kind
	Usable      bool   // the description is of a superblock that e2fsck uses
}

// A Partition is a part of a disk, in JSON.
type Partition struct {
	Number  int    `json:"number"`
	Offset  int64  `json:"offset"` // bytes
	Size    int64  `json:"size"`   // bytes
	Content string `json:"content,omitempty"`
	Hint    string `json:"hint,omitempty"` // what to do with such contents
}

// Look finds out what a part of a source holds.
func Look(ctx context.Context, p *Part) (Holding, error) {
	disk := p.Disk
	if sb := SuperblockAt(disk); sb != nil {
		geo, err := sb.Geometry()
		usable := err == nil && sb.Verify(geo) == nil && sb.ChecksumOK()
		return Holding{Description: Describe(disk, sb), Disk: true, Usable: usable}, nil
	}
	found, _, err := signature.Find(disk, disk.Size())
	c := Holding{Name: found.Name, Disk: found.Filesystem || found.Name == signature.FixedVHD}
	if err != nil || found.Name != signature.PartitionTable {
		c.Hint = advise.OnContent(found, p.Start)
		return c, err
	}
	table, err := readPartitions(disk, p.SectorSize)
	if err != nil && !errors.Is(err, partition.ErrDamaged) {
		return c, nil // that there is a table is all that is known
	}
	c.Sectors = otherSectors(table, p.SectorSize)
	for _, p := range table.Partitions {
		part := Partition{Number: p.Number, Offset: p.Start, Size: p.Size}
		if sb := SuperblockAt(io.NewSectionReader(disk, p.Start, p.Size)); sb != nil {
			f := FilesystemOf(sb)
			part.Content = f.Type
		} else if found, ok := contentOf(disk, p); ok {
			part.Content, part.Hint = found.Name, advise.OnContent(found, p.Start)
		} else if lost, err := locate.Find(ctx, image.Section(disk, p.Start, p.Size), locate.Options{}); err != nil {
			return c, err
		} else if len(lost.Filesystems) > 0 {
			part.Hint = fmt.Sprintf("superblocks are in it: e2qcow info --partition %d SOURCE lists them", p.Number)
		}
		c.Partitions = append(c.Partitions, part)
	}
	return c, nil
}
