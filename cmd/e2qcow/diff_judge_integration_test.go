package main_test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"e2qcow/internal/source"
	"e2qcow/internal/testfs"
	"e2qcow/scan/diff"
)

// TestDiffJudged has e2fsck repair the damaged filesystems of testdata/damaged,
// and compares what diff says of the repair with what dumpe2fs and debugfs say
// of both sides. With DIFF_JUDGE=1 it takes all of them, else a sample.
func TestDiffJudged(t *testing.T) {
	host := hostFiles(t)
	recipes := readRecipes(t, filepath.Join("..", "..", "testdata", "damaged"))
	if os.Getenv("DIFF_JUDGE") == "" {
		var few []recipe
		for i := 7; i < len(recipes); i += 37 {
			few = append(few, recipes[i])
		}
		recipes = few
	}
	made := make(map[string]*base)
	for _, r := range recipes {
		if made[r.base] == nil {
			made[r.base] = makeBase(t, host, r.base)
		}
	}
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			before := r.make(t, made[r.base])
			keepDamaged(t, before)
			after := testfs.Copy(t, before)
			testfs.Fsck(t, after, "-fy")
			j := &diffJudge{T: t, paths: [2]string{before, after}}
			j.judge()
		})
	}
}

// A diffJudge compares a difference with what the tools say.
type diffJudge struct {
	*testing.T
	paths [2]string
	d     *diff.Diff
}

func (j *diffJudge) judge() {
	var sides [2]diff.Source
	for i, path := range j.paths {
		src, err := source.Open(j.Context(), path)
		if err != nil {
			j.Fatal(err)
		}
		defer src.Close()
		sides[i] = diff.Source{Reader: src, Size: src.Size()}
	}
	d, err := diff.Compare(j.Context(), sides[0], sides[1], diff.Options{Contents: true})
	if err != nil {
		j.Logf("not compared: %v", err)
		return
	}
	j.d = d
	if len(d.Omitted) > 0 {
		j.Errorf("left out: %v", d.Omitted)
	}
	j.apply()
	var text bytes.Buffer
	if err := d.WriteText(&text, diff.TextOptions{All: true}); err != nil {
		j.Error(err)
	}
	j.superblock()
	j.groups()
	j.inodes()
	if j.Failed() {
		j.Logf("%.8000s", text.String())
	}
}

// apply checks that the blocks that are listed are all that has to be applied.
func (j *diffJudge) apply() {
	const most = 1 << 30 // a sparse file that is longer is not read
	if j.d.Sizes[0] != j.d.Sizes[1] || j.d.Sizes[0] > most {
		return
	}
	var data [2][]byte
	for i, path := range j.paths {
		var err error
		if data[i], err = os.ReadFile(path); err != nil {
			j.Fatal(err)
		}
	}
	for _, r := range j.d.Runs {
		at, end := int64(r.Start)*int64(j.d.BlockSize), min(int64(r.Start+r.Count)*int64(j.d.BlockSize), int64(len(data[0])))
		copy(data[0][at:end], data[1][at:end])
	}
	if !bytes.Equal(data[0], data[1]) {
		j.Error("the blocks that are listed do not make the first the second")
	}
}

// fields are those of a structure that a difference lists.
type fields map[string]diff.Field

func fieldsOf(list []diff.Field) fields {
	m := make(fields)
	for _, f := range list {
		m[f.Name] = f
	}
	return m
}

// check compares a field of bits bits from shift on of a value with what a tool
// says of both sides.
func (j *diffJudge) check(where string, m fields, name string, shift, bits int, old, now uint64) {
	j.Helper()
	mask := ^uint64(0) >> (64 - bits)
	old, now = old>>shift&mask, now>>shift&mask
	f, listed := m[name]
	switch {
	case old == now && listed:
		j.Errorf("%s: %s %v -> %v is listed, and the tools say %d of both", where, name, f.Old, f.New, old)
	case old != now && !listed:
		j.Errorf("%s: %s %d -> %d is not listed", where, name, old, now)
	case listed && (f.Old != old || f.New != now):
		j.Errorf("%s: %s %v -> %v, and the tools say %d -> %d", where, name, f.Old, f.New, old, now)
	}
}

