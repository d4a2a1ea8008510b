package scrub

import "math/bits"

// wide marks the number of a word that is drawn from the larger alphabet.
const wide = 1 << 31

// Other alphabets than lettersAndDigits, for names of which there are many and
// few words, and for names that are no text.
var (
	anyByte    = alphabetWithout(256, func(c byte) bool { return c == 0 || c == '/' })
	anyFolded  = alphabetWithout(128, func(c byte) bool { return c == 0 || c == '/' || 'A' <= c && c <= 'Z' })
	ciphertext = alphabetWithout(256, func(byte) bool { return false })
)

const digits = "0123456789"

func alphabetWithout(n int, left func(byte) bool) string {
	var b []byte
	for c := range n {
		if !left(byte(c)) {
			b = append(b, byte(c))
		}
	}
	return string(b)
}

// alphabets returns the letters that words of a directory are drawn from, and
// those that they are drawn from where the first are too few.
func (d *directory) alphabets() (usual, larger string) {
	switch {
	case d.encrypted:
		return ciphertext, ciphertext
	case d.folds:
		return folded, anyFolded
	}
	return lettersAndDigits, anyByte
}

// A pool is the words of one length, numbered so that no two are the same: the
// number is scattered over all words of the first letters, what follows is
// drawn.
//
//	"#" for a numbered name │ scattered: 10 letters at most │ drawn
type pool struct {
	alphabet string
	length   int
	number   bool // '#' and digits
	id       uint64

	scattered int    // letters
	size      uint64 // how many words the scattered letters make
	mul, add  uint64
}

// newPool returns the pool of a directory for words of a length.
func (d *directory) newPool(dr *drawer, length int, number, larger bool) pool {
	p := pool{length: length, number: number, id: uint64(d.ino)<<8 | uint64(length)}
	usual, more := d.alphabets()
	switch {
	case number:
		p.alphabet = digits
		p.id |= 1 << 41
	case larger:
		p.alphabet = more
		p.id |= 1 << 40
	default:
		p.alphabet = usual
	}
	letters := length
	if number {
		letters--
	}
	p.size = 1
	n := uint64(len(p.alphabet))
	for p.scattered < letters && p.size <= 1<<62/n {
		p.size *= n
		p.scattered++
	}
	if number && letters > 1 {
		p.size = p.size / 10 * 9 // no number begins with 0
	}
	a, b := dr.random(domainCandidate, p.id, 0, 1<<20)
	p.add = a % p.size
	p.mul = b % p.size
	for gcd(p.mul, p.size) != 1 {
		p.mul = (p.mul + 1) % p.size
		if p.size == 1 {
			break
		}
	}
	return p
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// word writes word i of the pool, which is less than its size. word has the
// pool's length.
func (p *pool) word(dr *drawer, word []byte, i uint32) {
	hi, lo := bits.Mul64(uint64(i), p.mul)
	lo, carry := bits.Add64(lo, p.add, 0)
	x := bits.Rem64(hi+carry, lo, p.size)
	if p.number {
		word[0] = '#'
		word = word[1:]
		if len(word) > 1 {
			x += p.size / 9
		}
	}
	n := uint64(len(p.alphabet))
	for at := p.scattered - 1; at >= 0; at-- {
		word[at] = p.alphabet[x%n]
		x /= n
	}
	if rest := word[p.scattered:]; len(rest) > 0 {
		dr.draw(rest, p.alphabet, domainCandidate, p.id, i)
	}
}
