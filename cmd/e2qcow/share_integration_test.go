package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"e2qcow/internal/testfs"
)

// TestShared dumps and restores where source and target lie on a filesystem whose
// files can share blocks. The results are those of a filesystem where all is
// copied, without the contents of files, and take hardly any room.
func TestShared(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts filesystems")
	}
	tool := testfs.Build(t)
	large := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 4096 -J size=8 -N 32768", Size: 96 << 20, Fill: testfs.Mounted, Stale: true}).Path
	small := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024 -J size=4", Size: 48 << 20, Fill: testfs.Mounted, Stale: true}).Path
	for kind, mkfs := range map[string][]string{
		"xfs":   {"mkfs.xfs", "-q", "-m", "reflink=1"},
		"btrfs": {"mkfs.btrfs", "-q"},
	} {
		t.Run(kind, func(t *testing.T) {
			s := sharing{tool: tool, folder: mountNew(t, kind, mkfs), copied: testfs.TempDir(t)}
			fs := s.source(t, large)
			image := s.run(t, true, fs, "-Q")
			s.run(t, true, image, "-r")
			s.run(t, true, fs, "-r")
			s.run(t, true, image, "-Q", "--whole")
			s.run(t, true, image, "-Q", "--cluster-size", "65536")
			s.run(t, true, image, "-Q", "--whole", "--cluster-size", "512")
			s.run(t, true, fs, "-ra")
			wide := s.run(t, true, fs, "-Q", "--cluster-size", "65536") // unknown blocks in most clusters
			s.run(t, true, wide, "-r")
			s.run(t, false, fs, "-Qs", "--scramble-key", s.key(t), "--scramble-salt", strings.Repeat("5a", 16))
			s.run(t, false, fs, "-Qz")
			s.run(t, false, s.source(t, small), "-Q") // little lines up
			s.run(t, false, s.source(t, small), "-r")
			shifted := s.shifted(t, large, 512)
			s.run(t, false, shifted, "-Q", "-o", "512") // nothing lines up
			s.run(t, true, s.shifted(t, large, 1<<20), "-Q", "-o", "1M")
		})
	}
}

// A sharing runs commands in a folder whose files share blocks, and in one where
// they do not.
type sharing struct {
	tool           testfs.Tool
	folder, copied string
	n              int
}

// source copies a file to the folder, so that it shares blocks with no other.
func (s *sharing) source(t *testing.T, path string) string { return s.shifted(t, path, 0) }

// shifted is source with so many zeros before the contents.
func (s *sharing) shifted(t *testing.T, path string, by int64) string {
	t.Helper()
	to := s.next(s.folder)
	testfs.Run(t, "dd", "if="+path, "of="+to, "bs=64K", "conv=sparse", "oflag=seek_bytes", "status=none", "seek="+strconv.FormatInt(by, 10))
	testfs.Run(t, "truncate", "-s", strconv.FormatInt(by+testfs.Size(t, path), 10), to)
	return to
}

func (s *sharing) next(folder string) string {
	s.n++
	return filepath.Join(folder, "file"+strconv.Itoa(s.n))
}

// key returns a file with a key.
func (s *sharing) key(t *testing.T) string {
	name := s.next(s.copied)
	if err := os.WriteFile(name, []byte("the key of a test, which is long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// run writes the result of a command here and there, and returns the one here.
func (s *sharing) run(t *testing.T, shares bool, source string, args ...string) string {
	t.Helper()
	here, there := s.next(s.folder), s.next(s.copied)
	free := s.free(t)
	for _, target := range []string{there, here} {
		if r := s.tool.Run(t, append(args, source, target)...); r.Exit != 0 {
			t.Fatalf("%v: exit %d: %s", args, r.Exit, r.Stderr)
		}
	}
	if at := testfs.Difference(t, here, there); at >= 0 {
		t.Errorf("%v: what shares blocks differs at byte %d", args, at)
	}
	files := args[0] == "-ra"
	if found := testfs.Canaries(t, here); len(found) > 0 && !files {
		t.Errorf("%v: contents of files, first at byte %d", args, found[0])
	}
	var st unix.Stat_t
	if err := unix.Stat(there, &st); err != nil {
		t.Fatal(err)
	}
	room, all := free-s.free(t), st.Blocks*512
	if shares && room > all/4+1<<20 {
		t.Errorf("%v: takes %d bytes of room, of %d", args, room, all)
	}
	if text := testfs.Run(t, "filefrag", "-v", here); shares && !strings.Contains(text, "shared") {
		t.Errorf("%v: shares nothing:\n%s", args, text)
	} else if strings.Contains(args[0], "s") && strings.Contains(text, "shared") {
		t.Errorf("%v: shares blocks:\n%s", args, text)
	}
	if args[0][1] == 'Q' {
		if v := testfs.QemuCheck(t, here); v.Exit != 0 {
			t.Errorf("%v: qemu-img check: %s", args, v.Text)
		}
	} else if v, want := testfs.Unnamed(testfs.Fsck(t, here)), testfs.Unnamed(testfs.Fsck(t, there)); v != want {
		t.Errorf("%v: e2fsck says %v, not %v", args, v, want)
	}
	os.Remove(there)
	return here
}

// free returns the free bytes of the filesystem of the folder.
func (s *sharing) free(t *testing.T) int64 {
	t.Helper()
	testfs.Run(t, "sync", "-f", s.folder)
	var st unix.Statfs_t
	if err := unix.Statfs(s.folder, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree * uint64(st.Bsize))
}
