package main_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"e2qcow/internal/testfs"
)

// A matrixCase is one way to make a filesystem; its name lists the features.
type matrixCase struct {
	name string
	testfs.Spec

	// short says that the case is run with -short too.
	short bool
	// e2imageFails says why e2image cannot tell what the metadata of this
	// filesystem are.
	e2imageFails string
	// dataInJournal says that the journal holds file contents.
	dataInJournal bool
}

const mib = 1 << 20

// Why e2image is not asked about some filesystems.
const (
	dumpsClusters = "it dumps whole clusters, file contents with them"
	dumpsSlack    = "it dumps what lies behind the end of symlinks and attribute values"
	refusesDevice = "it refuses a filesystem with an external journal"
)

// matrix returns filesystems over all that mke2fs can make.
func matrix() []matrixCase {
	mounted := func(name, options string) matrixCase {
		return matrixCase{name: name, Spec: testfs.Spec{Mke2fs: options, Size: 40*mib + 3*mib/2, Fill: testfs.Mounted}}
	}
	copied := func(name, options string, size int64) matrixCase {
		return matrixCase{name: name, Spec: testfs.Spec{Mke2fs: options, Size: size, Fill: testfs.Copied, Fsck: true}}
	}
	with := func(c matrixCase, change func(*matrixCase)) matrixCase {
		change(&c)
		return c
	}
	short := func(c *matrixCase) { c.short = true }
	dirty := func(c *matrixCase) { c.Dirty = true }
	clusters := func(c *matrixCase) { c.e2imageFails = dumpsClusters }
	stale := func(c *matrixCase) { c.Stale = true; c.e2imageFails = dumpsSlack }
	far := func(offset int64) func(*matrixCase) { return func(c *matrixCase) { c.FarOffset = offset } }
	const (
		past1K = 12 + 256 + 256*256 + 5    // a triply indirect block of 1 KiB
		past4K = 12 + 1024 + 1024*1024 + 5 // and of 4 KiB
	)

	cases := []matrixCase{
		// The three filesystems, block maps and extents, every block size.
		with(with(mounted("ext2,1k", "-t ext2 -b 1024"), far(past1K<<10)), short),
		with(mounted("ext2,2k", "-t ext2 -b 2048"), far(600*mib)),
		with(mounted("ext2,4k", "-t ext2 -b 4096 -g 4096"), far(past4K<<12)),
		copied("ext2,8k", "-t ext2 -b 8192 -g 4096", 96*mib),
		copied("ext2,64k", "-t ext2 -b 65536 -g 512 -N 2048", 256*mib),
		mounted("ext2,revision-0", "-t ext2 -b 1024 -r 0"),
		mounted("ext2,revision-0,4k", "-t ext2 -b 4096 -r 0 -g 4096"),
		mounted("ext2,^sparse_super", "-t ext2 -b 1024 -O ^sparse_super,^resize_inode"),
		mounted("ext2,^filetype,^dir_index", "-t ext2 -b 1024 -O ^filetype,^dir_index,^large_file"),
		copied("ext2,hurd", "-t ext2 -b 4096 -g 4096 -o hurd -I 128", 40*mib),
		with(mounted("ext3,1k", "-t ext3 -b 1024"), far(past1K<<10)),
		mounted("ext3,4k,128-byte-inodes", "-t ext3 -b 4096 -g 4096 -I 128"),
		with(mounted("ext3,dirty", "-t ext3 -b 1024"), dirty),
		mounted("ext4,1k", "-t ext4 -b 1024"),
		mounted("ext4,2k", "-t ext4 -b 2048 -g 8192"),
		with(mounted("ext4,4k", "-t ext4 -b 4096 -g 4096"), short),
		copied("ext4,8k", "-t ext4 -b 8192 -g 4096", 96*mib),
		copied("ext4,16k", "-t ext4 -b 16384 -g 2048", 128*mib),
		copied("ext4,32k", "-t ext4 -b 32768 -g 1024 -N 2048", 160*mib),
		copied("ext4,64k", "-t ext4 -b 65536 -g 512 -N 2048", 256*mib),
		copied("ext4,copied-by-mke2fs", "-t ext4 -b 1024", 40*mib),

		// Inodes, up to the block size.
		mounted("ext4,128-byte-inodes", "-t ext4 -b 1024 -I 128"),
		mounted("ext4,512-byte-inodes", "-t ext4 -b 4096 -g 4096 -I 512"),
		mounted("ext4,1k,1024-byte-inodes", "-t ext4 -b 1024 -I 1024 -N 2048"),
		mounted("ext4,4k,1024-byte-inodes", "-t ext4 -b 4096 -g 4096 -I 1024"),
		mounted("ext4,2k,2048-byte-inodes", "-t ext4 -b 2048 -g 8192 -I 2048 -N 2048"),
		mounted("ext4,4k,4096-byte-inodes", "-t ext4 -b 4096 -g 4096 -I 4096 -N 2048"),

		// Groups and descriptors.
		mounted("ext4,^64bit", "-t ext4 -b 1024 -O ^64bit"),
		mounted("ext4,desc_size-128", "-t ext4 -b 1024 -E desc_size=128"),
		mounted("ext4,^flex_bg", "-t ext4 -b 1024 -O ^flex_bg -g 2048"),
		mounted("ext4,flex_bg-4", "-t ext4 -b 1024 -G 4 -g 2048"),
		with(mounted("ext4,meta_bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 512"), short),
		mounted("ext4,meta_bg,^64bit", "-t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit -g 512"),
		mounted("ext4,sparse_super2", "-t ext4 -b 1024 -O sparse_super2,^resize_inode"),
		mounted("ext4,sparse_super2,one-backup", "-t ext4 -b 1024 -O sparse_super2,^resize_inode -E num_backup_sb=1"),
		mounted("ext4,^resize_inode", "-t ext4 -b 1024 -O ^resize_inode"),
		mounted("ext4,large-resize_inode", "-t ext4 -b 1024 -g 2048 -E resize=2000000"),
		mounted("ext4,packed_meta_blocks", "-t ext4 -b 1024 -E packed_meta_blocks=1"),
		with(mounted("ext4,short-last-group", "-t ext4 -b 1024 -g 8192"), func(c *matrixCase) { c.Size = (1 + 4*8192 + 700) << 10 }),
		with(mounted("ext4,end-in-half-a-block", "-t ext4 -b 4096 -g 4096"), func(c *matrixCase) { c.Size = 40*mib + 2560 }),
		with(mounted("ext4,smaller-than-device", "-t ext4 -b 1024"), func(c *matrixCase) { c.Debugfs = []string{"ssv free_blocks_count 1"}; c.Fsck = true }),

		// Checksums.
		mounted("ext4,uninit_bg", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg"),
		mounted("ext4,uninit_bg,lazy", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -E lazy_itable_init=1,nodiscard"),
		mounted("ext4,^metadata_csum,^uninit_bg", "-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg"),
		mounted("ext4,metadata_csum_seed", "-t ext4 -b 1024 -O metadata_csum_seed"),

		// Clusters.
		with(mounted("ext4,bigalloc", "-t ext4 -b 4096 -O bigalloc -C 65536 -g 4096"), func(c *matrixCase) { clusters(c); short(c); c.Size = 128 * mib }),
		with(mounted("ext4,bigalloc,1k", "-t ext4 -b 1024 -O bigalloc -C 16384"), func(c *matrixCase) { clusters(c); c.Size = 96 * mib }),
		with(mounted("ext4,bigalloc,1k,^64bit,dirty", "-t ext4 -b 1024 -O bigalloc,^64bit -C 4096"), func(c *matrixCase) { clusters(c); dirty(c); c.Size = 64 * mib }),

		// What inodes and directories can hold.
		with(mounted("ext4,inline_data", "-t ext4 -b 1024 -O inline_data"), short),
		mounted("ext4,inline_data,1024-byte-inodes", "-t ext4 -b 4096 -g 4096 -O inline_data -I 1024"),
		mounted("ext4,ea_inode", "-t ext4 -b 1024 -O ea_inode"),
		mounted("ext4,ea_inode,inline_data,4k", "-t ext4 -b 4096 -g 4096 -O ea_inode,inline_data"),
		mounted("ext4,large_dir", "-t ext4 -b 1024 -O large_dir"),
		mounted("ext4,^dir_index", "-t ext4 -b 1024 -O ^dir_index"),
		with(mounted("ext4,encrypt", "-t ext4 -b 4096 -g 4096 -O encrypt"), func(c *matrixCase) { c.Encrypt = true }),
		with(mounted("ext4,encrypt,stable_inodes,1k", "-t ext4 -b 1024 -O encrypt,stable_inodes"), func(c *matrixCase) { c.Encrypt = true }),
		with(copied("ext4,casefold", "-t ext4 -b 1024 -O casefold", 40*mib), func(c *matrixCase) { c.Debugfs = casefolded() }),
		with(copied("ext4,verity", "-t ext4 -b 1024 -O verity", 40*mib), func(c *matrixCase) {
			// The file keeps its blocks behind the end, as a Merkle tree lies.
			c.Debugfs = []string{"sif /plain/big flags 0x180000", "sif /plain/big size 500000"}
		}),

		// Special inodes.
		copied("ext4,quota", "-t ext4 -b 1024 -O quota", 40*mib),
		copied("ext4,quota,project", "-t ext4 -b 1024 -O quota,project -E quotatype=usrquota:grpquota:prjquota", 40*mib),
		copied("ext4,mmp", "-t ext4 -b 1024 -O mmp", 40*mib),
		mounted("ext4,orphan_file", "-t ext4 -b 1024 -O orphan_file"),
		with(mounted("ext4,orphan_file,dirty", "-t ext4 -b 1024 -O orphan_file"), dirty),
		mounted("ext4,bad-blocks", "-t ext4 -b 1024 -l /proc/self/fd/0"),

		// Journals.
		with(mounted("ext4,dirty", "-t ext4 -b 1024"), func(c *matrixCase) { dirty(c); short(c) }),
		with(mounted("ext4,4k,dirty", "-t ext4 -b 4096 -g 4096"), dirty),
		with(mounted("ext4,^64bit,^metadata_csum,dirty", "-t ext4 -b 1024 -O ^64bit,^metadata_csum,uninit_bg"), dirty),
		with(mounted("ext4,data=journal,dirty", "-t ext4 -b 1024"), func(c *matrixCase) { dirty(c); c.Mount = "data=journal"; c.dataInJournal = true }),
		mounted("ext4,fast_commit", "-t ext4 -b 1024 -O fast_commit"),
		with(mounted("ext4,fast_commit,dirty", "-t ext4 -b 1024 -O fast_commit"), dirty),
		mounted("ext4,^has_journal", "-t ext4 -b 1024 -O ^has_journal"),
		with(mounted("ext4,external-journal", "-t ext4 -b 1024"), func(c *matrixCase) { c.JournalDevice = 4 * mib; c.e2imageFails = refusesDevice; short(c) }),
		with(mounted("ext4,external-journal,dirty,4k", "-t ext4 -b 4096 -g 4096"), func(c *matrixCase) {
			c.JournalDevice = 8 * mib
			c.e2imageFails = refusesDevice
			dirty(c)
		}),

		// On a device that was in use before.
		// Not with tables that the kernel has to initialise: it skips inodes whose
		// stale bytes look recently deleted, and leaves them in tables in use.
		with(mounted("ext3,stale-device", "-t ext3 -b 1024"), stale),

		// With nothing in them.
		with(mounted("ext4,empty", "-t ext4 -b 1024"), func(c *matrixCase) { c.Fill = testfs.Empty; short(c) }),
		with(mounted("ext4,empty,bigalloc,1k", "-t ext4 -b 1024 -O bigalloc"), func(c *matrixCase) { c.Fill = testfs.Empty; clusters(c) }),
		with(mounted("ext2,empty,smallest", "-t ext2 -b 1024 -I 128 -N 16"), func(c *matrixCase) { c.Fill = testfs.Empty; c.Size = 64 << 10 }),
		with(mounted("ext4,empty,uninitialised-tables", "-t ext4 -b 4096 -g 4096 -E lazy_itable_init=1,lazy_journal_init=1"), func(c *matrixCase) { c.Fill = testfs.Empty }),
	}
	return cases
}

// casefolded returns debugfs commands that make a directory with names
// compared without regard to case, indexed by the e2fsck that follows.
func casefolded() []string {
	commands := []string{"mkdir /casefold", "sif /casefold flags 0x40080000", "cd /casefold"}
	for range 16 {
		commands = append(commands, "expand_dir /casefold")
	}
	for i := range 200 {
		commands = append(commands, fmt.Sprintf("ln /plain/file-000 /casefold/Name-With-Case-%03d", i))
	}
	return append(commands, "sif /plain/file-000 links_count 201")
}

// TestMatrix dumps and restores every filesystem of the matrix and asks
// e2fsprogs and qemu whether the result is right.
func TestMatrix(t *testing.T) {
	tool := testfs.Build(t)
	for _, c := range matrix() {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && !c.short {
				t.Skip("not among the cases for -short")
			}
			t.Parallel()
			fs := testfs.Make(t, c.Spec)
			restored := roundTrip(t, tool, fs.Path, c.e2imageFails == "")
			sameVerdicts(t, fs.Path, restored)
			if v := testfs.Fsck(t, fs.Path, "-fn"); v.Exit != 0 && !c.Dirty && fs.Journal == "" {
				t.Errorf("the source is not sound, e2fsck -fn: exit %d\n%s", v.Exit, v.Text)
			}
			if !c.Stale { // else e2fsck reads more than it looks at
				readsAreThere(t, fs.Path, restored)
				backupsAlike(t, fs.Path, restored)
			}
			if c.Dirty {
				repairsAlike(t, fs.Path, restored)
			}
			noFileData(t, restored, c.dataInJournal)
			if fs.Journal != "" {
				journalDevice(t, tool, fs, restored)
			}
		})
	}
}

