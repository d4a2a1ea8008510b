package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/app"
)

const completionHelp = `Usage: e2qcow completion bash|zsh|fish
Print what has a shell complete the options and operands of e2qcow:

  e2qcow completion bash > /usr/share/bash-completion/completions/e2qcow
  e2qcow completion zsh > /usr/share/zsh/site-functions/_e2qcow
  e2qcow completion fish > /usr/share/fish/vendor_completions.d/e2qcow.fish

`

// shells are the shells with completions.
var shells = []string{"bash", "zsh", "fish"}

// completion prints the completion script of a shell.
func (t *Tool) completion(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) != 1 || !slices.Contains(shells, args[0]) {
		return app.Usagef("completion needs one of %s, and nothing else", strings.Join(shells, ", "))
	}
	text := ""
	switch list := commands(); args[0] {
	case "bash":
		text = completeBash(list)
	case "zsh":
		text = completeZsh(list)
	case "fish":
		text = completeFish(list)
	}
	_, err := io.WriteString(t.Stdout, text)
	return err
}

// A completable describes a flag for a shell.
type completable struct {
	names   []string // with dashes, the long one first
	text    string   // what it does; may be ""
	value   valueKind
	words   []string // of wordValue
	implied bool     // the value is attached with "=", or left out
}

// A valueKind is the kind of value of a flag.
type valueKind uint8

const (
	noValue valueKind = iota
	anyValue
	wordValue
	fileValue
	folderValue
)

// completables returns the flags for a shell.
func completables(flags []cli.Flag) []completable {
	var list []completable
	for _, f := range flags {
		c := completable{}
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			c.names = append(c.names, dashes+name)
		}
		value := ""
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			value, c.text = placeholder(doc.GetUsage())
			if doc.TakesValue() {
				c.value = anyValue
			}
		}
		if i, ok := f.(*impliedFlag); ok {
			c.implied = true
			if len(i.words) > 0 {
				value = strings.Join(i.words, "|")
			}
		}
		switch {
		case c.value == noValue:
		case strings.Contains(value, "|"):
			c.value, c.words = wordValue, strings.Split(value, "|")
		case value == "FILE":
			c.value = fileValue
		case value == "DIR":
			c.value = folderValue
		}
		list = append(list, c)
	}
	return list
}

// completeBash returns a completion script for bash that uses builtins only.
func completeBash(list []command) string {
	var b strings.Builder
	b.WriteString("# bash completion for e2qcow, made by: e2qcow completion bash\n" +
		"_e2qcow() {\n" +
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} options='' attached=''\n" +
		"\t# --name=value comes as three words.\n" +
		"\t[[ $cur == = ]] && cur='' attached=1\n" +
		"\t[[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]} attached=1\n" +
		"\tCOMPREPLY=()\n" +
		"\tcase $((COMP_CWORD > 1))${COMP_WORDS[1]} in\n")
	for _, cmd := range slices.Backward(list) {
		pattern := "1" + cmd.name
		if cmd.name == "" {
			pattern = "*"
		}
		fmt.Fprintf(&b, "\t%s)\n\t\tcase $prev in\n", pattern)
		var all []string
		for _, c := range completables(cmd.flags) {
			all = append(all, c.names...)
			var reply string
			switch c.value {
			case noValue:
				continue
			case wordValue:
				reply = fmt.Sprintf("mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")", strings.Join(c.words, " "))
			case fileValue:
				reply = "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
			case folderValue:
				reply = "mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")"
			}
			if reply != "" {
				reply += "; "
			}
			if c.implied {
				fmt.Fprintf(&b, "\t\t%s) [[ $attached ]] && { %sreturn; } ;;\n", c.names[0], reply)
				continue
			}
			fmt.Fprintf(&b, "\t\t%s) %sreturn ;;\n", strings.Join(c.names, " | "), reply)
		}
		fmt.Fprintf(&b, "\t\tesac\n\t\toptions='%s'\n\t\t;;\n", strings.Join(all, " "))
	}
	names := strings.Join(commandNames(list), " ")
	fmt.Fprintf(&b, "\tesac\n"+
		"\tif [[ $cur == -* ]]; then\n"+
		"\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"+
		"\t\treturn\n"+
		"\tfi\n"+
		"\t[[ ${COMP_WORDS[1]} == completion && $COMP_CWORD == 2 ]] && { mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\"); return; }\n"+
		"\t[[ ${COMP_WORDS[1]} == help && $COMP_CWORD == 2 ]] && { mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\"); return; }\n"+
		"\t(( COMP_CWORD == 1 )) && mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")\n"+
		"\tmapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$cur\")\n"+
		"}\n"+
		"complete -o filenames -F _e2qcow e2qcow\n", strings.Join(shells, " "), names, names)
	return b.String()
}

