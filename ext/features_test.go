package ext

import (
	"encoding/binary"
	"slices"
	"testing"
)

func TestUnknownFeatures(t *testing.T) {
	b := make([]byte, SuperblockSize)
	le := binary.LittleEndian
	le.PutUint16(b[0x38:], 0xEF53)
	for _, test := range []struct {
		incompat, roCompat uint32
		names, roNames     []string
	}{
		{knownIncompat, knownRoCompat, nil, nil},
		{0x800002c2, 0x20000, []string{"incompat 0x80000000"}, []string{"ro_compat 0x20000"}},
		{0x1001 | 0x40000, 1, []string{"compression", "dirdata", "incompat 0x40000"}, nil},
	} {
		le.PutUint32(b[0x60:], test.incompat)
		le.PutUint32(b[0x64:], test.roCompat)
		sb, err := DecodeSuperblock(b)
		if err != nil {
			t.Fatal(err)
		}
		if names, roNames := sb.UnknownFeatures(); !slices.Equal(names, test.names) || !slices.Equal(roNames, test.roNames) {
			t.Errorf("%#x, %#x: got %q, %q, want %q, %q", test.incompat, test.roCompat, names, roNames, test.names, test.roNames)
		}
	}
}
