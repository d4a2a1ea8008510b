package app

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"e2qcow/internal/advise"
)

// A deviceTag is a way to name a device as fstab(5) does: NAME=VALUE.
type deviceTag struct {
	name   string
	folder string // of udev, with a link for each value
	uevent string // the key in the uevent file of sysfs; "" where the value is in the filesystem
}

var deviceTags = []deviceTag{
	{"LABEL", "by-label", ""},
	{"UUID", "by-uuid", ""},
	{"PARTLABEL", "by-partlabel", "PARTNAME"},
	{"PARTUUID", "by-partuuid", "PARTUUID"},
}

var errNoDevice = advise.New("is on no device that can be read", "name the device itself; blkid lists labels and UUIDs")

// DeviceName returns the device that LABEL=, UUID=, PARTLABEL= or PARTUUID= names,
// and any other name as it is. It goes by the links of udev and, without those, by
// what the devices say themselves.
func DeviceName(name string) (string, error) {
	for _, tag := range deviceTags {
		value, ok := strings.CutPrefix(name, tag.name+"=")
		if !ok || value == "" {
			continue
		}
		value = strings.Trim(value, `"`)
		if device, err := filepath.EvalSymlinks(filepath.Join("/dev/disk", tag.folder, udevName(value))); err == nil {
			return device, nil
		}
		device, err := findDevice(tag, value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return device, nil
	}
	return name, nil
}

// udevName returns the name of the link that udev makes for a value: other bytes
// than letters, digits and a few signs are escaped.
func udevName(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x80, strings.IndexByte("#+-.:=@_", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// findDevice returns the one block device that has the value.
func findDevice(tag deviceTag, value string) (string, error) {
	const devices = "/sys/class/block"
	list, err := os.ReadDir(devices)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var found []string
	for _, d := range list {
		device := filepath.Join("/dev", d.Name())
		var got string
		if tag.uevent != "" {
			got = ueventValue(filepath.Join(devices, d.Name(), "uevent"), tag.uevent)
		} else {
			got = filesystemValue(device, tag.name)
		}
		if got != "" && (got == value || tag.name != "LABEL" && strings.EqualFold(got, value)) {
			found = append(found, device)
		}
	}
	switch len(found) {
	case 0:
		return "", errNoDevice
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("is on several devices: %s; name one of them", strings.Join(found, ", "))
}

// ueventValue returns the value of a key in a uevent file, "" where there is none.
func ueventValue(name, key string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), key+"="); ok {
			return value
		}
	}
	return ""
}

// filesystemValue returns the label or the UUID of the ext filesystem on a device,
// "" where there is none.
func filesystemValue(device, tag string) string {
	f, err := os.Open(device)
	if err != nil {
		return ""
	}
	defer f.Close()
	sb := SuperblockAt(f)
	switch {
	case sb == nil:
		return ""
	case tag == "LABEL":
		return sb.Label()
	}
	return UUID(sb.UUID())
}
