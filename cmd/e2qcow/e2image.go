package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"e2qcow/internal/target"
)

// e2image is the name under which the tool takes the place of that program, in
// what it does where no option says otherwise and in the form of its messages.
const e2image = "e2image"

// followed is the version of e2fsprogs whose e2image is meant, with its date.
// Filters of test suites look for a version and a date in this form.
const followed = "1.47.0 (5-Feb-2023)"

// calledAs takes the name that the program was called by.
func (s *session) calledAs(path string) {
	if filepath.Base(path) == e2image {
		s.name = e2image
	}
}

// isE2image reports whether the tool takes the place of e2image.
func (s *session) isE2image() bool { return s.name == e2image }

// sayBanner prints, under the name e2image, the versions of e2image and of the
// tool as the first line.
func (s *session) sayBanner() {
	if s.isE2image() {
		_, _ = fmt.Fprintf(s.stderr, "%s %s, %s\n", e2image, followed, toolName())
	}
}

const e2imageUsage = `Usage: e2image [-r|-Q] [-acfnps] [-b superblock] [-B blocksize]
               [-o offset] [-O offset] device image-file
       e2image -I [-f] device image-file
       e2image -ra [-cfnp] [-o offset] [-O offset] device
`

// sayUsage says what is wrong with a command line as getopt(3) does, and what
// would not be.
func (s *session) sayUsage(usage *usageError) {
	what := usage.what
	if usage.getopt != "" {
		what = usage.getopt
	}
	s.say("%s", what)
	_, _ = fmt.Fprint(s.stderr, e2imageUsage)
}

// asE2image sets what e2image does where no option says otherwise.
func (o *options) asE2image() {
	o.quiet = true
	// Scripts restore to devices that held something, as a clone of last week.
	o.overwrite = o.overwrite || o.mode == toRaw
}

// explainE2image is explain as e2image has it: what the system says, in its
// words, then what was tried.
func explainE2image(err error) string {
	var (
		path   *fs.PathError
		notExt *notExtError
	)
	switch {
	case errors.As(err, &notExt):
		return fmt.Sprintf("Bad magic number in super-block while trying to open %s; %s", notExt.name, strings.TrimPrefix(explain(err), notExt.name+": "))
	case errors.As(err, &path) && (path.Op == "open" || path.Op == "create"):
		var errno unix.Errno
		if errors.As(path.Err, &errno) {
			first, n := utf8.DecodeRuneInString(errno.Error())
			return fmt.Sprintf("%c%s while trying to open %s", unicode.ToUpper(first), errno.Error()[n:], path.Path)
		}
	}
	return explain(err)
}

// sayNoSuperblock says on standard output, where scripts look for it, that the
// source could not be opened, unless the image was to go there.
func (s *session) sayNoSuperblock(o options) {
	if s.isE2image() && !target.IsStdout(o.target) {
		_, _ = fmt.Fprintln(s.stdout, "Couldn't find valid filesystem superblock.")
	}
}
