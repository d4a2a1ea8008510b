package source

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"e2qcow/internal/spool"
)

// compressed returns the name of a file with data, compressed by a program.
func compressed(t *testing.T, data []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// decompress decompresses a source by how it begins.
func decompress(s *Source, force bool) (string, error) {
	head, err := s.Head(16)
	if err != nil {
		return "", err
	}
	return s.Decompress(head, force)
}

var programs = map[string][]string{
	"gzip": {"gzip", "-c"}, "bzip2": {"bzip2", "-c"}, "xz": {"xz", "-c"}, "zstd": {"zstd", "-qc"},
}

// TestDecompress reads what the programs have compressed, whole and cut short.
func TestDecompress(t *testing.T) {
	data := bytes.Repeat([]byte("what is in the file, "), 20000)
	for kind, program := range programs {
		t.Run(kind, func(t *testing.T) {
			name := compressed(t, data, program...)
			s, err := Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got, err := decompress(s, false); got != kind || err != nil || !s.IsPipe() {
				t.Fatalf("got %q, %v", got, err)
			}
			if err := s.Spool(t.Context(), spool.Options{}, nil); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, s.Size())
			if _, err := s.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}

			whole, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, whole[:len(whole)-9], 0o600); err != nil {
				t.Fatal(err)
			}
			cut, err := Open(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer cut.Close()
			if _, err = decompress(cut, false); err == nil {
				err = cut.Spool(t.Context(), spool.Options{}, nil)
			}
			if err == nil || !strings.Contains(err.Error(), kind+" data") {
				t.Errorf("cut short: %v", err)
			}
		})
	}
}

// TestBomb has what grows too much refused, unless it is forced.
func TestBomb(t *testing.T) {
	zeros := make([]byte, freeOutput+64<<20)
	name := compressed(t, zeros, "zstd", "-qc")
	for _, force := range []bool{false, true} {
		s, err := Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = decompress(s, force); err == nil {
			err = s.Spool(t.Context(), spool.Options{}, nil)
		}
		if force != (err == nil) || err != nil && !errors.Is(err, ErrBomb) {
			t.Errorf("force %v: %v", force, err)
		}
		s.Close()
	}
}

// TestNotCompressed leaves other files as they are.
func TestNotCompressed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("plain"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := decompress(s, false); got != "" || err != nil || s.IsPipe() {
		t.Errorf("got %q, %v", got, err)
	}
}

// FuzzDecompress decompresses anything.
func FuzzDecompress(f *testing.F) {
	for _, c := range compressions {
		f.Add([]byte(c.magic))
	}
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x28\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), name)
		if err != nil {
			return
		}
		defer s.Close()
		if kind, err := decompress(s, false); err == nil && kind != "" {
			_ = s.Spool(t.Context(), spool.Options{}, nil)
		}
	})
}
