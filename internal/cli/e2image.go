package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/target"
)

// e2image is the name under which the tool has the defaults and the form of
// messages of e2image.
const e2image = "e2image"

// followed is the version and the date of the e2fsprogs whose e2image the tool
// follows. Filters of test suites expect this form.
const followed = "1.47.0 (5-Feb-2023)"

// sayBanner prints, under the name e2image, the versions of e2image and of the
// tool as the first line.
func (t *Tool) sayBanner() {
	if t.e2image {
		_, _ = fmt.Fprintf(t.Stderr(), "%s %s, %s\n", e2image, followed, app.Tool())
	}
}

const e2imageUsage = `Usage: e2image [-r|-Q] [-acfnps] [-b superblock] [-B blocksize]
               [-o offset] [-O offset] device image-file
       e2image -I [-f] device image-file
       e2image -ra [-cfnp] [-o offset] [-O offset] device
`

// sayUsage prints the error in a command line as getopt(3) does, and the usage.
func (t *Tool) sayUsage(usage *app.UsageError) {
	what := usage.What
	if usage.Getopt != "" {
		what = usage.Getopt
	}
	t.Say("%s", what)
	_, _ = fmt.Fprint(t.Stderr(), e2imageUsage)
}

// explainE2image is Explain in the form of e2image: the message of the system,
// then the attempted operation.
func explainE2image(err error) string {
	var (
		path   *fs.PathError
		notExt *app.NotExtError
	)
	switch {
	case errors.As(err, &notExt):
		return fmt.Sprintf("Bad magic number in super-block while trying to open %s; %s", notExt.Name, strings.TrimPrefix(advise.Explain(err), notExt.Name+": "))
	case errors.As(err, &path) && (path.Op == "open" || path.Op == "create"):
		var errno unix.Errno
		if errors.As(path.Err, &errno) {
			first, n := utf8.DecodeRuneInString(errno.Error())
			return fmt.Sprintf("%c%s while trying to open %s", unicode.ToUpper(first), errno.Error()[n:], path.Path)
		}
	}
	return advise.Explain(err)
}

// sayNoSuperblock says on standard output, where scripts look for it, that the
// source could not be opened, unless the image was to go there.
func (t *Tool) sayNoSuperblock(to string) {
	if t.e2image && !target.IsStdout(to) {
		_, _ = fmt.Fprintln(t.Stdout, "Couldn't find valid filesystem superblock.")
	}
}