// superNumbers are fields of the superblock by their names in dumpe2fs.
var superNumbers = []struct {
	said, name string
	bits       int
}{
	{"Inode count", "s_inodes_count", 32},
	{"Block count", "s_blocks_count_lo", 32},
	{"Reserved block count", "s_r_blocks_count_lo", 32},
	{"Free blocks", "s_free_blocks_count_lo", 32},
	{"Free inodes", "s_free_inodes_count", 32},
	{"First block", "s_first_data_block", 32},
	{"Blocks per group", "s_blocks_per_group", 32},
	{"Inodes per group", "s_inodes_per_group", 32},
	{"Mount count", "s_mnt_count", 16},
	{"Maximum mount count", "s_max_mnt_count", 16},
	{"Check interval", "s_checkinterval", 32},
	{"First orphan inode", "s_last_orphan", 32},
	{"Reserved GDT blocks", "s_reserved_gdt_blocks", 16},
	{"Journal inode", "s_journal_inum", 32},
	{"FS Error count", "s_error_count", 32},
	{"Overhead clusters", "s_overhead_clusters", 32},
	{"Orphan file inode", "s_orphan_file_inum", 32},
	{"MMP block number", "s_mmp_block", 64},
	{"User quota inode", "s_usr_quota_inum", 32},
	{"Group quota inode", "s_grp_quota_inum", 32},
	{"Checksum", "s_checksum", 32},
}

// head returns what debugfs prints of a superblock, as dumpe2fs does, also of one
// with a wrong checksum; "" where it does not open the filesystem.
func (j *diffJudge) head(path string) string {
	answers := testfs.DebugfsAnswers(j, path, []string{"show_super_stats -h"})
	if answers == nil || !inodeCount.MatchString(answers[0]) {
		return ""
	}
	return answers[0]
}

var inodeCount = regexp.MustCompile(`Inode count:\s+(\d+)`)

var headLine = regexp.MustCompile(`(?m)^([A-Z][^:\n]*):\s+(.*?)\s*$`)

// superblock compares the fields of the superblock.
func (j *diffJudge) superblock() {
	var said [2]map[string]string
	for i, path := range j.paths {
		text := j.head(path)
		if text == "" {
			j.Logf("debugfs does not open side %d", i)
			return
		}
		said[i] = make(map[string]string)
		for _, m := range headLine.FindAllStringSubmatch(text, -1) {
			said[i][m[1]] = m[2]
		}
	}
	m := fieldsOf(j.d.Superblock)
	for _, f := range superNumbers {
		var n [2]uint64
		for i := range said {
			word, _, _ := strings.Cut(said[i][f.said], " ")
			v, err := strconv.ParseInt(cmp.Or(word, "0"), 0, 64)
			if err != nil {
				j.Fatalf("dumpe2fs: %s: %q", f.said, said[i][f.said])
			}
			n[i] = uint64(v)
		}
		j.check("superblock", m, f.name, 0, f.bits, n[0], n[1])
	}
	for text, name := range map[string]string{"Filesystem state": "s_state", "Filesystem volume name": "s_volume_name", "Filesystem UUID": "s_uuid", "Directory Hash Seed": "s_hash_seed"} {
		if _, listed := m[name]; listed != (said[0][text] != said[1][text]) {
			j.Errorf("superblock: %s is listed: %t; the tools say %q and %q", name, listed, said[0][text], said[1][text])
		}
	}
}

