package testfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Canary begins every canaryLen bytes of the contents of a file.
const Canary = "file-data-canary"

const canaryLen = 64

// Samples are the paths that every filled filesystem has, one of each kind of
// inode at least, for debugfs to look at.
var Samples = []string{
	"/", "/plain", "/plain/file-007", "/plain/big", "/frag", "/sparse", "/far",
	"/deep" + strings.Repeat("/d", deepLevels), "/htree", "/htree2",
	"/links/fast", "/links/fast-59", "/links/slow-60", "/links/slow-900", "/links/hard",
	"/attr/inode", "/attr/block", "/attr/shared-1", "/attr/shared-2", "/attr/value-inode", "/attr/acl", "/attr/default-acl",
	"/special/fifo", "/special/char", "/special/block", "/special/socket",
	"/deleted", "/prealloc", "/casefold", "/secret",
}

const deepLevels = 30

// canary returns n bytes of file contents; name and place are told apart, so
// that a find can be traced.
func canary(name string, off int64, n int) []byte {
	b := make([]byte, 0, n+canaryLen)
	for len(b) < n {
		record := fmt.Sprintf("%s %-20.20s %16d", Canary, filepath.Base(name), off+int64(len(b)))
		b = append(b, fmt.Sprintf("%-*s\n", canaryLen-1, record)...)
	}
	return b[:n]
}

// populate writes the tree into dir: every kind of inode, directory and
// attribute that a folder of the host can hold.
func populate(dir string, spec Spec) error {
	p := &populator{dir: dir, spec: spec, block: blockSize(spec.Mke2fs)}
	p.plain()
	p.fragmented()
	p.sparse()
	p.directories()
	p.links()
	p.attributes()
	p.special()
	p.deleted()
	return p.err
}

// has tells whether mke2fs is asked for the feature.
func (s Spec) has(feature string) bool {
	return slices.Contains(strings.FieldsFunc(s.Mke2fs, func(r rune) bool { return r == ' ' || r == ',' }), feature)
}

// blockSize returns the -b option of mke2fs.
func blockSize(options string) int {
	fields := strings.Fields(options)
	for i, f := range fields {
		if f == "-b" && i+1 < len(fields) {
			var n int
			if _, err := fmt.Sscan(fields[i+1], &n); err == nil {
				return n
			}
		}
	}
	return 4096
}

// A populator writes a tree; its first error sticks.
type populator struct {
	dir   string
	spec  Spec
	block int
	err   error
}

func (p *populator) path(name string) string { return filepath.Join(p.dir, name) }

// do runs f unless something failed before.
func (p *populator) do(f func() error) {
	if p.err == nil {
		p.err = f()
	}
}

// may runs f, which fails where the filesystem lacks a feature or the user a right.
func (p *populator) may(f func() error) {
	p.do(func() error {
		err := f()
		for _, ok := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.ENOSPC, unix.E2BIG, unix.ERANGE, unix.EFBIG, unix.ENODATA} {
			if errors.Is(err, ok) {
				return nil
			}
		}
		return err
	})
}

func (p *populator) mkdir(name string) {
	p.do(func() error { return os.Mkdir(p.path(name), 0o755) })
}

