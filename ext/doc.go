// Package ext decodes the on-disk structures of ext2, ext3 and ext4: bytes
// in, values out. It does no I/O; what to read is the caller's to decide.
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
// A [Superblock] is decoded as it is, whatever its values; [Superblock.Geometry]
// bounds them and derives what the rest is found by. Structures that occur in
// large numbers (descriptors, inodes, extents, directory entries) are views:
// byte slices with accessors, nothing is copied or allocated.
//
// The layouts are those of the kernel's fs/ext4/ext4.h and ext4_extents.h.
// Everything on disk is untrusted: no value is used before it is bounded, and
// damage is an error value or a stop, never a panic.
package ext
