// Package qcow2 writes, reads and checks images in QEMU's copy-on-write format,
// versions 2 and 3. The format is that of qemu's docs/interop/qcow2.txt.
//
// # How to call
//
// [WriteFile] writes any [image.Image] as a file, [WriteStream] writes one to a
// pipe. [Open] returns the virtual disk of a file, an image.Image itself, and
// [OpenStream] that of a pipe. [Check] finds the errors in a file, as qemu-img
// check does.
//
//	img, err := qcow2.Open(ctx, file, size, qcow2.OpenOptions{})
//	...
//	n, err := img.ReadAt(b, off)
//
// [OpenSalvage] opens a damaged file, of which it reads what can be read.
//
// Open verifies the tables of the file, so that one which contradicts itself is a
// *[CorruptError] rather than a disk of wrong bytes.
//
// # The format
//
// An address of the virtual disk is split in three; tables are big-endian:
//
//	guest offset   │ L1 index │ L2 index │ byte in cluster │
//	                    │          │              └───────────────┐
//	                    v          v                              v
//	              L1 ┌─────┐   L2 ┌─────┐    data cluster ┌──────────────┐
//	                 │entry├─────>│entry├────────────────>│              │
//	                 └─────┘      └─────┘                 └──────────────┘
//	                8 bytes, one  8 bytes, one             or, compressed, a
//	                an L2 table   a cluster                few sectors
//
//	L2 entry       │63 copied│62 compressed│61..56 0│ 55..9 host offset │8..1 0│0 zero│
//	   compressed  │63    0  │62    1      │61..x sectors more│x-1..0 byte offset     │
//
// Every cluster of the file has a refcount, found through the refcount table
// and its blocks.
//
// # What the writer lays out
//
// All tables stand before the data, and the data is in ascending order of its
// guest offsets, so that an image is written, sent and restored in one pass:
//
//	│header│L1 │refcount table│refcount blocks│L2 tables      │data clusters ...│
//	0      1 cluster                          ascending        ascending
//
// There is an L2 table for every part of the disk where the source knows bytes,
// and refcounts for as many clusters as the source can fill. Clusters that are
// all zero are left out. The bytes depend on the source and the options only.
package qcow2
