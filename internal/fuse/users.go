//go:build !386 && !arm

package fuse

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mostUsers bounds the list of who uses a disk.
const mostUsers = 5

// Users returns who uses the disk, as far as this user may see that: programs that
// have the disk open or work in its folder, and loop devices.
func (m *Mount) Users() []string {
	var list []string
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range loops {
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == m.Disk() {
			list = append(list, "/dev/"+strings.Split(name, "/")[3])
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		if len(list) >= mostUsers {
			break
		}
		if m.usedBy(dir) {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			list = append(list, fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(dir)))
		}
	}
	return list
}

// usedBy reports whether a process, by its folder in /proc, uses the disk.
func (m *Mount) usedBy(dir string) bool {
	links := []string{filepath.Join(dir, "cwd")}
	if open, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
		for _, e := range open {
			links = append(links, filepath.Join(dir, "fd", e.Name()))
		}
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && (to == m.folder || to == m.Disk()) {
			return true
		}
	}
	return false
}
