package survey_test

import (
	"os"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
	"e2qcow/scan/survey"
)

// In a filesystem of which e2fsck says nothing, the survey finds nothing: all
// layouts, feature by feature.
func TestSound(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		options string
		size    int64
		dirty   bool
		copied  bool // the kernel may not know its features
		encrypt bool
		short   bool
	}{
		{options: "-t ext2 -b 1024 -r 0"},
		{options: "-t ext2 -b 1024 -O ^sparse_super,^resize_inode", short: true},
		{options: "-t ext2 -b 4096 -g 4096"},
		{options: "-t ext3 -b 1024", dirty: true, short: true},
		{options: "-t ext3 -b 4096 -g 4096 -I 128"},
		{options: "-t ext4 -b 1024"},
		{options: "-t ext4 -b 4096 -g 4096", short: true},
		{options: "-t ext4 -b 1024 -O ^64bit"},
		{options: "-t ext4 -b 1024 -E desc_size=128"},
		{options: "-t ext4 -b 1024 -O ^flex_bg -g 2048"},
		{options: "-t ext4 -b 1024 -G 4 -g 2048"},
		{options: "-t ext4 -b 1024 -O meta_bg,^resize_inode -g 512", short: true},
		{options: "-t ext4 -b 1024 -O sparse_super2,^resize_inode -E num_backup_sb=1"},
		{options: "-t ext4 -b 1024 -g 2048 -E resize=2000000"},
		{options: "-t ext4 -b 1024 -E packed_meta_blocks=1"},
		{options: "-t ext4 -b 1024 -g 8192", size: (1 + 4*8192 + 700) << 10},
		{options: "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -E lazy_itable_init=1,nodiscard"},
		{options: "-t ext4 -b 1024 -O metadata_csum_seed"},
		{options: "-t ext4 -b 4096 -O bigalloc -C 65536 -g 4096", size: 128 * mib, short: true},
		{options: "-t ext4 -b 1024 -O bigalloc -C 16384", size: 96 * mib},
		{options: "-t ext4 -b 1024 -O inline_data"},
		{options: "-t ext4 -b 1024 -O ea_inode"},
		{options: "-t ext4 -b 4096 -g 4096 -O encrypt", encrypt: true},
		{options: "-t ext4 -b 1024 -O quota,project -E quotatype=usrquota:grpquota:prjquota", copied: true},
		{options: "-t ext4 -b 1024 -O mmp", short: true},
		{options: "-t ext4 -b 1024 -O orphan_file", dirty: true, short: true},
		{options: "-t ext4 -b 1024 -l /proc/self/fd/0"},
		{options: "-t ext4 -b 4096 -g 4096", dirty: true},
		{options: "-t ext4 -b 1024 -O ^64bit,^metadata_csum,uninit_bg", dirty: true},
	} {
		name := test.options
		if test.dirty {
			name += ", dirty"
		}
		t.Run(name, func(t *testing.T) {
			if testing.Short() && !test.short {
				t.Skip("not among the cases for -short")
			}
			size := test.size
			if size == 0 {
				size = 40*mib + 3*mib/2
			}
			spec := testfs.Spec{Mke2fs: test.options, Size: size, Fill: testfs.Mounted, Dirty: test.dirty, Encrypt: test.encrypt}
			if test.copied {
				spec.Fill = testfs.Copied
			}
			d := surveyFile(t, testfs.Make(t, spec).Path)
			for _, f := range d.Damage.Findings {
				t.Errorf("%+v", f)
			}
			for _, s := range d.Sums {
				if s.Wrong > 0 {
					t.Errorf("%+v", s)
				}
			}
			for _, b := range d.Backups {
				if !b.Agrees() {
					t.Errorf("%+v", b)
				}
			}
			if test.dirty && (d.Log == nil || d.Log.Transactions == 0 || d.Log.Oldest.IsZero() || !d.Replayed) {
				t.Errorf("journal: %+v", d.Log)
			}
			total := d.Map.First
			for _, n := range d.Map.Totals {
				total += n
			}
			if total != d.Blocks {
				t.Errorf("%d blocks in the map, %d in the filesystem", total, d.Blocks)
			}
			t.Logf("%v %+v %+v", d.Map.Totals, d.Log, d.Orphans)
		})
	}
}

// surveyFile surveys a filesystem in a file.
func surveyFile(t *testing.T, path string) *survey.Data {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	res, err := scan.Scan(t.Context(), f, info.Size(), survey.Watch(scan.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	d, err := survey.Gather(t.Context(), res)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
