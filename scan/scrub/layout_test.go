package scrub

import (
	"slices"
	"testing"

	"e2qcow/ext"
)

// The tables of fields that are scrubbed and those that are compared (package
// ext) are of the same structures.
func TestLayouts(t *testing.T) {
	for _, test := range []struct {
		scrubbed *structure
		known    []ext.Field
	}{
		{superblockFields, ext.SuperblockFields},
		{descFields, ext.GroupDescFields},
		{inodeFields, ext.InodeFields},
	} {
		for _, f := range test.scrubbed.fields {
			if !slices.ContainsFunc(test.known, func(k ext.Field) bool {
				return k.Name == f.name && k.Offset == f.off && k.Size == f.size
			}) {
				t.Errorf("%s: %s, %d bytes at %#x, is another in package ext", test.scrubbed.name, f.name, f.size, f.off)
			}
		}
		for i, k := range test.known[1:] {
			if before := test.known[i]; before.Offset+before.Size > k.Offset {
				t.Errorf("%s: %s overlaps %s", test.scrubbed.name, before.Name, k.Name)
			}
		}
	}
}