var (
	groupLine  = regexp.MustCompile(`(?m)^Group (\d+): .*$`)
	groupParts = []struct {
		said   *regexp.Regexp
		fields []groupField
	}{
		{regexp.MustCompile(`^Group .* csum (0x[0-9a-f]+)`), []groupField{{"bg_checksum", 0, 16}}},
		{regexp.MustCompile(`Block bitmap at (\d+)`), []groupField{{"bg_block_bitmap_lo", 0, 32}, {"bg_block_bitmap_hi", 32, 32}}},
		{regexp.MustCompile(`Block bitmap at .*csum (0x[0-9a-f]+)`), []groupField{{"bg_block_bitmap_csum_lo", 0, 16}, {"bg_block_bitmap_csum_hi", 16, 16}}},
		{regexp.MustCompile(`Inode bitmap at (\d+)`), []groupField{{"bg_inode_bitmap_lo", 0, 32}, {"bg_inode_bitmap_hi", 32, 32}}},
		{regexp.MustCompile(`Inode bitmap at .*csum (0x[0-9a-f]+)`), []groupField{{"bg_inode_bitmap_csum_lo", 0, 16}, {"bg_inode_bitmap_csum_hi", 16, 16}}},
		{regexp.MustCompile(`Inode table at (\d+)`), []groupField{{"bg_inode_table_lo", 0, 32}, {"bg_inode_table_hi", 32, 32}}},
		{regexp.MustCompile(`(\d+) free (?:blocks|clusters)`), []groupField{{"bg_free_blocks_count_lo", 0, 16}, {"bg_free_blocks_count_hi", 16, 16}}},
		{regexp.MustCompile(`(\d+) free inodes`), []groupField{{"bg_free_inodes_count_lo", 0, 16}, {"bg_free_inodes_count_hi", 16, 16}}},
		{regexp.MustCompile(`(\d+) directories`), []groupField{{"bg_used_dirs_count_lo", 0, 16}, {"bg_used_dirs_count_hi", 16, 16}}},
		{regexp.MustCompile(`(\d+) unused inodes`), []groupField{{"bg_itable_unused_lo", 0, 16}, {"bg_itable_unused_hi", 16, 16}}},
	}
	groupFlags = regexp.MustCompile(`^Group .*\[(.*)\]`)
	freeLine   = regexp.MustCompile(`(?m)^  Free (blocks|inodes): (.*)$`)
)

type groupField struct {
	name        string
	shift, bits int
}

// groups compares descriptors, and what bitmaps say.
func (j *diffJudge) groups() {
	var said [2]map[uint64]string // by group
	unread := false               // a bitmap: then dumpe2fs makes one up
	for i, path := range j.paths {
		v := testfs.Dumpe2fs(j, path)
		if v.Exit != 0 {
			j.Logf("dumpe2fs does not show the groups of side %d", i)
			return
		}
		unread = unread || strings.Contains(v.Text, "ontinuing") || strings.Contains(v.Text, "while")
		said[i] = make(map[uint64]string)
		at := groupLine.FindAllStringSubmatchIndex(v.Text, -1)
		for k, m := range at {
			end := len(v.Text)
			if k+1 < len(at) {
				end = at[k+1][0]
			}
			n, _ := strconv.ParseUint(v.Text[m[2]:m[3]], 10, 32)
			said[i][n] = v.Text[m[0]:end]
		}
	}
	listed := make(map[uint64]fields)
	for _, g := range j.d.Groups {
		listed[uint64(g.Group)] = fieldsOf(g.Fields)
	}
	for n, old := range said[0] {
		now, ok := said[1][n]
		if !ok {
			continue
		}
		where := fmt.Sprintf("group %d", n)
		for _, p := range groupParts {
			for _, f := range p.fields {
				j.check(where, listed[n], f.name, f.shift, f.bits, numberIn(p.said, old), numberIn(p.said, now))
			}
		}
		a, b := groupFlags.FindString(old), groupFlags.FindString(now)
		_, la, _ := strings.Cut(a, "[")
		_, lb, _ := strings.Cut(b, "[")
		if _, is := listed[n]["bg_flags"]; is != (la != lb) {
			j.Errorf("%s: bg_flags are listed: %t; the tools say [%s and [%s", where, is, la, lb)
		}
	}
	for _, x := range j.d.Damage {
		unread = unread || x.Kind == "inode beyond bg_itable_unused" // flags lie, and e2fsck believes them
	}
	_, reserved := fieldsOf(j.d.Superblock)["s_reserved_gdt_blocks"] // dumpe2fs goes by it
	if !unread && !reserved && j.d.SuperGroups == [2]uint32{} {
		j.bits(said)
	}
}

func numberIn(re *regexp.Regexp, text string) uint64 {
	m := re.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseUint(m[1], 0, 64)
	return n
}

