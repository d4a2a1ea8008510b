package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/argon2"

	"e2qcow/image"
	"e2qcow/internal/target"
	"e2qcow/scan"
	"e2qcow/scan/scrub"
)

// The flags that concern scrambling.
const (
	flagScramble       = "scramble"
	flagScrambleKey    = "scramble-key"
	flagScrambleMap    = "scramble-map"
	flagScrambleSalt   = "scramble-salt"
	flagKeepSeed       = "scramble-keep-seed"
	flagScrambleUUID   = "scramble-uuid"
	flagVerifyScramble = "verify-scramble"
)

// scrambleUsual is the value of --scramble where none is given.
const scrambleUsual = "usual"

// scrambleFlags returns those but --scramble itself.
func scrambleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagScrambleKey, Usage: "`KEY`"},
		&cli.StringFlag{Name: flagScrambleSalt, Usage: "`HEX`"},
		&cli.BoolFlag{Name: flagKeepSeed},
		&cli.StringFlag{Name: flagScrambleMap, Usage: "`FILE`"},
		&cli.BoolFlag{Name: flagScrambleUUID},
		&cli.StringFlag{Name: flagVerifyScramble, Usage: "`yes|no`"},
	}
}

// A scrambling is how what is private is replaced. The zero one is none.
type scrambling struct {
	options *scrub.Options // nil where nothing is
	salt    []byte         // that the key was derived with; nil for a random key
	mapFile string         // where old and new names go; "" for nowhere
	names   record         // that
	index   *scrub.Index
	view    *scrub.View
}

// on tells whether anything is replaced.
func (s *scrambling) on() bool { return s.options != nil }

// parseScramble parses what concerns scrambling.
func (o *options) parseScramble(c *cli.Context) error {
	if !c.IsSet(flagScramble) {
		for _, name := range []string{flagScrambleKey, flagScrambleSalt, flagKeepSeed, flagScrambleMap, flagScrambleUUID, flagVerifyScramble} {
			if c.IsSet(name) {
				return usagef("option --%s goes with -s only", name)
			}
		}
		return nil
	}
	for _, name := range []string{flagAllData, flagWhole} {
		if c.Bool(name) {
			return usagef("option --%s takes all there is, -s leaves out what is private", name)
		}
	}
	strict, err := choice(c, flagScramble, map[string]bool{scrambleUsual: false, "strict": true})
	if err != nil {
		return err
	}
	unverified, err := choice(c, flagVerifyScramble, map[string]bool{"yes": false, "no": true})
	if err != nil {
		return err
	}
	opt := scrub.Options{Strict: strict, UUID: c.Bool(flagScrambleUUID), KeepSeed: c.Bool(flagKeepSeed), Unverified: unverified, Threads: o.threads}
	salt, err := parseSalt(c)
	switch {
	case err != nil:
		return err
	case salt != nil:
		opt.Key = deriveKey(c.String(flagScrambleKey), salt)
	default:
		_, _ = rand.Read(opt.Key[:]) // never fails
	}
	o.scramble.salt = salt
	o.scramble.options, o.scramble.mapFile = &opt, c.String(flagScrambleMap)
	if c.IsSet(flagScrambleMap) && o.scramble.mapFile == "" {
		return usagef("option --%s needs a name", flagScrambleMap)
	}
	return nil
}

// Lengths of a salt in bytes: of those that are drawn, and of those that are
// taken.
const (
	saltSize    = 16
	minSaltSize = 8
	maxSaltSize = 32
)

// parseSalt returns the salt that the key is derived with, a random one unless
// it is given; nil where there is no key.
func parseSalt(c *cli.Context) ([]byte, error) {
	if !c.IsSet(flagScrambleKey) {
		if c.IsSet(flagScrambleSalt) {
			return nil, usagef("option --%s goes with --%s only", flagScrambleSalt, flagScrambleKey)
		}
		return nil, nil
	}
	if c.String(flagScrambleKey) == "" {
		return nil, usagef("option --%s needs a key", flagScrambleKey)
	}
	if !c.IsSet(flagScrambleSalt) {
		salt := make([]byte, saltSize)
		_, _ = rand.Read(salt) // never fails
		return salt, nil
	}
	salt, err := hex.DecodeString(c.String(flagScrambleSalt))
	if err != nil || len(salt) < minSaltSize || len(salt) > maxSaltSize {
		return nil, usagef("option --%s: %q is not %d to %d bytes in hexadecimal", flagScrambleSalt, c.String(flagScrambleSalt), minSaltSize, maxSaltSize)
	}
	return salt, nil
}

