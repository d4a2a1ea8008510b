package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"e2qcow/image"
	"e2qcow/internal/buffer"

	"golang.org/x/sys/unix"
)

// noiseFile returns a file of so many random bytes.
func noiseFile(t *testing.T, size int) (name string, data []byte) {
	t.Helper()
	data = make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	name = filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name, data
}

// sameReads reads all over a source, aligned and not, for each use, and
// compares with what is there.
func sameReads(t *testing.T, s *Source, data []byte) {
	t.Helper()
	b := buffer.New(1 << 20)
	defer b.Free()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		unit := []int{1, 512, 1024, 4096}[i%4]
		off := r.IntN(len(data)/unit) * unit
		n := (1 + r.IntN(len(b.Bytes)/2/unit)) * unit
		p := b.Bytes[r.IntN(64)*unit:][:n]
		use := image.Use(r.IntN(3))
		got, err := s.ReadFor(p, int64(off), use)
		want := data[off:min(off+n, len(data))]
		if !bytes.Equal(p[:got], want) {
			t.Fatalf("%d bytes at %d, use %d: %d others, %v", n, off, use, got, err)
		}
		if short := got < n; short != errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes at %d, use %d: %d, %v", n, off, use, got, err)
		}
	}
}

// A file can be read past the page cache, its unaligned end too, where its
// filesystem lets it; where it does not, that is an error and it is read as
// ever.
func TestDirectFile(t *testing.T) {
	name, data := noiseFile(t, 3<<20+777)
	for _, room := range []int64{0, 1 << 20, 1 << 40} {
		s, err := Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.SetDirect(DirectOn); err != nil {
			if s.direct != nil || !strings.Contains(err.Error(), name) {
				t.Errorf("refused, but used: %v", err)
			}
		} else {
			s.direct.room.Store(room)
		}
		sameReads(t, s, data)
	}
}

// Files, and devices in use, are read through the page cache unless told.
func TestDirectAuto(t *testing.T) {
	name, _ := noiseFile(t, 1<<20)
	for _, mode := range []DirectMode{DirectAuto, DirectOff} {
		s, err := Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.SetDirect(mode); err != nil || s.direct != nil {
			t.Errorf("mode %d: a file is read past the cache, %v", mode, err)
		}
	}
}

// Devices with sectors of 512 bytes and of 4 KiB.
func TestDirectDevice(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	name, data := noiseFile(t, 8<<20)
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			out, err := exec.Command("losetup", "--find", "--show", "--read-only", "--sector-size", fmt.Sprint(sector), name).Output()
			if err != nil {
				t.Fatalf("losetup: %v", err)
			}
			loop := strings.TrimSpace(string(out))
			defer func() { _ = exec.Command("losetup", "--detach", loop).Run() }()
			s, err := Open(t.Context(), loop)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.SetDirect(DirectAuto); err != nil || s.direct == nil || s.direct.align != int64(sector) {
				t.Fatalf("%v, %+v", err, s.direct)
			}
			if n := s.Advice().Request; n < leastRequest || n > mostRequest || n%page != 0 {
				t.Errorf("requests of %d bytes", n)
			}
			sameReads(t, s, data)
			before := cached(t, loop)
			b := buffer.New(1 << 20)
			defer b.Free()
			for off := int64(0); off < s.Size(); off += 1 << 20 {
				use := []image.Use{image.Once, image.Again}[off>>20%2]
				if _, err := s.ReadFor(b.Bytes, off, use); err != nil {
					t.Fatal(err)
				}
				if use == image.Again {
					if _, err := s.ReadFor(b.Bytes, off, image.Last); err != nil {
						t.Fatal(err)
					}
				}
			}
			if after := cached(t, loop); after > before {
				t.Errorf("%d pages in the cache, %d before", after, before)
			}
			// What the device refuses after all is read through the cache.
			s.direct.align = 1
			sameReads(t, s, data)
			if !s.direct.refused.Load() {
				t.Error("a device read bytes that begin within a sector")
			}
			// The few bytes that are read are read with what is around them, till
			// a read fails.
			for _, failed := range []bool{false, true} {
				if failed {
					s.direct.align = int64(sector)
					s.direct.refused.Store(false)
					s.direct.f.Close()
					if _, err := s.ReadFor(b.Bytes, 0, image.Once); !errors.Is(err, os.ErrClosed) {
						t.Fatalf("a read of a closed device: %v", err)
					}
				}
				s.direct.around.Store(false)
				s.direct.room.Store(1 << 30)
				if _, err := s.ReadFor(b.Bytes[:page], 0, image.Again); err != nil || s.direct.around.Load() == failed {
					t.Errorf("a read failed %v: read around %v, %v", failed, s.direct.around.Load(), err)
				}
			}
		})
	}
}

// cached returns how many pages of a device are in the page cache.
func cached(t *testing.T, name string) (n int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	in := make([]byte, (len(m)+page-1)/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&in[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, b := range in {
		n += int(b & 1)
	}
	return n
}

func TestRequestOf(t *testing.T) {
	for kib, want := range map[int64]int{0: 1 << 20, 3: 1 << 20, 4: 1 << 20, 128: 1 << 20, 512: 1 << 20, 1280: 1280 << 10, 768: 1536 << 10, 4096: 2 << 20} {
		if got := requestOf(kib << 10); got != want {
			t.Errorf("requests of %d KiB: %d bytes a read, want %d", kib, got, want)
		}
	}
}
