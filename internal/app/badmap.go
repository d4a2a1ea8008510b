package app

import (
	"errors"
	"fmt"
	"math"
	"os"

	"e2qcow/internal/advise"
	"e2qcow/internal/ddrescue"
	"e2qcow/internal/signature"
	"e2qcow/scan"
)

// ReadBadMap returns the ranges that a map file of ddrescue does not call
// rescued; nil if name is "".
func ReadBadMap(name string) ([]scan.Range, error) {
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
		return nil, fmt.Errorf("option --bad-map: %s %w but a directory", name, errNoMap)
	}
	areas, err := ddrescue.Bad(f)
	if syntax := (*ddrescue.SyntaxError)(nil); errors.As(err, &syntax) {
		if what := otherThanMap(f); what != "" {
			return nil, fmt.Errorf("option --bad-map: %s %w; %s", name, errNoMap, what)
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

var errNoMap = advise.New("is not a map file of ddrescue", "name the mapfile that ddrescue wrote")

// otherThanMap returns what a file that is not a map looks like, "" if that is
// not known.
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

// SayForeignMap warns about a map that calls bytes behind the end of the source
// rescued, such as the map of a whole disk with one of its partitions.
func (s *Session) SayForeignMap(name string, bad []scan.Range, in *Input) {
	if name == "" || len(bad) == 0 || bad[len(bad)-1].End != math.MaxInt64 {
		return
	}
	if rescued, size := bad[len(bad)-1].Start, in.Disk().Size(); rescued > size {
		s.Say("%s calls bytes up to %d rescued, but %s has only %d: check that the map belongs to this source, not to the whole disk", name, rescued, in.Src.Name(), size)
	}
}