// completeZsh returns the completions for zsh.
func completeZsh(list []command) string {
	var b strings.Builder
	// _arguments passes options of its own to what it calls, which _alternative
	// does not know.
	fmt.Fprintf(&b, "#compdef e2qcow\n# made by: e2qcow completion zsh\n\n"+
		"_e2qcow_first() {\n\tif (( CURRENT == 2 )); then\n\t\t_alternative 'commands:command:(%s)' 'files:source:_files'\n\telse\n\t\t_files\n\tfi\n}\n\n", strings.Join(commandNames(list), " "))
	b.WriteString("_e2qcow() {\n\tlocal -a specs\n\tcase $(( CURRENT > 2 ))$words[2] in\n")
	for _, cmd := range slices.Backward(list) {
		pattern, operands := "1"+cmd.name, "'*:file:_files'"
		switch cmd.name {
		case "":
			pattern = "*"
			operands = "'1: :_e2qcow_first' '*:file:_files'"
		case "completion":
			operands = "'1:shell:(" + strings.Join(shells, " ") + ")'"
		case "help":
			operands = "'1:command:(" + strings.Join(commandNames(list), " ") + ")'"
		}
		fmt.Fprintf(&b, "\t%s)\n\t\tspecs=(\n", pattern)
		for _, c := range completables(cmd.flags) {
			for _, name := range c.names {
				fmt.Fprintf(&b, "\t\t\t'%s'\n", zshSpec(c, name))
			}
		}
		b.WriteString("\t\t)\n")
		if cmd.name != "" {
			b.WriteString("\t\tshift words; (( CURRENT-- ))\n")
		}
		fmt.Fprintf(&b, "\t\t_arguments -s $specs %s ;;\n", operands)
	}
	b.WriteString("\tesac\n}\n\n_e2qcow \"$@\"\n")
	return b.String()
}

// zshSpec returns a flag under one of its names as _arguments wants it.
func zshSpec(c completable, name string) string {
	spec := "(" + strings.Join(c.names, " ") + ")" + name
	if c.implied && !strings.HasPrefix(name, "--") {
		return spec // never has a value
	}
	switch {
	case c.implied:
		spec += "=-"
	case c.value != noValue && strings.HasPrefix(name, "--"):
		spec += "="
	case c.value != noValue:
		spec += "+"
	}
	if c.text != "" {
		spec += "[" + strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`).Replace(c.text) + "]"
	}
	colon := ":"
	if c.implied {
		colon = "::"
	}
	switch c.value {
	case anyValue:
		spec += colon + "value: "
	case wordValue:
		spec += colon + "value:(" + strings.Join(c.words, " ") + ")"
	case fileValue:
		spec += colon + "file:_files"
	case folderValue:
		spec += colon + "folder:_files -/"
	}
	return spec
}

func commandNames(list []command) []string {
	var names []string
	for _, cmd := range list {
		if cmd.name != "" {
			names = append(names, cmd.name)
		}
	}
	return names
}

// completeFish returns the completions for fish.
func completeFish(list []command) string {
	var b strings.Builder
	names := strings.Join(commandNames(list), " ")
	fmt.Fprintf(&b, "# fish completion for e2qcow, made by: e2qcow completion fish\n"+
		"complete -c e2qcow -n 'test (count (commandline -opc)) -eq 1' -a '%s'\n", names)
	for _, cmd := range list {
		when := "not __fish_seen_subcommand_from " + names
		if cmd.name != "" {
			when = "__fish_seen_subcommand_from " + cmd.name
		}
		for _, c := range completables(cmd.flags) {
			fmt.Fprintf(&b, "complete -c e2qcow -n '%s'", when)
			for _, name := range c.names {
				if long, ok := strings.CutPrefix(name, "--"); ok {
					fmt.Fprintf(&b, " -l %s", long)
				} else if !c.implied {
					fmt.Fprintf(&b, " -s %s", name[1:])
				}
			}
			switch {
			case c.implied: // fish would complete a value that is not attached
			case c.value == anyValue:
				b.WriteString(" -x")
			case c.value == wordValue:
				fmt.Fprintf(&b, " -x -a '%s'", strings.Join(c.words, " "))
			case c.value == fileValue:
				b.WriteString(" -r -F")
			case c.value == folderValue:
				b.WriteString(" -x -a '(__fish_complete_directories)'")
			}
			if c.text != "" {
				fmt.Fprintf(&b, " -d '%s'", strings.ReplaceAll(c.text, "'", `\'`))
			}
			b.WriteString("\n")
			if c.implied {
				// A value that is attached, as fish has no option whose value can be left out.
				var words []string
				for _, word := range c.words {
					words = append(words, c.names[0]+"="+word)
				}
				fmt.Fprintf(&b, "complete -c e2qcow -n 'string match -q -- \"%s=*\" (commandline -ct)' -f -a '%s'\n", c.names[0], strings.Join(words, " "))
			}
		}
	}
	fmt.Fprintf(&b, "complete -c e2qcow -n '__fish_seen_subcommand_from completion' -f -a '%s'\n", strings.Join(shells, " "))
	fmt.Fprintf(&b, "complete -c e2qcow -n '__fish_seen_subcommand_from help; and test (count (commandline -opc)) -eq 2' -f -a '%s'\n", names)
	return b.String()
}
