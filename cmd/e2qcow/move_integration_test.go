package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"e2qcow/internal/testfs"
)

// filledDisk returns a filesystem with that many megabytes of files, and more.
func filledDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := testfs.TempDir(t)
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{7})
	for i := range 40 {
		b := make([]byte, 1<<(12+i%11))
		random.Read(b)
		if err := os.WriteFile(filepath.Join(tree, fmt.Sprint("file-", i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "big"), bigFile(megabytes), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := testfs.Spec{Mke2fs: "-t ext4 -b 4096 -E lazy_itable_init=0 -d " + tree, Size: 2 * int64(megabytes) * mib}
	return testfs.Copy(t, testfs.Make(t, spec).Path)
}

// bigFile returns the contents of the largest file that filledDisk makes.
func bigFile(megabytes int) []byte {
	b := make([]byte, megabytes*mib)
	rand.NewChaCha8([32]byte{8}).Read(b)
	return b
}

// diskWith returns a disk that holds the filesystem from a byte on.
func diskWith(t *testing.T, tool testfs.Tool, fs string, from int64) string {
	t.Helper()
	disk := filepath.Join(testfs.TempDir(t), "disk.img")
	tool.Restore(t, fs, disk, "-aO", strconv.FormatInt(from, 10))
	return disk
}

// TestMove moves filesystems to the left and to the right, as e2image does
// with the same command line, and asks the kernel whether they are the same.
func TestMove(t *testing.T) {
	tool := testfs.Build(t)
	for name, spec := range map[string]testfs.Spec{
		"ext2,1k":                {Mke2fs: "-t ext2 -b 1024", Size: 40 * mib},
		"ext4,4k,stale":          {Mke2fs: "-t ext4 -b 4096 -E lazy_itable_init=0", Size: 40 * mib, Stale: true},
		"ext4,bigalloc,1k,stale": {Mke2fs: "-t ext4 -b 1024 -O bigalloc -C 16384", Size: 96 * mib, Stale: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec.Fill = testfs.Mounted
			source := testfs.Make(t, spec).Path
			want := testfs.Tree(t, source)
			for _, m := range [][2]int64{{0, 1 * mib}, {1 * mib, 63 * 512}, {100 * mib, 0}} {
				disk := diskWith(t, tool, source, m[0])
				theirs := testfs.Copy(t, disk)
				args := []string{"-ra", "-o", fmt.Sprint(m[0]), "-O", fmt.Sprint(m[1])}
				if r := tool.Run(t, append(args, disk)...); r.Exit != 0 {
					t.Fatalf("%v: exit %d\n%s", m, r.Exit, r.Stderr)
				}
				moved := func(disk string) string {
					path := filepath.Join(testfs.TempDir(t), "moved.img")
					cmd := exec.Command("dd", "if="+disk, "of="+path, "bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse",
						fmt.Sprint("skip=", m[1]), fmt.Sprint("count=", spec.Size))
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Fatalf("dd: %v\n%s", err, out)
					}
					return path
				}
				got := moved(disk)
				if diff := cmp.Diff(want, testfs.Tree(t, got)); diff != "" {
					t.Errorf("%v: what was (-) and is (+) differ:\n%.4000s", m, diff)
				}
				same(t, "e2fsck -fn", testfs.Fsck(t, source, "-fn"), testfs.Fsck(t, got, "-fn"))
				if m[0] != 0 {
					continue // one comparison is enough
				}
				if out, err := exec.Command("e2image", append(args, theirs)...).CombinedOutput(); err != nil {
					t.Fatalf("e2image: %v\n%s", err, out)
				}
				got = moved(theirs)
				if err := os.Truncate(got, spec.Size); err != nil { // zero blocks at the end e2image leaves out
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, testfs.Tree(t, got)); diff != "" {
					t.Errorf("%v: what was (-) and e2image moved (+) differ:\n%.4000s", m, diff)
				}
			}
		})
	}
}

