package ext

import "math/bits"

// A DirHash is a hash by which an indexed directory sorts its names, as the
// index names it (dx_root_info.hash_version).
type DirHash uint8

// The hashes. If s_flags say that the filesystem was made where chars are
// unsigned, the Unsigned form of the hash in an index is used.
const (
	DirHashLegacy DirHash = iota
	DirHashHalfMD4
	DirHashTEA
	DirHashLegacyUnsigned
	DirHashHalfMD4Unsigned
	DirHashTEAUnsigned
)

// Unsigned is the same hash over unsigned chars.
func (h DirHash) Unsigned() DirHash {
	if h <= DirHashTEA {
		return h + DirHashLegacyUnsigned
	}
	return h
}

// Hash computes the hash of a name: the major hash, by which the index sorts
// and whose lowest bit is 0, and the minor hash, which orders equal major ones.
// seed is s_hash_seed, four words; zeros mean the default. ok is false for
// unknown hashes, such as SipHash of encrypted and casefolded directories.
//
// The functions are those of the kernel's fs/ext4/hash.c.
func (h DirHash) Hash(name []byte, seed [4]uint32) (major, minor uint32, ok bool) {
	signed := h <= DirHashTEA
	buf := [4]uint32{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476}
	if seed != [4]uint32{} {
		buf = seed
	}
	switch h {
	case DirHashLegacy, DirHashLegacyUnsigned:
		major = legacyHash(name, signed)
	case DirHashHalfMD4, DirHashHalfMD4Unsigned:
		var in [8]uint32
		for ; len(name) > 0; name = name[min(len(name), 32):] {
			hashWords(in[:], name, signed)
			halfMD4(&buf, &in)
		}
		major, minor = buf[1], buf[2]
	case DirHashTEA, DirHashTEAUnsigned:
		var in [4]uint32
		for ; len(name) > 0; name = name[min(len(name), 16):] {
			hashWords(in[:], name, signed)
			tea(&buf, &in)
		}
		major, minor = buf[0], buf[1]
	default:
		return 0, 0, false
	}
	const eof = 0xFFFFFFFE // stands for the end of a directory
	if major &^= 1; major == eof {
		major -= 2
	}
	return major, minor, true
}

// char widens a byte as C widens a char.
func char(c byte, signed bool) uint32 {
	if signed {
		return uint32(int32(int8(c)))
	}
	return uint32(c)
}

func legacyHash(name []byte, signed bool) uint32 {
	h0, h1 := uint32(0x12A3FE2D), uint32(0x37ABE8F9)
	for _, c := range name {
		h := h1 + (h0 ^ char(c, signed)*7152373)
		if h&(1<<31) != 0 {
			h -= 1<<31 - 1
		}
		h0, h1 = h, h0
	}
	return h0 << 1
}

// hashWords fills words with the start of name, big-endian, padded with the
// length of all that is left of the name.
func hashWords(words []uint32, name []byte, signed bool) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	for i := range words {
		w := pad
		for _, c := range name[:min(len(name), 4)] {
			w = w<<8 + char(c, signed)
		}
		words[i] = w
		name = name[min(len(name), 4):]
	}
}

// halfMD4 is MD4 with three rounds of eight steps in place of sixteen.
func halfMD4(buf *[4]uint32, in *[8]uint32) {
	const k2, k3 = 0x5A827999, 0x6ED9EBA1
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	step := func(f, x uint32, s int) {
		a, b, c, d = d, bits.RotateLeft32(a+f+x, s), b, c
	}
	for i, x := range in {
		step(d^b&(c^d), x, [4]int{3, 7, 11, 19}[i&3])
	}
	for i, n := range [8]int{1, 3, 5, 7, 0, 2, 4, 6} {
		step(b&c+(b^c)&d, in[n]+k2, [4]int{3, 5, 9, 13}[i&3])
	}
	for i, n := range [8]int{3, 7, 2, 6, 1, 5, 0, 4} {
		step(b^c^d, in[n]+k3, [4]int{3, 9, 11, 15}[i&3])
	}
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}

// tea is sixteen rounds of the Tiny Encryption Algorithm, keyed with in.
func tea(buf, in *[4]uint32) {
	const delta = 0x9E3779B9
	x, y, sum := buf[0], buf[1], uint32(0)
	for range 16 {
		sum += delta
		x += (y<<4 + in[0]) ^ (y + sum) ^ (y>>5 + in[1])
		y += (x<<4 + in[2]) ^ (x + sum) ^ (x>>5 + in[3])
	}
	buf[0] += x
	buf[1] += y
}
