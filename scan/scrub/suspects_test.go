package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"e2qcow/internal/testfs"
	"e2qcow/scan"
)

// viewOf scans a filesystem and returns its scrubbed image.
func viewOf(t *testing.T, data []byte, opt Options) *View {
	t.Helper()
	ctx := context.Background()
	index := NewIndex(opt)
	res, err := scan.Scan(ctx, bytes.NewReader(data), int64(len(data)), scan.Options{Visit: index.Visit, XattrValues: true})
	if err != nil {
		t.Fatal(err)
	}
	v, err := index.View(ctx, res)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLeak has a word in the image that is one of the source: a value is drawn
// like what the source has as a name, a target, a value or contents. Wherever the
// word stands in the source, the second look has to find it.
func TestLeak(t *testing.T) {
	const value = "value-of-a-user"
	source := func(debugfs ...string) []byte {
		data, err := os.ReadFile(testfs.Make(t, testfs.Spec{
			Mke2fs: "-b 1024 -N 256 -I 256 -J size=1 -O inline_data,ea_inode,metadata_csum", Size: 8 << 20,
			Debugfs: append([]string{"mkdir folder", "ea_set folder user.name " + value}, debugfs...),
		}).Path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	data := source()
	at := int64(bytes.Index(data, []byte(value)))
	image := make([]byte, len(data))
	if _, err := viewOf(t, data, Options{}).ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	drawn := string(image[at : at+int64(len(value))])
	long := strings.Repeat("some/", 30)
	file := t.TempDir() + "/value"
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s\x00%03000d", drawn, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, command := range map[string]string{
		"none":                  "mkdir name-of-a-folder",
		"name":                  "mkdir " + drawn,
		"name in an inode":      "mkdir folder/" + drawn,
		"target":                "symlink link " + drawn,
		"part of a target":      "symlink link " + long + drawn,
		"contents":              "write " + file + ".short file",
		"value":                 "ea_set / user.name " + drawn,
		"value in a block":      fmt.Sprintf("ea_set / user.name /%s-%0300d", drawn, 1), // another word
		"value with an inode":   "ea_set -f " + file + " / user.name",
		"name of an attribute":  "ea_set / user." + drawn + " value",
		"beginning of a longer": "mkdir " + drawn + "-longer", // another word
	} {
		if err := os.WriteFile(file+".short", []byte(drawn), 0o600); err != nil {
			t.Fatal(err)
		}
		v := viewOf(t, source(command), Options{})
		if _, err := v.ReadAt(make([]byte, v.Size()), 0); err != nil {
			t.Fatal(err)
		}
		leak, want := (*LeakError)(nil), !strings.Contains(command, drawn+"-") && name != "none"
		err := v.Verify(context.Background())
		if got := errors.As(err, &leak); got != want || !got && err != nil {
			t.Errorf("%s: %v, want a leak: %v", name, err, want)
		} else if got && (leak.Offset != at || leak.Length != len(value)) {
			t.Errorf("%s: %v, want it at byte %d", name, leak, at)
		}
	}
}

// TestManySuspects has more suspects than are kept: they are compared in between,
// and those that are no words are dropped.
func TestManySuspects(t *testing.T) {
	data, err := os.ReadFile(testfs.Make(t, testfs.Spec{Mke2fs: "-b 1024 -N 64 -J size=1", Size: 8 << 20, Debugfs: []string{"mkdir name-of-a-folder"}}).Path)
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(t, data, Options{})
	list := make([]suspect, 1<<12)
	for range 3 * maxSuspects / len(list) {
		for i := range list {
			list[i] = suspect{le.Uint64([]byte("name-of-")), int64(i) % v.Size()}
		}
		if err := v.suspect(list); err != nil {
			t.Fatal(err)
		}
		if n := len(v.suspects.list); n > maxSuspects {
			t.Fatalf("%d suspects are kept", n)
		}
	}
	if err := v.Verify(context.Background()); err != nil || len(v.suspects.list) != 0 {
		t.Errorf("%d suspects are left, %v", len(v.suspects.list), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v.suspects.list = list
	if err := v.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
