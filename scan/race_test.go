//go:build race

package scan

// raceFactor is how much longer the race detector may make things take.
const raceFactor = 6
