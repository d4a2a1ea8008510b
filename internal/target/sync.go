package target

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// How much of a file is synced at a time: this many bytes, but of a large file,
// which may be sparse, so many that there are not more parts than that.
const (
	syncPart  = 32 << 20
	syncParts = 4096
)

// syncByParts has the pages of f written to the disk, and tells progress how many
// bytes are there, as if all parts that hold something held as much. The file is to
// be synced after that: its size and where its bytes lie are not written.
func syncByParts(f *os.File, progress func(done, total int64)) error {
	var st unix.Stat_t
	if err := control(f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	part := max(syncPart, st.Size/syncParts)
	list := dataParts(f, st.Size, part)
	total := st.Blocks * 512
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for i, off := range list {
		progress(int64(float64(total)*float64(i)/float64(len(list))), total)
		err := control(f, func(fd int) error { return unix.SyncFileRange(fd, off, min(part, st.Size-off), all) })
		switch {
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ESPIPE):
			return nil // fsync does it
		case err != nil:
			return err // which fsync would not report once more
		}
	}
	progress(total, total)
	return nil
}

// dataParts returns where parts of a file of size bytes begin that hold something.
func dataParts(f *os.File, size, part int64) (list []int64) {
	for off := int64(0); off < size; off += part {
		var start int64
		err := control(f, func(fd int) (err error) {
			start, err = unix.Seek(fd, off, unix.SEEK_DATA)
			return err
		})
		switch {
		case errors.Is(err, unix.ENXIO):
			return list
		case err == nil:
			off = max(off, start-start%part)
		}
		list = append(list, off)
	}
	return list
}

// control calls do with the descriptor of f, which may be closed meanwhile.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