// roundTrip dumps the source and returns the restored raw image, after
// comparing it with what everybody else makes of the dump and of the source.
func roundTrip(t *testing.T, tool testfs.Tool, source string, e2image bool) string {
	t.Helper()
	dir := testfs.TempDir(t)
	file := func(name string) string { return filepath.Join(dir, name) }

	image, restored := file("meta.qcow2"), file("restored.img")
	tool.Dump(t, source, image)
	if v := testfs.QemuCheck(t, image); v.Exit != 0 {
		t.Errorf("qemu-img check: exit %d\n%s", v.Exit, v.Text)
	}
	tool.Restore(t, image, restored)

	testfs.QemuConvert(t, image, file("qemu.img"))
	if at := testfs.Difference(t, restored, file("qemu.img")); at >= 0 {
		t.Errorf("restored image and that of qemu-img convert differ at byte %d", at)
	}
	if got, want := testfs.Size(t, restored), testfs.Size(t, source)&^511; got != want {
		t.Errorf("restored image has %d bytes, want %d, the source's in whole sectors", got, want)
	}
	testfs.E2imageRaw(t, image, file("e2image.img"))
	if at := testfs.Difference(t, restored, file("e2image.img")); at >= 0 && at != testfs.Size(t, restored)-1 {
		t.Errorf("restored image and that of e2image -r differ at byte %d", at)
	}
	tool.Restore(t, source, file("direct.img"))
	if at := testfs.Difference(t, restored, file("direct.img")); at >= 0 {
		t.Errorf("restored image and the raw metadata image of the source differ at byte %d", at)
	}
	for _, missing := range testfs.Missing(t, restored, source, 512) {
		t.Errorf("sector %d of the restored image is neither zero nor the source's", missing)
	}
	if e2image {
		testfs.E2imageRaw(t, source, file("e2image-source.img"))
		if missing := testfs.Missing(t, file("e2image-source.img"), restored, 1024); len(missing) > 0 {
			t.Errorf("e2image dumps the 1 KiB blocks %d, and the restored image lacks them", missing)
		}
	}
	return restored
}