// deriveKey returns the key that a text stands for, slowly: each guess at the
// text costs 32 MiB and a tenth of a second. The numbers are those of Argon2id;
// other ones would give other words.
func deriveKey(text string, salt []byte) (key [scrub.KeySize]byte) {
	const passes, kib, lanes = 4, 32 << 10, 1
	copy(key[:], argon2.IDKey([]byte(text), salt, passes, kib, lanes, scrub.KeySize))
	return key
}

// saltText returns the salt as it is recorded, "" where there is none.
func (s *scrambling) saltText() string { return hex.EncodeToString(s.salt) }

// watch has what a scan reads shown to who scrambles. Of the journal only what
// recovery reads is left.
func (s *scrambling) watch(opt *scan.Options) {
	if !s.on() {
		return
	}
	s.index = scrub.NewIndex(*s.options)
	opt.Visit = s.index.Visit
	if opt.Journal == scan.JournalWhole {
		opt.Journal = scan.JournalLive
	}
}

// image returns the image of what a scan found, scrambled if that is asked for.
func (s *scrambling) image(ctx context.Context, res *scan.Result, name string) (image.Image, error) {
	if !s.on() {
		return res.View(), nil
	}
	view, err := s.index.View(ctx, res)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.view = view
	return view, nil
}

// summary says what is left of the filesystem's names, and what was given up.
func (s *scrambling) summary() string {
	sum := s.view.Summary()
	parts := []string{"scrambled: the image holds no names, targets or values of the source, but the shape of its tree, sizes, times and owners"}
	if s.options.Unverified {
		parts = append(parts, "it was not searched for words that are left")
	}
	if s.salt != nil {
		parts = append(parts, fmt.Sprintf("--%s %s with the same key draws the same words", flagScrambleSalt, s.saltText()))
	}
	if sum.Unsound > 0 {
		parts = append(parts, fmt.Sprintf("the index of %s was sound and may not be any more: e2fsck tells", count(sum.Unsound, "folder")))
	}
	if sum.Misplaced > 0 {
		parts = append(parts, fmt.Sprintf("%s of indexed directories could not keep the place (%s did)", count(sum.Misplaced, "name"), comma(sum.Names)))
	}
	if sum.Replaced > 0 {
		parts = append(parts, count(sum.Replaced, "block")+" with what is no structure: replaced, and what e2fsck says of them differs")
	}
	if sum.Indexed > 0 && sum.Symlinks {
		parts = append(parts, fmt.Sprintf("symlinks through %s may not lead where they did", count(sum.Indexed, "indexed folder")))
	}
	return strings.Join(parts, "; ")
}

// openNames opens where old and new names go.
func (s *scrambling) openNames(ctx context.Context, w *work) error {
	if s.mapFile == "" {
		return nil
	}
	var err error
	if s.names, err = openBeside(ctx, w, flagScrambleMap, s.mapFile, target.Options{Format: target.Names, Overwrite: w.overwrite}); err != nil {
		return err
	}
	if w.record.to != nil && s.names.to.Is(w.record.to) {
		return usagef("option --%s: %s is the record", flagScrambleMap, s.names.to.Name())
	}
	return nil
}

// A jsonName is a line of the file of --scramble-map. Names that are no UTF-8
// are bytes, in base64.
type jsonName struct {
	Directory uint32 `json:"directory"` // inode
	Old       string `json:"old,omitempty"`
	OldBytes  []byte `json:"old_bytes,omitempty"`
	New       string `json:"new,omitempty"`
	NewBytes  []byte `json:"new_bytes,omitempty"`
}

// writeNames writes old and new names, where that is asked for.
func (s *scrambling) writeNames(ctx context.Context) error {
	if s.names.to == nil {
		return nil
	}
	b := bufio.NewWriter(s.names.to)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := s.view.Renames(ctx, func(r scrub.Rename) error {
		n := jsonName{Directory: r.Directory}
		if utf8.Valid(r.Old) {
			n.Old = string(r.Old)
		} else {
			n.OldBytes = r.Old
		}
		if utf8.Valid(r.New) {
			n.New = string(r.New)
		} else {
			n.NewBytes = r.New
		}
		return e.Encode(n)
	})
	if err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return s.names.Settle()
}
