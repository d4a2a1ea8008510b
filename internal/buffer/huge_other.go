//go:build !linux

package buffer

// adviseHuge does nothing: only Linux takes this advice.
func adviseHuge([]byte) {}
