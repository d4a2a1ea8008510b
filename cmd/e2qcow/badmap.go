package main

import (
	"errors"
	"fmt"
	"math"
	"os"

	"e2qcow/internal/ddrescue"
	"e2qcow/internal/signature"
	"e2qcow/scan"
)

// readBadMap returns what a map file of ddrescue does not call rescued; nothing
// where no file is named.
func readBadMap(name string) ([]scan.Range, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return nil, fmt.Errorf("option --%s: %s %w but a directory", flagBadMap, name, errNoMap)
	}
	areas, err := ddrescue.Bad(f)
	if syntax := (*ddrescue.SyntaxError)(nil); errors.As(err, &syntax) {
		if what := otherThanMap(f); what != "" {
			return nil, fmt.Errorf("option --%s: %s %w; %s", flagBadMap, name, errNoMap, what)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	bad := make([]scan.Range, len(areas))
	for i, a := range areas {
		bad[i] = scan.Range(a)
	}
	return bad, nil
}

var errNoMap = errors.New("is no map file of ddrescue")

// otherThanMap says what a file that is no map looks like, "" where that is not
// known.
func otherThanMap(f *os.File) string {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	if info.Size() == 0 {
		return "the file is empty"
	}
	if found, ok, err := signature.Find(f, info.Size()); err == nil && ok {
		return "the file looks like " + found.Name
	}
	return ""
}

// sayForeignMap warns of a map that calls bytes rescued which the source does
// not have, as that of a whole disk beside one of its partitions.
func (s *session) sayForeignMap(w *work) {
	bad := w.options.scan.Bad
	if w.badMap == "" || len(bad) == 0 || bad[len(bad)-1].End != math.MaxInt64 {
		return
	}
	if rescued, size := bad[len(bad)-1].Start, w.input.src.Size(); rescued > size {
		s.say("%s calls bytes before %d rescued, and %s has %d: see that it is the map of that, not of the whole disk", w.badMap, rescued, w.input.src.Name(), size)
	}
}
