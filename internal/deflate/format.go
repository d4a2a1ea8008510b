package deflate

// The alphabets of RFC 1951.
const (
	endOfBlock   = 256
	firstLength  = 257
	litLenSyms   = 286 // literals, the end of the block, lengths
	fixedSyms    = 288 // of these in a fixed block, two never used
	distSyms     = 30
	fixedDists   = 32 // of these in a fixed block
	codeLenSyms  = 19
	maxCodeLen   = 15 // of literals, lengths and distances
	maxHeaderLen = 7  // of the code for code lengths
	minMatch     = 3
	maxMatch     = 258
	maxStored    = 1<<16 - 1 // bytes in a stored block
)

// The types of blocks.
const (
	blockStored = iota
	blockFixed
	blockDynamic
)

// The symbols of the code for code lengths which repeat a length: the last one 3
// to 6 times, zero 3 to 10 times, zero 11 to 138 times.
const (
	repeatLast  = 16
	repeatZero  = 17
	repeatZeros = 18
)

// codeLenOrder is the order in which a block lists the lengths of the code for
// code lengths.
var codeLenOrder = [codeLenSyms]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// lengthBase and lengthExtra say of each symbol of a length, from 257 on, the
// least length, and how many bits follow that are added to this length.
var (
	lengthBase = [litLenSyms - firstLength]uint16{
		3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31,
		35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
	}
	lengthExtra = [litLenSyms - firstLength]uint8{
		0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
		3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
	}
)

// distBase and distExtra say the same of each symbol of a distance.
var (
	distBase = [distSyms]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385,
		513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
	}
	distExtra = [distSyms]uint8{
		0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7,
		8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
	}
)

// fixedLengths returns the lengths of the codes of a block of type blockFixed.
func fixedLengths() (litLen [fixedSyms]uint8, dist [fixedDists]uint8) {
	for s := range litLen {
		switch {
		case s < 144:
			litLen[s] = 8
		case s < 256:
			litLen[s] = 9
		case s < 280:
			litLen[s] = 7
		default:
			litLen[s] = 8
		}
	}
	for s := range dist {
		dist[s] = 5
	}
	return litLen, dist
}