// sameVerdicts compares what e2fsprogs says of source and restored image.
func sameVerdicts(t *testing.T, source, restored string) {
	t.Helper()
	same(t, "e2fsck -fn", testfs.Fsck(t, source, "-fn"), testfs.Fsck(t, restored, "-fn"))
	same(t, "dumpe2fs", testfs.Dumpe2fs(t, source), testfs.Dumpe2fs(t, restored))
	questions := testfs.Questions(testfs.Samples...)
	same(t, "debugfs", testfs.Debugfs(t, source, questions...), testfs.Debugfs(t, restored, questions...))
}

// readsAreThere checks that what e2fsck reads of the source is in the
// restored image. These filesystems are sound, so that attribute values are the
// only exception: see withoutValues.
func readsAreThere(t *testing.T, source, restored string) {
	t.Helper()
	for _, options := range []string{"-fn", "-fy"} {
		reads := inKiB(testfs.FsckReads(t, testfs.Copy(t, source), options))
		if unlike := withoutValues(t, source, options, testfs.Unlike(t, source, restored, reads)); len(unlike) > 0 {
			t.Errorf("e2fsck %s reads what is not in the restored image: bytes %d", options, unlike)
		}
	}
}

// repairsAlike checks that e2fsck repairs copies of both in the same way.
func repairsAlike(t *testing.T, source, restored string) {
	t.Helper()
	a, b := testfs.Copy(t, source), testfs.Copy(t, restored)
	same(t, "e2fsck -fy", testfs.Fsck(t, a, "-fy"), testfs.Fsck(t, b, "-fy"))
	same(t, "dumpe2fs after e2fsck -fy", testfs.Dumpe2fs(t, a), testfs.Dumpe2fs(t, b))
}