// addRanges adds "1-3, 7" to a set.
func addRanges(set map[uint64]bool, text string) {
	for part := range strings.SplitSeq(text, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 64)
		b, err2 := strconv.ParseUint(to, 10, 64)
		for ; err == nil && err2 == nil && a <= b; a++ {
			set[a] = true
		}
	}
}

// bits compares what became used or free, in the groups whose bitmaps dumpe2fs
// reads on both sides.
func (j *diffJudge) bits(said [2]map[uint64]string) {
	type change struct {
		group uint64
		what  string
		n     uint64
		used  bool
	}
	want, got := make(map[change]bool), make(map[change]bool)
	read := make(map[[2]any]bool)
	blocks := uint64(j.d.Sizes[0]) / uint64(j.d.BlockSize) // dumpe2fs makes up bitmaps outside
	lies := make(map[uint64]bool)                          // descriptors with a wrong checksum, which dumpe2fs believes
	for _, g := range j.d.Groups {
		lies[uint64(g.Group)] = g.Sums != nil
	}
	// Of clusters dumpe2fs names the first block.
	first := func(n uint64) bool { return !strings.Contains(said[0][0], "clusters") || n%4 == 0 }
	for g, old := range said[0] {
		for _, what := range []string{"blocks", "inodes"} {
			at := map[string]int{"blocks": 1, "inodes": 3}[what] // in groupParts
			a, b := freeIn(old, what), freeIn(said[1][g], what)
			if lies[g] || a == nil || b == nil || max(numberIn(groupParts[at].said, old), numberIn(groupParts[at].said, said[1][g])) >= blocks {
				continue
			}
			read[[2]any{g, what}] = true
			for n := range a {
				if !b[n] && (what != "blocks" || first(n)) {
					want[change{g, what, n, true}] = true
				}
			}
			for n := range b {
				if !a[n] && (what != "blocks" || first(n)) {
					want[change{g, what, n, false}] = true
				}
			}
		}
	}
	for _, u := range j.d.BlockUse {
		for k := range u.Count {
			if first(u.Start + k) {
				got[change{uint64(u.Group), "blocks", u.Start + k, u.Used}] = true
			}
		}
	}
	for _, u := range j.d.InodeUse {
		for k := range u.Count {
			got[change{uint64(u.Group), "inodes", uint64(u.Start + k), u.Used}] = true
		}
	}
	missing, wrong := 0, 0
	var one change
	for x := range want {
		if !got[x] {
			missing, one = missing+1, x
		}
	}
	for x := range got {
		if !want[x] && read[[2]any{x.group, x.what}] {
			wrong, one = wrong+1, x
		}
	}
	if missing+wrong > 0 {
		j.Errorf("bitmaps: %d changes are not listed, %d are and did not happen; one is %+v", missing, wrong, one)
	}
}

// freeIn returns what dumpe2fs says is free in a group, nil where it cannot read
// the bitmap.
func freeIn(text, what string) map[uint64]bool {
	for _, m := range freeLine.FindAllStringSubmatch(text, -1) {
		if m[1] == what {
			set := make(map[uint64]bool)
			addRanges(set, m[2])
			return set
		}
	}
	return nil
}

