package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"e2qcow/internal/testfs"
)

// TestKilled kills a dump in the middle, as a lack of memory does, where the
// target lies on each kind of filesystem that knows files without a name:
// nothing is left of it, and what was there before is as it was. The kernel may
// not know a kind, and its tools may not be installed.
func TestKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts filesystems")
	}
	source := makeFilesystem(t)
	for kind, mkfs := range map[string][]string{
		"ext4":  {"mke2fs", "-qF", "-t", "ext4"},
		"xfs":   {"mkfs.xfs", "-q"},
		"btrfs": {"mkfs.btrfs", "-q"},
		"tmpfs": nil,
	} {
		t.Run(kind, func(t *testing.T) {
			folder := mountNew(t, kind, mkfs)
			for _, before := range []string{"", "an older image"} {
				target := filepath.Join(folder, "out"+before)
				if before != "" {
					if err := os.WriteFile(target, []byte(before), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				there := names(t, folder)
				p := start(t, "-p", "-Q", "--overwrite", "--json", filepath.Join(folder, "json"), source, target)
				p.waitFor(t, func() bool { return p.hasUnfinished(folder) })
				p.signal(t, syscall.SIGKILL)
				p.wait(t)
				if got := names(t, folder); got != there {
					t.Errorf("left behind: %s, before there was: %s", got, there)
				}
				if before == "" {
					continue
				}
				if b, err := os.ReadFile(target); err != nil || string(b) != before {
					t.Errorf("the target is not as it was: %q, %v", b, err)
				}
				// One that is not killed takes its place.
				if out, err := exec.Command("e2qcow", "-Q", "--overwrite", source, target).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
				if v := testfs.QemuCheck(t, target); v.Exit != 0 {
					t.Errorf("qemu-img check: %s", v.Text)
				}
				if got := names(t, folder); got != there {
					t.Errorf("when it is done there is: %s, before there was: %s", got, there)
				}
			}
		})
	}
}

// mountNew returns the folder where a new filesystem is mounted. That kind is
// skipped where it cannot be made or mounted.
func mountNew(t *testing.T, kind string, mkfs []string) string {
	t.Helper()
	const size = 512 << 20 // sparse
	folder := t.TempDir()
	args := []string{"-t", kind, "none", folder}
	if mkfs != nil {
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, size); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
			t.Skipf("%v\n%s", err, out)
		}
		args = []string{"-t", kind, "-o", "loop", image, folder}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return folder
}

// names returns the names in a folder.
func names(t *testing.T, folder string) string {
	t.Helper()
	out, err := exec.Command("ls", "-A", folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