// backupsAlike checks that e2fsck goes on from the same backup superblock when
// the primary one is gone.
func backupsAlike(t *testing.T, source, restored string) {
	t.Helper()
	a, b := testfs.Copy(t, source), testfs.Copy(t, restored)
	testfs.Erase(t, a, 1024, 2048)
	testfs.Erase(t, b, 1024, 2048)
	same(t, "e2fsck -fn without the primary superblock", testfs.Fsck(t, a, "-fn"), testfs.Fsck(t, b, "-fn"))
}

// TestWithoutPrimary dumps filesystems that have lost their primary superblock.
// e2fsck then believes no descriptor that says a table was never written.
func TestWithoutPrimary(t *testing.T) {
	tool := testfs.Build(t)
	for name, spec := range map[string]testfs.Spec{
		"ext2,1k":                     {Mke2fs: "-t ext2 -b 1024", Size: 40 * mib},
		"ext3,2k":                     {Mke2fs: "-t ext3 -b 2048", Size: 100 * mib},
		"ext4,4k":                     {Mke2fs: "-t ext4 -b 4096", Size: 400 * mib},
		"ext4,meta_bg,1k":             {Mke2fs: "-t ext4 -b 1024 -O meta_bg,^resize_inode", Size: 40 * mib},
		"ext4,sparse_super2,1k":       {Mke2fs: "-t ext4 -b 1024 -O sparse_super2,^resize_inode", Size: 40 * mib},
		"ext4,uninit_bg,stale,1k":     {Mke2fs: "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg", Size: 40 * mib, Stale: true},
		"ext4,metadata_csum,stale,1k": {Mke2fs: "-t ext4 -b 1024", Size: 40 * mib, Stale: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec.Fill = testfs.Mounted
			source := testfs.Copy(t, testfs.Make(t, spec).Path)
			testfs.Erase(t, source, 1024, 2048)
			restored := filepath.Join(testfs.TempDir(t), "restored.img")
			tool.Restore(t, source, restored)
			same(t, "e2fsck -fn", testfs.Fsck(t, source, "-fn"), testfs.Fsck(t, restored, "-fn"))
			repairsAlike(t, source, restored)
		})
	}
}

