package qcow2

import "e2qcow/image"

// Locate locates the bytes of plain clusters in the file, as image.Locator says.
func (m *Image) Locate(off, limit int64, read bool) (f image.File, at, n int64) {
	limit = min(limit, m.Size()-off)
	if off < 0 || limit <= 0 {
		return nil, 0, max(limit, 1)
	}
	p, err := m.find(off, limit)
	if err != nil {
		return nil, 0, limit // a read says why
	}
	if p.kind != mapData || p.host > m.fileSize || p.n > m.fileSize-p.host {
		return nil, 0, p.n
	}
	if _, ok := m.tables.hit(p.host, p.n); ok {
		return nil, 0, p.n
	}
	return image.Locate(m.r, p.host, p.n, read)
}
