package diff

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	"e2qcow/ext"
)

// form is how a value is written for people.
type form = ext.Form

// compareFields compares two structures by their fields, as far as both are
// long. Bytes between fields that differ come under the name of where they are.
// skip is the name of a field that is left out.
func compareFields(fields []ext.Field, a, b []byte, skip string) (list []Field) {
	return compareAs(littleEndian, fields, a, b, skip)
}

// compareBig is compareFields of structures whose numbers are big endian.
func compareBig(fields []ext.Field, a, b []byte) []Field {
	return compareAs(bigEndian, fields, a, b, "")
}

func compareAs(number func([]byte) uint64, fields []ext.Field, a, b []byte, skip string) (list []Field) {
	n := min(len(a), len(b))
	at := 0
	gap := func(end int) {
		if end = min(end, n); at < end && !bytes.Equal(a[at:end], b[at:end]) {
			list = append(list, Field{Name: fmt.Sprintf("bytes %d to %d", at, end-1), Old: hexOf(a[at:end]), New: hexOf(b[at:end]), form: ext.Raw})
		}
	}
	for _, f := range fields {
		end := f.Offset + f.Size
		if end > n {
			break
		}
		gap(f.Offset)
		at = end
		if old, now := a[f.Offset:end], b[f.Offset:end]; f.Name != skip && !bytes.Equal(old, now) {
			list = append(list, Field{Name: f.Name, Old: valueOf(number, f, old), New: valueOf(number, f, now), form: f.Form})
		}
	}
	gap(n)
	return list
}

func valueOf(number func([]byte) uint64, f ext.Field, b []byte) any {
	switch {
	case f.Form == ext.Text:
		return Name(bytes.TrimRight(b, "\x00"))
	case f.Form == ext.Raw || len(b) > 8:
		return hexOf(b)
	}
	return number(b)
}

func littleEndian(b []byte) (n uint64) {
	for _, x := range slices.Backward(b) {
		n = n<<8 | uint64(x)
	}
	return n
}

func bigEndian(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

// hexOf returns bytes as text; of many the first.
func hexOf(b []byte) string {
	const most = 256
	if len(b) > most {
		return hex.EncodeToString(b[:most]) + "..."
	}
	return hex.EncodeToString(b)
}

// numbers returns the old and the new value of the field of a name, and whether
// it is there.
func numbers(list []Field, name string) (field *Field, old, now uint64) {
	for i := range list {
		if list[i].Name == name {
			old, _ = list[i].Old.(uint64)
			now, _ = list[i].New.(uint64)
			return &list[i], old, now
		}
	}
	return nil, 0, 0
}

// follow marks the fields of some names as what only follows from others.
func follow(list []Field, names ...string) {
	for _, name := range names {
		if f, _, _ := numbers(list, name); f != nil {
			f.Follows = true
		}
	}
}

// The states of a checksum.
const (
	sumRight = "right"
	sumWrong = "wrong"
	sumNone  = "none"
)

// sumState names the state of a checksum.
func sumState(on, right bool) string {
	switch {
	case !on:
		return sumNone
	case right:
		return sumRight
	}
	return sumWrong
}

// sumsOf returns the states of a checksum where they differ.
func sumsOf(old, now string) *Sums {
	if old == now {
		return nil
	}
	return &Sums{old, now}
}
