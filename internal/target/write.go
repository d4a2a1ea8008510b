package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"e2qcow/internal/folder"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// A Target is open for writing. WriteAt may be called concurrently, and Close
// at any time.
type Target struct {
	kind Kind
	name string
	f    *os.File
	size int64 // of a device, or of a file in place, from base
	base int64 // where offsets count from

	options Options
	entry   *folder.Entry // nil of standard output, and of a device
	draft   *folder.Draft // of a file, and of one in place that is made; nil of a dry run
	made    bool          // a file in place that was not there before
	old     fs.FileInfo   // of the file that is there; nil where none is
	skip    *skip         // of a stream that is a file; may be nil
	appends bool          // a stream that is a file to which every write appends
	start   int64         // of that, its length when the program started
	wrote   int64         // to a stream
	settled bool
	touched atomic.Bool // see Touched
	copies  bool        // the filesystem copies files by itself; see Share
	behind  *os.File    // see LockBehind

	mu   sync.Mutex
	done bool // committed or given up
}

// Name returns the name that the target was opened by.
func (t *Target) Name() string { return t.name }

// Kind returns how the target is written.
func (t *Target) Kind() Kind { return t.kind }

// Size returns the length in bytes of a device or of a file in place, 0 of
// anything else.
func (t *Target) Size() int64 { return t.size }

// KeepsPart reports whether Close keeps the bytes written so far: on a device,
// or in place in a file that existed before.
func (t *Target) KeepsPart() bool { return t.kind == Device || t.kind == InPlace && !t.made }

// Replaces reports whether the target replaces a file that is not empty when it
// is committed, and leaves that file unchanged otherwise.
func (t *Target) Replaces() bool { return t.kind == File && t.old != nil && t.old.Size() > 0 }

// Touched reports whether old contents of the target may have changed.
func (t *Target) Touched() bool { return t.touched.Load() }

// On reports whether writing to the target writes to the filesystem on the
// device of that number.
func (t *Target) On(dev uint64) (bool, error) { return storage.On(t.f, dev) }

// Is reports whether o will be the same file under the same name.
func (t *Target) Is(o *Target) bool {
	isFile := func(k Kind) bool { return k == File || k == InPlace }
	return isFile(t.kind) && isFile(o.kind) && t.entry.Same(o.entry)
}

// LockBehind also locks the file behind a loop device, so that no program that
// locks the file writes there until the target is closed.
func (t *Target) LockBehind() (err error) {
	if t.kind == Device {
		t.behind, err = storage.LockBehind(t.f)
	}
	return err
}

// Region returns the region of storage of a device or file.
func (t *Target) Region() (storage.Region, error) { return storage.Of(t.f) }

// ReadAt reads from a file or device as io.ReaderAt does.
func (t *Target) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.f.ReadAt(p, t.base+off)
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, t.named("read", err)
}

// WriteAt writes to a file or device as io.WriterAt does.
func (t *Target) WriteAt(p []byte, off int64) (int, error) {
	t.touched.Store(true)
	n, err := t.f.WriteAt(p, t.base+off)
	return n, t.named("write", err)
}

// Write writes to a stream as io.Writer does.
func (t *Target) Write(p []byte) (int, error) {
	n, err := t.f.Write(p)
	t.wrote += int64(n)
	return n, t.named("write", err)
}

// named gives err the name that the user knows the target by.
func (t *Target) named(op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: t.name, Err: unwrapPath(err)}
}

// Truncate sets the length of a file. A device, and a file in place, keeps the
// length that it has.
func (t *Target) Truncate(size int64) error {
	if t.kind == Device || t.kind == InPlace {
		if size > t.size {
			return refuse(t.name, ErrTooSmall)
		}
		return nil
	}
	return t.named("truncate", t.f.Truncate(size))
}

// Skip puts n zero bytes into a stream without writing them, where that can be
// done; false means that it cannot.
func (t *Target) Skip(n int64) (bool, error) {
	if t.skip == nil {
		return false, nil
	}
	return true, t.named("seek", t.skip.zeros(n))
}

// How much of a device is zeroed at a time, by itself or by writing: ctx and
// progress are looked at between.
const (
	zeroOutSize = 64 << 20
	zeroSize    = 1 << 20
)

