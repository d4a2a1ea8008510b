package ext

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Features and status are those that dumpe2fs prints.
func TestStatus(t *testing.T) {
	for _, options := range []string{"-t ext2", "-t ext3", "-t ext4", "-t ext4 -O quota,project,mmp,inline_data,ea_inode,casefold,encrypt,verity,bigalloc,metadata_csum_seed,large_dir,fast_commit,orphan_file", "-O journal_dev"} {
		path := filepath.Join(t.TempDir(), "fs.img")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		output(t, "mke2fs", append(append([]string{"-q", "-F", "-E", "nodiscard"}, strings.Fields(options)...), path, "64M")...)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sb, err := DecodeSuperblock(b[SuperblockOffset:])
		if err != nil {
			t.Fatal(err)
		}
		said := output(t, "dumpe2fs", "-h", path)
		_, after, _ := strings.Cut(said, "Filesystem features:")
		line, _, _ := strings.Cut(after, "\n")
		want, got := strings.Fields(line), sb.Features()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: features %q, dumpe2fs says %q", options, got, want)
		}
		st := sb.Status()
		if time.Since(st.Created) > time.Hour || st.Mounts != 0 || !st.Mounted.IsZero() || st.Errors != 0 || st.FirstError != (ErrorRecord{}) || st.State&StateErrors != 0 {
			t.Errorf("%s: %+v", options, st)
		}
	}
}

// An error that is recorded is told with all that is known of it, and times
// beyond 2038 are.
func TestStatusOfErrors(t *testing.T) {
	var b [SuperblockSize]byte
	b[0x38], b[0x39] = 0x53, 0xEF
	b[0x194] = 3                            // s_error_count
	copy(b[0x198:], "\x01\x00\x00\x00\x0c") // s_first_error_time, s_first_error_ino
	b[0x278] = 1                            // s_first_error_time_hi
	copy(b[0x1A8:], "ext4_lookup\x00rest")
	b[0x1C8] = 7
	sb, err := DecodeSuperblock(b[:])
	if err != nil {
		t.Fatal(err)
	}
	st := sb.Status()
	if want := (ErrorRecord{Time: time.Unix(1<<32+1, 0).UTC(), Inode: 12, Function: "ext4_lookup", Line: 7}); st.Errors != 3 || st.FirstError != want {
		t.Errorf("%d errors, the first %+v", st.Errors, st.FirstError)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
