//go:build !unix

package buffer

import "errors"

// mapMemory fails: New then takes memory from the heap.
func mapMemory(int) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapMemory([]byte) {}
