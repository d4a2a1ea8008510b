//go:build race

package scan

const (
	// raceFactor is how much longer the race detector may make things take.
	raceFactor = 6

	// raceShrink is how much smaller large disks are under it.
	raceShrink = 8
)
