package storage

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A device is one in a made-up /sys.
type device struct {
	name         string
	major, minor uint32
	under        string   // of a partition, its disk
	start, size  uint64   // of a partition, in sectors
	slaves       []string // of a mapped device or an array
	backing      string   // of a loop device
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fakeSys makes a /sys of devices.
func fakeSys(t *testing.T, devices []device) string {
	t.Helper()
	root := t.TempDir()
	link := func(to, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range devices {
		dir := filepath.Join(root, "devices", d.under, d.name)
		put(t, filepath.Join(dir, "dev"), fmt.Sprintf("%d:%d\n", d.major, d.minor))
		link(dir, filepath.Join(root, "dev", "block", fmt.Sprintf("%d:%d", d.major, d.minor)))
		link(dir, filepath.Join(root, "class", "block", d.name))
		if d.under != "" {
			put(t, filepath.Join(dir, "partition"), "1\n")
			put(t, filepath.Join(dir, "start"), fmt.Sprintln(d.start))
			put(t, filepath.Join(dir, "size"), fmt.Sprintln(d.size))
		}
		if d.backing != "" {
			put(t, filepath.Join(dir, "loop", "backing_file"), d.backing+"\n")
			put(t, filepath.Join(dir, "loop", "offset"), "0\n")
			put(t, filepath.Join(dir, "loop", "sizelimit"), "0\n")
		}
		for _, s := range d.slaves {
			link(filepath.Join(root, "class", "block", s), filepath.Join(dir, "slaves", s))
		}
	}
	return root
}

// TestUses has devices of a made-up machine mounted and used.
func TestUses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	devices := []device{
		{name: "sda", major: 8, minor: 0},
		{name: "sda1", major: 8, minor: 1, under: "sda", start: 2048, size: 2048},
		{name: "sda2", major: 8, minor: 2, under: "sda", start: 4096, size: 2048},
		{name: "sdb", major: 8, minor: 16},
		{name: "sdc", major: 8, minor: 32},
		{name: "md0", major: 9, minor: 0, slaves: []string{"sda1", "sdb"}},
		{name: "dm-0", major: 253, minor: 0, slaves: []string{"md0"}},
		{name: "dm-1", major: 253, minor: 1, slaves: []string{"sda2"}},
		{name: "dm-2", major: 253, minor: 2, slaves: []string{"sda2"}},
		{name: "loop0", major: 7, minor: 0, backing: file},
		{name: "cciss!c0d0", major: 104, minor: 0},
	}
	sysfs := fakeSys(t, devices)
	mountinfo := func(major, minor int, options string) string {
		return fmt.Sprintf("36 35 %d:%d / /mnt rw,noatime - ext4 /dev/any %s\n", major, minor, options)
	}
	disk := unix.Mkdev
	for _, test := range []struct {
		what string
		proc map[string]string
		of   uint64 // 0 is the file
		want string // the uses
	}{
		{"nothing", nil, disk(8, 32), ""},
		{"a disk mounted", map[string]string{"thread-self/mountinfo": mountinfo(8, 32, "rw")}, disk(8, 32), "at /mnt, writable"},
		{"read-only", map[string]string{"thread-self/mountinfo": mountinfo(8, 32, "ro,x=rw")}, disk(8, 32), "at /mnt"},
		{"another disk", map[string]string{"thread-self/mountinfo": mountinfo(8, 32, "rw")}, disk(8, 16), "by dm-0; by md0"},
		{"a disk whose partition is mounted", map[string]string{"thread-self/mountinfo": mountinfo(8, 2, "rw")}, disk(8, 0), "at /mnt, writable; by dm-0; by dm-1; by dm-2; by md0"},
		{"the partition beside", map[string]string{"thread-self/mountinfo": mountinfo(8, 2, "rw")}, disk(8, 1), "by dm-0; by md0"},
		{"a member of an array", map[string]string{"thread-self/mountinfo": mountinfo(9, 0, "rw")}, disk(8, 1), "at /mnt, writable; by dm-0; by md0"},
		{"a member of an array under a mapped device", map[string]string{"thread-self/mountinfo": mountinfo(253, 0, "rw")}, disk(8, 16), "at /mnt, writable; by dm-0; by md0"},
		{"a disk with such a member", map[string]string{"thread-self/mountinfo": mountinfo(253, 0, "rw")}, disk(8, 0), "at /mnt, writable; by dm-0; by dm-1; by dm-2; by md0"},
		{"an array", map[string]string{"thread-self/mountinfo": mountinfo(253, 0, "rw")}, disk(9, 0), "at /mnt, writable; by dm-0"},
		{"one of two logical volumes", map[string]string{"thread-self/mountinfo": mountinfo(253, 1, "rw")}, disk(253, 1), "at /mnt, writable"},
		{"the other", map[string]string{"thread-self/mountinfo": mountinfo(253, 1, "rw")}, disk(253, 2), ""},
		{"what is under both", map[string]string{"thread-self/mountinfo": mountinfo(253, 1, "rw")}, disk(8, 2), "at /mnt, writable; by dm-1; by dm-2"},
		{"a file under a loop device", map[string]string{"thread-self/mountinfo": mountinfo(7, 0, "rw")}, 0, "at /mnt, writable"},
		{"out of sight", map[string]string{"fs/ext4/loop0/options": "rw\nbsddf\n"}, 0, "in another mount namespace, from loop0, writable"},
		{"out of sight, read-only", map[string]string{"fs/ext4/loop0/options": "ro\nbsddf\n"}, disk(7, 0), "in another mount namespace, from loop0"},
		{"here and elsewhere", map[string]string{"thread-self/mountinfo": mountinfo(7, 0, "rw"), "fs/ext4/loop0/options": "rw\n"}, 0, "at /mnt, writable"},
		{"a name with a slash", map[string]string{"fs/ext4/cciss!c0d0/options": "rw\n"}, disk(104, 0), "in another mount namespace, from cciss!c0d0, writable"},
		{"an external journal", map[string]string{"fs/jbd2/sdc/info": ""}, disk(8, 32), "as the journal of a mounted filesystem, writable"},
		{"a journal inside", map[string]string{"fs/jbd2/sdc-8/info": ""}, disk(8, 32), ""},
		{"swap", map[string]string{"swaps": "Filename Type\n" + strings.ReplaceAll(file, " ", `\040`) + " file 65532 0 -2\n"}, disk(7, 0), "as swap, writable"},
		{"a swap file under a loop device", map[string]string{"swaps": "Filename\t\tType\n" + strings.ReplaceAll(file, " ", `\040`) + "\t\tfile\n"}, 0, "as swap, writable"},
		{"other swap", map[string]string{"swaps": "Filename Type\n/nonexistent file 65532 0 -2\n/dev/null x\n"}, 0, ""},
	} {
		t.Run(test.what, func(t *testing.T) {
			sys := system{sys: sysfs, proc: t.TempDir(), dev: "/nonexistent"}
			put(t, filepath.Join(sys.proc, "thread-self", "mountinfo"), "")
			for name, text := range test.proc {
				put(t, filepath.Join(sys.proc, name), text)
			}
			region := Region{}
			if test.of != 0 {
				region = sys.ofDevice(test.of)
			} else {
				var st unix.Stat_t
				if err := unix.Stat(file, &st); err != nil {
					t.Fatal(err)
				}
				region.exact = []extent{wholeFile(idOf(&st))}
			}
			uses, err := sys.uses(region)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range uses {
				text := u.String()
				if u.Writable {
					text += ", writable"
				}
				got = append(got, text)
			}
			if text := strings.Join(got, "; "); text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

// TestUsesUnknown has no /proc.
func TestUsesUnknown(t *testing.T) {
	sys := system{sys: t.TempDir(), proc: t.TempDir(), dev: t.TempDir()}
	region := Region{exact: []extent{{file: fileID{block: true, dev: 1}, end: math.MaxUint64}}}
	if _, err := sys.uses(region); err == nil {
		t.Error("no error without a list of mounts")
	}
	put(t, filepath.Join(sys.proc, "thread-self", "mountinfo"), "")
	if _, err := sys.uses(region); err != nil {
		t.Errorf("with an empty one: %v", err)
	}
	put(t, filepath.Join(sys.proc, "thread-self", "mountinfo"), "20 1 8:32 / /mnt rw - ext4 /dev/sdc rw\n")
	if _, err := sys.uses(region); err != nil {
		t.Errorf("with a disk mounted: %v", err)
	}
	put(t, filepath.Join(sys.proc, "thread-self", "mountinfo"), "20 1 7:0 / /mnt rw - ext4 /dev/loop0 rw\n")
	if _, err := sys.uses(region); err == nil {
		t.Error("no error with a loop device mounted of which nobody says what file it is")
	}
	if _, err := sys.uses(sys.ofDevice(unix.Mkdev(8, 0))); err == nil {
		t.Error("no error without /sys to say what the device is")
	}
	if uses, err := sys.uses(Region{}); err != nil || len(uses) > 0 {
		t.Errorf("nothing is in use: %v, %v", uses, err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"/a": "/a", `/a\040b`: "/a b", `\134`: `\`, `\`: `\`, `\04`: `\04`, `\999x`: `\999x`, `\400`: `\400`, `a\011\012`: "a\t\n",
	} {
		if got := unescape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
