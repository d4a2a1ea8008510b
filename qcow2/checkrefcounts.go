package qcow2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"e2qcow/internal/zero"
)

// compare compares the references with the refcounts in the file, which then
// take their place in c.counts: 0, 1 or more.
func (c *checker) compare() error {
	for _, page := range c.counts.numbers() {
		if err := c.comparePage(page*countPage, c.counts.pages[page][:]); err != nil {
			return err
		}
	}
	return nil
}

// comparePage compares the counts of the clusters from first on.
func (c *checker) comparePage(first uint64, counts []uint16) error {
	perBlock := c.h.refcountsPerBlock()
	counts = counts[:min(uint64(len(counts)), c.clusters-first)]
	for i := 0; i < len(counts); {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		cluster := first + uint64(i)
		in := cluster % perBlock
		n := int(min(perBlock-in, uint64(len(counts)-i)))
		stored, err := c.refBlock(cluster / perBlock)
		if errors.Is(err, errNoBlock) {
			c.report.Unchecked += int64(n)
			for k := range n {
				counts[i+k] = unknownRefcount
			}
			i += n
			continue
		}
		if err != nil {
			return err
		}
		for k := range n {
			var refcount uint64
			if stored != nil {
				refcount = readRefcount(stored, in+uint64(k), c.h.RefcountBits)
			}
			c.compareOne(cluster+uint64(k), &counts[i+k], refcount)
		}
		i += n
	}
	return nil
}

// useRefcounts makes the first pass find the pages of clusters with a refcount,
// so that clusters without a reference are found.
func (c *checker) useRefcounts() error {
	if !c.first {
		return nil
	}
	perBlock := c.h.refcountsPerBlock()
	for i, entry := range c.refTable {
		if entry == 0 || uint64(i)*perBlock >= c.clusters {
			continue
		}
		stored, err := c.refBlock(uint64(i))
		switch {
		case errors.Is(err, errNoBlock):
			c.counts.of(uint64(i) * perBlock)
			continue
		case err != nil:
			return err
		case stored == nil:
			continue
		}
		if err := c.walk(int64(len(stored))); err != nil {
			return err
		}
		step := min(perBlock, countPage) // clusters
		bytes := int(step * uint64(c.h.RefcountBits) / 8)
		for k := uint64(0); k*step < perBlock; k++ {
			part := stored[int(k)*bytes:][:bytes]
			if first := uint64(i)*perBlock + k*step; first < c.clusters && !zero.IsZero(part) {
				c.counts.of(first)
			}
		}
	}
	return nil
}

func (c *checker) compareOne(cluster uint64, count *uint16, refcount uint64) {
	references := uint64(*count & countMask)
	off := int64(cluster << c.h.ClusterBits)
	if c.tally != nil {
		c.tally.add(cluster, references, refcount)
	}
	switch {
	case references == countMask && refcount >= countMask:
	case refcount < references:
		c.find(Finding{Corruption, off, -1, fmt.Sprintf("cluster %d has refcount %d, references: %d", cluster, refcount, references)})
	case refcount > references:
		c.find(Finding{Leak, off, -1, fmt.Sprintf("cluster %d has refcount %d, references: %d", cluster, refcount, references)})
	}
	*count = uint16(min(refcount, 2))
}

// unknownRefcount means that a refcount cannot be read.
const unknownRefcount = 1<<16 - 1

var errNoBlock = errors.New("the refcount block cannot be anywhere")

// refBlock returns a refcount block, or nil if there is none.
func (c *checker) refBlock(i uint64) ([]byte, error) {
	if i >= uint64(len(c.refTable)) {
		return nil, nil
	}
	off := c.refTable[i] &^ (1<<9 - 1)
	if off%uint64(c.h.ClusterSize()) != 0 || off > math.MaxInt64 {
		return nil, errNoBlock
	}
	if off == 0 || off >= uint64(c.size) || c.runs.hole(int64(off), c.h.ClusterSize()) {
		return nil, nil
	}
	_, err := c.r.ReadAt(c.blockBuf, int64(off))
	return c.blockBuf, err
}

// readRefcount returns refcount i of a block, bits wide: 1, 2, 4 ... 64. Those
// of less than a byte begin at its least significant bit.
func readRefcount(b []byte, i uint64, bits uint) uint64 {
	switch bits {
	case 8:
		return uint64(b[i])
	case 16:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 32:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 64:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	bit := i * uint64(bits)
	return uint64(b[bit/8]) >> (bit % 8) & (1<<bits - 1)
}

// checkCopied checks the copied flags of an L1 entry and its L2 table.
func (c *checker) checkCopied(e l2Entry) error {
	off := e.entry & entryOffset
	if off == 0 {
		return nil
	}
	c.checkFlag(e, "L2 table")
	return c.walkL2(off, e.guest, func(e l2Entry) {
		if e.entry&entryCompressed == 0 && e.entry&entryOffset != 0 {
			c.checkFlag(e, "data cluster")
		}
	})
}

// checkFlag checks that the copied flag is set if the refcount is 1.
func (c *checker) checkFlag(e l2Entry, what string) {
	cluster := e.entry & entryOffset >> c.h.ClusterBits
	count := c.counts.seen(cluster)
	if count == nil {
		return
	}
	refcount := *count
	if copied := e.entry&entryCopied != 0; refcount != unknownRefcount && copied != (refcount == 1) {
		c.find(Finding{Corruption, e.at, e.guest, fmt.Sprintf("the copied flag of the %s at %#x contradicts its refcount", what, e.entry&entryOffset)})
	}
}
