package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"e2qcow/internal/testfs"
)

// script returns the file that e2qcow prints the completions for a shell to.
func script(t *testing.T, shell string) string {
	t.Helper()
	out, err := exec.Command("e2qcow", "completion", shell).Output()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "_e2qcow")
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestCompleteBash has bash complete what follows the words, the last of which
// is begun.
func TestCompleteBash(t *testing.T) {
	completions := script(t, "bash")
	dir := t.TempDir()
	for _, name := range []string{"a disk.img", "info.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	const complete = `source "$0"; COMP_WORDS=(e2qcow "$@"); COMP_CWORD=$#; _e2qcow; printf '%s\n' "${COMPREPLY[@]}"`
	for _, test := range []struct{ words, want string }{
		{"--fr", "--freeze"},
		{"-Q --spool", "--spool-dir"},
		{"-Q --journal ", "live none whole"},
		{"-Q --journal l", "live"},
		{"-Q --journal = n", "none"},
		{"-Q --compress =", "zlib zstd"},
		{"-Q --compress = zs", "zstd"},
		{"-Q --compress i", "info.img"},
		{"-Q --direct o", "off on"},
		{"-Q --spool-dir ", "folder"},
		{"-Q --threads ", ""},
		{"-b ", ""},
		{"--bad-map i", "info.img"},
		{"i", "info info.img"},
		{"-Q i", "info.img"},
		{"-Q a", "a disk.img"},
		{"check --", "--help --json --salvage"},
		{"info a", "a disk.img"},
		{"completion ", "bash fish zsh"},
		{"help ", "check completion diff domain help info mount reduce report try version"},
		{"info.img --dry", "--dry-run"},
	} {
		cmd := exec.Command("bash", append([]string{"-c", complete, completions}, strings.Split(test.words, " ")...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		got := strings.Split(strings.TrimSpace(string(out)), "\n")
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q: got %q, want %q (%v)", test.words, got, test.want, err)
		}
	}
}

// TestCompletionsParse has the shells parse what is made for them.
func TestCompletionsParse(t *testing.T) {
	for shell, option := range map[string]string{"bash": "-n", "zsh": "-n", "fish": "--no-execute"} {
		if out, err := exec.Command(shell, option, script(t, shell)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	if out, err := exec.Command("e2qcow", "completion", "tcsh").CombinedOutput(); err == nil || !strings.Contains(string(out), "one of bash, zsh, fish") {
		t.Errorf("tcsh: %v\n%s", err, out)
	}
}

// TestCompleteFish has fish complete, which it can without a terminal.
func TestCompleteFish(t *testing.T) {
	for line, want := range map[string]string{
		"e2qcow --jour":      "--journal",
		"e2qcow --journal l": "live",
		"e2qcow comp":        "completion",
		"e2qcow check --js":  "--json",
		"e2qcow help inf":    "info",

		"e2qcow -Q --compress=":   "--compress=zlib\n--compress=zstd\n",
		"e2qcow -Q --compress=zs": "--compress=zstd",
	} {
		cmd := exec.Command("fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", script(t, "fish"), line)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.Output()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%q: got %q, want %q (%v)", line, out, want, err)
		}
	}
}

// TestCompleteZsh types the beginning of a word and a tab into a zsh on a
// terminal, and reads the line that zsh makes of them.
func TestCompleteZsh(t *testing.T) {
	folder, home := filepath.Dir(script(t, "zsh")), t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "disk.img"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(home, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"e2qcow inf":              "e2qcow info ",
		"e2qcow dis":              "e2qcow disk.img ",
		"e2qcow -Q di":            "e2qcow -Q disk.img ",
		"e2qcow --jour":           "e2qcow --journal=",
		"e2qcow --journal l":      "e2qcow --journal live ",
		"e2qcow -Q --journal=n":   "e2qcow -Q --journal=none ",
		"e2qcow -Q --compress=zs": "e2qcow -Q --compress=zstd ",
		"e2qcow --spool-dir fo":   "e2qcow --spool-dir folder/",
		"e2qcow check --js":       "e2qcow check --json ",
		"e2qcow help ver":         "e2qcow help version ",
		"e2qcow completion fi":    "e2qcow completion fish ",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			master, tty := testfs.Terminal(t, 80)
			cmd := exec.Command("zsh", "-f", "-i")
			cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = home, tty, tty, tty
			cmd.Env = append(os.Environ(), "HOME="+home, "TERM=dumb")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			tty.Close()
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			seen := ""
			until := func(text string) {
				t.Helper()
				for b := make([]byte, 4096); !strings.Contains(seen, text); {
					_ = master.SetReadDeadline(time.Now().Add(20 * time.Second))
					n, err := master.Read(b)
					if err != nil {
						t.Fatalf("got %q, want %q (%v)", seen, text, err)
					}
					seen += string(b[:n])
				}
				seen = ""
			}
			// What is typed is echoed: so that only the output has the word.
			_, _ = master.WriteString("fpath=(" + folder + " $fpath); autoload -U compinit; compinit -u -D; PS1='> '; echo re''ady\n")
			until("ready\r\n")
			_, _ = master.WriteString(line + "\t")
			until(want)
		})
	}
}

// TestCompletedWords has the words that are offered for a value be those that are
// taken.
func TestCompletedWords(t *testing.T) {
	text, err := os.ReadFile(script(t, "bash"))
	if err != nil {
		t.Fatal(err)
	}
	var command []string // whose options the lines below are of
	section := regexp.MustCompile(`^\t(?:\d([a-z]+)|\*)\)$`)
	option := regexp.MustCompile(`(--[a-z0-9-]+)\) .*compgen -W '([^']*)'`)
	found := 0
	for line := range strings.Lines(string(text)) {
		if m := section.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			if command = []string{"-Q"}; m[1] != "" {
				command = []string{m[1]}
			}
		}
		m := option.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		found++
		words := strings.Fields(m[2])
		slices.Sort(words)
		args := slices.Concat(command, []string{m[1] + "=nonsense", "a", "b"})
		if strings.Contains(m[1], "scramble") {
			args = slices.Insert(args, 1, "-s")
		}
		out, err := exec.Command("e2qcow", args...).CombinedOutput()
		if want := "is not one of " + strings.Join(words, ", ") + "\n"; err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v %s: want %q in\n%s", command, m[1], want, out)
		}
	}
	if found < 5 {
		t.Fatalf("only %d options have words", found)
	}
}
