package testfs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"strconv"
)

// Fields of struct ext4_super_block.
const (
	superSize       = 1024
	superLogBlock   = 0x18
	superRoCompat   = 0x64
	superJournalDev = 0xE4
	superChecksum   = 0x3FC

	roCompatMetadataCsum = 0x400
)

var backupSuper = regexp.MustCompile(`(?:Primary|Backup) superblock at (\d+)`)

// forgetJournalDevice sets the number of the external journal's device to 0 in
// each superblock. That of a loop device is soon that of another one, in which
// e2fsck would look for the journal.
func forgetJournalDevice(image string) (err error) {
	text, err := run("dumpe2fs", image)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	le := binary.LittleEndian
	blockSize := int64(0)
	for i, found := range backupSuper.FindAllStringSubmatch(string(text), -1) {
		block, err := strconv.ParseInt(found[1], 10, 64)
		if err != nil {
			return err
		}
		off := block * blockSize
		if i == 0 {
			off = superSize // the primary
		}
		b := make([]byte, superSize)
		if _, err := f.ReadAt(b, off); err != nil {
			return fmt.Errorf("superblock at byte %d of %s: %w", off, image, err)
		}
		if i == 0 {
			blockSize = superSize << le.Uint32(b[superLogBlock:])
		}
		le.PutUint32(b[superJournalDev:], 0)
		if le.Uint32(b[superRoCompat:])&roCompatMetadataCsum != 0 {
			le.PutUint32(b[superChecksum:], ^crc32.Checksum(b[:superChecksum], crc32.MakeTable(crc32.Castagnoli)))
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	return nil
}
