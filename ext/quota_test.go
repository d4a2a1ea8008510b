package ext

import (
	"encoding/binary"
	"testing"
)

func TestIsQuotaHeader(t *testing.T) {
	block := make([]byte, 1024)
	if IsQuotaHeader(block) || IsQuotaHeader(block[:7]) {
		t.Error("zeros are no quota file")
	}
	for _, m := range quotaMagics {
		binary.LittleEndian.PutUint32(block, m)
		if !IsQuotaHeader(block) {
			t.Errorf("magic %#x is not known", m)
		}
	}
}
