package scrub

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"sync"
)

// The byte orders of the filesystem and of its journal.
var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// A domain tells apart what is drawn from one key.
type domain uint8

const (
	domainName      domain = iota + 1 // names, components of paths
	domainValue                       // contents: values, inline data
	domainLabel                       // the label of the filesystem, host names
	domainCandidate                   // candidates for the names of indexed directories
	domainBoundary                    // the hashes in an index
	domainInvalid                     // bytes that are no UTF-8
	domainUUID                        // UUIDs and seeds
	domainPointer                     // block numbers that cannot be
	domainNoise                       // numbers that take the place of others
	domainSum                         // what checksums are wrong by
	domainSeed                        // seeds of hashes
	domainFilter                      // the hash of the filter of words
)

// The alphabets that words are drawn from.
const (
	lettersAndDigits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	folded           = "abcdefghijklmnopqrstuvwxyz0123456789" // for directories that ignore case
)

// A keyring makes drawers for one key.
type keyring struct {
	block cipher.Block
	pool  sync.Pool

	// encoded says that names are UTF-8, on a filesystem that has directories
	// which ignore case. On others they are bytes.
	encoded bool
}

func newKeyring(key [KeySize]byte) *keyring {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the length of a key is the only thing that can be wrong
	}
	k := &keyring{block: block}
	k.pool.New = func() any { return &drawer{keys: k, block: block} }
	return k
}

func (k *keyring) get() *drawer  { return k.pool.Get().(*drawer) }
func (k *keyring) put(d *drawer) { k.pool.Put(d) }

// A drawer computes keyed hashes and draws words. It is not safe for
// concurrent use.
type drawer struct {
	keys    *keyring
	block   cipher.Block
	in, out [aes.BlockSize]byte
	old     []byte // what a word is drawn for

	// What is being scrubbed, as it was.
	source, inode, node []byte

	claimed  []bool // which bytes of a directory block are somebody's
	headers  []int  // where entries of it begin
	usage    usage
	replaced bool // something was taken for garbage
	copied   bool // what is being scrubbed is a copy in a journal
	index    *IndexError

	replacer replacer
}

// sum returns the keyed hash of b.
//
// It is a CBC-MAC with the length in its first block.
func (d *drawer) sum(dom domain, b []byte) uint64 {
	d.in = [aes.BlockSize]byte{0: byte(dom)}
	le.PutUint64(d.in[8:], uint64(len(b)))
	for {
		d.block.Encrypt(d.out[:], d.in[:])
		if len(b) == 0 {
			return le.Uint64(d.out[:])
		}
		d.in = d.out
		for i, c := range b[:min(len(b), aes.BlockSize)] {
			d.in[i] ^= c
		}
		b = b[min(len(b), aes.BlockSize):]
	}
}

// random returns the n-th 128 bits of the stream of (dom, id, try).
func (d *drawer) random(dom domain, id uint64, try, n uint32) (lo, hi uint64) {
	le.PutUint64(d.in[:], id)
	le.PutUint32(d.in[8:], try)
	le.PutUint32(d.in[12:], n|uint32(dom|0x80)<<24) // no block that sum begins with has this bit
	d.block.Encrypt(d.out[:], d.in[:])
	return le.Uint64(d.out[:]), le.Uint64(d.out[8:])
}

// draw fills word with letters of an alphabet, from the stream of (dom, id, try).
func (d *drawer) draw(word []byte, alphabet string, dom domain, id uint64, try uint32) {
	const perHalf = 10 // 62¹⁰ < 2⁶⁴
	n := uint64(len(alphabet))
	for block := uint32(0); len(word) > 0; block++ {
		lo, hi := d.random(dom, id, try, block)
		for _, x := range [...]uint64{lo, hi} {
			part := word[:min(len(word), perHalf)]
			for i := range part {
				part[i] = alphabet[x%n]
				x /= n
			}
			word = word[len(part):]
		}
	}
}

// fill fills b with random bytes from the stream of an id.
func (d *drawer) fill(b []byte, id uint64) {
	for n := uint32(0); len(b) > 0; n++ {
		d.random(domainUUID, id, 0, n)
		b = b[copy(b, d.out[:]):]
	}
}
