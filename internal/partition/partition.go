// Package partition reads the partition table of a disk: MBR, with the chain
// of an extended partition, and GPT, with its backup. The source is UEFI 2.10,
// section 5; for the chain, what Linux does (block/partitions/msdos.c).
//
//	       446    510                                      (in bytes)
//	LBA 0 ┌──────┬───────────────┬───────┐
//	 MBR  │ boot │ 4 × (type,    │ 55 AA │
//	      │ code │ first, count) │       │
//	      └──────┴──┬────────────┴───────┘
//	                ├ type 05, 0F, 85: extended ─► EBR ─► EBR ─► … one logical
//	                │                              partition each, from number 5
//	                └ type EE: the disk has a GPT
//	LBA 1 ┌────────┐ LBA 2 ┌─────────────────┐        ┌─────────┬────────┐ last LBA
//	 GPT  │ header │─────► │ entries, 128 B  │ ...    │ entries │ header │ backup
//	      │  CRC   │  CRC  │ (type, first,   │        └─────────┴────────┘
//	      └────────┘       │ last, name)     │
//	                       └─────────────────┘
//
// Numbers are those of Linux. What a table says is bounded: a chain ends after
// maxLogical links or where it comes back, the entries of a GPT fill at most
// maxEntries, and no partition reaches beyond the disk.
package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A Partition is a part of a disk.
type Partition struct {
	Number      int
	Start, Size int64 // bytes
}

// Overlaps tells whether n bytes from off lie in the partition, or some of them.
func (p Partition) Overlaps(off, n int64) bool {
	return p.Start < off+n && off < p.Start+p.Size
}

// Why there are no partitions, for errors.Is.
var (
	ErrNone    = errors.New("no partition table found")
	ErrDamaged = errors.New("the partition table is damaged")
)

const (
	minSector  = 512
	maxSector  = 4096
	maxLogical = 256       // as many as Linux numbers
	maxEntries = 256 << 10 // bytes; 16 KiB are usual
)

// Read returns the partitions of a disk of size bytes whose logical sectors,
// which MBRs count in, have sectorSize bytes; 0 stands for 512. A GPT tells by
// its place what it counts in.
func Read(r io.ReaderAt, size, sectorSize int64) ([]Partition, error) {
	d := disk{r, size, sectorSize}
	if d.sector == 0 {
		d.sector = minSector
	}
	head := make([]byte, minSector)
	if err := d.read(head, 0); err != nil {
		return nil, err
	}
	mbr, protective := entriesOf(head)
	if protective || len(mbr) == 0 {
		list, err := d.gpt()
		if err == nil || protective || !errors.Is(err, ErrNone) {
			return list, err
		}
	}
	if len(mbr) == 0 {
		return nil, ErrNone
	}
	return d.mbr(mbr)
}

// A disk is what a table is read from.
type disk struct {
	r            io.ReaderAt
	size, sector int64
}

// read fills b from off; what lies beyond the disk makes it ErrNone.
func (d *disk) read(b []byte, off int64) error {
	if off < 0 || off > d.size-int64(len(b)) {
		return ErrNone
	}
	n, err := d.r.ReadAt(b, off)
	if n < len(b) {
		return fmt.Errorf("reading the partition table at byte %d: %w", off, err)
	}
	return nil
}

// add appends what of n sectors from first lies on the disk.
func (d *disk) add(list []Partition, number int, first, n uint64) []Partition {
	if n == 0 || first >= uint64(d.size/d.sector) {
		return list
	}
	start := int64(first) * d.sector
	length := d.size - start
	if n < uint64(length/d.sector) {
		length = int64(n) * d.sector
	}
	return append(list, Partition{number, start, length})
}

// An mbrEntry is one of the four of an MBR or EBR.
type mbrEntry struct {
	slot         int
	kind         byte
	first, count uint64 // sectors
}

func (e mbrEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

// entriesOf returns the entries in use of an MBR or EBR, none where b is not
// one, and whether it says that there is a GPT.
func entriesOf(b []byte) (list []mbrEntry, protective bool) {
	const table, size, slots = 446, 16, 4
	if b[510] != 0x55 || b[511] != 0xaa {
		return nil, false
	}
	for slot := range slots {
		e := b[table+slot*size:][:size]
		if e[0]&0x7f != 0 {
			return nil, false // as a boot sector of FAT, whose code goes on here
		}
		m := mbrEntry{slot, e[4], uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))}
		if m.kind == 0 || m.count == 0 {
			continue
		}
		protective = protective || m.kind == 0xee
		list = append(list, m)
	}
	return list, protective
}

