package storage

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Queue says how the kernel asks a block device for bytes.
type Queue struct {
	MaxRequest int64 // bytes in one request at most; 0 where that is not known
	Rotational bool  // it has to seek
}

// QueueOf returns the queue of an open block device, if sysfs shows it.
func QueueOf(f *os.File) Queue {
	st, err := stat(f)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Queue{}
	}
	dir := host.folder(idOf(&st).dev)
	if disk, _, _, ok := partition(dir); ok {
		dir = host.folder(disk)
	}
	kib, _ := sysNumber(filepath.Join(dir, "queue", "max_sectors_kb"))
	rotational, _ := sysNumber(filepath.Join(dir, "queue", "rotational"))
	return Queue{MaxRequest: int64(min(kib, 1<<30)) << 10, Rotational: rotational == 1}
}
