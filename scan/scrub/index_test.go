package scrub

import (
	"slices"
	"testing"

	"e2qcow/ext"
)

// visitorOf returns one of a filesystem whose names are hashed by half MD4.
func visitorOf(t testing.TB, x *Index) *visitor {
	t.Helper()
	b := make([]byte, ext.SuperblockSize)
	le.PutUint16(b[0x38:], 0xEF53)
	b[0xFC] = byte(ext.DirHashHalfMD4)
	sb, err := ext.DecodeSuperblock(b)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{shape: shape{blockSize: 1024, inodes: 1000}, x: x, sb: sb}
}

// indexedDir makes the inode of a directory with an index.
func indexedDir() ext.Inode {
	in := make(ext.Inode, 256)
	le.PutUint16(in, ext.ModeDir)
	le.PutUint16(in[0x1A:], 2)
	le.PutUint32(in[0x20:], ext.FlagIndex)
	return in
}

// dirBlock makes a directory block of one name.
func dirBlock(ino uint32, name string) []byte {
	b := make([]byte, 1024)
	le.PutUint32(b, ino)
	le.PutUint16(b[4:], 1024)
	b[6] = byte(len(name))
	copy(b[8:], name)
	return b
}

// indexRoot makes the root of an index that hashes by a version.
func indexRoot(version ext.DirHash) []byte {
	b := make([]byte, 1024)
	copy(b, "\x0c\x00\x00\x00\x0c\x00\x01\x02.\x00\x00\x00\x02\x00\x00\x00\xf4\x03\x02\x02..\x00\x00")
	b[28], b[29] = byte(version), 8
	le.PutUint16(b[32:], (1024-32)/8)
	le.PutUint16(b[34:], 1)
	return b
}

// What is known of a directory does not depend on the order in which its
// blocks are shown, however many roots damage gives it.
func TestIndexOrder(t *testing.T) {
	type known struct {
		version         ext.DirHash
		mixed, unhashed bool
		lost            uint32
	}
	shows := []func(v *visitor){
		func(v *visitor) { v.Directory(12, 10, indexRoot(ext.DirHashTEA)) },
		func(v *visitor) { v.Directory(12, 11, indexRoot(ext.DirHashLegacy)) },
		func(v *visitor) { v.Directory(12, 12, dirBlock(13, "a name")) },
		func(v *visitor) { v.Directory(ext.RootInode, 20, dirBlock(30, lostAndFound)) },
		func(v *visitor) { v.Directory(ext.RootInode, 21, dirBlock(31, lostAndFound)) },
	}
	want := known{version: ext.DirHashLegacy, mixed: true, lost: 30}
	var visit func(done []int)
	visit = func(done []int) {
		if len(done) < len(shows) {
			for i := range shows {
				if !slices.Contains(done, i) {
					visit(append(done[:len(done):len(done)], i))
				}
			}
			return
		}
		x := NewIndex(Options{})
		v := visitorOf(t, x)
		v.Inode(12, indexedDir())
		for _, i := range done {
			shows[i](v)
		}
		d := x.dirs[12]
		if got := (known{d.version, d.mixed, d.unknown, x.lost}); got != want {
			t.Errorf("in the order %v: %+v, want %+v", done, got, want)
		}
	}
	visit(nil)
}

// A name that is no UTF-8 is like any other where names are bytes: to find it
// a word of its own takes a draw for each border of its index.
func TestLatinNames(t *testing.T) {
	for _, encoded := range []bool{false, true} {
		x := NewIndex(Options{})
		x.keys.encoded = encoded
		v := visitorOf(t, x)
		v.Inode(12, indexedDir())
		v.Directory(12, 10, indexRoot(ext.DirHashHalfMD4))
		v.Directory(12, 11, dirBlock(13, "caf\xe9"))
		v.Directory(12, 12, dirBlock(14, "caf/"))
		d := x.dirs[12]
		if want := map[bool]int{false: 1, true: 2}[encoded]; len(d.odds) != want || len(d.names) != 2-want {
			t.Errorf("encoded %v: %d names of two are odd, want %d", encoded, len(d.odds), want)
		}
		name := []byte("caf\xe9")
		dr := x.keys.get()
		if dr.word(name, lettersAndDigits, 1, 0); (name[3] >= 0x80) != encoded {
			t.Errorf("encoded %v: the word is %q", encoded, name)
		}
	}
}
