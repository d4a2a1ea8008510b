package scan

// A work counts what a scan reads and estimates what it is still to read, in
// bytes. A request counts as as many bytes more as could be read in the time that
// it takes (image.Advice.Bridge), so that what is counted grows with time.
//
//	windows of groups     │ done │ being read ... │ by what a group took so far │
//	blocks that these name│ done │ gathered       │ by what an inode led to     │
type work struct {
	told    func(done, total int64)
	before  int64 // by scanners that have ended
	request int64 // bytes that a request counts as

	done        int64 // by this scanner
	groups      int64 // to be scanned
	groupsDone  int64 // of these, in windows that have ended or are being read
	tables      int64 // bytes of inode tables in those windows
	tablesDone  int64
	gathered    int64  // bytes of blocks that inodes and trees led to
	gatheredEnd uint64 // where the last of these ended
	followed    int64  // of these, read
	twice       bool   // the journal has a replay, after which all is scanned again
}

// beginScanner begins with what another scanner is to read.
func (w *work) beginScanner(groups uint32, request int, twice bool) {
	*w = work{told: w.told, before: w.before + w.done, request: int64(request), groups: int64(groups), twice: twice}
}

// gather adds blocks that something leads to.
func (w *work) gather(it *item, blockSize uint32) {
	w.gathered += int64(it.count) * int64(blockSize)
	if it.block < w.gatheredEnd || it.block-w.gatheredEnd > uint64(w.request)/uint64(blockSize) {
		w.gathered += w.request
	} else {
		w.gathered += int64(it.block-w.gatheredEnd) * int64(blockSize) // read through
	}
	w.gatheredEnd = it.block + uint64(it.count)
}

// read counts a request of the inode tables, or of the gathered blocks.
func (w *work) read(bytes int, tables bool) {
	w.done += int64(bytes) + w.request
	if tables {
		w.tablesDone += int64(bytes)
	} else {
		w.followed += int64(bytes) + w.request
	}
	w.tell()
}

// tell reports what was done, of an estimate of all.
func (w *work) tell() {
	if w.told == nil || w.groupsDone == 0 {
		return // nothing is known before the first descriptors are read
	}
	tables, gathered := float64(max(w.tables, w.tablesDone)), float64(max(w.gathered, w.followed))
	if w.groupsDone > 0 {
		tables *= max(1, float64(w.groups)/float64(w.groupsDone))
	}
	if w.tablesDone > 0 {
		gathered *= max(1, tables/float64(w.tablesDone))
	}
	total := gathered + tables
	if w.tablesDone > 0 { // of the requests of tables as far as they were made
		total = gathered + tables/float64(w.tablesDone)*float64(w.done-w.followed)
	}
	if w.twice {
		total *= 2
	}
	w.told(w.before+w.done, w.before+max(w.done, int64(min(total, 1<<60))))
}
