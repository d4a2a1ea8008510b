package testfs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// encryptedFolder makes a folder with a policy of version 2 and puts a file,
// long names and symlinks into it; linux/fscrypt.h has the structures.
func encryptedFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	key := struct {
		unix.FscryptAddKeyArg
		raw [64]byte
	}{}
	key.Key_spec.Type = unix.FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER
	key.Raw_size = uint32(len(key.raw))
	for i := range key.raw {
		key.raw[i] = byte(i)
	}
	if err := ioctl(dir, unix.FS_IOC_ADD_ENCRYPTION_KEY, unsafe.Pointer(&key)); err != nil {
		return fmt.Errorf("adding an encryption key: %w", err)
	}
	policy := unix.FscryptPolicyV2{
		Version:                   unix.FSCRYPT_POLICY_V2,
		Contents_encryption_mode:  unix.FSCRYPT_MODE_AES_256_XTS,
		Filenames_encryption_mode: unix.FSCRYPT_MODE_AES_256_CTS,
		Flags:                     unix.FSCRYPT_POLICY_FLAGS_PAD_32,
	}
	copy(policy.Master_key_identifier[:], key.Key_spec.U[:])
	if err := ioctl(dir, unix.FS_IOC_SET_ENCRYPTION_POLICY, unsafe.Pointer(&policy)); err != nil {
		return fmt.Errorf("setting an encryption policy: %w", err)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), canary("file", 0, 100<<10), 0o600); err != nil {
		return err
	}
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(path, fmt.Sprintf("%03d-%s", i, strings.Repeat("s", 100))), nil, 0o600); err != nil {
			return err
		}
	}
	for _, n := range []int{5, 40, 400} {
		if err := os.Symlink(strings.Repeat("t", n), filepath.Join(path, fmt.Sprintf("link-%d", n))); err != nil {
			return err
		}
	}
	return nil
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	runtime.KeepAlive(f)
	if errno != 0 {
		return errno
	}
	return nil
}
