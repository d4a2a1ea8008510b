package qcow2

import "encoding/binary"

// claimSnapshots claims the clusters that snapshots use, as far as their tables
// can be read: refcounts count those too. A snapshot is never read otherwise.
func (s *survey) claimSnapshots() error {
	h := s.m.header
	size := uint64(h.ClusterSize())
	off := h.SnapshotsOffset
	if h.Snapshots > maxSnapshots || off%size != 0 || off >= uint64(s.m.fileSize) {
		return nil
	}
	be := binary.BigEndian
	l1s, l2s := make(map[uint64]struct{}), make(map[uint64]struct{})
	budget := 16 * (s.m.fileSize + 4<<20) // bytes of L1 tables, which may overlap
	for range h.Snapshots {
		var b [40]byte
		if err := s.count(int64(len(b))); err != nil {
			return err
		}
		_, _ = s.tables.ReadAt(b[:], int64(off))
		l1Offset, l1Bytes := be.Uint64(b[0:]), int64(be.Uint32(b[8:]))*8
		_, seen := l1s[l1Offset]
		if !seen && l1Offset%size == 0 && l1Offset < uint64(s.m.fileSize) && l1Bytes <= min(maxL1Size, budget) {
			l1s[l1Offset] = struct{}{}
			budget -= l1Bytes
			if err := s.claimSnapshot(int64(l1Offset), min(l1Bytes, s.m.fileSize-int64(l1Offset)), l2s); err != nil {
				return err
			}
		}
		n := 40 + uint64(be.Uint32(b[36:])) + uint64(be.Uint16(b[12:])) + uint64(be.Uint16(b[14:]))
		off += (n + 7) &^ 7
		if off-h.SnapshotsOffset > maxSnapshotsSize {
			break
		}
	}
	s.claimSpan(int64(h.SnapshotsOffset), int64(off-h.SnapshotsOffset))
	return nil
}

// claimSpan claims n bytes of the file for snapshots.
func (s *survey) claimSpan(off, n int64) {
	n = min(n, s.m.fileSize-off)
	for c := off >> s.m.header.ClusterBits; n > 0 && c <= (off+n-1)>>s.m.header.ClusterBits; c++ {
		s.claims.set(uint64(c), claimSnapshot)
	}
}

// claimSnapshot claims the n bytes of an L1 table, and the clusters to which it
// leads. l2s are the L2 tables that were looked at.
func (s *survey) claimSnapshot(off, n int64, l2s map[uint64]struct{}) error {
	h := s.m.header
	s.claimSpan(off, n)
	buf := make([]byte, 64<<10)
	for ; n >= 8; off, n = off+int64(len(buf)), n-int64(len(buf)) {
		b := buf[:min(int64(len(buf)), n&^7)]
		if err := s.count(int64(len(b))); err != nil {
			return err
		}
		_, _ = s.tables.ReadAt(b, off)
		for ; len(b) > 0; b = b[8:] {
			entry := binary.BigEndian.Uint64(b)
			table := entry & entryOffset
			if _, seen := l2s[table]; seen || table == 0 || entry&l1Reserved != 0 || table%uint64(h.ClusterSize()) != 0 || table >= uint64(s.m.fileSize) {
				continue
			}
			l2s[table] = struct{}{}
			s.claimSpan(int64(table), h.ClusterSize())
			if err := s.eachSector(&l2Claim{cluster: table >> h.ClusterBits}, s.claimSnapshotSector); err != nil {
				return err
			}
		}
	}
	return nil
}

// claimSnapshotSector claims the clusters to which the entries of a sector of a
// snapshot's L2 table lead.
func (s *survey) claimSnapshotSector(_ *l2Claim, b []byte, at, guest int64) {
	h := s.m.header
	s.eachEntry(b, at, guest, func(e l2Entry) {
		switch form, _ := s.form(e); form {
		case plainForm:
			s.claims.set(e.entry&entryOffset>>h.ClusterBits, claimSnapshot)
		case packedForm:
			s.claimSpan(packedPlace(e.entry, h.ClusterBits))
		}
	})
}
