package survey

// freeRuns counts the runs of free blocks; one that goes over the border of
// groups counts once.
func (w *walk) freeRuns(start, end, n uint64) {
	at := uint64(0)
	for first, last := range w.used.runs(n) {
		w.addRun(start+at*w.ratio, start+first*w.ratio)
		w.endRun()
		at = last
	}
	if from := start + at*w.ratio; from < end {
		w.addRun(from, end)
	}
}

// addRun adds free blocks to the run before them.
func (w *walk) addRun(from, to uint64) {
	if w.runLen == 0 {
		w.runStart = from
	}
	w.runLen += to - from
}

func (w *walk) endRun() {
	if w.runLen > 0 {
		w.free.add(w.runLen, Largest{Block: w.runStart})
	}
	w.runLen = 0
}

// countFree counts the free clusters of a group, of which its descriptor says how
// many there are.
func (w *walk) countFree(g uint32, free uint64, said uint32) {
	w.freeClusters += free
	if free != uint64(said) && !w.stale() {
		w.found.add(KindCounts, place{group: g, hasGroup: true}, 1, "the count of free clusters is not that of the bitmap")
		w.mark(KindCounts, place{group: g, hasGroup: true}, 1, "count of free blocks")
	}
}
