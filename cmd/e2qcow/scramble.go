package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"e2qcow/internal/image"
	"e2qcow/scan"
	"e2qcow/scan/scrub"
)

// The flags that concern scrambling.
const (
	flagScramble       = "scramble"
	flagScrambleKey    = "scramble-key"
	flagVerifyScramble = "verify-scramble"
)

// scrambleUsual is the value of --scramble where none is given.
const scrambleUsual = "usual"

// scrambleFlags returns those but --scramble itself.
func scrambleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagScrambleKey, Usage: "`KEY`"},
		&cli.StringFlag{Name: flagVerifyScramble, Usage: "`yes|no`"},
	}
}

// A scrambling is how what is private is replaced. The zero one is none.
type scrambling struct {
	options *scrub.Options // nil where nothing is
	index   *scrub.Index
	view    *scrub.View
}

// on tells whether anything is replaced.
func (s *scrambling) on() bool { return s.options != nil }

// parseScramble parses what concerns scrambling.
func (o *options) parseScramble(c *cli.Context) error {
	if !c.IsSet(flagScramble) {
		for _, name := range []string{flagScrambleKey, flagVerifyScramble} {
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
	opt := scrub.Options{Strict: strict, Unverified: unverified, Threads: o.threads}
	if c.IsSet(flagScrambleKey) {
		opt.Key = sha256.Sum256([]byte(c.String(flagScrambleKey)))
	} else {
		_, _ = rand.Read(opt.Key[:]) // never fails
	}
	o.scramble.options = &opt
	return nil
}

// watch has what a scan reads shown to who scrambles.
func (s *scrambling) watch(opt *scan.Options) {
	if s.on() {
		s.index = scrub.NewIndex(*s.options)
		opt.Visit = s.index.Visit
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
	count := func(n uint64, what string) string {
		return humanize.Comma(int64(min(n, 1<<62))) + " " + english.PluralWord(int(min(n, 2)), what, "")
	}
	parts := []string{"scrambled: the image holds no names, targets or values of the source, but the shape of its tree, sizes, times and owners"}
	if sum.Misplaced > 0 {
		parts = append(parts, fmt.Sprintf("%s of indexed directories could not keep the place (%s did)", count(sum.Misplaced, "name"), humanize.Comma(int64(min(sum.Names, 1<<62)))))
	}
	if sum.Overwritten > 0 {
		parts = append(parts, count(sum.Overwritten, "word")+" stood where damage has numbers, and made room for others")
	}
	if sum.Indexed > 0 {
		parts = append(parts, fmt.Sprintf("symlinks through %s do not lead where they did", count(sum.Indexed, "indexed folder")))
	}
	return strings.Join(parts, "; ")
}
