// Package ext decodes the on-disk structures of ext2, ext3 and ext4: bytes
// in, values out. It does no I/O: the caller reads the bytes.
//
// # How to call
//
// Read [SuperblockSize] bytes at [SuperblockOffset]; [DecodeSuperblock] and
// [Superblock.Geometry] say where the rest lies. An inode is found in three steps:
//
//	group, index := geo.InodePlace(ino)
//	desc := ext.GroupDesc(...)  // DescSize bytes of block geo.DescBlock(0, ...)
//	inode := ext.Inode(...)     // InodeSize bytes of the table at desc.InodeTable()
//
// Then [ExtentNode] reads the tree in [Inode.IBlock], [DirReader] a block of a
// directory, [XattrReader] attributes, and [WalkJournal] a journal. The example
// lists a directory so. To read a filesystem that may be damaged, scan it with
// package scan first: a scan.Reading finds inodes and blocks.
//
// # How a filesystem is laid out
//
//	block 0   boot sector, or superblock at byte 1024 when blocks are larger
//	┌───────────────────────── block group 0 ─────────────────────────┐
//	│ super- │ group       │ reserved │ block  │ inode  │ inode │ data │
//	│ block  │ descriptors │ GDT      │ bitmap │ bitmap │ table │      │
//	└────────┴─────────────┴──────────┴────────┴────────┴───────┴──────┘
//	┌───────────────────────── block group n ─────────────────────────┐
//	│ backup superblock and descriptors, in some groups only; bitmaps  │
//	│ and table may lie elsewhere (flex_bg); data                      │
//	└──────────────────────────────────────────────────────────────────┘
//
// A [Superblock] is decoded with any values; [Superblock.Geometry] checks them
// and derives the places of everything else. Structures that occur in large
// numbers (descriptors, inodes, extents, directory entries) are views: byte
// slices with accessors, nothing is copied or allocated.
//
// The layouts are those of the kernel's fs/ext4/ext4.h and ext4_extents.h.
// Everything on disk is untrusted: no value is used before it is bounded, and
// damage is an error value or a stop, never a panic.
package ext
