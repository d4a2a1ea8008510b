package testfs

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/ranges"
)

// A Verdict is what a tool says of a filesystem: its text, with the path of
// the filesystem masked, and its exit status.
type Verdict struct {
	Text string
	Exit int
}

func judge(t testing.TB, path, stdin, name string, args ...string) Verdict {
	t.Helper()
	cmd := command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	r := runAny(t, cmd)
	return Verdict{strings.ReplaceAll(r.Stdout+r.Stderr, path, "IMAGE"), r.Exit}
}

// Fsck returns the verdict of e2fsck, which writes to the file unless the
// options say -n.
func Fsck(t testing.TB, path string, options ...string) Verdict {
	t.Helper()
	return judge(t, path, "", "e2fsck", append(options, path)...)
}

// Unnamed takes out of what e2fsck says what scrambling may change: names, paths
// and the label.
func Unnamed(v Verdict) Verdict {
	for _, r := range unnamedREs {
		v.Text = r.pattern.ReplaceAllString(v.Text, r.with)
	}
	return v
}

var unnamedREs = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`'[^'\n]*'`), "NAME"},
	{regexp.MustCompile(`(^|[^\w'])(/|\?\?\?)[^()\n]*`), "$1 PATH "},
	{regexp.MustCompile(`(?m)^[^\n:]*: (recovering|[\d*])`), "LABEL: $1"},
}

// Dumpe2fs returns what dumpe2fs prints.
func Dumpe2fs(t testing.TB, path string, options ...string) Verdict {
	t.Helper()
	return judge(t, path, "", "dumpe2fs", append(options, path)...)
}

// Debugfs returns the answers of debugfs to the commands. It does not read the
// bitmaps (-c), which takes long on large filesystems; Dumpe2fs does.
func Debugfs(t testing.TB, path string, commands ...string) Verdict {
	t.Helper()
	v := judge(t, path, strings.Join(commands, "\n")+"\n", "debugfs", "-c", "-f", "-", path)
	v.Text = foundJournal.ReplaceAllString(v.Text, "")
	return v
}

// DebugfsAnswers returns what debugfs, which is told to ignore checksums, prints
// behind each of the commands on standard output; nil where it fails.
func DebugfsAnswers(t testing.TB, path string, commands []string) []string {
	t.Helper()
	cmd := command("debugfs", "-c", "-n", "-f", "-", path)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	answers := strings.Split(runAny(t, cmd).Stdout, "debugfs: ")[1:]
	if len(answers) != len(commands) {
		return nil
	}
	for i, command := range commands {
		answers[i] = strings.TrimPrefix(answers[i], command+"\n")
	}
	return answers
}

// foundJournal is what debugfs says of an external journal, which it looks for
// on all devices there happen to be.
var foundJournal = regexp.MustCompile(`(?m)^Using external journal found at .*\n?|^logdump: .*\n?|Journal superblock magic number invalid!\n?`)

// Questions returns the commands that have debugfs tell all it knows of the
// inodes at the paths, of the reserved inodes and of the journal.
func Questions(paths ...string) []string {
	var inodes []string
	for i := 1; i <= 12; i++ {
		inodes = append(inodes, fmt.Sprintf("<%d>", i))
	}
	var commands []string
	for _, inode := range append(inodes, paths...) {
		for _, command := range []string{"stat", "blocks", "ls -l", "htree_dump", "dump_extents", "ea_list"} {
			commands = append(commands, command+" "+inode)
		}
	}
	return append(commands, "logdump -a", "list_quota user", "list_quota group", "dump_mmp")
}

// QemuCheck returns the verdict of qemu-img check: exit 0 clean, 2 errors, 3 leaks.
func QemuCheck(t testing.TB, image string) Verdict {
	t.Helper()
	return judge(t, image, "", "qemu-img", "check", "-f", "qcow2", image)
}

// QemuConvert converts the image to a raw file.
func QemuConvert(t testing.TB, image, target string) {
	t.Helper()
	if _, err := run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, target); err != nil {
		t.Fatal(err)
	}
}

// E2imageRaw has e2image write source, a filesystem or a qcow2 image of one,
// to target as a raw image.
func E2imageRaw(t testing.TB, source, target string) {
	t.Helper()
	if _, err := run("e2image", "-r", source, target); err != nil {
		t.Fatal(err)
	}
}

// E2imageClone has e2image write all of source that is in use to target.
func E2imageClone(t testing.TB, source, target string) {
	t.Helper()
	if _, err := run("e2image", "-ra", source, target); err != nil {
		t.Fatal(err)
	}
}

// E2image runs e2image, which has to succeed.
func E2image(t testing.TB, args ...string) {
	t.Helper()
	if _, err := run("e2image", args...); err != nil {
		t.Fatal(err)
	}
}

// DebugfsImage returns what debugfs -i says of the normal image at path: its
// superblock and descriptors, which blocks and inodes are in use, and inodes.
func DebugfsImage(t testing.TB, path string) Verdict {
	t.Helper()
	commands := []string{"stats"}
	for i := 1; i <= 40; i++ {
		commands = append(commands, fmt.Sprintf("stat <%d>", i), fmt.Sprintf("testi <%d>", i), fmt.Sprintf("testb %d 64", i*331))
	}
	return judge(t, path, strings.Join(commands, "\n")+"\n", "debugfs", "-i", "-f", "-", path)
}

