package ext

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzViews asks the views of structures of any contents for their parts: those
// lie within them, and a checksum that is put back is as it was.
func FuzzViews(f *testing.F) {
	f.Add(make([]byte, 256))
	f.Add(bytes.Repeat([]byte{0xFF}, 1024))
	root := make([]byte, 1024)
	root[direntHeaderLen] = '.'
	copy(root[direntMinLen+direntHeaderLen:], "..")
	root[2*direntMinLen+5] = dxInfoLen
	binary.LittleEndian.PutUint16(root[dxRootStart:], 124)
	binary.LittleEndian.PutUint16(root[dxRootStart+2:], 2)
	f.Add(root)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, decode := range []func([]byte) (IndexBlock, bool){DecodeIndexRoot, DecodeIndexNode} {
			x, ok := decode(b)
			if !ok {
				continue
			}
			parts := len(x.Limits()) + len(x.Block(0))
			for i := 1; i < x.Count(); i++ {
				parts += len(x.Hash(i)) + len(x.Block(i))
			}
			if x.start+parts > len(b) {
				t.Errorf("%d bytes: %d up to the last entry", len(b), x.start+parts)
			}
		}
		if len(b) >= goodOldInodeSize {
			in := Inode(bytes.Clone(b))
			SetInodeChecksum(in, 0xDEADBEEF)
			SetInodeChecksum(in, StoredInodeChecksum(Inode(b)))
			if !bytes.Equal(in, b) {
				t.Error("a checksum put back is another")
			}
		}
	})
}
