package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// scrubbed returns the scrubbed image of a filesystem, with the blocks that are
// metadata.
func scrubbed(data []byte, key byte) (image []byte, res *scan.Result, err error) {
	ctx := context.Background()
	index := NewIndex(Options{Key: [KeySize]byte{key}, Threads: 2})
	if res, err = scan.Scan(ctx, bytes.NewReader(data), int64(len(data)), scan.Options{Visit: index.Visit}); err != nil {
		return nil, nil, err
	}
	v, err := index.View(ctx, res)
	if err != nil {
		return nil, res, err
	}
	image = make([]byte, v.Size())
	_, err = v.ReadAt(image, 0)
	return image, res, err
}

// The canaries that are laid over metadata.
const (
	plainCanary = "Qk3zWordOfSomebodyXu7"
	wideCanary  = "Vq9nLetterToNobodyYt2"
)

// canaryBytes returns the n-th form of a canary.
func canaryBytes(n int) []byte {
	if n%2 == 0 {
		return []byte(plainCanary)
	}
	var b []byte
	for _, c := range utf16.Encode([]rune(wideCanary)) {
		b = append(b, byte(c), byte(c>>8))
	}
	return b
}

// findCanary returns what is left of a canary in an image: twelve bytes of it.
func findCanary(image []byte) []byte {
	for form := range 2 {
		c := canaryBytes(form)
		for i := 0; i+12 <= len(c); i++ {
			if bytes.Contains(image, c[i:i+12]) {
				return c[i : i+12]
			}
		}
	}
	return nil
}

// FuzzView lays text and any bytes over the metadata of small filesystems. There
// is an image, always the same, and no text in it.
func FuzzView(f *testing.F) {
	var bases [][]byte
	var metas [][]uint64
	blockSizes := []int{1024, 1024, 1024, 4096}
	for i, options := range []string{
		"-b 1024 -t ext2 -g 1024 -N 128", "-b 1024 -t ext4 -O ^has_journal,^metadata_csum,inline_data,ea_inode -I 256 -N 128 -g 1024",
		"-b 1024 -t ext4 -O metadata_csum,mmp,orphan_file,quota,^resize_inode -g 1024 -N 128 -J size=1", "-b 4096 -t ext4 -O ^has_journal,bigalloc,^resize_inode -C 16384 -N 128",
	} {
		spec := testfs.Spec{Mke2fs: options, Size: 4 << 20, Debugfs: []string{
			"mkdir folder", "symlink folder/short to/somewhere", "symlink long /" + strings.Repeat("a-long-target/", 10), "ea_set folder user.name a-value-of-somebody",
		}}
		for n := range 30 {
			spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir folder/name-of-%d", n))
		}
		data, err := os.ReadFile(testfs.Make(f, spec).Path)
		if err != nil {
			f.Fatal(err)
		}
		_, res, err := scrubbed(data, 1)
		if err != nil {
			f.Fatal(err)
		}
		var meta []uint64
		for k := range scan.Claimed {
			for run := range res.Map.RunsOf(k) {
				for n := range run.Count {
					if k != scan.Superblock {
						meta = append(meta, run.Start+n)
					}
				}
			}
		}
		slices.Sort(meta)
		bases, metas = append(bases, data), append(metas, slices.Compact(meta))
		f.Add(uint8(i), []byte{0, 5, 0, 0, 0, 0, 9, 0, 1, 1})
	}
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		i := int(base) % len(bases)
		data, meta, bs := bytes.Clone(bases[i]), metas[i], blockSizes[i]
		const size = 5 // block, offset, form
		for n := 0; n < 16 && len(edits) >= size; n, edits = n+1, edits[size:] {
			at := int(meta[int(le.Uint16(edits))%len(meta)])*bs + int(le.Uint16(edits[2:]))%bs
			switch form := int(edits[4]); {
			case form < 64:
				text := canaryBytes(form)
				for k := 0; k < form/2+1 && at+len(text) <= len(data); k++ {
					copy(data[at:], text)
					at += len(text)
				}
			default:
				copy(data[at:], edits[size:min(len(edits), size+form-63)])
			}
		}
		image, _, err := scrubbed(data, 1)
		if leak := (*LeakError)(nil); errors.As(err, &leak) {
			t.Fatal(err)
		} else if err != nil {
			return // there is no filesystem any more
		}
		if left := findCanary(image); left != nil {
			t.Fatalf("%q is left at byte %d", left, bytes.Index(image, left))
		}
		if again, _, _ := scrubbed(data, 1); !bytes.Equal(image, again) {
			t.Fatal("not the same twice")
		}
	})
}

