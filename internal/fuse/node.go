//go:build !386 && !arm

package fuse

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// blockSize is the unit in which room is counted.
const blockSize = 4096

// A root is the folder.
type root struct {
	fs.Inode
	node *node
}

var (
	_ fs.NodeOnAdder   = (*root)(nil)
	_ fs.NodeGetattrer = (*root)(nil)
	_ fs.NodeStatfser  = (*root)(nil)
	_ fs.NodeUnlinker  = (*root)(nil)
)

// OnAdd makes the file.
func (r *root) OnAdd(ctx context.Context) {
	child := r.NewPersistentInode(ctx, r.node, fs.StableAttr{Mode: fuse.S_IFREG, Ino: 2})
	r.AddChild(DiskName, child, false)
}

// Getattr describes the folder.
func (r *root) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = fuse.S_IFDIR | 0o700
	out.Nlink = 2
	r.node.fill(&out.Attr)
	return 0
}

// Unlink refuses to remove the file, which package fs would allow.
func (r *root) Unlink(context.Context, string) syscall.Errno { return syscall.EPERM }

// Statfs says how much room there is for changes.
func (r *root) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	return r.node.Statfs(ctx, out)
}

// A node is the file.
type node struct {
	fs.Inode
	disk     Disk
	readOnly bool
	made     time.Time
	trouble  once
}

var (
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeLseeker   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func newNode(disk Disk, opt Options) *node {
	return &node{disk: disk, readOnly: opt.ReadOnly, made: time.Now(), trouble: once{said: map[string]bool{}, say: opt.Trouble}}
}

// fail returns what the kernel is told of an error of the disk.
func (n *node) fail(err error) syscall.Errno {
	number := errno(err)
	if number != 0 {
		n.trouble.pass(err)
	}
	return number
}

// fill says what folder and file have in common.
func (n *node) fill(out *fuse.Attr) {
	out.Owner = fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	out.Blksize = blockSize
	out.SetTimes(&n.made, &n.made, &n.made)
}

// Getattr describes the file.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = fuse.S_IFREG | 0o600
	if n.readOnly {
		out.Mode = fuse.S_IFREG | 0o400
	}
	out.Nlink = 1
	out.Size = uint64(n.disk.Size())
	out.Blocks = (out.Size + 511) / 512
	n.fill(&out.Attr)
	return 0
}

// Setattr refuses another length: this is a disk. Times may be set, and are not
// kept.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok && size != uint64(n.disk.Size()) {
		return syscall.EPERM
	}
	if in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return syscall.EPERM
	}
	return n.Getattr(ctx, f, out)
}

// Open opens the file. What the kernel has read of the file stays good.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	switch {
	case n.readOnly && flags&syscall.O_ACCMODE != syscall.O_RDONLY:
		return nil, 0, syscall.EROFS
	case flags&syscall.O_TRUNC != 0:
		return nil, 0, syscall.EPERM
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read reads the disk.
func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	k, err := n.disk.ReadAt(dest, off)
	if number := n.fail(err); number != 0 {
		return nil, number
	}
	return fuse.ReadResultData(dest[:k]), 0
}

// Write writes to the disk, which does not grow.
func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	size := n.disk.Size()
	if off < 0 || off >= size {
		return 0, syscall.ENOSPC
	}
	k, err := n.disk.WriteAt(data[:min(int64(len(data)), size-off)], off)
	if k > 0 {
		return uint32(k), 0 // the rest is written, or fails, on its own
	}
	return 0, n.fail(err)
}

// Fsync has nothing to do: the changes last as long as this process.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return 0 }

// Allocate makes bytes zero, as a discard does. To reserve room needs nothing.
func (n *node) Allocate(_ context.Context, _ fs.FileHandle, off, length uint64, mode uint32) syscall.Errno {
	size := uint64(n.disk.Size())
	switch {
	case n.readOnly:
		return syscall.EROFS
	case length == 0 || off > math.MaxInt64 || length > math.MaxInt64:
		return syscall.EINVAL
	case mode&unix.FALLOC_FL_KEEP_SIZE == 0 && (off > size || length > size-off):
		return syscall.ENOSPC
	}
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
		return 0
	case unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE:
	default:
		return syscall.EOPNOTSUPP
	}
	if off >= size {
		return 0
	}
	return n.fail(n.disk.Clear(int64(off), int64(min(length, size-off))))
}

// Lseek finds data and holes.
func (n *node) Lseek(_ context.Context, _ fs.FileHandle, off uint64, whence uint32) (uint64, syscall.Errno) {
	size := n.disk.Size()
	if off >= uint64(size) {
		return 0, syscall.ENXIO
	}
	at := int64(off)
	start, end, err := n.disk.NextData(at)
	switch {
	case errors.Is(err, io.EOF) && whence == unix.SEEK_DATA:
		return 0, syscall.ENXIO
	case errors.Is(err, io.EOF):
		return off, 0
	case err != nil:
		return 0, n.fail(err)
	case whence == unix.SEEK_DATA:
		return uint64(start), 0
	case whence != unix.SEEK_HOLE:
		return 0, syscall.EINVAL
	case start > at:
		return off, 0
	}
	return uint64(min(end, size)), 0
}

// Statfs says how much room there is for changes.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	free, all := n.disk.Room()
	out.Bsize, out.Frsize = blockSize, blockSize
	out.Blocks = uint64(all) / blockSize
	out.Bfree = uint64(max(free, 0)) / blockSize
	out.Bavail = out.Bfree
	out.Files, out.NameLen = 1, 255
	return 0
}
