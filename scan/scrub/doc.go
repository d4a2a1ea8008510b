// Package scrub takes what is private out of the metadata of a filesystem and
// leaves what e2fsck looks at: names, targets, values and labels are replaced
// by drawn ones of the same length, numbers stay.
//
// A scrubbed block begins as zeros. A byte gets into it only by the rule of the
// field that it stands in: see [rule], and the tables such as inodeFields. So
// what no table names cannot be left.
//
//	scan.Scan ──── shows its Observer ────► Index   names of indexed directories, boundaries of
//	    │          inodes, directories,       │     their leaves, who owns a directory block,
//	    ▼          attribute blocks           │     the words seen
//	scan.Result ─► Index.View ────────────────┤     reads symlinks, values in inodes, the journal;
//	                                          ▼     finds names a place
//	              View.ReadAt ── read ── write by rules ── search for words ──► sink
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
// # What is no structure
//
// Damage can put the contents of files where structures belong. A structure is
// genuine if its checksum is right. Without checksums it passes if it is
// plausible: see judgeInode, trueBitmap, isQuotaLeaf and pointers for the tests.
// What does not pass becomes noise of the same kind: a number that cannot be
// becomes another that cannot be, of as many bits, so that e2fsck meets the same
// kind of damage. Such blocks are counted.
//
// # Checksums
//
// A right checksum is computed anew, none stays none, and a wrong one becomes
// wrong by a drawn difference, so nothing of what was there can be computed from
// it. Checksums whose seed is that of an inode are verified during the scan,
// which knows the inode; they are linear, so a right one changes by the sum of
// what changes in the block.
//
// # The search for words
//
// All words of the source that are seen are searched for in what is written. It
// is a proof, and changes nothing: a word that stands where rules keep numbers,
// or in a name that they keep, is there by chance, and any other ends the run.
package scrub