// userWords are names and values that rules keep in some places, or that are
// numbers in others.
var userWords = []string{
	"lost+found", "capability", "apparmor", "selinux", ".journal", "journal.dat", ".journal.dat", "posix_acl_access", "SMACK64IPIN",
	"ost+foun", "ext4_lookup", "data", "richacl", "#1234567", "abcdefgh", "ABCDABCD",
}

// TestHealthy has sound filesystems of many kinds, with words that rules keep
// elsewhere: none is refused. E2QCOW_HEALTHY is how many there are.
func TestHealthy(t *testing.T) {
	count := 4
	if n, err := strconv.Atoi(os.Getenv("E2QCOW_HEALTHY")); err == nil {
		count = n
	}
	features := []string{"metadata_csum", "64bit", "inline_data", "ea_inode", "orphan_file", "flex_bg", "extents", "quota", "large_dir", "encrypt", "huge_file", "sparse_super2", "dir_index"}
	for seed := range uint64(count) {
		r := rand.New(rand.NewPCG(seed, 17))
		list := []string{"^resize_inode"}
		for _, f := range features {
			list = append(list, []string{"", "^"}[r.IntN(2)]+f)
		}
		if slices.Contains(list, "^extents") {
			list = append(list, "^64bit", "^bigalloc")
			list = slices.DeleteFunc(list, func(f string) bool { return f == "64bit" })
		}
		if r.IntN(2) == 0 || slices.Contains(list, "orphan_file") {
			list = append(list, "has_journal")
		} else {
			list = append(list, "^has_journal")
		}
		bs := 1024 << r.IntN(3)
		size := 256
		if slices.Contains(list, "^inline_data") && r.IntN(3) == 0 {
			size = 128
		}
		spec := testfs.Spec{Mke2fs: fmt.Sprintf("-t ext4 -b %d -I %d -N %d -O %s", bs, size, 64<<r.IntN(4), strings.Join(list, ",")), Size: int64(8<<r.IntN(3)) << 20}
		alphabet := []string{lettersAndDigits, "0123456789", "abc", "äöüßéλж漢字"}[r.IntN(4)]
		letters := []rune(alphabet)
		drawWord := func(most int) string {
			var b strings.Builder
			for range 1 + r.IntN(most) {
				b.WriteRune(letters[r.IntN(len(letters))])
			}
			return b.String()
		}
		names := slices.Clone(userWords) // each once, as they stand in one folder
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		word := func() string {
			if len(names) > 0 && r.IntN(4) == 0 {
				names = names[1:]
				return userWords[len(names)]
			}
			return drawWord(20) + strconv.Itoa(len(spec.Debugfs))
		}
		text := func() string {
			if r.IntN(3) == 0 {
				return userWords[r.IntN(len(userWords))]
			}
			return drawWord(20)
		}
		for n := range 10 + r.IntN(40) {
			dir := ""
			if n > 2 {
				dir = fmt.Sprintf("d%d/", r.IntN(2))
			}
			switch {
			case n < 2:
				spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mkdir d%d", n))
			case r.IntN(4) == 0:
				spec.Debugfs = append(spec.Debugfs, "symlink "+dir+word()+" "+text()+strings.Repeat("/"+text(), r.IntN(5)))
			case n == 5 || n == 6:
				spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("ea_set d%d user.%s %s", n-5, drawWord(9), strings.Repeat(text(), 1+r.IntN(3))))
			case r.IntN(5) == 0:
				spec.Debugfs = append(spec.Debugfs, "write /dev/null "+dir+word())
			case r.IntN(8) == 0:
				spec.Debugfs = append(spec.Debugfs, fmt.Sprintf("mknod %s%s p", dir, word()))
			default:
				spec.Debugfs = append(spec.Debugfs, "mkdir "+dir+word())
			}
		}
		data, err := os.ReadFile(testfs.Make(t, spec).Path)
		if err != nil {
			t.Fatal(err)
		}
		for key := range byte(3) {
			if _, _, err := scrubbed(data, key); err != nil {
				t.Errorf("seed %d, key %d, mke2fs %s: %v", seed, key, spec.Mke2fs, err)
			}
		}
	}
}
