// Package diff compares two images of an ext2, ext3 or ext4 filesystem by
// structure: what of superblock, descriptors, bitmaps, inodes, directories,
// attributes and journal became another.
//
//	first ──► scan ─┐ maps  ┌─► blocks that differ ─┬─► by kind: fields, entries,   ──► Diff
//	          sums ─┼───────┤                       │   inodes, extents, bits
//	second ─► scan ─┘       └─► equal: not looked at └─► owners and paths
//
// Both images are scanned, which says what each block is. While the scans read,
// a checksum of each block is kept, so that a block that both scans have read
// is not read again to be compared. What no scan reads (bitmaps, copies) is
// compared byte by byte. Only blocks that differ are decoded.
//
// The images may be damaged in any way: what cannot be decoded is counted, and
// what is kept of a difference is bounded (Options.Limit). Diff.Omitted says
// how much was left out.
package diff
