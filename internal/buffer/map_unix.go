//go:build unix

package buffer

import "golang.org/x/sys/unix"

// mapMemory returns length bytes of zeros outside the heap.
func mapMemory(length int) ([]byte, error) {
	return unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

// unmapMemory gives b back. If the system refuses, b stays mapped and unused.
func unmapMemory(b []byte) { _ = unix.Munmap(b) }
