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

// An image names its backing files, and anyone may have made the image. So
// backing files are opened on request only, and only below the folder of the
// source.

var (
	errBackingOutside = advise.New("is not in the folder of the image",
		"copy the backing file there, or join both with qemu-img convert")
	errBackingDeep = advise.New(fmt.Sprintf("is behind more than %d images", maxBacking),
		"join the images with qemu-img convert")
)

// maxBacking bounds the length of a chain of backing files.
const maxBacking = 16

// openFolder opens the folder in which the named source lies.
func openFolder(name string) (*os.Root, error) {
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// backingOpener returns a function that opens the backing file of an image. The
// image lies in dir below folder, and is number depth in the chain behind the
// source.
func (in *Input) backingOpener(ctx context.Context, folder *os.Root, dir string, depth int, salvage bool) func(name, format string) (image.Image, error) {
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
		if salvage {
			return in.openSalvagedBacking(ctx, name, src, folder, filepath.Dir(path), depth+1)
		}
		img, err := qcow2.Open(ctx, src, src.Size(), qcow2.OpenOptions{
			Unverified: true, // Input.verify does it
			Backing:    in.backingOpener(ctx, folder, filepath.Dir(path), depth+1, false),
		})
		if err != nil {
			return nil, err
		}
		in.opened = append(in.opened, openedImage{fmt.Sprintf("backing file %q", name), img, src})
		if made, ok := infoOf(img.Header()); ok {
			in.behind = append(in.behind, made)
		}
		for _, note := range img.Notes() {
			in.notes = append(in.notes, fmt.Sprintf("backing file %q: %s", name, note))
		}
		return img, nil
	}
}

// outside returns errBackingOutside if opening a file below a folder failed
// without an error of the kernel: then the name leads out of the folder.
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
	// For qemu, a colon before any slash ends the name of a protocol.
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

// isQCOW2 reports whether a backing file is a qcow2 image; otherwise the file
// is raw. named is the format that the image names, or "".
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
