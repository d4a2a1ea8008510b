package scrub

// A scrubber knows what scrubbing any block of a filesystem takes. It does not
// change once made.
type scrubber struct {
	keys   *keyring
	words  *words
	strict bool // what is encrypted is drawn too
}
