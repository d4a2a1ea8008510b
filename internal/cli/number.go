package cli

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
)

// number returns the value of a flag, decimal or 0x and hexadecimal; 0 where
// it is not given.
func number(c *cli.Context, name string, least, most uint64) (uint64, error) {
	if !c.IsSet(name) {
		return 0, nil
	}
	text := c.String(name)
	if octal(text) {
		return 0, app.Usagef("option --%s: %qbegins with 0, which e2image reads as octal; leave the leading zeros out", name, text)
	}
	digits, base := text, 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax) && !isNegative(text):
		return 0, app.Usagef("option --%s: %q is not a number", name, text)
	case err != nil || n < least || n > most:
		return 0, app.Usagef("option --%s: %s is not from %d to %d", name, text, least, most)
	}
	return n, nil
}

// sizeOf returns the value in bytes of a flag: a number, to which a unit may be
// attached; 0 where the flag is not given.
func sizeOf(c *cli.Context, name string, least, most uint64) (uint64, error) {
	if !c.IsSet(name) {
		return 0, nil
	}
	text := c.String(name)
	digits, unit := cutUnit(text)
	if isNegative(digits) {
		return 0, app.Usagef("option --%s: %s is not from %d to %d", name, text, least, most)
	}
	if !isNumber(digits) && !strings.HasPrefix(digits, "0x") {
		return 0, app.Usagef("option --%s: %q is not a size, as 4096, 0x1000, 4K, 8s (sectors of 512 bytes)", name, text)
	}
	if octal(digits) {
		return 0, app.Usagef("option --%s: %qbegins with 0, which e2image reads as octal; leave the leading zeros out", name, text)
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, app.Usagef("option --%s: %q is not a size, as 4096, 0x1000, 4K, 8s (sectors of 512 bytes)", name, text)
	}
	if err != nil || n > math.MaxUint64/unit || n*unit < least || n*unit > most {
		return 0, app.Usagef("option --%s: %s is not from %d to %d", name, text, least, most)
	}
	return n * unit, nil
}

// octal reports whether strtoul(3) with base 0 reads the digits as octal.
func octal(digits string) bool { return len(digits) > 1 && digits[0] == '0' && digits[1] != 'x' }

// cutUnit cuts the unit off a size and returns it in bytes.
func cutUnit(text string) (digits string, unit uint64) {
	if digits, ok := strings.CutSuffix(text, "s"); ok {
		return digits, 512
	}
	short := strings.TrimSuffix(text, "iB")
	if n := len(short) - 1; n > 0 {
		hex := strings.HasPrefix(short, "0x") // of which E is a digit
		if i := strings.IndexByte("KMGTPE", short[n]&^0x20); i >= 0 && (short[n]&^0x20 != 'E' || !hex) {
			return short[:n], 1 << (10 * (i + 1))
		}
	}
	return text, 1
}

// powerOfTwo returns the value of a flag as sizeOf does.
func powerOfTwo(c *cli.Context, name string, least, most uint64) (uint64, error) {
	n, err := sizeOf(c, name, least, most)
	if err == nil && bits.OnesCount64(n) > 1 {
		err = app.Usagef("option --%s: %d is not a power of two", name, n)
	}
	return n, err
}

// isNumber reports whether s consists of decimal digits only, however many.
func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// isNegative reports whether s is a number below 0, which no flag takes.
func isNegative(s string) bool {
	digits, ok := strings.CutPrefix(s, "-")
	return ok && isNumber(digits)
}

// choice returns what the value of a flag stands for; the zero T where it is
// not given.
func choice[T any](c *cli.Context, name string, values map[string]T) (T, error) {
	var zero T
	if !c.IsSet(name) {
		return zero, nil
	}
	if v, ok := values[c.String(name)]; ok {
		return v, nil
	}
	var names []string
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	return zero, app.Usagef("option --%s: %q is not one of %s", name, c.String(name), strings.Join(names, ", "))
}
