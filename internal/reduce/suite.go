package reduce

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"e2qcow/image"
)

// WriteSuite makes a folder as the test suite of e2fsprogs has one for each test:
//
//	name       a line of text
//	image.gz   the disk
//	expect.1   what e2fsck -yf says of the disk, and its exit status
//	expect.2   what it says of the result of that
//
// The options of e2fsck and the lines that are left out are those of run_e2fsck
// and filter.sed there. Of the options, Folder and Made count.
func WriteSuite(ctx context.Context, folder, name string, img image.Image, opt Options) (err error) {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(folder)
		}
	}()
	if err := os.WriteFile(filepath.Join(folder, "name"), []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	if err := writeGzip(filepath.Join(folder, "image.gz"), img); err != nil {
		return err
	}
	f, err := newFile(opt.Folder, newDisk(img), opt.Made)
	if err != nil {
		return err
	}
	defer f.close()
	for _, expect := range []string{"expect.1", "expect.2"} {
		text, err := runSuite(ctx, f.path())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, expect), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeGzip writes a disk as gzip data that depend on nothing but the disk.
func writeGzip(name string, img image.Image) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err == nil {
		_, err = io.Copy(z, io.NewSectionReader(img, 0, img.Size()))
		err = errors.Join(err, z.Close())
	}
	return errors.Join(err, f.Close())
}

// Lines that filter.sed leaves out.
var unsteady = regexp.MustCompile(`(?m)^e2fsck \d\.\d.*\n|^.*(automatically checked|whichever comes first|Discarding device blocks).*\n|^(JFS DEBUG|Suggestion):.*\n`)

// runSuite runs e2fsck as the suite does.
func runSuite(ctx context.Context, path string) (string, error) {
	v, err := Judge{Command: []string{"e2fsck", "-yf", "-N", "test_filesys", "{}"}}.run(ctx, path)
	switch {
	case err != nil:
		return "", err
	case v.Late || v.Signal != "":
		return "", fmt.Errorf("%w: e2fsck -yf %v", ErrCommand, v)
	}
	text := fmt.Sprintf("%sExit status is %d\n", v.Output, v.Exit)
	text = strings.ReplaceAll(unsteady.ReplaceAllString(text, ""), "\r", "")
	return strings.ReplaceAll(text, path, "test.img"), nil
}
