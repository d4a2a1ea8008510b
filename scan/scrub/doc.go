// Package scrub takes what is private out of the metadata of a filesystem and
// leaves what e2fsck looks at: names, targets, values and labels are replaced
// by drawn ones of the same length, and a block's checksum stays as right, or
// as wrong by the same difference, as it was.
//
//	scan.Scan ──── shows its Observer ────► Index   names of indexed directories, boundaries of
//	    │          inodes, directories,       │     their leaves, who owns a directory block,
//	    ▼          attribute blocks           │     the words seen
//	scan.Result ─► Index.View ────────────────┤     reads symlinks, values in inodes, the journal;
//	                                          ▼     finds names a place
//	              View.ReadAt ── read ── scrub by kind ── search for words ──► sink
//
// # Drawn words
//
// All that is drawn comes from a key and from what it stands for, never from
// an order of work: so a block is scrubbed whenever it is read, by any
// goroutine, to the same bytes. A name is drawn from its keyed hash; the same
// name gives the same word, in directories, symlinks and the journal.
//
// In an indexed directory the word has to have a hash in the range of the leaf
// that it stands in. The hashes in the index are redrawn first, by a function
// that keeps their order, so between two of them the old hash of a name and
// the new one of its word stand in the same cell:
//
//	old    0 ┬──── a ─┬─ b ─┬──────── c ─┬── d ┬ 2³²    boundaries: the hashes in the index
//	         │   cell 0  1  │     2      3  │  4 │
//	new    0 ┴─── A ──┴─ B ─┴─── C ──┴─── D ┴──── 2³²    evenly, give or take an eighth
//
// Words for the cells are drawn from a pool: the i-th candidate of a length is
// hashed once and given to the cell it falls in, if that lacks one. What is
// kept is a number for each name. How many are drawn is bounded: where damage
// crowds names in few of many cells, some are misplaced, and counted.
//
// # Checksums
//
// The sums of the format are linear: that of a block changes by the sum of
// what changed in it, whatever it began with. So a stored sum, exclusive or'd
// with what is computed over the old bytes and what is over the new, stays
// right if it was, and else as wrong; nobody needs to know whose block it is.
package scrub
