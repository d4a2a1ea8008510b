package report

// A feature says which kernel brought a feature, which version of e2fsprogs
// knows it, and what programs do that do not know it.
type feature struct {
	Kernel string // "ext4, 3.18"
	Tools  string // e2fsprogs
	Kind   featureKind
}

type featureKind uint8

const (
	compatible featureKind = iota
	readOnly
	incompatible
)

// Class is the name of the kind in the style sheet.
func (k featureKind) Class() string { return [...]string{"compat", "rocompat", "incompat"}[k] }

// features by the name that e2fsprogs has for them. The versions of the kernel
// are those of ext4(5), and of the commits that brought the last ones.
var features = map[string]feature{
	"has_journal":     {"2.4.15 (ext3)", "", compatible},
	"ext_attr":        {"2.6.0", "", compatible},
	"resize_inode":    {"2.6.10", "", compatible},
	"dir_index":       {"2.6.0", "", compatible},
	"sparse_super2":   {"3.16", "1.43", compatible},
	"fast_commit":     {"5.10", "1.46", compatible},
	"stable_inodes":   {"5.5", "1.46", compatible},
	"orphan_file":     {"5.15", "1.47", compatible},
	"dir_prealloc":    {"", "", compatible},
	"imagic_inodes":   {"", "", compatible},
	"lazy_bg":         {"", "", compatible},
	"exclude_inode":   {"", "", compatible},
	"snapshot_bitmap": {"", "", compatible},

	"filetype":           {"2.2.0", "", incompatible},
	"needs_recovery":     {"2.4.15 (ext3)", "", incompatible},
	"journal_dev":        {"2.4.15 (ext3)", "", incompatible},
	"meta_bg":            {"2.6.28", "", incompatible},
	"extent":             {"2.6.28", "1.41", incompatible},
	"64bit":              {"2.6.28", "1.42", incompatible},
	"mmp":                {"3.0", "1.42", incompatible},
	"flex_bg":            {"2.6.28", "1.41", incompatible},
	"ea_inode":           {"4.13", "1.44", incompatible},
	"metadata_csum_seed": {"4.4", "1.43", incompatible},
	"large_dir":          {"4.13", "1.44", incompatible},
	"inline_data":        {"3.8", "1.43", incompatible},
	"encrypt":            {"4.1", "1.43", incompatible},
	"casefold":           {"5.2", "1.45", incompatible},
	"compression":        {"", "", incompatible},
	"dirdata":            {"", "", incompatible},

	"sparse_super":   {"2.2.0", "", readOnly},
	"large_file":     {"2.2.0", "", readOnly},
	"huge_file":      {"2.6.28", "1.41", readOnly},
	"uninit_bg":      {"2.6.28", "1.41", readOnly},
	"dir_nlink":      {"2.6.28", "1.41", readOnly},
	"extra_isize":    {"2.6.28", "1.41", readOnly},
	"quota":          {"3.6", "1.42", readOnly},
	"bigalloc":       {"3.2", "1.42", readOnly},
	"metadata_csum":  {"3.18", "1.43", readOnly},
	"project":        {"4.5", "1.43", readOnly},
	"shared_blocks":  {"", "", readOnly},
	"verity":         {"5.4", "1.45", readOnly},
	"orphan_present": {"5.15", "1.47", readOnly},
	"read-only":      {"", "", readOnly},
	"snapshot":       {"", "", readOnly},
	"replica":        {"", "", readOnly},
}

// kindOf returns the kind of a feature that has no name but that of its bit, as
// "FEATURE_I20".
func kindOf(name string) featureKind {
	const at = len("FEATURE_")
	if len(name) > at {
		switch name[at] {
		case 'C':
			return compatible
		case 'R':
			return readOnly
		}
	}
	return incompatible
}
