package scrub

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// userWords are names and values that rules keep in some places, or that are
// numbers in others.
var userWords = []string{
	"lost+found", "capability", "apparmor", "selinux", ".journal", "journal.dat", ".journal.dat", "posix_acl_access", "SMACK64IPIN",
	"ost+foun", "ext4_lookup", "data", "richacl", "#1234567", "abcdefgh", "ABCDABCD",
}

// TestHealthy has sound filesystems of many kinds, with words that rules keep
// elsewhere: none is refused, no directory with an index comes out unsound, and
// e2fsck finds nothing. E2QCOW_HEALTHY is how many there are, E2QCOW_SEED the
// first.
func TestHealthy(t *testing.T) {
	for seed := range healthySeeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			spec := newGenerator(seed).spec()
			data, err := os.ReadFile(testfs.Make(t, spec).Path)
			if err != nil {
				t.Fatal(err)
			}
			for key := range byte(1 + (16<<20)/len(data)) {
				image, _, err := scrubbed(data, key)
				if err != nil {
					t.Errorf("key %d, mke2fs %s: %v", key, spec.Mke2fs, err)
					continue
				}
				if key > 0 || !spec.Fsck {
					continue
				}
				path := testfs.TempDir(t) + "/image"
				if err := os.WriteFile(path, image, 0o600); err != nil {
					t.Fatal(err)
				}
				if v := testfs.Fsck(t, path, "-fn"); v.Exit != 0 {
					t.Errorf("mke2fs %s: e2fsck says, exit %d:\n%s", spec.Mke2fs, v.Exit, v.Text)
				}
			}
		})
	}
}

// TestCanaries lays texts over the metadata of the same filesystems: no text is
// left in an image, and no run ends for one.
func TestCanaries(t *testing.T) {
	const rounds = 4
	for seed := range healthySeeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGenerator(seed)
			spec := g.spec()
			if spec.Size > 32<<20 {
				t.Skip("reading it takes too long")
			}
			sound, err := os.ReadFile(testfs.Make(t, spec).Path)
			if err != nil {
				t.Fatal(err)
			}
			_, res, err := scrubbed(sound, 1)
			if err != nil {
				t.Fatal(err)
			}
			var blocks []int64
			size := int64(res.BlockSize())
			for run := range res.Map.Runs() {
				for n := range run.Count {
					if run.Kind != scan.Superblock {
						blocks = append(blocks, int64(run.Start+n)*size)
					}
				}
			}
			for round := range byte(rounds) {
				data := bytes.Clone(sound)
				for range 1 + g.IntN(12) {
					at := blocks[g.IntN(len(blocks))] + g.Int64N(size)
					if g.IntN(2) == 0 {
						at &^= 127
					}
					text := canaryBytes(g.IntN(2))
					for range 1 + g.IntN(1+g.IntN(64)) {
						if at+int64(len(text)) <= int64(len(data)) {
							at += int64(copy(data[at:], text))
						}
					}
				}
				image, _, err := scrubbed(data, round)
				if leak := (*LeakError)(nil); errors.As(err, &leak) {
					t.Errorf("round %d, mke2fs %s: %v", round, spec.Mke2fs, err)
				}
				if left := findCanary(squeezed(image)); left != nil {
					t.Errorf("round %d, mke2fs %s: %q is left at byte %#x", round, spec.Mke2fs, left, bytes.Index(image, left))
				}
			}
		})
	}
}

// squeezed returns b without its blocks of zeros.
func squeezed(b []byte) (rest []byte) {
	for block := range slices.Chunk(b, 1024) {
		if !allZero(block) {
			rest = append(rest, block...)
		}
	}
	return rest
}

// healthySeeds yields those that the environment asks for, else so many.
func healthySeeds(t *testing.T, count uint64) iter.Seq[uint64] {
	t.Helper()
	first := uint64(0)
	if n, err := strconv.ParseUint(os.Getenv("E2QCOW_HEALTHY"), 10, 64); err == nil {
		count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("E2QCOW_SEED"), 10, 64); err == nil {
		first = n
	}
	return func(yield func(uint64) bool) {
		for seed := first; seed < first+count && yield(seed); seed++ {
		}
	}
}

// A generator draws filesystems.
type generator struct {
	*rand.Rand
	letters []rune
	words   []string // of userWords, those that no name has yet
	debugfs []string
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 17)), words: slices.Clone(userWords)}
	g.Shuffle(len(g.words), func(i, j int) { g.words[i], g.words[j] = g.words[j], g.words[i] })
	g.letters = []rune([]string{lettersAndDigits, "0123456789", "abc", "äöüßéλж漢字"}[g.IntN(4)])
	return g
}

// drawn returns a word of so many letters at most.
func (g *generator) drawn(most int) string {
	var b strings.Builder
	for range 1 + g.IntN(most) {
		b.WriteRune(g.letters[g.IntN(len(g.letters))])
	}
	return b.String()
}

// name returns one that no other file has.
func (g *generator) name() string {
	if len(g.words) > 0 && g.IntN(4) == 0 {
		word := g.words[0]
		g.words = g.words[1:]
		return word
	}
	return g.drawn(20) + strconv.Itoa(len(g.debugfs))
}

