package cli

import (
	"errors"
	"io/fs"
	"os"

	"e2qcow/internal/app"
)

// verbs are words that a newcomer takes for commands, and what to write instead.
var verbs = map[string]string{
	"anonymize": "-Qs",
	"backup":    "-Q",
	"clone":     "-ra SOURCE TARGET",
	"compare":   "diff",
	"compress":  "-Qz",
	"convert":   "-r, or -Q --whole",
	"copy":      "-ra SOURCE TARGET",
	"create":    "-Q",
	"draw":      "report",
	"dump":      "-Q",
	"export":    "-Q",
	"extract":   "-r",
	"fsck":      "check",
	"install":   "-I",
	"list":      "info",
	"move":      "-ra -o FROM -O TO DEVICE",
	"restore":   "-r",
	"save":      "-Q",
	"scramble":  "-Qs",
	"scrub":     "-Qs",
	"show":      "info",
	"verify":    "check",
}

// checkVerb refuses a first operand that is meant as a command. A word that is the
// name of a file is an operand.
func checkVerb(word string) error {
	instead, ok := verbs[word]
	if !ok {
		return nil
	}
	if _, err := os.Lstat(word); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return app.Usagef("unknown command %q; did you mean %s?", word, instead)
}
