package cli

import (
	"crypto/rand"
	"encoding/hex"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/argon2"

	"e2qcow/internal/app"
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

// parseScramble parses what concerns scrambling, and where old and new names go.
func parseScramble(c *cli.Context, threads int) (s app.Scramble, names string, err error) {
	if !c.IsSet(flagScramble) {
		for _, name := range []string{flagScrambleKey, flagScrambleSalt, flagKeepSeed, flagScrambleMap, flagScrambleUUID, flagVerifyScramble} {
			if c.IsSet(name) {
				return s, "", app.Usagef("option --%s goes with -s only", name)
			}
		}
		return s, "", nil
	}
	if c.Bool(flagAllData) {
		return s, "", app.Usagef("-a and -s cannot be combined: -a copies the contents of files, which -s must not")
	}
	if c.Bool(flagWhole) {
		return s, "", app.Usagef("--%s and -s cannot be combined: --%[1]s copies the disk as it is, and -s has to know each structure", flagWhole)
	}
	strict, err := choice(c, flagScramble, map[string]bool{scrambleUsual: false, "strict": true})
	if err != nil {
		return s, "", err
	}
	unverified, err := choice(c, flagVerifyScramble, map[string]bool{"yes": false, "no": true})
	if err != nil {
		return s, "", err
	}
	opt := scrub.Options{Strict: strict, UUID: c.Bool(flagScrambleUUID), KeepSeed: c.Bool(flagKeepSeed), Unverified: unverified, Threads: threads}
	salt, err := parseSalt(c)
	switch {
	case err != nil:
		return s, "", err
	case salt != nil:
		opt.Key = deriveKey(c.String(flagScrambleKey), salt)
	default:
		_, _ = rand.Read(opt.Key[:]) // never fails
	}
	if c.IsSet(flagScrambleMap) && c.String(flagScrambleMap) == "" {
		return s, "", app.Usagef("option --%s needs a name", flagScrambleMap)
	}
	return app.Scramble{Options: &opt, Salt: salt}, c.String(flagScrambleMap), nil
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
			return nil, app.Usagef("option --%s goes with --%s only", flagScrambleSalt, flagScrambleKey)
		}
		return nil, nil
	}
	if c.String(flagScrambleKey) == "" {
		return nil, app.Usagef("option --%s needs a key", flagScrambleKey)
	}
	if !c.IsSet(flagScrambleSalt) {
		salt := make([]byte, saltSize)
		_, _ = rand.Read(salt) // never fails
		return salt, nil
	}
	salt, err := hex.DecodeString(c.String(flagScrambleSalt))
	if err != nil || len(salt) < minSaltSize || len(salt) > maxSaltSize {
		return nil, app.Usagef("option --%s: %q is not %d to %d bytes in hexadecimal", flagScrambleSalt, c.String(flagScrambleSalt), minSaltSize, maxSaltSize)
	}
	return salt, nil
}

// deriveKey returns the key that a text stands for, slowly: each guess at the
// text costs 32 MiB and a tenth of a second. The numbers are those of Argon2id;
// other ones would give other words.
func deriveKey(text string, salt []byte) (key [scrub.KeySize]byte) {
	const passes, kib, lanes = 4, 32 << 10, 1
	copy(key[:], argon2.IDKey([]byte(text), salt, passes, kib, lanes, scrub.KeySize))
	debug.FreeOSMemory() // what it took is more than all else takes
	return key
}