// ZeroOut makes n bytes of a device at off zero: by its own means, else by
// writing zeros. progress, which may be nil, is told of each piece.
func (t *Target) ZeroOut(ctx context.Context, off, n int64, progress func(n int64)) error {
	const align = 4096 // no device has larger logical sectors
	ask := true
	var zeros []byte
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece := int64(zeroSize)
		if rest := (t.base + off) % align; rest != 0 {
			piece = align - rest
		}
		piece = min(piece, n)
		done := false
		if ask && (t.base+off)%align == 0 && n >= align {
			whole := min(n-n%align, zeroOutSize)
			err := t.zeroOut(t.base+off, whole)
			switch {
			case err == nil:
				piece, done = whole, true
			case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL):
				ask = false
			default:
				return t.named("zero", err)
			}
		}
		if !done {
			if zeros == nil {
				zeros = make([]byte, zeroSize)
			}
			if _, err := t.WriteAt(zeros[:piece], off); err != nil {
				return err
			}
		}
		off, n = off+piece, n-piece
		if progress != nil {
			progress(piece)
		}
	}
	return nil
}

// A SyncError says that a target is complete, on the disk and under its name, but
// that the name may not outlast a loss of power.
type SyncError struct {
	Name string // of the target
	Err  error
}

func (e *SyncError) Error() string {
	return fmt.Sprintf("its folder cannot be synced, so that after a loss of power there may be what was under this name before: %v", e.Err)
}

func (e *SyncError) Unwrap() error { return e.Err }

// Commit has what was written reach the disk and appear under its name. After
// an error the target is as if Close had been called, but for a *SyncError.
func (t *Target) Commit() error {
	err := t.settle()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return t.named("write", os.ErrClosed)
	}
	if err == nil && t.draft != nil {
		err = t.appear()
	}
	if err != nil {
		t.giveUp()
		return t.named("write", err)
	}
	t.done = true
	defer t.release()
	if t.draft != nil {
		if err := t.entry.Sync(t.f); err != nil {
			return &SyncError{t.name, unwrapPath(err)}
		}
	}
	return nil
}

// release closes what is open.
func (t *Target) release() {
	if t.behind != nil {
		t.behind.Close()
	}
	if t.f != nil {
		t.f.Close()
	}
	if t.entry != nil {
		t.entry.Close()
	}
}

// Settle has what was written, which is all, reach the disk, so that not much is
// left in Commit that can fail. Close may be called meanwhile.
func (t *Target) Settle() error { return t.named("write", t.settle()) }

// SettleBy is Settle, a part of the file after the other, and tells progress how
// many bytes of the file have reached the disk.
func (t *Target) SettleBy(progress func(done, total int64)) error {
	if t.kind == File && !t.settled {
		if err := syncByParts(t.f, progress); err != nil {
			return t.named("write", err)
		}
	}
	return t.Settle()
}

func (t *Target) settle() error {
	if t.settled {
		return nil
	}
	if t.skip != nil {
		if err := t.skip.finish(); err != nil {
			return err
		}
	}
	err := t.f.Sync()
	if t.kind == Stream && errors.Is(err, unix.EINVAL) {
		err = nil // a pipe
	}
	t.settled = err == nil
	if err == nil && t.kind != Stream {
		t.dropCache()
	}
	return err
}

// dropCache gives the page cache back what it holds of the target, which has
// reached the disk and may be larger than all that others have there.
func (t *Target) dropCache() {
	conn, err := t.f.SyscallConn()
	if err != nil {
		return
	}
	// Advice: that it was not taken changes nothing.
	_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) })
}

// Close gives up what was not committed: a file is removed, one that is
// standard output gets its old length. After Commit it does nothing.
func (t *Target) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.done {
		t.giveUp()
	}
}

// giveUp is called once, with t.mu held. What fails here follows an error that
// says more.
func (t *Target) giveUp() {
	t.done = true
	defer t.release()
	switch {
	case t.f == nil: // a dry run
		return
	case t.draft != nil:
		t.draft.Discard()
	}
	if t.skip != nil {
		_ = t.f.Truncate(t.skip.start)
	}
	if info, err := t.f.Stat(); t.appends && err == nil && info.Size() == t.start+t.wrote { // by nobody else
		_ = t.f.Truncate(t.start)
	}
}