// inodeParts are what debugfs says of an inode.
var inodeParts = []struct {
	said   *regexp.Regexp
	base   int
	fields []groupField
}{
	{regexp.MustCompile(`Mode:\s+(\d+)`), 8, []groupField{{"i_mode", 0, 12}}},
	{regexp.MustCompile(`Flags: (0x[0-9a-f]+)`), 0, []groupField{{"i_flags", 0, 32}}},
	{regexp.MustCompile(`Generation: (\d+)`), 10, []groupField{{"i_generation", 0, 32}}},
	{regexp.MustCompile(`User:\s+(\d+)`), 10, []groupField{{"i_uid", 0, 16}, {"l_i_uid_high", 16, 16}}},
	{regexp.MustCompile(`Group:\s+(\d+)`), 10, []groupField{{"i_gid", 0, 16}, {"l_i_gid_high", 16, 16}}},
	{regexp.MustCompile(`(?m)Size: (\d+)$`), 10, []groupField{{"i_size_lo", 0, 32}}},
	{regexp.MustCompile(`File ACL: (\d+)`), 10, []groupField{{"i_file_acl_lo", 0, 32}}},
	{regexp.MustCompile(`Links: (\d+)`), 10, []groupField{{"i_links_count", 0, 16}}},
	{regexp.MustCompile(`Blockcount: (\d+)`), 10, []groupField{{"i_blocks_lo", 0, 32}}},
	{regexp.MustCompile(`(?m)^ *ctime: (0x[0-9a-f]+)`), 0, []groupField{{"i_ctime", 0, 32}}},
	{regexp.MustCompile(`(?m)^ *atime: (0x[0-9a-f]+)`), 0, []groupField{{"i_atime", 0, 32}}},
	{regexp.MustCompile(`(?m)^ *mtime: (0x[0-9a-f]+)`), 0, []groupField{{"i_mtime", 0, 32}}},
	{regexp.MustCompile(`(?m)^ *dtime: (0x[0-9a-f]+)`), 0, []groupField{{"i_dtime", 0, 32}}},
	{regexp.MustCompile(`Inode checksum: (0x[0-9a-f]+)`), 0, []groupField{{"l_i_checksum_lo", 0, 16}}},
	{regexp.MustCompile(`Size of extra inode fields: (\d+)`), 10, []groupField{{"i_extra_isize", 0, 16}}},
}

// A statInode is what debugfs says of an inode.
type statInode struct {
	text, blocks string
	used, dir    bool
}

// inodes compares all inodes, then the entries of directories.
func (j *diffJudge) inodes() {
	if j.d.SuperGroups != [2]uint32{} {
		return // debugfs goes by the primary superblock, and finds the tables elsewhere
	}
	count := 0
	for _, path := range j.paths {
		m := inodeCount.FindStringSubmatch(j.head(path))
		if m == nil {
			return
		}
		n, _ := strconv.Atoi(m[1])
		count = max(count, n)
	}
	if count == 0 || count > 1<<14 {
		return
	}
	var stats [2][]statInode
	for i, path := range j.paths {
		if stats[i] = j.stat(path, count); stats[i] == nil {
			j.Logf("debugfs does not open side %d", i)
			return
		}
	}
	badTable := false // the scan and debugfs differ in where tables are
	for _, x := range j.d.Damage {
		badTable = badTable || x.Kind == "table location" || x.Kind == "group descriptor"
	}
	listed := make(map[uint32]*diff.Inode)
	for _, it := range j.d.Inodes {
		listed[it.Inode] = it
	}
	for ino := 1; ino <= count; ino++ {
		a, b := stats[0][ino], stats[1][ino]
		if a.text == "" || b.text == "" || badTable && listed[uint32(ino)] == nil {
			continue // in no table on one side
		}
		var m fields
		it := listed[uint32(ino)]
		if it != nil {
			m = fieldsOf(it.Fields)
		}
		where := fmt.Sprintf("inode %d", ino)
		for _, p := range inodeParts {
			for _, f := range p.fields {
				old, now := valueIn(p.said, p.base, a.text), valueIn(p.said, p.base, b.text)
				if f.name == "i_mode" {
					if x, ok := m["i_mode"]; ok { // the type stands elsewhere
						m["i_mode"] = diff.Field{Name: "i_mode", Old: x.Old.(uint64) & 0o7777, New: x.New.(uint64) & 0o7777}
						if m["i_mode"].Old == m["i_mode"].New {
							delete(m, "i_mode")
						}
					}
				}
				j.check(where, m, f.name, f.shift, f.bits, old, now)
			}
		}
		if a.used && b.used && a.blocks != b.blocks && (it == nil || len(it.Map) == 0 && !it.Rest && it.Target == nil) {
			j.Errorf("%s: its map is not listed; debugfs says\n%s\nand\n%s", where, a.blocks, b.blocks)
		}
		if it != nil && len(it.Map) > 0 && a.used && b.used && a.blocks == b.blocks {
			j.Errorf("%s: its map is listed, and debugfs says of both\n%s", where, a.blocks)
		}
	}
	j.entries(stats)
}

func valueIn(re *regexp.Regexp, base int, text string) uint64 {
	m := re.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseUint(m[1], base, 64)
	return n
}

