package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
)

// An implied is a flag whose value may be left out. A value must be attached,
// as in --name=value: the next word is never the value.
type implied interface {
	ImpliedValue() string
	Values() []string // the allowed values
}

// An option describes a flag for the parser.
type option struct {
	name       string // the first long one, which stands for all
	takesValue bool
	implied    *string // the value if none is given; nil if a value is required
	values     []string
}

// optionTable returns the flags under each of their names, without dashes.
func optionTable(flags []cli.Flag) map[string]option {
	table := map[string]option{}
	for _, f := range flags {
		o := option{name: f.Names()[0]}
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			o.takesValue = doc.TakesValue()
		}
		if i, ok := f.(implied); ok {
			value := i.ImpliedValue()
			o.implied, o.values = &value, i.Values()
		}
		for _, name := range f.Names() {
			table[name] = o
		}
	}
	return table
}

// normalise rewrites args, without the name of the program, from the syntax of
// getopt to that of package cli: each option with its first name and its value
// attached, then "--", then the operands.
//
//	-Qf dev -b8193 out   →   --qcow2 --force --superblock=8193 -- dev out
//
// hint explains in an error about too few or too many operands whether an
// option took an operand as its value.
func normalise(args []string, flags []cli.Flag) (rest []string, hint func(*app.UsageError), err error) {
	p := &parser{table: optionTable(flags), rest: args}
	for len(p.rest) > 0 {
		arg := p.rest[0]
		p.rest = p.rest[1:]
		var err error
		switch {
		case arg == "--":
			p.operands = append(p.operands, p.rest...)
			p.rest = nil
		case strings.HasPrefix(arg, "--"):
			err = p.long(arg)
		case len(arg) > 1 && arg[0] == '-':
			err = p.bundle(arg)
		default:
			p.operands = append(p.operands, arg)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return append(append(p.options, "--"), p.operands...), p.hint, nil
}

// A parser is the state of normalise.
type parser struct {
	table             map[string]option
	rest              []string // arguments not looked at yet
	options, operands []string
	detached          []string // hints about values that were separate words
	bare              []option // options given without their optional value
}

// hint is what normalise returns.
func (p *parser) hint(e *app.UsageError) {
	if e.Operands < 0 {
		e.What += strings.Join(p.detached, "")
	}
	for _, o := range p.bare {
		for _, value := range o.values {
			if e.Operands > 0 && slices.Contains(p.operands, value) {
				e.What += "; " + attach(o, value)
			}
		}
	}
}

// attach returns a text that says how to give an optional value.
func attach(o option, value string) string {
	return fmt.Sprintf("write the value behind the long name: --%s=%s", o.name, value)
}

// long takes --name or --name=value.
func (p *parser) long(arg string) error {
	name, value, attached := strings.Cut(arg[2:], "=")
	o, ok := p.table[name]
	if !ok || utf8.RuneCountInString(name) < 2 {
		return &app.UsageError{What: "unknown option --" + name, Getopt: "invalid option -- '-'"}
	}
	switch {
	case !o.takesValue && attached:
		return app.Usagef("option --%s takes no value", name)
	case !o.takesValue:
		p.options = append(p.options, "--"+o.name)
		return nil
	case attached:
		p.add(o, value)
		return nil
	}
	return p.next(o, "--"+name)
}

// bundle takes -x, -xyz, -xvalue and -xyzvalue.
func (p *parser) bundle(arg string) error {
	for letters := arg[1:]; letters != ""; {
		_, n := utf8.DecodeRuneInString(letters)
		name := letters[:n]
		letters = letters[n:]
		o, ok := p.table[name]
		value, attached := strings.CutPrefix(letters, "=")
		switch {
		case ok && attached && o.implied != nil:
			return app.Usagef("option -%s: %s", name, attach(o, value))
		case ok && attached && !o.takesValue:
			return app.Usagef("option -%s takes no value", name)
		case !ok:
			err := &app.UsageError{What: "unknown option -" + name, Getopt: "invalid option -- '" + name + "'"}
			if len(arg) > len(name)+1 {
				err.What += " in " + arg
			}
			return err
		case !o.takesValue:
			p.options = append(p.options, "--"+o.name)
		case o.implied == nil && letters != "":
			p.add(o, letters)
			return nil
		default:
			if err := p.next(o, "-"+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// next gives o a value that is not attached to it: the next word, or the
// implied value.
func (p *parser) next(o option, spelled string) error {
	switch {
	case o.implied != nil:
		p.add(o, *o.implied)
		p.bare = append(p.bare, o)
	case len(p.rest) == 0:
		err := &app.UsageError{What: "option " + spelled + " needs a value"}
		err.Getopt = "option requires an argument -- '" + strings.TrimLeft(spelled, "-") + "'"
		return err
	default:
		p.add(o, p.rest[0])
		p.detached = append(p.detached, fmt.Sprintf("; %q was taken as the value of option %s", p.rest[0], spelled))
		p.rest = p.rest[1:]
	}
	return nil
}

func (p *parser) add(o option, value string) {
	p.options = append(p.options, "--"+o.name+"="+value)
}
