package main

import (
	"errors"
	"fmt"

	"e2qcow/internal/source"
	"e2qcow/qcow2"
)

// openGuest opens the qcow2 image in src; nil where it holds something else.
func openGuest(src *source.Source) (*guest, error) {
	img, err := qcow2.Open(src, src.Size(), qcow2.OpenOptions{})
	if errors.Is(err, qcow2.ErrNotQcow2) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Name(), err)
	}
	return &guest{Image: img}, nil
}
