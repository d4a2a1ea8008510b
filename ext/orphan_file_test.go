package ext

import (
	"encoding/binary"
	"testing"
)

func TestIsOrphanBlock(t *testing.T) {
	block := make([]byte, 1024)
	if IsOrphanBlock(block) || IsOrphanBlock(block[:7]) {
		t.Error("zeros are no block of an orphan file")
	}
	binary.LittleEndian.PutUint32(block[1016:], orphanBlockMagic)
	if !IsOrphanBlock(block) {
		t.Error("a block with the magic number in its tail is not known")
	}
}
