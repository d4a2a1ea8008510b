package scrub

import (
	"bytes"
	"iter"
	"slices"
	"unicode/utf8"
)

// keptName tells whether a name says nothing of its user and something to
// e2fsck.
func keptName(name []byte) bool {
	switch string(name) {
	case "", ".", "..", lostAndFound:
		return true
	}
	return false
}

const lostAndFound = "lost+found"

// journalName tells whether a name is one of those by which e2fsck finds a
// journal in the root directory, to move it to a hidden inode.
func journalName(name []byte) bool {
	switch string(name) {
	case "journal", ".journal", "journal.dat", ".journal.dat":
		return true
	}
	return false
}

// numbered tells whether a name is one that e2fsck gives to what it puts into
// lost+found: '#' and the number of an inode.
func numbered(name []byte) bool {
	if len(name) < 2 || name[0] != '#' {
		return false
	}
	for _, c := range name[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// odd tells whether a name has bytes that make it an invalid one, which its
// word shares: NUL, a slash, and where names are encoded what is no UTF-8.
func (d *drawer) odd(name []byte) bool { return odd(name, d.keys.encoded) }

func odd(name []byte, encoded bool) bool {
	for len(name) >= 8 && plain(le.Uint64(name)) {
		name = name[8:]
	}
	ascii := true
	for _, c := range name {
		if c == 0 || c == '/' {
			return true
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return encoded && !ascii && !utf8.Valid(name)
}

// plain tells whether none of eight bytes is NUL, a slash, or beyond ASCII.
func plain(x uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	slash := x ^ '/'*ones
	return (x|(x-ones)|(slash-ones))&high == 0
}

// nameID returns the keyed hash of a name that its word is drawn from. Names
// that e2fsck would make the same, by putting dots where they are invalid, have
// the same one: so their words are alike where the names are.
func (d *drawer) nameID(name []byte) uint64 {
	if !d.odd(name) {
		return d.sum(domainName, name)
	}
	d.old = append(d.old[:0], name...)
	for i := range d.invalid(name) {
		d.old[i] = '.'
	}
	return d.sum(domainName, d.old)
}

// invalid yields the places of the bytes that make a name an invalid one.
func (d *drawer) invalid(name []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < len(name); {
			r, n := utf8.DecodeRune(name[i:])
			bad := name[i] == 0 || name[i] == '/' || d.keys.encoded && r == utf8.RuneError && n == 1
			if bad && !yield(i) {
				return
			}
			i += n
		}
	}
}

// strayBytes are bytes that are no UTF-8 behind a letter: those that go on
// with a character, and those that are nowhere.
var strayBytes = func() (b []byte) {
	for c := 0x80; c <= 0xFF; c++ {
		if c < 0xC2 || c > 0xF4 {
			b = append(b, byte(c))
		}
	}
	return b
}()

// spoil gives a drawn word what makes name an invalid one, in the same places:
// NUL and slash as they are, other bytes by a keyed rotation.
func (d *drawer) spoil(word, name []byte) {
	for i := range d.invalid(name) {
		if name[i] == 0 || name[i] == '/' {
			word[i] = name[i]
			continue
		}
		lo, _ := d.random(domainInvalid, 0, 0, uint32(i))
		at, _ := slices.BinarySearch(strayBytes, name[i])
		word[i] = strayBytes[(uint64(at)+lo%uint64(len(strayBytes)))%uint64(len(strayBytes))]
	}
}

// maxName is the length of the longest name in bytes.
const maxName = 255

// name replaces a name, in place, by the word that stands for it wherever no
// index says otherwise. The word is none of the words seen.
func (s *scrubber) name(d *drawer, name []byte) {
	if !keptName(name) {
		s.words.draw(d, name, lettersAndDigits, d.nameID(name), 0)
	}
}

// word replaces a name, in place, by the word of a try.
func (d *drawer) word(name []byte, alphabet string, id uint64, try uint32) {
	if len(alphabet) == len(ciphertext) || !d.odd(name) {
		d.draw(name, alphabet, domainName, id, try)
		return
	}
	d.old = append(d.old[:0], name...)
	d.draw(name, alphabet, domainName, id, try)
	d.spoil(name, d.old)
}

// numberWord replaces a numbered name, in place, by another: '#' and as many
// digits.
func (d *drawer) numberWord(name []byte, id uint64, try uint32) {
	d.draw(name[1:], digits, domainName, id, try)
	if len(name) > 2 && name[1] == '0' {
		name[1] = digits[1+id%9]
	}
}

// draw replaces a name, in place, by the first word from a try on that is none
// of the words seen.
func (w *words) draw(d *drawer, name []byte, alphabet string, id uint64, try uint32) {
	var old [maxTiny]byte
	tiny := copy(old[:], name) == len(name)
	for end := try + maxTries; ; try++ {
		d.word(name, alphabet, id, try)
		if try == end || !w.has(name) && !(tiny && string(name) == string(old[:len(name)])) {
			return
		}
	}
}

// maxTries bounds how often a word is drawn that is one of those seen: the
// first is not, but for one in billions, unless all of the name is invalid.
const maxTries = 16

// path replaces what is between the slashes of a path, in place.
func (s *scrubber) path(d *drawer, path []byte) {
	for len(path) > 0 {
		n := bytes.IndexByte(path, '/')
		if n < 0 {
			n = len(path)
		}
		if part := path[:n]; string(part) == lostAndFound {
			// Of a path of nothing else all would stay.
			s.words.draw(d, part, lettersAndDigits, d.nameID(part), 0)
		} else {
			s.name(d, part)
		}
		path = path[min(n+1, len(path)):]
	}
}

// value replaces contents, in place. Runs of zeros stay: they say nothing but
// how long what is between them is.
func (s *scrubber) value(d *drawer, b []byte) {
	id := d.sum(domainValue, b)
	for n := uint32(0); len(b) > 0; n++ {
		end := bytes.IndexByte(b, 0)
		if end < 0 {
			end = len(b)
		}
		d.draw(b[:end], lettersAndDigits, domainValue, id, n)
		for end < len(b) && b[end] == 0 {
			end++
		}
		b = b[end:]
	}
}
