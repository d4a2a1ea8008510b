package reduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"e2qcow/image"
	"e2qcow/internal/testfs"
)

// TestMain is also the commands that the tests search with: the binary of the
// tests, called with -as and a name.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "-as" {
		os.Exit(fake(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

const pattern = "a pattern of bytes"

// fake looks for a pattern on the disk, and does what a command may do besides.
func fake(how, path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		fmt.Println(err)
		return 9
	}
	found := bytes.Contains(b, []byte(pattern))
	switch how {
	case "unstable":
		fmt.Println("it is", time.Now().UnixNano()%2 == 0, strings.Repeat("x", int(time.Now().UnixNano()%97)))
	case "endless":
		if !found {
			select {}
		}
	case "writer":
		if err := os.WriteFile(path, bytes.Repeat([]byte{0xFF}, 100<<10), 0o600); err != nil {
			return 9
		}
	case "remover":
		if err := os.Remove(path); err != nil {
			return 9
		}
	}
	if found {
		fmt.Println("found", len(b), "bytes")
		return 4
	}
	return 0
}

func command(how string) []string { return []string{os.Args[0], "-as", how, "{}"} }

// noisy returns a disk of n pages of noise, one of which holds the pattern.
func noisy(n int) image.Image {
	b := make([]byte, n*page)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	copy(b[(n*2/3)*page+100:], pattern)
	return memory(b)
}

type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }
func (m memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}
func (m memory) NextRun(off int64) (start, end int64, err error) {
	if off >= int64(len(m)) {
		return 0, 0, io.EOF
	}
	return off, int64(len(m)), nil
}

// TestBlocks has only the page with the pattern stay, whatever else the command
// does to the disk, and the same for any number of workers. The page of the
// superblock is never zeroed.
func TestBlocks(t *testing.T) {
	for _, how := range []string{"plain", "writer", "remover", "endless"} {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", how, workers), func(t *testing.T) {
				n := 200
				opt := Options{Judge: Judge{Command: command(how)}, Workers: workers, Folder: t.TempDir()}
				if how == "endless" {
					n, opt.Judge.Time = 12, time.Second
				}
				res, err := Run(t.Context(), noisy(n), opt)
				if err != nil {
					t.Fatal(err)
				}
				if res.Blocks != 2 || res.Ended || res.Verdict.Exit != 4 {
					t.Errorf("%d pages, exit status %d, ended %v", res.Blocks, res.Verdict.Exit, res.Ended)
				}
				b := make([]byte, res.Size)
				if _, err := res.Image.ReadAt(b, 0); err != nil || !bytes.Contains(b, []byte(pattern)) {
					t.Errorf("the pattern is not there: %v", err)
				}
				if left, err := os.ReadDir(opt.Folder); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			})
		}
	}
}

// TestRefused has a command refused with which nothing can be searched.
func TestRefused(t *testing.T) {
	for how, test := range map[string]struct {
		judge Judge
		want  error
	}{
		"says another thing each time": {Judge{Command: command("unstable"), Runs: 20}, ErrUnstable},
		"does not end":                 {Judge{Command: []string{"sh", "-c", "sleep 100"}, Time: 100 * time.Millisecond}, ErrCommand},
		"does not match":               {Judge{Command: command("plain"), Keep: []*regexp.Regexp{regexp.MustCompile("^nothing$")}}, ErrCommand},
		"a test that fails":            {Judge{Command: command("plain"), Test: true}, ErrCommand},
		"is not there":                 {Judge{Command: []string{"/nonexistent/command"}}, os.ErrNotExist},
	} {
		if _, err := Run(t.Context(), noisy(10), Options{Judge: test.judge, Folder: t.TempDir()}); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", how, err, test.want)
		}
	}
}

// TestLeftBehind has a command leave a process behind: that ends with the command.
func TestLeftBehind(t *testing.T) {
	name := t.TempDir() + "/still-there"
	v, err := Judge{Command: []string{"sh", "-c", "(sleep 3; touch " + name + ") & echo said; exit 0"}}.run(t.Context(), "disk")
	if err != nil || v.Exit != 0 || v.Output != "said\n" {
		t.Errorf("%+v, %v", v, err)
	}
	time.Sleep(2500 * time.Millisecond)
	if _, err := os.Stat(name); err == nil {
		t.Error("what it has left behind goes on")
	}
}

