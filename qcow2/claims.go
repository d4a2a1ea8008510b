package qcow2

import "math"

// Claims on a cluster of the file. The low bits count, up to 3.
const (
	claimCopied   uint32 = 1 << 0  // L2 entries that say the cluster is theirs alone
	claimShared   uint32 = 1 << 2  // L2 entries that do not
	claimFixed    uint32 = 1 << 4  // header, L1 table
	claimTable    uint32 = 1 << 5  // an L2 table
	claimPacked   uint32 = 1 << 6  // a compressed cluster
	claimSnapshot uint32 = 1 << 11 // a snapshot
	claimPacked1  uint32 = 1 << 16 // how many compressed clusters, in the high half
	claimRefcount uint32 = 1 << 7  // refcount table, or a block of it
	claimFree     uint32 = 1 << 8  // its refcount is lower than the claims
	claimLow      uint32 = 1 << 12 // its refcount does not allow for snapshots too
	claimAllowed  uint32 = 1 << 9  // its refcount allows for all that share it

	claimCount = 3
)

const (
	claimsPage    = 128 // clusters
	maxClaimPages = 1 << 19
)

// claims are what is said of the clusters of a file, in pages that are made when
// one of their clusters is first claimed: clusters may lie far apart.
type claims struct {
	pages    map[uint64]*[claimsPage]uint32
	last     *[claimsPage]uint32 // the page used last
	lastN    uint64
	overflow bool // more pages than maxClaimPages: some claims are not known
}

// page returns the page of a cluster, nil if there is none.
func (c *claims) page(cluster uint64, grow bool) *[claimsPage]uint32 {
	n := cluster / claimsPage
	if c.last != nil && c.lastN == n {
		return c.last
	}
	p := c.pages[n]
	if p == nil {
		if !grow {
			return nil
		}
		if len(c.pages) == maxClaimPages {
			c.overflow = true
			return nil
		}
		if c.pages == nil {
			c.pages = make(map[uint64]*[claimsPage]uint32)
		}
		p = new([claimsPage]uint32)
		c.pages[n] = p
	}
	c.last, c.lastN = p, n
	return p
}

// of returns the claims on a cluster.
func (c *claims) of(cluster uint64) uint32 {
	if p := c.page(cluster, false); p != nil {
		return p[cluster%claimsPage]
	}
	return 0
}

// set adds a claim that is not counted.
func (c *claims) set(cluster uint64, claim uint32) {
	if p := c.page(cluster, true); p != nil {
		p[cluster%claimsPage] |= claim
	}
}

// drop takes a claim back.
func (c *claims) drop(cluster uint64, claim uint32) {
	if p := c.page(cluster, false); p != nil {
		p[cluster%claimsPage] &^= claim
	}
}

// count counts one more claim of claimCopied or claimShared.
func (c *claims) count(cluster uint64, claim uint32) {
	if p := c.page(cluster, true); p != nil {
		if v := &p[cluster%claimsPage]; *v/claim&claimCount < claimCount {
			*v += claim
		}
	}
}

// countPacked counts one more compressed cluster.
func (c *claims) countPacked(cluster uint64) {
	if p := c.page(cluster, true); p != nil {
		v := &p[cluster%claimsPage]
		*v |= claimPacked
		if *v>>16 < math.MaxUint16 {
			*v += claimPacked1
		}
	}
}

// packedIn returns how many compressed clusters claim a part of the cluster.
func packedIn(v uint32) uint64 { return uint64(v >> 16) }

// counted returns how many L2 entries claim the cluster, those that say it is
// theirs alone and the others, up to 3 each.
func counted(v uint32) (copied, shared uint32) {
	return v / claimCopied & claimCount, v / claimShared & claimCount
}

// references returns the refcount that the claims call for, at least.
func references(v uint32) uint64 {
	copied, shared := counted(v)
	n := uint64(copied+shared) + packedIn(v)
	for _, claim := range []uint32{claimFixed, claimTable, claimRefcount} {
		if v&claim != 0 {
			n++
		}
	}
	return n
}