func (j *diffJudge) stat(path string, count int) []statInode {
	var commands []string
	for ino := 1; ino <= count; ino++ {
		commands = append(commands, fmt.Sprintf("stat <%d>", ino))
	}
	answers := testfs.DebugfsAnswers(j, path, commands)
	if answers == nil {
		return nil
	}
	list := make([]statInode, count+1)
	for i, text := range answers {
		if !strings.HasPrefix(text, "Inode: ") {
			continue
		}
		s := statInode{text: text}
		for _, mark := range []string{"EXTENTS:\n", "BLOCKS:\n"} {
			if at := strings.Index(text, mark); at >= 0 {
				s.text, s.blocks = text[:at], text[at:]
			}
		}
		s.used = !strings.Contains(text, "Links: 0 ")
		s.dir = strings.Contains(text, "Type: directory")
		list[i+1] = s
	}
	return list
}

var entryLine = regexp.MustCompile(`(?m)^/(\d+)/[^/]*/[^/]*/[^/]*/(.*)/[^/]*/$`)

// An entryKey is an entry of a directory.
type entryKey struct {
	dir  int
	name string
	ino  uint64
}

// entries compares the entries of directories that debugfs can list.
func (j *diffJudge) entries(stats [2][]statInode) {
	broken := make(map[int]bool) // debugfs lists no block behind one that is damaged
	for _, x := range j.d.Damage {
		broken[int(x.Inode)] = true
	}
	for _, x := range j.d.Damage {
		// Flags or places of tables that only debugfs believes, or does not.
		if x.Kind == "inode beyond bg_itable_unused" || x.Kind == "table location" || x.Kind == "group descriptor" {
			return
		}
	}
	for ino := range stats[0] {
		// What no mode or link makes a directory has entries all the same.
		a, b := stats[0][ino], stats[1][ino]
		if a.used && b.used && a.dir != b.dir || a.dir && !a.used || b.dir && !b.used {
			broken[ino] = true
		}
	}
	var found [2]map[entryKey]int
	for i, path := range j.paths {
		found[i] = make(map[entryKey]int)
		var commands []string
		var dirs []int
		for ino, s := range stats[i] {
			if s.used && s.dir {
				dirs = append(dirs, ino)
				commands = append(commands, fmt.Sprintf("ls -p <%d>", ino))
			}
		}
		answers := testfs.DebugfsAnswers(j, path, commands)
		if answers == nil {
			return
		}
		for k, text := range answers {
			lines := entryLine.FindAllStringSubmatch(text, -1)
			if len(lines) != strings.Count(strings.TrimSpace(text), "\n")+1 {
				broken[dirs[k]] = true
			}
			for _, m := range lines {
				n, _ := strconv.ParseUint(m[1], 10, 64)
				if n != 0 {
					found[i][entryKey{dirs[k], m[2], n}]++
				}
			}
		}
	}
	want, got := make(map[entryKey]int), make(map[entryKey]int)
	for i, add := range []int{-1, 1} {
		for e, n := range found[i] {
			want[e] += add * n
		}
	}
	for _, e := range j.d.Entries {
		switch e.What {
		case diff.Added:
			got[entryKey{int(e.Directory), string(e.Name), uint64(e.Inode)}]++
		case diff.Removed:
			got[entryKey{int(e.Directory), string(e.Name), uint64(e.Inode)}]--
		case diff.Renamed:
			got[entryKey{int(e.Directory), string(e.Name), uint64(e.Inode)}]++
			got[entryKey{int(e.OldDirectory), string(e.OldName), uint64(e.OldInode)}]--
		case diff.Retargeted:
			got[entryKey{int(e.Directory), string(e.Name), uint64(e.Inode)}]++
			got[entryKey{int(e.Directory), string(e.Name), uint64(e.OldInode)}]--
		}
	}
	for _, list := range []map[entryKey]int{want, got} {
		for e := range list {
			if want[e] != got[e] && !broken[e.dir] && e.ino < uint64(len(stats[0])) && !(e.name == "." && e.ino == uint64(e.dir)) && !strings.ContainsAny(e.name, "/\\") {
				j.Errorf("entry %+v: came %d times by diff, %d times by debugfs", e, got[e], want[e])
				got[e] = want[e]
			}
		}
	}
}
