//go:build !386 && !arm

package fuse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/overlay"
	"e2qcow/internal/spool"
)

// A zeros is an empty image of some size.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }

func (z zeros) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

func (z zeros) NextRun(int64) (start, end int64, err error) { return 0, 0, io.EOF }

// A disk is an overlay that is served.
type disk struct{ *overlay.Overlay }

func (d disk) Room() (free, all int64) { return d.Limit() - d.Used(), d.Limit() }

// mountTest mounts a disk and unmounts it when the test ends, however it does.
func mountTest(t *testing.T, base image.Image, limit int64, opt Options) (*Mount, disk) {
	t.Helper()
	d := disk{overlay.New(base, overlay.Options{Limit: limit, Spool: spool.Options{Dir: t.TempDir()}})}
	folder := t.TempDir()
	m, err := New(folder, d, opt)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.Unmount() != nil {
			_ = m.Detach()
		}
		d.Close()
	})
	return m, d
}

// TestDisk looks at the file, and does what must not be done to it.
func TestDisk(t *testing.T) {
	const size = 60<<40 + 512
	m, _ := mountTest(t, zeros(size), 0, Options{Source: "test"})
	info, err := os.Stat(m.Disk())
	if err != nil || info.Size() != size || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	f, err := os.OpenFile(m.Disk(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("last"), size-4); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt([]byte("beyond"), size); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write beyond the end: %v", err)
	}
	if at, err := f.Seek(0, unix.SEEK_DATA); err != nil || at != size/4096*4096 {
		t.Errorf("the data begins at %d, %v", at, err)
	}
	if err := f.Truncate(100); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncated: %v", err)
	}
	if _, err := os.Create(m.Disk()); !errors.Is(err, unix.EPERM) {
		t.Errorf("opened to be truncated: %v", err)
	}
	for name, f := range map[string]func() error{
		"create": func() error { return os.WriteFile(filepath.Join(filepath.Dir(m.Disk()), "new"), nil, 0o600) },
		"remove": func() error { return os.Remove(m.Disk()) },
		"rename": func() error { return os.Rename(m.Disk(), m.Disk()+"2") },
		"chmod":  func() error { return os.Chmod(m.Disk(), 0o4755) },
	} {
		if f() == nil {
			t.Errorf("%s works", name)
		}
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size); err != nil {
		t.Errorf("discard: %v", err)
	}
	if _, err := f.Seek(0, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
		t.Errorf("data behind a discard: %v", err)
	}
	if err := m.Unmount(); !errors.Is(err, ErrBusy) {
		t.Errorf("unmounting a disk in use: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	f.Close()
	// The kernel tells of a closed file a little later.
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if err = m.Unmount(); !errors.Is(err, ErrBusy) || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
	select {
	case <-m.Ended():
	default:
		t.Error("not ended")
	}
}

func TestReadOnly(t *testing.T) {
	m, _ := mountTest(t, zeros(1<<20), 0, Options{ReadOnly: true})
	if _, err := os.OpenFile(m.Disk(), os.O_RDWR, 0); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
		t.Errorf("opened for writing: %v", err)
	}
	if _, err := os.ReadFile(m.Disk()); err != nil {
		t.Error(err)
	}
}

// TestFull fills what there is room for: the write that does not fit fails.
func TestFull(t *testing.T) {
	const limit = 1 << 20
	m, d := mountTest(t, zeros(1<<30), limit, Options{})
	f, err := os.OpenFile(m.Disk(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bytes.Repeat([]byte{1}, 64<<10)
	off := int64(0)
	for ; err == nil && off < 2*limit; off += int64(len(b)) {
		_, err = f.WriteAt(b, off)
	}
	if !errors.Is(err, unix.ENOSPC) || d.Used() > limit || off < limit/2 {
		t.Errorf("at %d: %v, %d used", off, err, d.Used())
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Disk(), &st); err != nil || st.Bfree*uint64(st.Bsize) > 64<<10 || st.Blocks != limit/4096 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<30); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// A failing disk cannot be read.
type failing struct{ zeros }

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("gone") }

// TestTrouble reads from a source that is gone: each reader gets an error, and
// the person hears of it once.
func TestTrouble(t *testing.T) {
	var (
		mu   sync.Mutex
		said []error
	)
	m, _ := mountTest(t, failing{1 << 20}, 0, Options{Trouble: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, err)
	}})
	for range 3 {
		if _, err := os.ReadFile(m.Disk()); !errors.Is(err, unix.EIO) {
			t.Errorf("read: %v", err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(said) != 1 {
		t.Errorf("said: %v", said)
	}
}

// TestRandom has users in parts of one disk.
const (
	users = 8
	part  = 1 << 20
)

// TestRandom does what fsx does, from several threads and through maps of memory
// as well, for a second, or for as long as E2QCOW_FSX says.
func TestRandom(t *testing.T) {
	length := time.Second
	if v := os.Getenv("E2QCOW_FSX"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := mountTest(t, zeros(users*part+512), 0, Options{})
	// A process that waits for its own pages cannot serve them.
	ctx, cancel := context.WithTimeout(t.Context(), length+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestExercise$")
	cmd.Env = append(os.Environ(), exerciseEnv+"="+m.Disk(), "E2QCOW_FSX="+length.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// exerciseEnv names the disk for TestExercise.
const exerciseEnv = "E2QCOW_EXERCISE"

// TestExercise is the other process of TestRandom.
func TestExercise(t *testing.T) {
	name := os.Getenv(exerciseEnv)
	if name == "" {
		t.Skip("a part of TestRandom")
	}
	length, err := time.ParseDuration(os.Getenv("E2QCOW_FSX"))
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(length)
	var wait sync.WaitGroup
	for user := range users {
		wait.Go(func() {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			exercise(t, f, rand.New(rand.NewPCG(1, uint64(user))), int64(user)*part, part, until)
		})
	}
	wait.Wait()
}

// exercise does random operations in a part of a file that is zero at first, and
// compares with a model.
func exercise(t *testing.T, f *os.File, r *rand.Rand, base, size int64, until time.Time) {
	model := make([]byte, size)
	for n := 0; n < 20 || time.Now().Before(until); n++ {
		off := r.Int64N(size)
		b := model[off:min(size, off+1+r.Int64N(200_000))]
		var err error
		switch r.IntN(6) {
		case 0:
			clear(b)
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, base+off, int64(len(b)))
		case 1:
			clear(b)
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, base+off, int64(len(b)))
		case 2:
			err = writeMapped(f, b, base, off, byte(n)|1)
		case 3:
			got := make([]byte, len(b))
			if _, err = f.ReadAt(got, base+off); err == nil && !bytes.Equal(got, b) {
				t.Errorf("%d bytes at %d are wrong after %d operations", len(b), base+off, n)
				return
			}
		default:
			for i := range b {
				b[i] = byte(i*n) | 1
			}
			_, err = f.WriteAt(b, base+off)
		}
		if err != nil {
			t.Errorf("after %d operations: %v", n, err)
			return
		}
	}
}

// writeMapped writes to a file through a map of its memory.
func writeMapped(f *os.File, b []byte, base, off int64, value byte) error {
	page := int64(os.Getpagesize())
	start := (base + off) &^ (page - 1)
	mem, err := unix.Mmap(int(f.Fd()), start, int(base+off-start)+len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	to := mem[base+off-start:]
	for i := range b {
		b[i], to[i] = value, value
	}
	return errors.Join(unix.Msync(mem, unix.MS_SYNC), unix.Munmap(mem))
}
