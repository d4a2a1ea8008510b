package app

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/ext"
	"e2qcow/scan"
)

func TestUnreadableOfIsBounded(t *testing.T) {
	list := make([]scan.Range, maxJSONRanges+5)
	for i := range list {
		list[i] = scan.Range{Start: int64(i) * 1024, End: int64(i)*1024 + 512}
	}
	u := unreadableOf(list)
	if u.Count != len(list) || u.Omitted != 5 || len(u.Ranges) != maxJSONRanges || u.Size != int64(len(list))*512 {
		t.Errorf("%d of %d ranges, %d omitted, %d bytes", len(u.Ranges), u.Count, u.Omitted, u.Size)
	}
	if u := unreadableOf(nil); u.Count != 0 || u.Ranges == nil {
		t.Errorf("of nothing: %+v", u)
	}
}

func TestFilesystemType(t *testing.T) {
	for _, test := range []struct {
		compat, incompat, roCompat uint32
		want                       string
	}{
		{0, 0, 0, "ext2"},
		{ext.CompatExtAttr, ext.IncompatFiletype, ext.RoCompatSparseSuper, "ext2"},
		{ext.CompatHasJournal, ext.IncompatFiletype | ext.IncompatRecover, 7, "ext3"},
		{ext.CompatHasJournal, ext.IncompatFiletype | ext.IncompatExtents, 0, "ext4"},
		{0, 0, ext.RoCompatMetadataCsum, "ext4"},
		{0, ext.IncompatJournalDev, 0, "jbd"},
	} {
		b := make([]byte, ext.SuperblockSize)
		le := binary.LittleEndian
		le.PutUint16(b[0x38:], 0xEF53)
		le.PutUint32(b[0x4C:], 1)
		le.PutUint32(b[0x5C:], test.compat)
		le.PutUint32(b[0x60:], test.incompat)
		le.PutUint32(b[0x64:], test.roCompat)
		sb, err := ext.DecodeSuperblock(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := filesystemType(sb); got != test.want {
			t.Errorf("%#x %#x %#x: got %s, want %s", test.compat, test.incompat, test.roCompat, got, test.want)
		}
	}
}

func TestUUID(t *testing.T) {
	if got := UUID([16]byte{0x01, 0x23, 15: 0xff}); got != "01230000-0000-0000-0000-0000000000ff" {
		t.Errorf("got %s", got)
	}
}

// TestManualNamesKinds has the manual page list what --json counts: names that
// are promised to last.
func TestManualNamesKinds(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "e2qcow.8"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(manual), "\n.SH JSON\n")
	if section, _, _ = strings.Cut(section, "\n.SH "); !ok {
		t.Fatal("there is no section JSON")
	}
	lists := strings.NewReplacer(`"`, "", ",", "").Replace(section)
	metadata, problems, ok := strings.Cut(lists, "\n.B problems\n")
	if !ok {
		t.Fatal("problems are not in it")
	}
	for kind := range scan.Kinds() {
		if !strings.Contains(metadata, kind.String()) {
			t.Errorf("the kind of metadata %q is missing", kind)
		}
	}
	for kind := scan.ProblemKind(0); kind.String() != "unknown"; kind++ {
		if !strings.Contains(problems, kind.String()) {
			t.Errorf("the kind of damage %q is missing", kind)
		}
	}
}
