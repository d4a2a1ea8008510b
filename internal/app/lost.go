package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"e2qcow/internal/advise"
	"e2qcow/scan/locate"
)

// A LostFilesystem is what superblocks that agree describe, in JSON.
type LostFilesystem struct {
	Offset int64 `json:"offset"` // where it begins in the source, bytes; less than 0 before the source
	*Filesystem
	LastMount time.Time `json:"last_mount,omitzero"`
	LastWrite time.Time `json:"last_write,omitzero"`
	Root      bool      `json:"root"`             // a superblock leads to a root directory
	Inside    string    `json:"inside,omitempty"` // the UUID of the filesystem that it lies in, as a file
	Beyond    int64     `json:"beyond,omitempty"` // how many bytes of it are behind the end of the source
	Options   string    `json:"options"`          // with which e2qcow reads it; "" where it cannot

	Places     []SuperblockPlace `json:"superblocks"`
	MorePlaces uint64            `json:"more_superblocks,omitempty"` // how many there are beside these
	Strays     []int64           `json:"strays,omitempty"`           // bytes of the source with a superblock of it in its journal or in a file
	MoreStrays uint64            `json:"more_strays,omitempty"`
}

// A SuperblockPlace is a place with a superblock.
type SuperblockPlace struct {
	Group  uint32 `json:"group"`  // 0 for the primary
	Block  uint64 `json:"block"`  // of the filesystem, for -b
	Offset int64  `json:"offset"` // in the source, bytes
}

// Lost is what a search for superblocks found.
type Lost struct {
	Filesystems []LostFilesystem
	Unreadable  int64  // bytes that were to be looked at
	LeftOut     uint64 // superblocks that are too many for the list
}

// FindLost looks for superblocks in a part of a source: everywhere, or where a
// filesystem that begins with the part has its copies.
func FindLost(ctx context.Context, p *Part, everywhere bool, progress func(done, total int64)) (Lost, error) {
	res, err := locate.Find(ctx, p.Disk, locate.Options{Everywhere: everywhere, Progress: progress})
	if err != nil {
		return Lost{}, err
	}
	lost := Lost{Unreadable: res.Unreadable, LeftOut: res.LeftOut}
	for i := range res.Filesystems {
		f := &res.Filesystems[i]
		st := f.Super.Status()
		l := LostFilesystem{
			Offset:     p.Start + f.Start,
			Filesystem: FilesystemOf(f.Super),
			LastMount:  st.Mounted,
			LastWrite:  st.Written,
			Root:       f.Root,
			Beyond:     max(f.Size()-(p.Disk.Size()-f.Start), 0),
			MorePlaces: f.MorePlaces,
			MoreStrays: f.MoreStrays,
		}
		for _, at := range f.Places {
			l.Places = append(l.Places, SuperblockPlace{at.Group, at.Block, p.Start + at.Offset})
		}
		for _, off := range f.Strays {
			l.Strays = append(l.Strays, p.Start+off)
		}
		for k := range res.Filesystems {
			of := &res.Filesystems[k]
			if of.Root && of.Holds(f.Places[0].Offset) && (of.Size() > f.Size() || of.Start < f.Start) {
				l.Inside = UUID(of.Super.UUID())
			}
		}
		l.Options = l.options()
		lost.Filesystems = append(lost.Filesystems, l)
	}
	return lost, nil
}

// options returns with which options the filesystem is read.
func (l *LostFilesystem) options() string {
	first := l.Places[0]
	var words []string
	switch {
	case l.Offset < 0:
		return ""
	case l.Offset > 0 || first.Group == 0:
		words = append(words, "-o "+advise.Offset(l.Offset))
	}
	if first.Group != 0 {
		words = append(words, fmt.Sprintf("-b %d -B %d", first.Block, l.BlockSize))
	}
	return strings.Join(words, " ")
}