// DebugfsWrite has debugfs -w change the filesystem at path.
func DebugfsWrite(t testing.TB, path string, commands ...string) {
	t.Helper()
	if err := debugfsWrite(path, commands); err != nil {
		t.Fatal(err)
	}
}

// A Range is the bytes [Start, End) of a file.
type Range ranges.Range[int64]

// FsckReads runs e2fsck with the options under strace and returns the ranges
// of the file at path that it read as they were when it began: what e2fsck
// wrote before it read it is left out.
func FsckReads(t testing.TB, path string, options ...string) []Range {
	t.Helper()
	trace := filepath.Join(TempDir(t), "trace")
	args := []string{"-f", "-y", "-s", "0", "-o", trace, "-e", "trace=openat,pread64,read,lseek,pwrite64,write", "e2fsck"}
	judge(t, path, "", "strace", append(append(args, options...), path)...)
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var tr tracer
	var whole joiner
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := whole.add(lines.Text()); strings.Contains(line, "<"+path+">") {
			if err := tr.line(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(tr.reads) == 0 {
		t.Fatalf("strace saw e2fsck read nothing of %s", path)
	}
	return tr.reads
}

// A joiner puts together the calls that strace prints in two parts, because
// another thread of e2fsck made one in between:
//
//	42 pread64(3</tmp/image>,  <unfinished ...>
//	43 pread64(3</tmp/image>, ""..., 1024, 4096) = 1024
//	42 <... pread64 resumed>""..., 1024, 2048) = 1024
type joiner struct{ begun map[string]string }

var resumedRE = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)

// add returns the line, whole; nothing, if its end is still to come.
func (j *joiner) add(line string) string {
	thread, call, _ := strings.Cut(line, " ")
	call = strings.TrimLeft(call, " ")
	if begin, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
		if j.begun == nil {
			j.begun = map[string]string{}
		}
		j.begun[thread] = begin
		return ""
	}
	if mark := resumedRE.FindString(call); mark != "" {
		return thread + " " + j.begun[thread] + call[len(mark):]
	}
	return line
}

// sector is the unit that what was written is remembered in.
const sector = 512

// A tracer follows the system calls on one file.
type tracer struct {
	position map[string]int64 // by file descriptor
	written  map[int64]bool   // by sector
	reads    []Range
}

// One line is like: 42 pread64(3</tmp/image>, ""..., 1024, 2048) = 1024
var (
	callRE = regexp.MustCompile(`^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)`)
	fdRE   = regexp.MustCompile(`^(\d+)<`)
)

func (tr *tracer) line(line string) error {
	m := callRE.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("strace printed what is not understood: %s", line)
	}
	call, args := m[1], m[2]
	result, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil {
		return fmt.Errorf("strace printed what is not understood: %s", line)
	}
	if result < 0 {
		return nil
	}
	if tr.position == nil {
		tr.position, tr.written = map[string]int64{}, map[int64]bool{}
	}
	if call == "openat" {
		tr.position[m[3]] = 0
		return nil
	}
	fd := fdRE.FindStringSubmatch(args)
	if fd == nil {
		return fmt.Errorf("strace printed what is not understood: %s", line)
	}
	position := tr.position[fd[1]]
	switch call {
	case "lseek":
		tr.position[fd[1]] = result
	case "read", "write":
		tr.position[fd[1]] = position + result
	case "pread64", "pwrite64":
		last := args[strings.LastIndex(args, " ")+1:]
		if position, err = strconv.ParseInt(last, 10, 64); err != nil {
			return fmt.Errorf("strace printed what is not understood: %s", line)
		}
	}
	switch call {
	case "read", "pread64":
		tr.read(position, position+result)
	case "write", "pwrite64":
		for s := position / sector; s*sector < position+result; s++ {
			tr.written[s] = true
		}
	}
	return nil
}

func (tr *tracer) read(start, end int64) {
	for at := start; at < end; {
		next := min(end, (at/sector+1)*sector)
		if !tr.written[at/sector] {
			if n := len(tr.reads); n > 0 && tr.reads[n-1].End == at {
				tr.reads[n-1].End = next
			} else {
				tr.reads = append(tr.reads, Range{at, next})
			}
		}
		at = next
	}
}

// Blocks returns where the contents of an inode lie, as debugfs has it.
func Blocks(t testing.TB, path, inode string) []Range {
	t.Helper()
	size := int64(0)
	for _, line := range strings.Split(Dumpe2fs(t, path, "-h").Text, "\n") {
		if value, ok := strings.CutPrefix(line, "Block size:"); ok {
			if _, err := fmt.Sscan(value, &size); err != nil {
				t.Fatal(err)
			}
		}
	}
	var ranges []Range
	for _, word := range strings.Fields(Debugfs(t, path, "blocks "+inode).Text) {
		if block, err := strconv.ParseInt(word, 10, 64); err == nil {
			ranges = append(ranges, Range{block * size, (block + 1) * size})
		}
	}
	if len(ranges) == 0 {
		t.Fatalf("debugfs names no blocks of inode %s", inode)
	}
	return ranges
}

// Contains tells whether one of the ranges holds the byte at off.
func Contains(ranges []Range, off int64) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Start <= off && off < r.End })
}

// Erase zeroes the bytes [start, end) of a file.
func Erase(t testing.TB, path string, start, end int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, end-start), start); err != nil {
		t.Fatal(err)
	}
}
