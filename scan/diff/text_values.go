package diff

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"e2qcow/ext"
)

// shown returns the fields that are written.
func (l *list) shown(fields []Field) []Field {
	if l.opt.All {
		return fields
	}
	return slices.DeleteFunc(slices.Clone(fields), func(f Field) bool { return f.Follows })
}

func fieldText(f Field) string {
	return fmt.Sprintf("%s %s -> %s", f.Name, f.value(f.Old), f.value(f.New))
}

func (f *Field) value(v any) string {
	switch v := v.(type) {
	case Name:
		return quoted(v)
	case uint64:
		switch {
		case f.Name == "i_mode":
			return modeText(v)
		case f.form == ext.Hex:
			return fmt.Sprintf("%#x", v)
		case f.form == ext.Time && v != 0:
			return time.Unix(int64(v), 0).UTC().Format("2006-01-02T15:04:05Z")
		}
	}
	return fmt.Sprint(v)
}

func modeText(v uint64) string { return fmt.Sprintf("%#o", v) }

func fieldsText(fields []Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = fieldText(f)
	}
	return strings.Join(parts, ", ")
}

func sumsText(s *Sums) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("checksum %s -> %s", s.Old, s.New)
}

func xattrsText(list []Xattr) string {
	var parts []string
	for _, x := range list {
		switch x.What {
		case Added:
			parts = append(parts, fmt.Sprintf("attribute %s added", quoted(x.Name)))
		case Removed:
			parts = append(parts, fmt.Sprintf("attribute %s removed", quoted(x.Name)))
		default:
			parts = append(parts, fmt.Sprintf("attribute %s changed", quoted(x.Name)))
		}
	}
	return strings.Join(parts, ", ")
}

func inodeName(ino uint32, path Name) string {
	if path == "" {
		return fmt.Sprintf("inode %d", ino)
	}
	return fmt.Sprintf("inode %d %s", ino, quoted(path))
}

func quoted(n Name) string { return `"` + strings.ReplaceAll(n.String(), `"`, `\"`) + `"` }

func span64(start, count uint64) string {
	if count == 1 {
		return fmt.Sprint(start)
	}
	return fmt.Sprintf("%d-%d", start, start+count-1)
}

// join joins what is not empty.
func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return s == "" }), ", ")
}