// mbr returns the partitions of an MBR.
func (d *disk) mbr(entries []mbrEntry) ([]Partition, error) {
	var list []Partition
	var extended []mbrEntry
	for _, e := range entries {
		if e.extended() {
			extended = append(extended, e)
			continue
		}
		list = d.add(list, e.slot+1, e.first, e.count)
	}
	number := 5
	for _, e := range extended {
		logical, err := d.chain(e, number)
		list = append(list, logical...)
		number += len(logical)
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// chain returns the logical partitions in an extended one, from number on.
func (d *disk) chain(extended mbrEntry, number int) ([]Partition, error) {
	var list []Partition
	seen := map[uint64]bool{}
	b := make([]byte, minSector)
	for at := extended.first; ; {
		if seen[at] || len(seen) == maxLogical {
			return list, fmt.Errorf("%w: the extended partition's chain does not end", ErrDamaged)
		}
		seen[at] = true
		err := d.read(b, int64(at)*d.sector)
		if errors.Is(err, ErrNone) {
			return list, fmt.Errorf("%w: the extended partition's chain leaves the disk", ErrDamaged)
		}
		if err != nil {
			return list, err
		}
		next := uint64(0)
		entries, _ := entriesOf(b)
		for _, e := range entries {
			switch {
			case !e.extended():
				if n := len(list); n < maxLogical {
					list = d.add(list, number+n, at+e.first, e.count)
				}
			case next == 0:
				next = extended.first + e.first
			}
		}
		if next == 0 {
			return list, nil
		}
		at = next
	}
}

// gpt returns the partitions of the GPT at the start of the disk or, where
// that is damaged, at its end.
func (d *disk) gpt() ([]Partition, error) {
	none := ErrNone
	for sector := int64(minSector); sector <= maxSector; sector *= 2 {
		d := disk{d.r, d.size, sector}
		for _, lba := range [...]int64{1, d.size/sector - 1} {
			list, err := d.gptAt(lba)
			if err == nil {
				return list, nil
			}
			if !errors.Is(err, ErrNone) {
				none = err
			}
		}
	}
	return nil, none
}

// gptAt returns the partitions of the GPT whose header is in sector lba.
func (d *disk) gptAt(lba int64) ([]Partition, error) {
	// The fields of the header, in bytes.
	const (
		headerSize, headerCRC = 12, 16
		myLBA, entriesLBA     = 24, 72
		count, entrySize      = 80, 84
		entriesCRC, least     = 88, 92
	)
	h := make([]byte, d.sector)
	if err := d.read(h, lba*d.sector); err != nil {
		return nil, err
	}
	if string(h[:8]) != "EFI PART" {
		return nil, ErrNone
	}
	le := binary.LittleEndian
	length := int64(le.Uint32(h[headerSize:]))
	if length < least || length > d.sector || le.Uint64(h[myLBA:]) != uint64(lba) {
		return nil, fmt.Errorf("%w: impossible GPT header in sector %d", ErrDamaged, lba)
	}
	sum := le.Uint32(h[headerCRC:])
	clear(h[headerCRC:][:4])
	if crc32.ChecksumIEEE(h[:length]) != sum {
		return nil, fmt.Errorf("%w: wrong checksum of the GPT header in sector %d", ErrDamaged, lba)
	}
	n, size, first := int64(le.Uint32(h[count:])), int64(le.Uint32(h[entrySize:])), le.Uint64(h[entriesLBA:])
	if size < 128 || size > maxSector || n > maxEntries/size || first >= uint64(d.size/d.sector) {
		return nil, fmt.Errorf("%w: impossible GPT header in sector %d", ErrDamaged, lba)
	}
	table := make([]byte, n*size)
	if err := d.read(table, int64(first)*d.sector); err != nil && !errors.Is(err, ErrNone) {
		return nil, err
	} else if err != nil || crc32.ChecksumIEEE(table) != le.Uint32(h[entriesCRC:]) {
		return nil, fmt.Errorf("%w: wrong checksum of the entries of the GPT in sector %d", ErrDamaged, lba)
	}
	var list []Partition
	for i := range n {
		e := table[i*size:][:size]
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if [16]byte(e) == ([16]byte{}) || last < first || last-first == 1<<64-1 {
			continue
		}
		list = d.add(list, int(i)+1, first, last-first+1)
	}
	return list, nil
}