// TestKeep has the output change but for what has to match.
func TestKeep(t *testing.T) {
	judge := Judge{Command: []string{"sh", "-c", `tr -d '\0' < {} | wc -c; grep -c pattern {}`}, Keep: []*regexp.Regexp{regexp.MustCompile(`(?m)^1$`)}}
	res, err := Run(t.Context(), noisy(100), Options{Judge: judge, Folder: t.TempDir()})
	if err != nil || res.Blocks != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestInterrupted has the search end with the best result: what was written last.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	best := 0
	opt := Options{Judge: Judge{Command: command("plain")}, Folder: t.TempDir(), Better: func(img image.Image) error {
		best = img.(*snapshot).blocks()
		cancel()
		return nil
	}}
	res, err := Run(ctx, noisy(100), opt)
	if err != nil || !res.Ended || best == 0 || res.Blocks != best {
		t.Errorf("%+v, %v; the best result has %d pages", res, err, best)
	}
	slow := Judge{Command: []string{"sh", "-c", "sleep 100"}}
	if _, err := Run(t.Context(), noisy(10), Options{Judge: slow, Folder: t.TempDir(), Limit: 100 * time.Millisecond}); !errors.Is(err, ErrCommand) {
		t.Errorf("a command that takes longer than the limit: %v", err)
	}
}

// TestReducedFsck reduces damaged filesystems, of several features, with real e2fsck: it
// says the same of the result, which is small, and holds none of the names.
func TestReducedFsck(t *testing.T) {
	for _, test := range []struct {
		name, mke2fs string
		size         int64
		damage       string // by debugfs
		command      string
		pages        int // that the result has at most
	}{
		{"extent", "-t ext4 -b 4096", 256 << 20, "sif /plain/file-030 block[0] 0x1234", "-fn", 32},
		{"links", "-t ext4 -b 1024", 64 << 20, "sif /plain/file-030 links_count 7", "-fn", 64},
		{"repair", "-t ext4 -b 4096", 256 << 20, "sif /plain/file-030 links_count 7", "-fy", 32},
		{"ext2", "-t ext2 -b 1024", 64 << 20, "sif /plain/file-030 block[0] 99999999", "-fn", 64},
		{"ext3", "-t ext3 -b 4096 -I 128", 256 << 20, "sif /plain/file-030 mode 0", "-fn", 32},
		{"bitmap", "-t ext4 -b 4096 -O ^metadata_csum,uninit_bg", 256 << 20, "setb 30000 5", "-fn", 128},
		{"bigalloc", "-t ext4 -b 4096 -O bigalloc -C 16384", 256 << 20, "sif /plain/file-030 links_count 3", "-fn", 64},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fs := testfs.Make(t, testfs.Spec{Mke2fs: test.mke2fs, Size: test.size, Fill: testfs.Copied})
			path := testfs.Copy(t, fs.Path)
			testfs.DebugfsWrite(t, path, test.damage)
			img := openFile(t, path)
			judge := Judge{Command: []string{"e2fsck", test.command, "{}"}}
			res, err := Run(t.Context(), img, Options{Judge: judge, Folder: t.TempDir(), Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict.Exit == 0 {
				t.Fatalf("no damage: %s", res.Verdict.Output)
			}
			f, err := newFile(t.TempDir(), newDisk(res.Image), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer f.close()
			again, err := judge.run(t.Context(), f.path())
			if err != nil || !judge.same(res.Verdict, again) {
				t.Errorf("of the result e2fsck says other things: %s, %v", difference(res.Verdict, again), err)
			}
			t.Logf("%d pages, disk of %d KiB, %d candidates", res.Blocks, res.Size>>10, res.Candidates)
			if res.Blocks > test.pages {
				t.Errorf("%d pages are left, at most %d are expected", res.Blocks, test.pages)
			}
			if left := testfs.Canaries(t, f.path()); len(left) > 0 {
				t.Errorf("contents of files are left at %v", left)
			}
		})
	}
}

// openFile returns a sparse file as an image.
func openFile(t *testing.T, name string) image.Image {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return memory(b)
}
