// Package lost finds the files that the unreadable places of a disk hit.
//
//	disk   ──┬──────┬─────────────┬──────────┬────────────┬──
//	         │ node │   ▒▒▒▒▒     │ contents │    ▒▒      │      ▒ cannot be read
//	       ──┴──────┴─────────────┴──────────┴────────────┴──
//	           ▲          │                        │
//	           │          ▼                        ▼
//	         a tree ─► bytes of a file       an inode table: inodes that only
//	                                         the entries of directories name
//
// The work has two passes over the inode tables. The first follows the tree of
// each file and compares its places with the lost ranges. Nodes are gathered and
// read in ascending order. The second reads the directories, and keeps the
// entries that name a file which the first pass found, or a directory. Nothing
// is read if nothing is lost.
//
// # How to call
//
//	res, err := scan.Scan(ctx, disk, size, scan.Options{Bad: bad, Reread: true})
//	...
//	report, err := lost.Find(ctx, res, bad)
//	for _, f := range report.Files {
//		fmt.Println(f.Inode, f.Parts, f.Lost, f.Paths)
//	}
package lost
