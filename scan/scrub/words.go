package scrub

import (
	"sync"
)

// A word shorter than minWord bytes, or of fewer than minDistinct byte values,
// is found anywhere by chance.
const (
	minWord     = 8
	minDistinct = 4
)

// words is the set of the words seen in a filesystem, to be searched for in
// what is written of it.
type words struct {
	mu  sync.Mutex
	set map[string]struct{}
}

func newWords() *words { return &words{set: map[string]struct{}{}} }

// add adds a word, if it is one that counts.
func (w *words) add(b []byte) {
	if len(b) < minWord || distinct(b) < minDistinct {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set[string(b)] = struct{}{}
}

// has tells whether b is one of the words.
func (w *words) has(b []byte) bool {
	if len(b) < minWord {
		return false
	}
	_, ok := w.set[string(b)]
	return ok
}

// distinct returns how many byte values b has.
func distinct(b []byte) int {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n
}
