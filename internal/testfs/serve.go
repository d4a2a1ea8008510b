package testfs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Serve has qemu serve the disk in a qcow2 image as a file, read-only, until
// the test ends, and returns the path of that. Root only, as it mounts.
func Serve(t testing.TB, image string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts what qemu-storage-daemon serves")
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("needs a kernel with FUSE: %v", err)
	} else {
		f.Close()
	}
	path := filepath.Join(TempDir(t), "served.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command("qemu-storage-daemon",
		"--blockdev", "driver=file,node-name=file,read-only=on,filename="+image,
		"--blockdev", "driver=qcow2,node-name=disk,read-only=on,file=file",
		"--export", "type=fuse,id=export,node-name=disk,writable=off,mountpoint="+path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended by itself
		if err := <-ended; err != nil {
			t.Errorf("qemu-storage-daemon: %v", err)
			_ = unix.Unmount(path, unix.MNT_DETACH)
		}
	})
	for range 3000 {
		if mounted(t, path) {
			return path
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("qemu-storage-daemon: %v\n%s", err, &out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("qemu-storage-daemon does not serve %s", image)
	return ""
}

// mounted reports whether something is mounted on the file.
func mounted(t testing.TB, path string) bool {
	t.Helper()
	var file, folder unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Dir(path), &folder); err != nil {
		t.Fatal(err)
	}
	return file.Dev != folder.Dev
}
