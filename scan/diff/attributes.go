package diff

import (
	"bytes"
	"maps"
	"slices"
	"strconv"

	"e2qcow/ext"
)

// xattrFields are those of the header of a block of attributes.
var xattrFields = []ext.Field{
	{Offset: 0x00, Size: 4, Name: "h_magic", Form: ext.Hex},
	{Offset: 0x04, Size: 4, Name: "h_refcount"},
	{Offset: 0x08, Size: 4, Name: "h_blocks"},
	{Offset: 0x0C, Size: 4, Name: "h_hash", Form: ext.Hex},
	{Offset: 0x10, Size: 4, Name: "h_checksum", Form: ext.Hex},
}

// attributeBlock compares a block of extended attributes.
func (c *comparison) attributeBlock(p *pair) {
	it := Attributes{Block: p.block}
	it.Fields = compareFields(xattrFields, p.data[0][:ext.XattrHeaderLen], p.data[1][:ext.XattrHeaderLen], "")
	var lists [2][]xattr
	var sums [2]string
	for i, s := range c.side {
		if h, ok := ext.DecodeXattrHeader(p.data[i]); ok && h.Valid() {
			lists[i] = xattrsOf(ext.NewXattrBlockReader(p.data[i]))
		}
		sums[i] = sumState(s.sumsOn, ext.VerifyXattrBlock(s.seed, p.block, p.data[i]))
	}
	it.Xattrs = compareXattrs(lists[0], lists[1])
	if it.Sums = sumsOf(sums[0], sums[1]); it.Sums == nil && sums[1] != sumWrong {
		follow(it.Fields, "h_checksum")
	}
	if len(it.Xattrs) > 0 {
		follow(it.Fields, "h_hash")
	}
	if c.room("attributes", 1+len(it.Fields)+len(it.Xattrs)) {
		c.d.Attributes = append(c.d.Attributes, it)
	}
}

// An xattr is an attribute: its name with the prefix, and its value.
type xattr struct {
	name  Name
	size  uint32
	inode uint32 // that has the value
	value []byte
}

func inodeXattrs(in ext.Inode) []xattr { return xattrsOf(ext.NewInodeXattrReader(in)) }

func xattrsOf(r ext.XattrReader) (list []xattr) {
	for r.Next() {
		e := r.Entry()
		value, _ := r.Value()
		list = append(list, xattr{xattrName(e.NameIndex, e.Name), e.ValueSize, e.ValueInode, value})
	}
	return list
}

var xattrPrefixes = map[uint8]string{
	0:                        "",
	ext.XattrUser:            "user.",
	ext.XattrPosixACLAccess:  "system.posix_acl_access",
	ext.XattrPosixACLDefault: "system.posix_acl_default",
	ext.XattrTrusted:         "trusted.",
	ext.XattrSecurity:        "security.",
	ext.XattrSystem:          "system.",
	ext.XattrRichACL:         "system.richacl",
	ext.XattrEncryption:      "encryption.",
	ext.XattrHurd:            "gnu.",
}

func xattrName(index uint8, name []byte) Name {
	prefix, ok := xattrPrefixes[index]
	if !ok {
		prefix = strconv.Itoa(int(index)) + ":"
	}
	return Name(prefix + string(name))
}

// compareXattrs compares two lists of attributes.
func compareXattrs(a, b []xattr) (list []Xattr) {
	old, now := byXattrName(a), byXattrName(b)
	both := maps.Clone(old)
	maps.Copy(both, now)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		x, had := old[name]
		y, has := now[name]
		switch {
		case !had:
			list = append(list, Xattr{What: Added, Name: name, NewSize: y.size})
		case !has:
			list = append(list, Xattr{What: Removed, Name: name, OldSize: x.size})
		case x.size != y.size || x.inode != y.inode || !bytes.Equal(x.value, y.value):
			list = append(list, Xattr{What: Changed, Name: name, OldSize: x.size, NewSize: y.size})
		}
	}
	return list
}

func byXattrName(list []xattr) map[Name]xattr {
	m := make(map[Name]xattr, len(list))
	for _, x := range list {
		if _, twice := m[x.name]; !twice {
			m[x.name] = x
		}
	}
	return m
}

// symlink compares a block that holds the target of a symlink.
func (c *comparison) symlink(p *pair) {
	it := Symlink{Block: p.block}
	for i, to := range []*Name{&it.Old, &it.New} {
		b := p.data[i]
		if n := bytes.IndexByte(b, 0); n >= 0 {
			b = b[:n]
		}
		*to = Name(b)
	}
	if it.Old != it.New && c.room("symlinks", 4) {
		c.d.Symlinks = append(c.d.Symlinks, it)
	}
}
