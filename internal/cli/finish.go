package cli

import (
	"context"
	"errors"
	"iter"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/signature"
	"e2qcow/scan"
)

// kindOf returns what an image is called.
func kindOf(in *app.Input) string {
	if in.Normal != nil {
		return signature.Normal
	}
	return signature.QCOW2
}

// checkScrambled refuses to scramble a normal image.
func checkScrambled(in *app.Input, s app.Scramble) error {
	if in.Normal != nil && s.On() {
		return app.Usagef("option --%s concerns a filesystem; %s is %s, which lacks what names are found by", flagScramble, in.Src.Name(), signature.Normal)
	}
	return nil
}

// endsWithFilesystem reports whether the image ends with the filesystem, rather
// than with the disk that the filesystem lies on: a clone, and a filesystem from
// an offset whose end nobody says.
func endsWithFilesystem(search app.Search, part *app.Part) bool {
	return search.Scan.Files || search.Place.Offset != nil && part.End == 0
}

// blockSize returns the size of the pieces that the runs of an image are made
// of, 0 where that is not known.
func blockSize(in *app.Input, res *scan.Result) int {
	if res != nil {
		return int(res.BlockSize())
	}
	return in.BlockSize()
}

// openBeside opens what goes with the target. If that fails, it closes out.
func (o *common) openBeside(ctx context.Context, out *app.Output, in *app.Input, names string) (*app.Output, error) {
	err := out.OpenRecord(ctx, o.json, in)
	if err == nil {
		err = out.OpenNames(ctx, names, in, o.overwrite)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// runsOf yields the runs of an image for the record of a dry run: those of a scan
// with their kinds, or those of a disk that is taken as it is.
func runsOf(res *scan.Result, disk image.Image, block int) iter.Seq2[app.Run, error] {
	if res != nil {
		return app.ScanRuns(res)
	}
	return app.ImageRuns(disk, max(block, ext.MinBlockSize))
}

// commit has the target appear. It returns what failed beside a target that is
// complete apart from what left none.
func commit(out *app.Output) (beside, err error) {
	err = out.Commit()
	if done := (*app.DoneError)(nil); errors.As(err, &done) {
		return err, nil
	}
	return nil, err
}

// say says what was written from where to where.
func (o *common) say(t *Tool, part *app.Part, out *app.Output, done app.Done) {
	switch {
	case o.quiet:
	case o.dryRun:
		t.Say("%s to %s: %s would be written: %s", part.Name, o.target, advise.Count(*done.Written, "block"), done.Summary())
	default:
		t.Say("%s to %s: %s", part.Name, out.Target.Name(), done.Summary())
	}
}