// TestMoveKilled kills moves at random points and resumes them till they are
// done. MOVE_KILLS is how many moves there are.
func TestMoveKilled(t *testing.T) {
	count := 3
	if n, err := strconv.Atoi(os.Getenv("MOVE_KILLS")); err == nil {
		count = n
	}
	tool := testfs.Build(t)
	fs := filledDisk(t, 40)
	dir := testfs.TempDir(t)
	want := filepath.Join(dir, "want.img")
	tool.Restore(t, fs, want, "-a")
	r := rand.New(rand.NewPCG(3, 5))
	places := [][2]int64{{1 * mib, 0}, {0, 1 * mib}, {40 * mib, 0}, {0, 40 * mib}, {3 * mib, 512}, {200 * mib, 1 * mib}}
	kills := 0
	for i := range count {
		m := places[i%len(places)]
		disk := diskWith(t, tool, fs, m[0])
		journal := filepath.Join(dir, "journal")
		args := []string{"-ra", "--overwrite", "-o", fmt.Sprint(m[0]), "-O", fmt.Sprint(m[1]), "--journal=" + journal, disk}
		os.Remove(journal)
		for try := range 100 {
			cmd := exec.Command(string(tool), args...)
			var text strings.Builder
			cmd.Stderr = &text
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if try < 3 {
				kill := time.AfterFunc(time.Duration(r.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
				defer kill.Stop()
			}
			if err := cmd.Wait(); err == nil {
				break
			}
			if cmd.ProcessState.ExitCode() >= 0 { // it was not killed
				t.Fatalf("move %d from %d to %d: %s", i, m[0], m[1], text.String())
			}
			kills++
		}
		if r := tool.Run(t, args...); r.Exit != 0 || !strings.Contains(r.Stderr, "says that this move is done: nothing was moved") {
			t.Errorf("move %d, again: exit %d\n%s", i, r.Exit, r.Stderr)
		}
		got := filepath.Join(dir, "got.img")
		tool.Restore(t, disk, got, "-a", "-o", fmt.Sprint(m[1]))
		if at := testfs.Difference(t, want, got); at >= 0 {
			t.Fatalf("move %d from %d to %d: differs at byte %d", i, m[0], m[1], at)
		}
		os.Remove(disk)
	}
	if v := testfs.Fsck(t, filepath.Join(dir, "got.img"), "-fn"); v.Exit != 0 {
		t.Errorf("e2fsck -fn: %s", v.Text)
	}
	if kills == 0 {
		t.Error("nothing was killed")
	}
	t.Logf("%d moves, %d kills", count, kills)
}

// TestMoveInterrupted interrupts a move without a journal: it goes on, and ends
// when it is interrupted again. With a journal it can be resumed. Before
// anything is written over nothing is lost.
func TestMoveInterrupted(t *testing.T) {
	tool := testfs.Build(t)
	fs := filledDisk(t, 64)
	// slowly runs the tool with every write taking a while, till it has begun
	// some of them. It returns a function that interrupts it, and one that
	// waits for its end.
	slowly := func(t *testing.T, writes int, args ...string) (interrupt func(), wait func() (string, int)) {
		t.Helper()
		trace := filepath.Join(testfs.TempDir(t), "trace")
		cmd := exec.Command("strace", append([]string{"-f", "-o", trace, "-s", "0", "-e", "trace=pwrite64", "-e", "inject=pwrite64:delay_enter=400ms", string(tool)}, args...)...)
		var text strings.Builder
		cmd.Stderr = &text
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			b, _ := os.ReadFile(trace)
			if strings.Count(string(b), "pwrite64(") >= writes {
				break
			}
			if time.Now().After(deadline) {
				_ = cmd.Process.Kill()
				t.Fatal("it does not write")
			}
		}
		return func() {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
				child, _ := strconv.Atoi(strings.TrimSpace(string(b)))
				if err != nil || child == 0 {
					t.Fatalf("no child: %v", err)
				}
				if err := syscall.Kill(child, syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
			}, func() (string, int) {
				_ = cmd.Wait()
				return text.String(), cmd.ProcessState.ExitCode()
			}
	}
	const killed = -1 // the exit code of a process that a signal ended
	const warning = "e2qcow: to stop now would destroy the filesystem, so the move continues; interrupt again to stop anyway\n"

	t.Run("once", func(t *testing.T) {
		t.Parallel()
		disk := diskWith(t, tool, fs, mib)
		interrupt, wait := slowly(t, 2, "-ra", "-o", "1M", disk)
		interrupt()
		if text, exit := wait(); exit != 0 || !strings.HasPrefix(text, warning) {
			t.Errorf("exit %d\n%s", exit, text)
		}
		if v := testfs.Fsck(t, disk, "-fn"); v.Exit != 0 {
			t.Error(v.Text)
		}
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		disk := diskWith(t, tool, fs, mib)
		interrupt, wait := slowly(t, 2, "-ra", "-o", "1M", disk)
		interrupt()
		time.Sleep(100 * time.Millisecond)
		interrupt()
		want := warning + "e2qcow: interrupted by SIGINT; the filesystem is destroyed: a part of it is at byte 0, the rest at byte 1048576\n"
		if text, exit := wait(); exit != killed || text != want {
			t.Errorf("exit %d\n%s", exit, text)
		}
	})
	t.Run("harmless", func(t *testing.T) {
		t.Parallel()
		disk := diskWith(t, tool, fs, 200*mib)
		interrupt, wait := slowly(t, 2, "-ra", "-o", "200M", disk)
		interrupt()
		want := "e2qcow: interrupted by SIGINT; nothing is lost: the filesystem is still at byte 209715200\n"
		if text, exit := wait(); exit != killed || text != want {
			t.Errorf("exit %d\n%s", exit, text)
		}
		if v := testfs.Fsck(t, disk+"?offset=209715200", "-fn"); v.Exit != 0 {
			t.Error(v.Text)
		}
	})
	t.Run("journal", func(t *testing.T) {
		t.Parallel()
		disk := diskWith(t, tool, fs, mib)
		journal := filepath.Join(testfs.TempDir(t), "journal")
		interrupt, wait := slowly(t, 5, "-ra", "-o", "1M", "--journal", journal, disk)
		interrupt()
		want := "e2qcow: interrupted by SIGINT; nothing is lost: the same command continues the move, as the journal " + journal + " says how far it came; " +
			"until then a part of the filesystem is at byte 0, the rest at byte 1048576: do not mount or check it\n"
		if text, exit := wait(); exit != killed || !strings.HasPrefix(text, want) { // strace may have something to say too
			t.Errorf("exit %d\n%s", exit, text)
		}
		if r := tool.Run(t, "-ra", "-o", "2M", "--journal", journal, disk); r.Exit != 1 || !strings.Contains(r.Stderr, "belongs to another move: from byte 1048576 to byte 0; ") {
			t.Errorf("another move: exit %d\n%s", r.Exit, r.Stderr)
		}
		if r := tool.Run(t, "-ra", "--journal", journal, disk); r.Exit != 0 {
			t.Errorf("resumed: exit %d\n%s", r.Exit, r.Stderr)
		}
		if v := testfs.Fsck(t, disk, "-fn"); v.Exit != 0 {
			t.Error(v.Text)
		}
	})
}
