package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"e2qcow/internal/testfs"
)

// bases are the sound filesystems that damage is done to, by name: the options
// of mke2fs, the size, and what is written beside the common tree.
var bases = map[string]struct {
	options string
	size    int64
	more    func(host string) []string // debugfs commands
}{
	"ext2-1k":         {"-t ext2 -b 1024 -N 512", 20 * mib, nil},
	"ext2-2k":         {"-t ext2 -b 2048 -N 512", 40 * mib, nil},
	"ext2-rev0":       {"-t ext2 -b 1024 -N 512 -r 0", 20 * mib, nil},
	"ext2-all-supers": {"-t ext2 -b 1024 -N 512 -O ^sparse_super,^resize_inode", 36 * mib, nil},
	"ext3-1k":         {"-t ext3 -b 1024 -N 512 -J size=1", 20 * mib, nil},
	"ext4-1k":         {"-t ext4 -b 1024 -N 768 -J size=1", 28 * mib, nil},
	"ext4-2k":         {"-t ext4 -b 2048 -N 512 -J size=2", 40 * mib, nil},
	"ext4-4k":         {"-t ext4 -b 4096 -N 512 -J size=4", 140 * mib, nil},
	"ext4-64k":        {"-t ext4 -b 65536 -g 512 -N 2048 -O ^has_journal", 72 * mib, nil},
	"ext4-g2048":      {"-t ext4 -b 1024 -g 2048 -N 512 -J size=1", 12 * mib, nil},
	"ext4-stale":      {"-t ext4 -b 1024 -N 768 -J size=1 -E lazy_itable_init=1", 28 * mib, nil},
	"uninit-stale":    {"-t ext4 -b 1024 -N 768 -J size=1 -O ^metadata_csum,uninit_bg -E lazy_itable_init=1", 28 * mib, nil},
	"nocsum-1k":       {"-t ext4 -b 1024 -N 768 -J size=1 -O ^metadata_csum,^uninit_bg", 28 * mib, nil},
	"nocsum-4k":       {"-t ext4 -b 4096 -N 512 -J size=4 -O ^metadata_csum,^uninit_bg", 16 * mib, nil},
	"uninit-1k":       {"-t ext4 -b 1024 -N 768 -J size=1 -O ^metadata_csum,uninit_bg", 28 * mib, nil},
	"meta-bg":         {"-t ext4 -b 1024 -g 512 -N 768 -O meta_bg,^resize_inode,^has_journal", 12 * mib, nil},
	"sparse2":         {"-t ext4 -b 1024 -N 768 -J size=1 -O sparse_super2,^resize_inode", 28 * mib, nil},
	"no-flex":         {"-t ext4 -b 1024 -N 768 -J size=1 -O ^flex_bg", 28 * mib, nil},
	"no-64bit":        {"-t ext4 -b 1024 -N 768 -I 128 -J size=1 -O ^64bit,^metadata_csum,uninit_bg", 28 * mib, nil},
	"bigalloc":        {"-t ext4 -b 1024 -C 4096 -N 512 -J size=4 -O bigalloc", 48 * mib, nil},
	"quota":           {"-t ext4 -b 1024 -N 768 -J size=1 -O quota,project -E quotatype=usrquota:grpquota:prjquota", 28 * mib, nil},
	"orphan-file":     {"-t ext4 -b 1024 -N 768 -J size=1 -O orphan_file", 28 * mib, nil},
	"mmp":             {"-t ext4 -b 1024 -N 768 -J size=1", 28 * mib, nil},
	"fast-commit":     {"-t ext4 -b 1024 -N 768 -J size=4,fast_commit_size=256 -O fast_commit", 28 * mib, nil},
	"inline":          {"-t ext4 -b 1024 -N 768 -J size=1 -O inline_data,^metadata_csum", 28 * mib, inlineTree},
	"ea-inode":        {"-t ext4 -b 1024 -N 768 -J size=1 -O ea_inode", 28 * mib, valueInode},
	"htree2":          {"-t ext4 -b 1024 -N 768 -O ^has_journal,^metadata_csum", 20 * mib, deepIndex},
	"htree2-csum":     {"-t ext4 -b 1024 -N 768 -O ^has_journal", 20 * mib, deepIndex},
	"journal-dev":     {"-O journal_dev -b 1024", 4 * mib, nil},
	"journal-dev-4k":  {"-O journal_dev -b 4096", 8 * mib, nil},
}