// write writes n bytes of canary at each of the offsets.
func (p *populator) write(name string, n int, offsets ...int64) {
	p.do(func() error {
		f, err := os.OpenFile(p.path(name), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		for _, off := range offsets {
			if _, err := f.WriteAt(canary(name, off, n), off); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *populator) plain() {
	p.mkdir("plain")
	for i := range 40 {
		name := fmt.Sprintf("plain/file-%03d", i)
		if p.spec.has("inline_data") {
			p.do(func() error { return os.WriteFile(p.path(name), []byte(strings.Repeat("inline ", i)), 0o644) })
			continue
		}
		p.write(name, 40*i, 0)
	}
	p.write("plain/big", 1<<20, 0)
}

// fragmented makes a file of many extents: every other block is a hole.
func (p *populator) fragmented() {
	offsets := make([]int64, 400)
	for i := range offsets {
		offsets[i] = int64(2 * i * p.block)
	}
	p.write("frag", min(p.block, 4096), offsets...)
}

func (p *populator) sparse() {
	p.write("sparse", p.block, 0, 1<<20, 100<<20, 1500<<20)
	if p.spec.FarOffset != 0 {
		p.write("far", p.block, 0, p.spec.FarOffset)
	}
}

func (p *populator) directories() {
	deep := "deep"
	p.mkdir(deep)
	for range deepLevels {
		deep += "/d"
		p.mkdir(deep)
	}
	// Hard links make large directories without many inodes: one that an
	// index block can hold, one with an index of two levels in small blocks.
	p.mkdir("htree")
	p.mkdir("htree2")
	p.write("htree/first", 3000, 0)
	for i := range 300 {
		p.do(func() error { return os.Link(p.path("htree/first"), p.path(fmt.Sprintf("htree/link-%05d", i))) })
	}
	for i := range 1500 {
		name := fmt.Sprintf("htree2/%04d-%s", i, strings.Repeat("n", 200))
		p.do(func() error { return os.Link(p.path("htree/first"), p.path(name)) })
	}
}

func (p *populator) links() {
	p.mkdir("links")
	for name, length := range map[string]int{"fast": 9, "fast-59": 59, "slow-60": 60, "slow-900": 900} {
		p.do(func() error { return os.Symlink(strings.Repeat("t", length), p.path("links/"+name)) })
	}
	p.write("links/hard", 3000, 0)
	p.do(func() error { return os.Link(p.path("links/hard"), p.path("links/hard-2")) })
}

func (p *populator) attributes() {
	p.mkdir("attr")
	set := func(file, name, value string) {
		p.may(func() error { return unix.Setxattr(p.path(file), name, []byte(value), 0) })
	}
	for _, name := range []string{"inode", "block", "shared-1", "shared-2", "value-inode", "acl"} {
		p.write("attr/"+name, 10, 0)
	}
	set("attr/inode", "user.a", "v")
	set("attr/block", "user.block", strings.Repeat("block ", 60))
	set("attr/block", "user.second", strings.Repeat("second ", 10))
	set("attr/shared-1", "user.shared", strings.Repeat("shared ", 50))
	set("attr/shared-2", "user.shared", strings.Repeat("shared ", 50))
	if p.spec.has("ea_inode") {
		set("attr/value-inode", "user.large", strings.Repeat("value in an inode ", 890)) // as much as btrfs takes, which some copies come from
	}
	acl := string(posixACL())
	set("attr/acl", "system.posix_acl_access", acl)
	p.mkdir("attr/default-acl")
	set("attr/default-acl", "system.posix_acl_default", acl)
}

// posixACL returns an access list as setxattr wants it, struct
// posix_acl_xattr_header and entries of linux/posix_acl_xattr.h.
func posixACL() []byte {
	const (
		userObj, user, groupObj, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
		nobody                               = ^uint32(0)
	)
	b := binary.LittleEndian.AppendUint32(nil, 2)
	add := func(tag, perm uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	add(userObj, 7, nobody)
	for id := range uint32(20) {
		add(user, 5, 1000+id)
	}
	add(groupObj, 5, nobody)
	add(mask, 7, nobody)
	add(other, 1, nobody)
	return b
}

func (p *populator) special() {
	p.mkdir("special")
	p.do(func() error { return unix.Mknod(p.path("special/fifo"), unix.S_IFIFO|0o644, 0) })
	p.do(func() error { return unix.Mknod(p.path("special/socket"), unix.S_IFSOCK|0o644, 0) })
	p.may(func() error {
		return unix.Mknod(p.path("special/char"), unix.S_IFCHR|0o644, int(unix.Mkdev(4, 1)))
	})
	p.may(func() error {
		return unix.Mknod(p.path("special/block"), unix.S_IFBLK|0o644, int(unix.Mkdev(300, 70000)))
	})
}

// deleted leaves holes in a directory and freed inodes and blocks.
func (p *populator) deleted() {
	p.mkdir("deleted")
	for i := range 80 {
		p.write(fmt.Sprintf("deleted/file-%04d-%s", i, strings.Repeat("x", 30)), 1500, 0)
	}
	for i := range 80 {
		if i%2 == 0 {
			p.do(func() error {
				return os.Remove(p.path(fmt.Sprintf("deleted/file-%04d-%s", i, strings.Repeat("x", 30))))
			})
		}
	}
}
