package cli

import (
	"cmp"
	"context"
	"errors"
	"iter"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/freeze"
	"e2qcow/internal/progress"
	"e2qcow/internal/signature"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// Steps that the runs of several modes share, in their order.

// A beginning is the source of a mode, open and checked.
type beginning struct {
	in     *app.Input
	part   *app.Part  // in which the filesystem lies
	search app.Search // of the filesystem; it does not read what is known to be bad
	asItIs bool       // the disk is copied, and no filesystem is looked for
}

// begin opens the source, and refuses options that do not apply to it. check
// reports whether the disk is copied as it is, or why the options do not apply.
// The input is to be closed if there is no error.
func (o *common) begin(ctx context.Context, t *Tool, q app.Quiet, search app.Search, check func(*app.Input) (asItIs bool, err error), shown *progress.Reporter) (*beginning, error) {
	in, bad, err := o.open(ctx, t, q, shown)
	if err != nil {
		return nil, err
	}
	b := &beginning{in: in}
	if err := o.look(t, b, bad, search, check); err != nil {
		in.Close()
		return nil, err
	}
	return b, nil
}

// look fills in what the open source shows.
func (o *common) look(t *Tool, b *beginning, bad []scan.Range, search app.Search, check func(*app.Input) (bool, error)) (err error) {
	if b.asItIs, err = check(b.in); err != nil {
		return err
	}
	if err := o.checkInput(b.in, b.asItIs); err != nil {
		return err
	}
	t.SayForeignMap(o.badMap, bad, b.in)
	if b.part, err = b.in.Part(search.Place); err != nil {
		return err
	}
	b.search = search.Avoiding(b.part.Ranges(bad))
	b.search.Scan.Reread = o.lost.On()
	if b.asItIs {
		return nil
	}
	return t.CheckSplit(b.part, b.search.Scan.Bad, search.Scan.Files && !o.force)
}

// kindOf returns the name of the format of an image.
func kindOf(in *app.Input) string {
	if in.Normal != nil {
		return signature.Normal
	}
	if in.Sparse != nil {
		return signature.Sparse
	}
	return signature.QCOW2
}

// checkScrambled refuses to scramble a normal image.
func checkScrambled(in *app.Input, s app.Scramble) error {
	if in.Normal != nil && s.On() {
		return app.Usagef("option --%s needs a whole filesystem; %s is %s, which has no directories", flagScramble, in.Src.Name(), signature.Normal)
	}
	return nil
}

// endsWithFilesystem reports whether the image ends with the filesystem, and
// not with its disk. That is so for a clone, and for a filesystem at an offset
// if no partition begins there.
func endsWithFilesystem(search app.Search, part *app.Part) bool {
	return search.Scan.Files || search.Place.Offset != nil && part.End == 0
}

// blockSize returns the unit of the runs of an image in bytes, 0 if it is not
// known.
func blockSize(in *app.Input, res *scan.Result) int {
	if res != nil {
		return int(res.BlockSize())
	}
	return in.BlockSize()
}

// openBeside opens the files beside the target. If that fails, it closes out.
func (o *common) openBeside(ctx context.Context, out *app.Output, in *app.Input, names string) (*app.Output, error) {
	err := out.OpenRecord(ctx, o.json, in)
	if err == nil {
		err = out.OpenNames(ctx, names, in, o.overwrite)
	}
	if err == nil {
		err = out.OpenLost(ctx, o.lost.Name, in, o.overwrite)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// runsOf yields the runs of an image for the record of a dry run: the runs of a
// scan with their kinds, or those of a disk that is copied as it is.
func runsOf(res *scan.Result, disk image.Image, block int) iter.Seq2[app.Run, error] {
	if res != nil {
		return app.ScanRuns(res)
	}
	return app.ImageRuns(disk, max(block, ext.MinBlockSize))
}

// do calls work, and freezes the filesystem on the source meanwhile if that was
// requested. The sink uses temporary files if spools is set and the target is a
// stream.
func (o *common) do(ctx context.Context, t *Tool, in *app.Input, out *app.Output, spools bool, work func(context.Context, *freeze.Frozen) error) error {
	var err error
	if o.freeze {
		writings := out.Writings()
		if spools && !o.dryRun && out.Target.Kind() == target.Stream {
			writings = append(writings, app.SpoolWriting(o.source.Spool))
		}
		err = t.WhileFrozen(ctx, in, writings, work)
	} else {
		err = work(ctx, nil)
	}
	if errors.Is(err, scan.ErrNotExt) {
		t.sayNoSuperblock(o.target)
	}
	return err
}

// imageOf scans the filesystem on part, and returns the image of its metadata,
// scrambled unless r is nil. If cut is set, the image ends with the filesystem,
// otherwise with the disk.
func imageOf(ctx context.Context, in *app.Input, part *app.Part, search app.Search, r *app.Scrambler, cut bool, shown *progress.Reporter) (image.Image, *scan.Result, error) {
	res, err := search.WatchedBy(r).Metadata(ctx, part, shown)
	if err := cmp.Or(in.Damage(), err); err != nil {
		return nil, nil, err
	}
	img, err := r.Image(ctx, res, part.Name, shown)
	if err != nil {
		return nil, nil, err
	}
	if cut {
		img = image.Section(img, 0, res.FilesystemSize())
	}
	return img, res, nil
}

// settle writes the record, makes the target appear, and reads a pipe to its
// end. beside is an error of a file beside a complete target; err means that
// there is no target.
func (o *common) settle(in *app.Input, out *app.Output, done app.Done, runs iter.Seq2[app.Run, error], shown *progress.Reporter) (beside, err error) {
	if img := in.Salvaged(); img != nil {
		done.Salvage = app.SalvageableOf(img)
	}
	if err := in.CheckEnd(); err != nil {
		return nil, err
	}
	if err := cmp.Or(out.WriteRecord(done, runs), out.WriteLost(o.lost, done.Lost)); err != nil {
		return nil, err
	}
	if err := out.Sync(shown); err != nil {
		return nil, err
	}
	err = out.Commit()
	if complete := (*app.DoneError)(nil); errors.As(err, &complete) {
		beside, err = err, nil
	}
	if err == nil {
		in.Drain()
		shown.Finish()
	}
	return beside, err
}

// say reports the source, the target and what was written.
func (o *common) say(t *Tool, part *app.Part, out *app.Output, done app.Done) {
	switch {
	case o.quiet:
	case o.dryRun:
		t.Say("%s to %s: %s would be written: %s", part.Name, o.target, advise.Count(*done.Written, "block"), done.Summary())
	default:
		t.Say("%s to %s: %s", part.Name, out.Target.Name(), done.Summary())
	}
}