// text returns a part of a target or of a value.
func (g *generator) text() string {
	if g.IntN(3) == 0 {
		return userWords[g.IntN(len(userWords))]
	}
	return g.drawn(20)
}

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

// mke2fs draws the form of a filesystem: its options, and its size in bytes.
func (g *generator) mke2fs() (options string, size int64) {
	blockSize := 1024 << min(g.IntN(9), g.IntN(9), 6)
	inodeSize := []int{128, 256, 256, 512, 1024}[g.IntN(5)]
	inodeSize = min(inodeSize, blockSize)
	size = int64(8<<g.IntN(3)) << 20
	if blockSize > 4096 {
		size = int64(blockSize) << 11 // 2048 blocks
	}
	kind := g.one("ext4", "ext4", "ext4", "ext4", "ext3", "ext2")
	var features []string
	add := func(list ...string) {
		for _, f := range list {
			if g.IntN(2) == 0 {
				features = append(features, f)
			}
		}
	}
	options = fmt.Sprintf("-t %s -b %d -I %d -N %d", kind, blockSize, inodeSize, 64<<g.IntN(4))
	if kind != "ext4" {
		add("^dir_index", "^filetype", "ext_attr", "large_file")
		features = append(features, []string{"^resize_inode,^sparse_super", "^resize_inode", "resize_inode"}[g.IntN(3)])
		return options + g.list(features), size
	}
	resize := "^resize_inode"
	if g.IntN(3) == 0 {
		resize = ""
	}
	switch g.IntN(4) {
	case 0:
		features = append(features, "^extents", "^64bit")
	case 1:
		features = append(features, "bigalloc", "64bit")
		options += fmt.Sprintf(" -C %d", blockSize<<(1+g.IntN(4)))
	case 2:
		features = append(features, "64bit")
	default:
		features = append(features, "^64bit")
	}
	if inodeSize > 128 {
		add("inline_data", "ea_inode")
		if g.IntN(3) == 0 {
			features = append(features, "quota")
			options += " -E quotatype=" + g.one("usrquota", "usrquota:grpquota")
			if g.IntN(2) == 0 {
				features = append(features, "project")
				options += ":prjquota"
			}
		}
	}
	switch g.IntN(4) {
	case 0:
		features = append(features, "^metadata_csum", g.one("uninit_bg", "^uninit_bg"))
	case 1:
		features = append(features, "metadata_csum", "metadata_csum_seed")
	default:
		features = append(features, "metadata_csum")
	}
	switch g.IntN(3) {
	case 0:
		features = append(features, "^has_journal")
	case 1:
		features = append(features, "fast_commit")
	default:
		features = append(features, "orphan_file")
	}
	switch g.IntN(4) {
	case 0:
		features, resize = append(features, "meta_bg"), "^resize_inode"
	case 1:
		features, resize = append(features, "sparse_super2"), "^resize_inode"
	}
	if resize != "" {
		features = append(features, resize)
	}
	add("^flex_bg", "large_dir", "encrypt", "casefold", "verity", "^huge_file", "^dir_index", "^extra_isize", "stable_inodes", "^dir_nlink")
	return options + g.list(features), size
}

func (g *generator) list(features []string) string {
	if len(features) == 0 {
		return ""
	}
	return " -O " + strings.Join(features, ",")
}

// spec draws a filesystem and what is in it. Some have folders that are large
// enough for an index.
func (g *generator) spec() testfs.Spec {
	options, size := g.mke2fs()
	spec := testfs.Spec{Mke2fs: options, Size: size, Fsck: g.IntN(2) == 0}
	do := func(format string, args ...any) { g.debugfs = append(g.debugfs, fmt.Sprintf(format, args...)) }
	for n := range 10 + g.IntN(40) {
		dir := fmt.Sprintf("d%d/", g.IntN(2))
		if n == 2 && !slices.Contains(g.words[:1], lostAndFound) {
			dir = ""
		}
		switch {
		case n < 2:
			do("mkdir d%d", n)
		case g.IntN(4) == 0:
			do("symlink %s%s %s%s", dir, g.name(), g.text(), strings.Repeat("/"+g.text(), g.IntN(5)))
		case n == 5 || n == 6:
			do("ea_set d%d user.%s %s", n-5, g.drawn(9), strings.Repeat(g.text(), 1+g.IntN(3)))
		case g.IntN(5) == 0:
			do("write /dev/null %s%s", dir, g.name())
		case g.IntN(8) == 0:
			do("mknod %s%s p", dir, g.name())
		default:
			do("mkdir %s%s", dir, g.name())
		}
	}
	if strings.Contains(options, "-N 512") {
		for n := range 100 + g.IntN(300) {
			do("symlink d0/%s-%d %s", g.drawn(1+g.IntN(30)), n, g.text())
		}
		spec.Fsck = true
	}
	if strings.Contains(options, ",casefold") && !strings.Contains(options, "^extents") && !strings.Contains(options, ",inline_data") {
		do("sif d0 flags 0x40080000") // EXT4_CASEFOLD_FL, EXT4_EXTENTS_FL
		spec.Fsck = true
	}
	spec.Debugfs = g.debugfs
	return spec
}
