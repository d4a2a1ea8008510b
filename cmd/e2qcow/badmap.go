package main

import (
	"fmt"
	"os"

	"e2qcow/internal/ddrescue"
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
	areas, err := ddrescue.Bad(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	bad := make([]scan.Range, len(areas))
	for i, a := range areas {
		bad[i] = scan.Range(a)
	}
	return bad, nil
}
