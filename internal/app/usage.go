package app

import "fmt"

// A UsageError is a command line that makes no sense.
type UsageError struct {
	What     string
	Command  string // that was called; "" for the usual one
	Getopt   string // the same as getopt(3) says it; "" where getopt has no word for it
	Operands int    // how many operands there are too many, or too few if negative; else 0
}

func (e *UsageError) Error() string { return e.What }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{What: fmt.Sprintf(format, args...)} }
