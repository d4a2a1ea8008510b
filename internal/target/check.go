package target

import (
	"errors"
	"fmt"
	"os"

	"e2qcow/internal/signature"
	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// checkRegion refuses a target that is the source or is mounted, or whose use
// cannot be found out. The kernel refuses devices in use, but not the files
// behind them.
func checkRegion(f *os.File, name string, opt Options) error {
	region, err := storage.Of(f)
	if err != nil {
		return err
	}
	if region.Overlaps(opt.Source) {
		return refuse(name, ErrSame)
	}
	uses, err := region.Uses()
	if err != nil {
		if info, e := f.Stat(); e == nil && info.Mode().IsRegular() && info.Size() == 0 {
			return nil // nothing that could be mounted
		}
		return fmt.Errorf("%s %w: %w", name, ErrUnknown, err)
	}
	if len(uses) > 0 {
		return fmt.Errorf("%s %w (%v)", name, ErrMounted, uses[0])
	}
	return nil
}

// checkContent refuses a target with contents that opt.Format must not replace.
func checkContent(f *os.File, name string, size int64, opt Options) error {
	if opt.Overwrite || size == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s, known, err := signature.Find(f, size)
	if err != nil {
		return err
	}
	switch opt.Format {
	case JSON:
		return checkJSON(f, name)
	case Undo, Names:
		return refuse(name, ErrOnlyCopy)
	}
	image := known && (s.Name == signature.QCOW2 || s.Name == signature.Normal)
	own, isImage := map[Format]string{QCOW2: signature.QCOW2, Normal: signature.Normal}[opt.Format]
	switch {
	case known && s.Name == own:
		return nil
	case image:
		return fmt.Errorf("%s %w and is %s", name, ErrExists, s.Name)
	case !info.Mode().IsRegular() && known:
		return fmt.Errorf("%s %w: %s", name, ErrHoldsFilesystem, s.Name)
	case info.Mode().IsRegular() && isImage && known:
		return fmt.Errorf("%s %w and is %s, not %s", name, ErrExists, s.Name, own)
	case info.Mode().IsRegular() && isImage:
		return fmt.Errorf("%s %w and is not %s", name, ErrExists, own)
	case info.Mode().IsRegular():
		return checkRaw(f, name, s)
	}
	return nil
}

// checkRaw refuses to replace a file by a raw image, unless the file looks like
// a raw image of an ext filesystem or is a single hole. s is what was found in
// the file.
func checkRaw(f *os.File, name string, s signature.Signature) error {
	if s.Name == signature.Ext {
		return nil
	}
	if _, err := f.Seek(0, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
		return nil
	}
	if s.Name != "" {
		return fmt.Errorf("%s %w and is %s, not a raw image of an ext filesystem", name, ErrExists, s.Name)
	}
	return fmt.Errorf("%s %w and is not a raw image of an ext filesystem", name, ErrExists)
}

// checkJSON refuses a file that does not begin like a JSON object.
func checkJSON(f *os.File, name string) error {
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return err
	}
	if b[0] != '{' {
		return refuse(name, ErrNotJSON)
	}
	return nil
}