// TestModes dumps with less and with more of the backups and of the journal
// than usual. Only a journal that would be replayed and is left out changes
// what e2fsck says and does.
func TestModes(t *testing.T) {
	if testing.Short() {
		t.Skip("a long judge, which is asked once")
	}
	tool := testfs.Build(t)
	for _, dirty := range []bool{false, true} {
		for _, options := range [][]string{
			{"--backups=all"}, {"--backups=none"}, {"--journal=whole"}, {"--journal=live"}, {"--journal=none"}, {"--backups=none", "--journal=none"},
		} {
			t.Run(fmt.Sprintf("dirty=%t,%s", dirty, strings.Join(options, ",")), func(t *testing.T) {
				t.Parallel()
				source := testfs.Make(t, testfs.Spec{Mke2fs: "-t ext4 -b 1024", Size: 40*mib + 3*mib/2, Fill: testfs.Mounted, Dirty: dirty}).Path
				dir := testfs.TempDir(t)
				image, restored := filepath.Join(dir, "meta.qcow2"), filepath.Join(dir, "restored.img")
				tool.Dump(t, source, image, options...)
				if v := testfs.QemuCheck(t, image); v.Exit != 0 {
					t.Errorf("qemu-img check: exit %d\n%s", v.Exit, v.Text)
				}
				tool.Restore(t, image, restored)
				for _, missing := range testfs.Missing(t, restored, source, 512) {
					t.Errorf("sector %d of the restored image is neither zero nor the source's", missing)
				}
				noFileData(t, restored, false)
				if dirty && slices.Contains(options, "--journal=none") {
					return
				}
				same(t, "e2fsck -fn", testfs.Fsck(t, source, "-fn"), testfs.Fsck(t, restored, "-fn"))
				repairsAlike(t, source, restored)
				if options[0] != "--backups=none" {
					backupsAlike(t, source, restored)
				}
			})
		}
	}
}

