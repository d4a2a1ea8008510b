// Package survey describes a filesystem in numbers: what each part of the
// device holds, how files and free space are spread, which checksums are right,
// and where damage lies.
//
// A scan with the options of Watch shows its structures to the survey. Gather
// adds what only a finished scan knows:
//
//	res, err := scan.Scan(ctx, device, size, survey.Watch(scan.Options{}))
//	...
//	data, err := survey.Gather(ctx, res)
//
//	scan ── inodes, extents, directories ──► visitor ─┬─ tallies    histograms, largest files
//	                                                  ├─ claims     a bit for each cluster that a file has
//	                                                  └─ rows       directories, files with trees
//	map, descriptors, bitmaps, copies, journal ──► Gather ──► Data
//
// # Memory
//
// Of most files nothing is kept but the counts in histograms. Claims take a bit
// for each cluster of a group in which files have blocks, up to 64 MiB: groups
// beyond that are not compared with their bitmaps. Directories, and files whose
// extents do not fit in the inode, have a row each, up to 2¹⁹ rows: if there
// are more, the survey keeps a sample of one in two, or in four, and so on.
// Both bounds, and so the Data, do not depend on the order in which the scan
// shows the structures.
package survey
