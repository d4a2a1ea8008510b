// Package scan finds the metadata of an ext2, ext3 or ext4 filesystem: every
// byte of structure that e2fsck, a kernel mount, debugfs or dumpe2fs may read,
// under each reading that damage leaves open, and nothing of file contents.
//
// # How to call
//
// [Scan] reads any io.ReaderAt: a file, a block device, a qcow2.Image. Its Result
// has the damage, the map of blocks, and the view, an image of the metadata that
// qcow2.WriteFile or raw.WriteFile writes:
//
//	res, err := scan.Scan(ctx, device, size, scan.Options{})
//	...
//	stats, err := qcow2.WriteFile(ctx, file, res.View(), qcow2.WriteOptions{BlockSize: int(res.BlockSize())})
//	...
//	lost := res.Unreadable() // after the writing, which reads too
//
// An error of Scan means that there is no image to write. Bytes that cannot be
// read are no error: they are zero in the view, and Unreadable lists them.
//
// # How a scan goes
//
//	superblock ─ descriptors ─ inode tables ─┬─ extent nodes ─ ... ─┬─ directories
//	                 │                       ├─ indirect blocks ────┤  symlinks
//	                 └─ bitmaps              └─ xattr blocks ───────┘  journal, quota
//
// The scan goes through the tree level by level, not file by file. Inode tables
// are read in large ascending requests; the blocks they point to are gathered,
// sorted, merged and read in the same way, and yield the next level. So the
// disk sees few reads, and the depth of the deepest tree says how many rounds
// there are. A block is parsed once in each role that something claims for it,
// which ends loops.
//
// The result is a [Map]: a sparse set of blocks for each [Kind]. [Result.View]
// makes an image of it: the blocks of the map as they are, all else zero.
//
// Nothing is fatal once a superblock is found. Damage is a [Problem]: counted,
// the first of each kind kept. Where e2fsck has a choice (a backup superblock,
// the state after journal replay, the other meaning of contradictory flags)
// the scan takes every branch, and the map is their union.
package scan
