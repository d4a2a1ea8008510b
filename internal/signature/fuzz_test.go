package signature

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzFind has every input recognised the same way each time, by a name that is
// in the tables, without a read behind what is there.
func FuzzFind(f *testing.F) {
	names := Names()
	for _, m := range slices.Concat(filesystems, formats, ends) {
		b := make([]byte, m.off+int64(len(m.bytes)))
		copy(b[m.off:], m.bytes)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		size := int64(len(b))
		s, ok, err := Find(bytes.NewReader(b), size)
		if err != nil {
			t.Fatal(err)
		}
		if ok != (s.Name != "") || !ok && s != (Signature{}) {
			t.Fatalf("%+v, %v", s, ok)
		}
		if !ok {
			return
		}
		if !slices.Contains(names, s.Name) {
			t.Fatalf("%q is in no table", s.Name)
		}
		if again, _, _ := Find(bytes.NewReader(b), size); again != s {
			t.Fatalf("%+v, then %+v", s, again)
		}
		if s.Data < 0 || s.Data >= size {
			t.Fatalf("%s: data at byte %d", s.Name, s.Data)
		}
		if n := s.Extent(bytes.NewReader(b)); n < 0 {
			t.Fatalf("%s: %d bytes", s.Name, n)
		}
		if s.IsCopy(bytes.NewReader(b)) && s.Name != Ext {
			t.Fatalf("a copy of %s", s.Name)
		}
	})
}
