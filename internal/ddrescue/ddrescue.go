// Package ddrescue reads the map files of GNU ddrescue, which say which parts
// of a disk could be read.
//
//	# comment
//	# current_pos  current_status  current_pass
//	0x00120000     ?               1
//	#      pos        size  status
//	0x00000000  0x00118000  +          rescued
//	0x00118000  0x00000200  -          bad; also ? * / for what was not tried to the end
//
// The format is that of "Mapfile structure" in the manual of ddrescue.
package ddrescue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"e2qcow/internal/ranges"
)

// A SyntaxError says where a map is not what ddrescue writes.
type SyntaxError struct {
	Line int
	What string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// ErrTooMany is returned for a map of more bad areas than are held in memory.
var ErrTooMany = fmt.Errorf("more than %d bad areas", maxAreas)

const (
	maxAreas = 1 << 20
	maxLine  = 64 << 10
)

// Bad returns the bytes that a map does not say were rescued, ascending, disjoint
// and joined: areas of any status but '+', and what no line is about, to the end of
// any disk.
func Bad(r io.Reader) ([]ranges.Range[int64], error) {
	p := parser{lines: bufio.NewScanner(r)}
	p.lines.Buffer(nil, maxLine)
	status, err := p.fields()
	if errors.Is(err, io.EOF) {
		return nil, &SyntaxError{p.line, "there is no status line"}
	}
	if err != nil {
		return nil, err
	}
	if err := p.checkStatus(status); err != nil {
		return nil, err
	}
	for {
		fields, err := p.fields()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.area(fields)
		}
		if err != nil {
			return nil, err
		}
	}
	if p.areas == 0 {
		return nil, &SyntaxError{p.line, "the map ends before its first area"}
	}
	if err := p.add(p.end, math.MaxInt64); err != nil {
		return nil, err
	}
	return p.bad, nil
}

// A parser is the state of Bad.
type parser struct {
	lines *bufio.Scanner
	line  int
	areas int
	end   int64 // of the last area
	bad   []ranges.Range[int64]
}

// fields returns the fields of the next line that has any.
func (p *parser) fields() ([]string, error) {
	for p.lines.Scan() {
		p.line++
		text, _, _ := strings.Cut(p.lines.Text(), "#")
		if fields := strings.Fields(text); len(fields) > 0 {
			return fields, nil
		}
	}
	switch err := p.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &SyntaxError{p.line + 1, "too long"}
	case err != nil:
		return nil, err
	}
	return nil, io.EOF
}

func (p *parser) bug(format string, args ...any) error {
	return &SyntaxError{p.line, fmt.Sprintf(format, args...)}
}

// checkStatus checks the line that says where ddrescue was. Maps of before
// version 1.20 have no pass there.
func (p *parser) checkStatus(fields []string) error {
	if len(fields) < 2 || len(fields) > 3 || len(fields[1]) != 1 || !strings.ContainsAny(fields[1], "?*/-FG+") {
		return p.bug("not the status line of a ddrescue map")
	}
	_, err := p.number(fields[0])
	return err
}

// area takes a line about an area.
func (p *parser) area(fields []string) error {
	if len(fields) != 3 || len(fields[2]) != 1 || !strings.ContainsAny(fields[2], "?*/-+") {
		return p.bug("not an area of a ddrescue map")
	}
	start, err := p.number(fields[0])
	if err != nil {
		return err
	}
	size, err := p.number(fields[1])
	if err != nil {
		return err
	}
	switch {
	case start < p.end:
		return p.bug("the area at %#x begins before %#x, where the last one ends", start, p.end)
	case size > math.MaxInt64-start:
		return p.bug("the area at %#x ends behind any disk", start)
	}
	if err := p.add(p.end, start); err != nil {
		return err
	}
	p.areas++
	p.end = start + size
	if fields[2] == "+" {
		return nil
	}
	return p.add(start, p.end)
}

// number parses a number as C does: decimal, octal or hexadecimal.
func (p *parser) number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < 0 || strings.ContainsRune(text, '_') {
		return 0, p.bug("%q is not a number of bytes", text)
	}
	return n, nil
}

// add adds a bad area behind the others.
func (p *parser) add(start, end int64) error {
	p.bad = ranges.Append(p.bad, start, end)
	if len(p.bad) > maxAreas {
		return ErrTooMany
	}
	return nil
}
