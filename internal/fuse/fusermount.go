//go:build !386 && !arm

package fuse

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// fusermount calls the program that unmounts for users other than root.
func fusermount(option, folder string) error {
	program, err := exec.LookPath("fusermount3")
	if err != nil {
		if program, err = exec.LookPath("fusermount"); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	cmd := exec.Command(program, option, "--", folder)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stderr = &out
	err = cmd.Run()
	text := strings.TrimSpace(out.String())
	switch {
	case err == nil:
		return nil
	case strings.Contains(text, "busy"):
		return unix.EBUSY
	}
	return fmt.Errorf("%s: %s", program, text)
}