// canaryFile writes blocks of file contents of 1 KiB to a file of the host,
// where pattern, repeated, says which of them are there and which are holes.
func canaryFile(t *testing.T, path string, blocks int, pattern string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := []byte(testfs.Canary + strings.Repeat(".", 47) + "\n")
	for i := range blocks {
		if pattern[i%len(pattern)] == 'x' {
			if _, err := f.WriteAt(bytes.Repeat(line, 1024/len(line)), int64(i)<<10); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(blocks) << 10); err != nil {
		t.Fatal(err)
	}
}

// commonTree returns the debugfs commands that fill a base. Nothing in it
// depends on the machine or the time.
func commonTree(host string) []string {
	c := []string{
		"write " + host + "/small small",   // a few direct blocks
		"write " + host + "/medium medium", // a singly indirect block
		"write " + host + "/large large",   // a doubly indirect block
		"write " + host + "/frag frag",     // one level of extent nodes
		"write " + host + "/deep deep",     // two of them
		"mkdir dir",
		"mkdir empty",
		"mkdir tree", "mkdir tree/a", "mkdir tree/a/b",
		"write " + host + "/small tree/a/file",
		"write " + host + "/small tree/a/b/file",
		"symlink fast target",
		"symlink slow " + strings.Repeat("target/", 30),
		"mknod fifo p",
		"mknod char c 4 1",
		"mkdir htree",
		"ea_set small user.short value",
		"ea_set medium user.block " + strings.Repeat("block", 60),
		"write " + host + "/small gone",
		"sif gone links_count 0", "sif gone dtime 1700000000", "unlink gone", // e2fsck frees its blocks
	}
	for range 6 {
		c = append(c, "expand_dir dir")
	}
	for i := range 40 {
		c = append(c, fmt.Sprintf("ln small dir/entry-%03d-%s", i, strings.Repeat("n", 40)))
	}
	for range 40 {
		c = append(c, "expand_dir htree")
	}
	for i := range 150 {
		c = append(c, fmt.Sprintf("ln small htree/entry-%03d-%s", i, strings.Repeat("n", 100)))
	}
	return append(c, "sif small links_count 191")
}

func inlineTree(string) []string {
	c := []string{"mkdir idir", "mkdir idir/sub"}
	for i := range 3 {
		c = append(c, fmt.Sprintf("ln tree/a/file idir/n%d", i))
	}
	return append(c, "sif tree/a/file links_count 4")
}

func valueInode(host string) []string {
	return []string{"ea_set -f " + host + "/value tree/a/file user.value"}
}

func deepIndex(string) []string {
	c := []string{"mkdir index"}
	for range 300 {
		c = append(c, "expand_dir index")
	}
	for i := range 500 {
		c = append(c, fmt.Sprintf("ln small index/%03d-%s", i, strings.Repeat("n", 240)))
	}
	return append(c, "sif small links_count 691")
}

// hostFiles writes the files that the bases are filled with.
func hostFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = testfs.TempDir(t)
	canaryFile(t, filepath.Join(dir, "small"), 5, "x")
	canaryFile(t, filepath.Join(dir, "medium"), 40, "x")
	canaryFile(t, filepath.Join(dir, "large"), 500, "x")
	canaryFile(t, filepath.Join(dir, "frag"), 40, "x.")
	canaryFile(t, filepath.Join(dir, "deep"), 800, "x.")
	if err := os.WriteFile(filepath.Join(dir, "value"), bytes.Repeat([]byte("value"), 1200), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A base is a sound filesystem and where things are in it.
type base struct {
	name   string
	path   string
	layout func() (*layout, error)

	mu       sync.Mutex
	answers  map[string]string         // of debugfs, by command
	verdicts map[string]testfs.Verdict // of e2fsck, by option
}

// makeBase makes the named base. It lives as long as t.
func makeBase(t *testing.T, host, name string) *base {
	t.Helper()
	b, ok := bases[name]
	if !ok {
		t.Fatalf("there is no base named %q", name)
	}
	spec := testfs.Spec{Mke2fs: b.options, Size: b.size, Stale: strings.HasSuffix(name, "-stale")}
	if !strings.Contains(b.options, "journal_dev") {
		spec.Debugfs, spec.Fsck = commonTree(host), true
		if b.more != nil {
			spec.Debugfs = append(spec.Debugfs, b.more(host)...)
		}
	}
	if name == "mmp" { // not before: who opens a filesystem with mmp waits for 11 s
		spec.Tune2fs = "-O mmp"
	}
	fs := testfs.Make(t, spec)
	made := &base{name: name, path: fs.Path, answers: make(map[string]string), verdicts: make(map[string]testfs.Verdict)}
	made.layout = sync.OnceValues(func() (*layout, error) { return parseLayout(testfs.Dumpe2fs(t, fs.Path).Text) })
	return made
}

// sound returns what e2fsck says of the base with each of the options. A base
// other than a journal has no errors.
func (b *base) sound(t *testing.T, options []string) []testfs.Verdict {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []testfs.Verdict
	for _, option := range options {
		v, ok := b.verdicts[option]
		if !ok {
			v = testfs.Fsck(t, testfs.Copy(t, b.path), option)
			b.verdicts[option] = v
		}
		if v.Exit != 0 && !strings.HasPrefix(b.name, "journal-dev") {
			t.Errorf("e2fsck %s exits %d for the sound filesystem:\n%s", option, v.Exit, v.Text)
		}
		all = append(all, v)
	}
	return all
}

func (b *base) ask(t *testing.T, command string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	answer, ok := b.answers[command]
	if !ok {
		answer = testfs.Debugfs(t, b.path, command).Text
		b.answers[command] = answer
	}
	return answer
}

// number asks debugfs and returns the number that the pattern's group matches
// in the answer, for its nth match.
func (b *base) number(t *testing.T, command, pattern string, n int) int64 {
	t.Helper()
	answer := b.ask(t, command)
	all := regexp.MustCompile(pattern).FindAllStringSubmatch(answer, -1)
	if n >= len(all) {
		t.Fatalf("debugfs %s does not say %s:\n%s", command, pattern, answer)
	}
	v, err := strconv.ParseInt(all[n][1], 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A layout is what dumpe2fs says of a filesystem.
type layout struct {
	blockSize, descSize, clusterSize int64
	tableBlocks                      int64 // of each group's inode table
	inodesPerGroup, inodeSize        int64
	metaBg                           bool
	groups                           []groupLayout
}

// desc returns the byte at which the descriptor of group g is: in the table
// beside the superblock of group in, or with meta_bg in the copy of that number.
func (l *layout) desc(g, in int64) int64 {
	if !l.metaBg {
		return l.groups[in].descs*l.blockSize + g*l.descSize
	}
	per := l.blockSize / l.descSize
	holder := g/per*per + []int64{0, 1, per - 1}[in]
	return l.groups[holder].descs*l.blockSize + g%per*l.descSize
}

// A groupLayout holds block numbers, 0 where the group has no such thing.
type groupLayout struct {
	super, descs, blockBitmap, inodeBitmap, table int64
}

var (
	blockSizeRE = regexp.MustCompile(`Block size: +(\d+)`)
	clusterRE   = regexp.MustCompile(`Cluster size: +(\d+)`)
	descSizeRE  = regexp.MustCompile(`Group descriptor size: +(\d+)`)
	inodesRE    = regexp.MustCompile(`Inodes per group: +(\d+)`)
	inodeSizeRE = regexp.MustCompile(`Inode size:\s+(\d+)`)
	metaBgRE    = regexp.MustCompile(`Filesystem features:.* meta_bg`)
	tableSizeRE = regexp.MustCompile(`Inode blocks per group: +(\d+)`)
	superRE     = regexp.MustCompile(`(?:Primary|Backup) superblock at (\d+)`)
	descsRE     = regexp.MustCompile(`Group descriptors? at (\d+)`)
	bitmapRE    = regexp.MustCompile(`Block bitmap at (\d+)`)
	ibitmapRE   = regexp.MustCompile(`Inode bitmap at (\d+)`)
	tableRE     = regexp.MustCompile(`Inode table at (\d+)`)
)

func parseLayout(text string) (*layout, error) {
	find := func(re *regexp.Regexp, s string, otherwise int64) int64 {
		m := re.FindStringSubmatch(s)
		if m == nil {
			return otherwise
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		return n
	}
	l := &layout{blockSize: find(blockSizeRE, text, 0), descSize: find(descSizeRE, text, 32)}
	if l.blockSize == 0 {
		return nil, fmt.Errorf("dumpe2fs tells no block size:\n%s", text)
	}
	l.inodesPerGroup, l.inodeSize = find(inodesRE, text, 0), find(inodeSizeRE, text, 128)
	l.metaBg = metaBgRE.MatchString(text)
	l.tableBlocks = find(tableSizeRE, text, 0)
	l.clusterSize = find(clusterRE, text, l.blockSize)
	for _, g := range strings.Split(text, "\nGroup ")[1:] {
		if _, rest, ok := strings.Cut(g, ": (Blocks "); ok {
			l.groups = append(l.groups, groupLayout{find(superRE, rest, 0), find(descsRE, rest, 0), find(bitmapRE, rest, 0), find(ibitmapRE, rest, 0), find(tableRE, rest, 0)})
		}
	}
	return l, nil
}
