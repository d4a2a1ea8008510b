// Package scrub takes what is private out of the metadata of a filesystem and
// leaves what e2fsck looks at: names, targets, values and labels are replaced
// by drawn ones of the same length, numbers stay.
//
// # How to call
//
// An [Index] learns from a scan what the scrubbing needs, so the scan is given
// [Index.Visit]. [Index.View] is then the image to write, and [View.Verify] says
// whether a word of the source is left in what was written:
//
//	index := scrub.NewIndex(scrub.Options{Key: key}) // 32 random bytes
//	res, err := scan.Scan(ctx, device, size, scan.Options{Visit: index.Visit})
//	...
//	view, err := index.View(ctx, res)
//	...
//	stats, err := qcow2.WriteFile(ctx, file, view, qcow2.WriteOptions{})
//	...
//	err = view.Verify(ctx) // on an error, remove the file
//
// The same key and source give the same image. Whoever has the key can find out
// whether a name that he guesses was there.
//
// # Rules
//
// A scrubbed block begins as zeros. A byte gets into the block only by the rule of
// the field that the byte stands in. Each structure has a table of its fields and
// their rules. So bytes that no table names cannot be left.
//
//	scan.Scan ──── calls Index.Visit ────► Index   names of indexed directories, boundaries of
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
// # Indexes
//
// An index sorts the names of a directory by their hashes. The seed of the
// hashes is always replaced, unless Options.KeepSeed says otherwise, and then the
// index is fitted to the words, not the words to the index:
//
//	old    0 ┬──── a ─┬─ b ─┬──────── c ─┬── d ┬ 2³²    borders: the hashes in the index
//	         │ 2 names│  9  │     4      │  1  │
//	frames 0 ┼─ F₁ ───┼────────── F₂ ────┼──── F₃ ───┼ F₄ ┼ 2³²    as wide as the names are many
//	new    0 ┴───── A ┴─────────────── B ┴── C ──────┴ D ─ 2³²    between the words on both sides
//
// Names between the same two borders stay between the same two borders, so a
// name that was out of place is out of place again.
//
//   - Frames are found first. Where words of a length are few, as
//     those of one byte, all of them are hashed, and a frame reaches as far as it
//     takes to have enough of them. A name that stays, such as lost+found in the
//     root, has a frame that reaches over its hash.
//   - Then words are found for each length: those that are few are dealt out,
//     others are drawn until each frame has enough. Word i of a length is never
//     word j, so what is kept of each name is a number.
//   - A border is drawn last: anywhere between the greatest hash before it and
//     the least hash behind it. So a border says nothing that the words do not.
//
// How many words are hashed is bounded. A name for which there is no word in its
// frame is misplaced, and counted, and so is a directory that was sound before.
// Leaves are told apart by old hashes. Where names with the same hash fill one,
// nothing says which leaf that is: such a directory is counted too. Each
// index that is written is compared with the index that was there.
//
// # What is no structure
//
// Damage can put the contents of files where structures belong. A structure is
// genuine if its checksum is right. Without checksums it passes if it is
// plausible by a stated test, such as those of inodes, bitmaps and quotas.
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
// The words themselves are not held: a filter says where one may stand, and
// View.Verify reads the words of the source again to compare those places.
package scrub