// noFileData checks that the contents of files are not in the restored image,
// but for the journal where data is journaled.
func noFileData(t *testing.T, restored string, dataInJournal bool) {
	t.Helper()
	found := testfs.Canaries(t, restored)
	if dataInJournal {
		journal := testfs.Blocks(t, restored, "<8>")
		found = slices.DeleteFunc(found, func(off int64) bool { return testfs.Contains(journal, off) })
	}
	if len(found) > 0 {
		t.Errorf("file contents in the restored image, at %d places, the first at bytes %d", len(found), found[:min(len(found), 5)])
	}
}

// journalDevice dumps and restores the external journal, a filesystem of its
// own, and has e2fsck replay it into copies of source and restored image.
func journalDevice(t *testing.T, tool testfs.Tool, fs *testfs.FS, restored string) {
	t.Helper()
	journal := roundTrip(t, tool, fs.Journal, false)
	same(t, "dumpe2fs of the journal", testfs.Dumpe2fs(t, fs.Journal), testfs.Dumpe2fs(t, journal))
	if at := testfs.Difference(t, fs.Journal, journal); at >= 0 {
		t.Errorf("restored journal device differs at byte %d", at)
	}
	replay := func(fs, journal string) testfs.Verdict {
		journal = testfs.Copy(t, journal)
		v := testfs.Fsck(t, testfs.Copy(t, fs), "-fy", "-j", journal)
		v.Text = strings.ReplaceAll(v.Text, journal, "JOURNAL")
		return v
	}
	same(t, "e2fsck -fy -j", replay(fs.Path, fs.Journal), replay(restored, journal))
}

// same compares two verdicts.
func same(t *testing.T, who string, source, restored testfs.Verdict) {
	t.Helper()
	if diff := cmp.Diff(source, restored); diff != "" {
		t.Errorf("%s does not say the same of the source (-) and the restored image (+):\n%.4000s", who, diff)
	}
}
