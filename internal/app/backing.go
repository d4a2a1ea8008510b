package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/source"
	"e2qcow/qcow2"
)

// Backing files are named by the image, which may come from anyone. So they are
// opened only when asked for, and only below the folder of the source.

var (
	errBackingOutside = advise.New("is not in the folder of the image",
		"copy the backing file there, or join both with qemu-img convert")
	errBackingDeep = advise.New(fmt.Sprintf("is behind more than %d images", maxBacking),
		"join the images with qemu-img convert")
)

// maxBacking is how many files may stand behind one another.
const maxBacking = 16

// openFolder opens the folder of the source of that name.
func openFolder(name string) (*os.Root, error) {
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// backingOpener returns what opens the backing file of an image that lies in
// dir below folder, depth images behind the source.
func (in *Input) backingOpener(ctx context.Context, folder *os.Root, dir string, depth int) func(name, format string) (image.Image, error) {
	return func(name, format string) (image.Image, error) {
		if depth > maxBacking {
			return nil, errBackingDeep
		}
		path, err := backingPath(folder.Name(), dir, name)
		if err != nil {
			return nil, err
		}
		src, err := source.OpenIn(folder, path)
		if err != nil {
			return nil, outside(err)
		}
		in.backing = append(in.backing, src)
		in.Region = in.Region.With(src.Region())
		qcow, err := isQCOW2(src, format)
		if err != nil || !qcow {
			return src, err
		}
		img, err := qcow2.Open(ctx, src, src.Size(), qcow2.OpenOptions{
			Unverified: true, // Input.verify does it
			Backing:    in.backingOpener(ctx, folder, filepath.Dir(path), depth+1),
		})
		if err != nil {
			return nil, err
		}
		in.opened = append(in.opened, openedImage{fmt.Sprintf("backing file %q", name), img})
		if made, ok := infoOf(img.Header()); ok {
			in.behind = append(in.behind, made)
		}
		for _, note := range img.Notes() {
			in.notes = append(in.notes, fmt.Sprintf("backing file %q: %s", name, note))
		}
		return img, nil
	}
}

// outside returns errBackingOutside for an error of opening below a folder that
// is not one of the kernel's: the name leads out of it.
func outside(err error) error {
	var (
		path  *fs.PathError
		errno unix.Errno
	)
	if errors.As(err, &path) && !errors.As(err, &errno) {
		return errBackingOutside
	}
	return err
}

// backingPath returns the path below folder of the file that an image in dir
// below it calls name: relative to dir, or absolute.
func backingPath(folder, dir, name string) (string, error) {
	// As qemu has it, a colon before any slash names a protocol.
	if colon := strings.IndexByte(name, ':'); colon >= 0 && !strings.Contains(name[:colon], "/") {
		return "", errBackingOutside
	}
	path := filepath.Join(dir, name)
	if filepath.IsAbs(name) {
		var err error
		if path, err = filepath.Rel(folder, name); err != nil {
			return "", errBackingOutside
		}
	}
	if name == "" || !filepath.IsLocal(path) {
		return "", errBackingOutside
	}
	return path, nil
}

// isQCOW2 tells whether a backing file, of a format that was named or not, is a
// qcow2 image. If not, it is raw.
func isQCOW2(src *source.Source, named string) (bool, error) {
	switch named {
	case "raw":
		return false, nil
	case "qcow2":
		return true, nil
	case "":
		head, err := src.Head(HeadSize)
		if err != nil {
			return false, err
		}
		f, err := FormatOf(head)
		if err != nil {
			return false, fmt.Errorf("the image does not name the format, and the file %w", err)
		}
		return f == FormatQCOW2, nil
	}
	return false, &qcow2.UnsupportedError{Feature: fmt.Sprintf("backing file of format %q", named)}
}
