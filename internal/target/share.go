package target

import (
	"errors"

	"e2qcow/image"

	"golang.org/x/sys/unix"
)

// ShareUnit returns the size of the blocks that the target can share with another
// file of its filesystem, 0 if it is no new file.
func (t *Target) ShareUnit() int64 {
	if t.kind != File || t.f == nil {
		return 0
	}
	var st unix.Statfs_t
	if err := control(t.f, func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil || st.Bsize <= 0 || st.Bsize&(st.Bsize-1) != 0 {
		return 0
	}
	t.copies = copiesItself(int64(st.Type)) //nolint:unconvert // 32 bits on some systems
	return int64(st.Bsize)                  //nolint:unconvert // as above
}

// copiesItself reports whether files on a filesystem of that type are copied by
// its server, which costs less than to read and write them here.
func copiesItself(kind int64) bool {
	const ceph, smb2, cifs = 0x00c36400, 0xfe534d42, 0xff534d42
	switch kind {
	case unix.NFS_SUPER_MAGIC, ceph, smb2, cifs:
		return true
	}
	return false
}

// Share makes n bytes of the target those of src at from: both have the same
// blocks then, or the server of both has copied them.
func (t *Target) Share(src image.File, from, off, n int64) error {
	conn, err := src.SyscallConn()
	if err != nil {
		return err
	}
	t.touched.Store(true)
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = control(t.f, func(to int) error { return t.share(to, int(fd), from, off, n) })
	})
	if err == nil {
		err = failed
	}
	return t.named("share", err)
}

func (t *Target) share(to, src int, from, off, n int64) error {
	err := unix.IoctlFileCloneRange(to, &unix.FileCloneRange{
		Src_fd: int64(src), Src_offset: uint64(from), Src_length: uint64(n), Dest_offset: uint64(off),
	})
	if err == nil || !t.copies || !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	for n > 0 {
		k, err := unix.CopyFileRange(src, &from, to, &off, int(min(n, 1<<30)), 0)
		switch {
		case err != nil:
			return err
		case k == 0:
			return unix.EIO // the source has become shorter
		}
		n -= int64(k)
	}
	return nil
}
