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
// maxEntries, and no partition reaches beyond the disk. Of a GPT both copies
// count as the table, also where one of them is damaged.
package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A Table is what a partition table says, and where it lies itself.
type Table struct {
	Partitions []Partition
	Areas      []Area // they may overlap
	Sector     int64  // bytes of the sectors that the table counts
}

// A Partition is a part of a disk.
type Partition struct {
	Number      int
	Start, Size int64 // bytes
}

// Overlaps tells whether n bytes from off lie in the partition, or some of them.
func (p Partition) Overlaps(off, n int64) bool { return overlap(p.Start, p.Size, off, n) }

// An Area is a part of a disk that a partition table lies in.
type Area struct {
	What        string // MBR, EBR, GPT header, GPT entries
	Start, Size int64  // bytes
}

// Overlaps tells whether n bytes from off lie in the area, or some of them.
func (a Area) Overlaps(off, n int64) bool { return overlap(a.Start, a.Size, off, n) }

func overlap(start, size, off, n int64) bool { return start < off+n && off < start+size }

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

// Read returns the partition table of a disk of size bytes whose logical
// sectors have sectorSize bytes; 0 stands for 512. An MBR is taken to count in
// these. A GPT tells by its place what it counts in; of several, that in sectors
// of sectorSize bytes counts. Of a table that is damaged it returns, beside
// ErrDamaged, what it could make out.
func Read(r io.ReaderAt, size, sectorSize int64) (Table, error) {
	d := disk{r: r, size: size, sector: sectorSize}
	if d.sector == 0 {
		d.sector = minSector
	}
	list, err := d.partitions()
	return Table{list, d.areas, d.sector}, err
}

// partitions returns the partitions of the disk.
func (d *disk) partitions() ([]Partition, error) {
	head := make([]byte, minSector)
	if err := d.read(head, 0); err != nil {
		return nil, err
	}
	mbr, protective := entriesOf(head)
	if len(mbr) > 0 {
		d.take("MBR", 0, minSector)
	}
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
	areas        []Area // that the table lies in
}

// take notes that the table lies in n bytes from off, as far as the disk has
// them.
func (d *disk) take(what string, off, n int64) {
	off, end := max(off, 0), min(off+n, d.size)
	if off < end {
		d.areas = append(d.areas, Area{what, off, end - off})
	}
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
		d.take("EBR", int64(at)*d.sector, minSector)
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
	for i, sector := range []int64{d.sector, 512, 1024, 2048, 4096} {
		if i > 0 && sector == d.sector {
			continue
		}
		g := disk{r: d.r, size: d.size, sector: sector}
		list, err := g.copies()
		d.areas = append(d.areas, g.areas...)
		if err == nil {
			d.sector = sector
			return list, nil
		}
		if !errors.Is(err, ErrNone) {
			none = err
		}
	}
	return nil, none
}

// copies returns the partitions of the GPT in sectors of one size: of the copy
// at the start or, where that is damaged, of that at the end. A damaged copy
// lies where the other says, and its entries beside its header as usual.
func (d *disk) copies() ([]Partition, error) {
	first, last := int64(1), d.size/d.sector-1
	primary, list, err := d.gptAt(first)
	if err == nil {
		last = primary.other
	}
	backup, copied, copyErr := d.gptAt(last)
	switch {
	case err == nil && copyErr != nil && last < d.size/d.sector:
		d.takeGPT(last, last-primary.sectors, primary.sectors)
	case err != nil && copyErr == nil:
		d.takeGPT(first, first+1, backup.sectors)
		return copied, nil
	case err != nil && !errors.Is(copyErr, ErrNone):
		err = copyErr
	}
	return list, err
}

// A gptHeader is what counts of one, in sectors.
type gptHeader struct {
	other   int64 // where it says that the other copy's is, at most the disk's end
	sectors int64 // that the entries fill
}

// takeGPT notes where a copy lies: the header, and n sectors of entries.
func (d *disk) takeGPT(header, entries, n int64) {
	d.take("GPT header", header*d.sector, d.sector)
	d.take("GPT entries", entries*d.sector, n*d.sector)
}

// gptAt returns the header in sector lba, and the partitions that its entries
// are.
func (d *disk) gptAt(lba int64) (h gptHeader, list []Partition, err error) {
	// The fields of the header, in bytes.
	const (
		headerSize, headerCRC = 12, 16
		myLBA, otherLBA       = 24, 32
		entriesLBA, count     = 72, 80
		entrySize, entriesCRC = 84, 88
		least                 = 92
	)
	b := make([]byte, d.sector)
	if lba < 0 || lba >= d.size/d.sector {
		return h, nil, ErrNone
	}
	if err := d.read(b, lba*d.sector); err != nil {
		return h, nil, err
	}
	if string(b[:8]) != "EFI PART" {
		return h, nil, ErrNone
	}
	d.take("GPT header", lba*d.sector, d.sector)
	le := binary.LittleEndian
	length := int64(le.Uint32(b[headerSize:]))
	if length < least || length > d.sector || le.Uint64(b[myLBA:]) != uint64(lba) {
		return h, nil, fmt.Errorf("%w: impossible GPT header in sector %d", ErrDamaged, lba)
	}
	sum := le.Uint32(b[headerCRC:])
	clear(b[headerCRC:][:4])
	if crc32.ChecksumIEEE(b[:length]) != sum {
		return h, nil, fmt.Errorf("%w: wrong checksum of the GPT header in sector %d", ErrDamaged, lba)
	}
	n, size, first := int64(le.Uint32(b[count:])), int64(le.Uint32(b[entrySize:])), le.Uint64(b[entriesLBA:])
	if size < 128 || size > maxSector || n > maxEntries/size || first >= uint64(d.size/d.sector) {
		return h, nil, fmt.Errorf("%w: impossible GPT header in sector %d", ErrDamaged, lba)
	}
	table := make([]byte, n*size)
	if err := d.read(table, int64(first)*d.sector); err != nil && !errors.Is(err, ErrNone) {
		return h, nil, err
	} else if err != nil || crc32.ChecksumIEEE(table) != le.Uint32(b[entriesCRC:]) {
		return h, nil, fmt.Errorf("%w: wrong checksum of the entries of the GPT in sector %d", ErrDamaged, lba)
	}
	h = gptHeader{int64(min(le.Uint64(b[otherLBA:]), uint64(d.size/d.sector))), (n*size + d.sector - 1) / d.sector}
	d.take("GPT entries", int64(first)*d.sector, n*size)
	for i := range n {
		e := table[i*size:][:size]
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if [16]byte(e) == ([16]byte{}) || last < first || last-first == 1<<64-1 {
			continue
		}
		list = d.add(list, int(i)+1, first, last-first+1)
	}
	return h, list, nil
}
