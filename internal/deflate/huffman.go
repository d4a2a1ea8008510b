package deflate

import "math/bits"

// A code is a Huffman code of one symbol, perhaps with extra bits behind: the bits
// in the order of the stream, the first one lowest, above five bits that say how
// many there are.
type code uint32

func (c code) bits() uint32 { return uint32(c >> 5) }
func (c code) len() uint    { return uint(c & 31) }

// with returns c and n extra bits behind it.
func (c code) with(extra uint32, n uint) code { return c + code(extra<<c.len()<<5) + code(n) }

// A lengthFinder finds the lengths of Huffman codes. It holds only scratch
// memory.
type lengthFinder struct {
	sorted, spare [litLenSyms]leaf
	nodes         [litLenSyms]uint32
}

// A leaf is a symbol that is used, and how often.
type leaf struct {
	count uint32
	sym   uint16
}

// find sets lengths to those of the shortest code of at most limit bits for
// symbols that are used counts[symbol] times, or nearly the shortest where the
// limit matters. At least two symbols get a code, so that every code is
// complete, as all decoders want it.
func (f *lengthFinder) find(lengths []uint8, counts []uint32, limit int) {
	n := 0
	for s, c := range counts {
		lengths[s] = 0
		if c != 0 {
			f.sorted[n] = leaf{c, uint16(s)}
			n++
		}
	}
	for s := 0; n < 2; s++ {
		if counts[s] == 0 {
			f.sorted[n] = leaf{1, uint16(s)}
			n++
		}
	}
	leaves := f.sort(n)
	ofLength := f.tree(leaves, limit)
	// The rarest symbols come first, and get the longest codes.
	i := 0
	for length := limit; length > 0; length-- {
		for range ofLength[length] {
			lengths[leaves[i].sym] = uint8(length)
			i++
		}
	}
}

// sort sorts the first n leaves by their counts, the rarest first, by the two
// bytes of the counts in turn. Greater counts are cut: such a symbol is so
// frequent that this costs nothing.
func (f *lengthFinder) sort(n int) []leaf {
	leaves, spare := f.sorted[:n], f.spare[:n]
	most := uint32(0)
	for i := range leaves {
		leaves[i].count = min(leaves[i].count, 1<<16-1)
		most |= leaves[i].count
	}
	for shift := 0; shift < 16 && most>>shift != 0; shift += 8 {
		var next [256]uint16
		for _, l := range leaves {
			next[uint8(l.count>>shift)]++
		}
		sum := uint16(0)
		for b, c := range next {
			next[b] = sum
			sum += c
		}
		for _, l := range leaves {
			at := &next[uint8(l.count>>shift)]
			spare[*at] = l
			*at++
		}
		leaves, spare = spare, leaves
	}
	return leaves
}

// tree returns how many codes of each length there are in a Huffman code of
// leaves, which are sorted. It is the method of Moffat and Katajainen: inner
// nodes of the tree arise in the order of their weight, so two queues are
// enough. nodes holds the weight of an inner node till it has a parent, then the
// index of the parent, then the depth.
func (f *lengthFinder) tree(leaves []leaf, limit int) (ofLength [maxCodeLen + 1]uint16) {
	root := len(leaves) - 2
	nodes := f.nodes[:root+1]
	nextLeaf, nextNode := 0, 0
	for made := range nodes {
		weight := uint32(0)
		for range 2 {
			if nextNode == made || nextLeaf < len(leaves) && leaves[nextLeaf].count <= nodes[nextNode] {
				weight += leaves[nextLeaf].count
				nextLeaf++
			} else {
				weight += nodes[nextNode]
				nodes[nextNode] = uint32(made)
				nextNode++
			}
		}
		nodes[made] = weight
	}
	// From the root down, each inner node takes the place of one leaf and puts two
	// leaves below. At the limit the deepest leaf above that can do so takes the
	// part: the code stays complete.
	nodes[root] = 0
	ofLength[1] = 2
	for i := root - 1; i >= 0; i-- {
		depth := nodes[nodes[i]] + 1
		nodes[i] = depth
		if depth >= uint32(limit) {
			depth = uint32(limit) - 1
			for ofLength[depth] == 0 {
				depth--
			}
		}
		ofLength[depth]--
		ofLength[depth+1] += 2
	}
	return ofLength
}

// assign sets codes to the canonical codes of these lengths.
func assign(codes []code, lengths []uint8) {
	var ofLength, next [maxCodeLen + 1]uint16
	for _, n := range lengths {
		ofLength[n]++
	}
	ofLength[0] = 0
	for n := 1; n <= maxCodeLen; n++ {
		next[n] = (next[n-1] + ofLength[n-1]) << 1
	}
	for s, n := range lengths {
		n &= maxCodeLen
		codes[s] = code(bits.Reverse16(next[n])>>(16-n))<<5 | code(n)
		next[n]++
	}
}
