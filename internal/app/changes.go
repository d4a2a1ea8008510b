package app

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"e2qcow/internal/advise"
	"e2qcow/internal/target"
	"e2qcow/qcow2"
)

// A Changes is a future qcow2 file whose backing file is the source.
type Changes struct {
	to      *target.Target
	backing string // the name of the source in the file
	format  string
	beside  bool // the source lies in the folder of the file, or below
}

// changesCluster is the cluster size of a file of changes. With this size, qemu
// opens the L1 table of the largest disk that ext4 allows.
const changesCluster = 64 << 10

var errNoBacking = advise.New("cannot be the backing file of a qcow2 image", "leave --changes out, or make a qcow2 image of it first")

// OpenChanges opens the file for the changes of the disk in in; it returns nil
// if name is "". No file appears before Write.
func (s *Session) OpenChanges(ctx context.Context, name string, in *Input, overwrite bool) (*Changes, error) {
	if name == "" {
		return nil, nil
	}
	c := &Changes{format: "raw"}
	if in.Guest != nil {
		c.format = "qcow2"
	}
	if in.Normal != nil || in.Sparse != nil || in.Src.IsPipe() || in.Src.IsSpooled() || in.Disk().Size()%512 != 0 {
		return nil, fmt.Errorf("%s %w", in.Src.Name(), errNoBacking)
	}
	if target.IsStdout(name) {
		return nil, Usagef("option --changes needs a file: what stands behind its changes is named relative to it")
	}
	dir, err := realPath(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	source, err := realPath(in.Src.Name())
	if err != nil {
		return nil, err
	}
	if c.backing, err = filepath.Rel(dir, source); err != nil {
		return nil, err
	}
	if strings.Contains(c.backing, ":") {
		c.backing = "./" + c.backing // no protocol to qemu
	}
	c.beside = filepath.IsLocal(c.backing)
	if c.to, err = target.Open(ctx, name, target.Options{Source: in.Region, Format: target.Undo, Overwrite: overwrite}); err != nil {
		return nil, err
	}
	if c.to.Kind() != target.File {
		c.to.Close()
		return nil, Usagef("option --changes needs a file; %s is none", name)
	}
	s.Guard(c.to.Close)
	return c, nil
}

func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// Write writes the changes of d, and makes the file appear. It returns a
// message about the file.
func (c *Changes) Write(ctx context.Context, d *Disk, in *Input) (note string, err error) {
	made, _ := in.Made()
	_, err = qcow2.WriteFile(ctx, c.to, d.over.Changes(changesCluster), qcow2.WriteOptions{
		ClusterSize:   changesCluster,
		Version:       3,
		MarkZeros:     true,
		BackingFile:   c.backing,
		BackingFormat: c.format,
		Info: func() qcow2.Info {
			made.Tool = Tool()
			return made
		},
	})
	if err != nil {
		return "", err
	}
	if err := c.to.Commit(); err != nil {
		return "", err
	}
	note = fmt.Sprintf("changes are in %s, over %s", c.to.Name(), c.backing)
	if !c.beside {
		note += "; for e2qcow --backing the image has to be in the folder of the changes, or below"
	}
	return note, nil
}

// Close gives up a file that was not written. A nil Changes has none.
func (c *Changes) Close() {
	if c != nil {
		c.to.Close()
	}
}
