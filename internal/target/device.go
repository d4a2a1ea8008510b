package target

import (
	"errors"
	"os"

	"e2qcow/internal/storage"

	"golang.org/x/sys/unix"
)

// An opener opens a block device.
type opener interface {
	Open(flag int) (*os.File, error)
	Check(f *os.File) error // refuses a device node that another user made
}

// openDevice opens a block device exclusively. The kernel refuses a device that
// is mounted or held, in whichever mount namespace.
func openDevice(e opener, name string, opt Options) (*Target, error) {
	if opt.Format == JSON || opt.Format == Undo || opt.Format == Names {
		return nil, refuse(name, ErrDevice)
	}
	probe, err := e.Open(os.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	err = checkRegion(probe, name, opt)
	probe.Close()
	if err != nil {
		return nil, err
	}
	f, err := e.Open(opt.flag() | os.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return nil, busy(e, name)
	}
	if err != nil {
		return nil, err
	}
	t := &Target{kind: Device, name: name, f: f}
	if err = e.Check(f); err != nil {
		err = refuse(name, err)
	} else {
		err = lock(f, name, opt)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if t.size, err = storage.DeviceSize(f); err == nil {
		err = checkContent(f, name, t.size, opt)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// busy returns why a device cannot be opened: another run of the tool has
// locked the device, or the kernel or another program holds it.
func busy(e opener, name string) error {
	f, err := e.Open(os.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return refuse(name, ErrMounted)
	}
	defer f.Close()
	if holder := storage.Holder(f); holder != nil {
		holder.Name = name
		return holder
	}
	return refuse(name, ErrMounted)
}
