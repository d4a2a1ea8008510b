package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/signature"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// errTargetIsImage says that the operands may be swapped.
var errTargetIsImage = advise.New("is an image", "name the device first, then the image")

// Why an image is not installed without -f.
var (
	errTargetIsFile = advise.New("is a file, but the image to install is a device",
		"name the device first, then the image; -f installs it anyway")
	errNoFilesystem   = advise.New("contains no ext2, ext3 or ext4 filesystem whose UUID could be compared", rightDevice)
	errOtherUUID      = advise.New("holds another filesystem", rightDevice)
	errOtherSize      = advise.New("has another size", rightDevice)
	errImageScrambled = advise.New("is scrambled: its names would replace those on the device",
		"install an image that is not scrambled, or restore this one to a file with -r")
	errImageLacks = advise.New("was made with exit status 3: zeros would replace the metadata that could not be read then",
		"-f installs it anyway")
	errSourceLacks = advise.New("has metadata that cannot be read", "-f installs the rest and leaves the device unchanged there")
)

const rightDevice = "check that this is the right device; -f installs the image anyway"

// installOptions are those of -I.
type installOptions struct {
	common
	search app.Search
	undo   string // file for the overwritten bytes; "" for none
}

// parseInstall parses the options of -I. As with e2image, the first operand is
// the target: the device.
func parseInstall(c *cli.Context, asE2image bool) (*installOptions, error) {
	to, from, err := operands(c, install, "a device and an image")
	if err != nil {
		return nil, err
	}
	o := &installOptions{undo: c.String(flagUndo)}
	if o.common, err = parseCommon(c, from, to, asE2image); err != nil {
		return nil, err
	}
	if o.search, err = parseSearch(c); err != nil {
		return nil, err
	}
	// Attribute values in the image are installed too.
	o.search.Scan.XattrValues, o.search.Writes = true, true
	_, _, err = parseScramble(c, o.threads)
	return o, err
}

// run writes the metadata in an image over that of the filesystem on the
// target. It writes nothing there before it has read the whole image and saved
// the bytes to be overwritten.
//
//	image ─► patch ─► checks ─► read once ─► undo, whole and synced ─► target
func (o *installOptions) run(ctx context.Context, t *Tool) error {
	done := app.Done{Started: time.Now(), Output: "install", Undo: o.undo, Target: o.target}
	shown := t.Progress(o.progress)
	defer shown.Finish()
	in, bad, err := o.open(ctx, t, app.Quiet{Forced: o.force, Image: true}, shown)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := o.checkInput(in, in.Normal != nil); err != nil {
		return err
	}
	t.SayForeignMap(o.badMap, bad, in)

	to, err := target.OpenInPlace(o.target, target.Options{Source: in.Region, DryRun: o.dryRun})
	if err != nil {
		return err
	}
	out, err := o.openBeside(ctx, t.InPlace(to, o.dryRun), in, "")
	if err != nil {
		return err
	}
	defer out.Close()
	t.AtStake(to.Name()+" is unchanged", false)
	if err := checkNoImage(to); err != nil {
		return err
	}
	shown.Plan(app.InstallSteps(o.undo != "")...)
	p, err := o.patch(ctx, in, bad, shown)
	if err != nil {
		return err
	}
	if err := o.checkIdentity(ctx, in, to, p); err != nil {
		return err
	}
	bytes, err := measurePatch(ctx, in, to, p)
	if err != nil {
		return err
	}
	done.Source, done.Scan = in.Src.Name(), p.scan
	done.Mode = app.Content(in, p.scan, false, false)
	if o.dryRun {
		return o.rehearse(ctx, t, in, out, p, bytes, done, shown)
	}
	if o.undo != "" {
		if err := keepUndo(ctx, t, o, in, out, p, shown); err != nil {
			return err
		}
	} else if !p.undo {
		t.Say("the old metadata on %s is not saved; --%s saves it", to.Name(), flagUndo)
	}
	if done.DataBytes, err = o.write(ctx, t, to, p, bytes, shown); err != nil {
		return err
	}
	done.ImageBytes = done.DataBytes
	err = out.CommitRecord(done)
	shown.Finish()
	o.sayInstalled(t, in, to, p, done)
	return err
}

// checkNoImage refuses a target that is an image.
func checkNoImage(to *target.Target) error {
	switch found, _, err := signature.Find(to, to.Size()); {
	case err != nil:
		return err
	case found.Name == signature.QCOW2 || found.Name == signature.Normal || found.Name == signature.Sparse:
		return fmt.Errorf("%s %w, %s", to.Name(), errTargetIsImage, found.Name)
	}
	return nil
}

// rehearse lists the blocks that would be written, bytes in all.
func (o *installOptions) rehearse(ctx context.Context, t *Tool, in *app.Input, out *app.Output, p *patch, bytes int64, done app.Done, shown *progress.Reporter) error {
	if o.undo != "" {
		undo, err := openUndo(ctx, o, in, out)
		if err != nil {
			return err
		}
		undo.Close()
	}
	list := o.listing(t, p.block, shown)
	list.All = true
	copied, err := list.List(ctx, p.img)
	if err != nil {
		return err
	}
	done.ImageBytes, done.DataBytes, done.Written = bytes, bytes, &copied.Written
	if err := out.WriteRecord(done, app.ImageRuns(p.img, list.Block)); err != nil {
		return err
	}
	if err := out.Record.Commit(); err != nil {
		return err
	}
	shown.Finish()
	t.Say("%s to %s: %s would be written, in whole or in part: %s, %s", in.Src.Name(), out.Target.Name(), advise.Count(copied.Written, "block"),
		advise.ExactBytes(bytes), done.Took())
	return nil
}

// A patch is the data to write over the target.
type patch struct {
	img    image.Image
	scan   *scan.Result // of the image; nil if the image was not scanned
	block  int          // bytes of a block
	size   int64        // of the device from which the image was made, 0 if not known
	blocks uint64       // of the filesystem, 0 if there is none
	uuid   string       // of the filesystem after the installation, "" if there is none
	over   string       // a UUID that the target may also have before the installation
	undo   bool         // the image contains the bytes that another patch has overwritten
	absent uint64       // blocks that the image lacks; they stay unchanged
}

// patch finds the data of the image to write: all data of a normal image or an
// undo; for the image of a disk, the metadata that a scan finds, also where the
// image has no allocated clusters.
func (o *installOptions) patch(ctx context.Context, in *app.Input, bad []scan.Range, shown *progress.Reporter) (*patch, error) {
	name := in.Src.Name()
	if in.Scrambled() {
		return nil, fmt.Errorf("%s %w", name, errImageScrambled)
	}
	made, ok := in.Made()
	undo := ok && made.Mode == app.Undo
	if o.scanFlag != "" && undo {
		return nil, app.Usagef("option --%s applies to a filesystem, but all of %s is installed", o.scanFlag, name)
	}
	if n := in.Normal; n != nil {
		return patchOf(n.Superblock(), patch{img: n}), nil
	}
	if undo {
		p := &patch{img: in.Guest, size: in.Guest.Size(), block: int(made.BlockSize), over: made.UUID, undo: true}
		if sb := app.SuperblockAt(in.Guest); sb != nil {
			p.uuid = app.UUID(sb.UUID())
		}
		return p, nil
	}
	if ok && made.Unreadable > 0 && !o.force {
		return nil, fmt.Errorf("%s %w (%s)", name, errImageLacks, advise.Count(made.Unreadable, "block"))
	}
	res, err := o.search.Avoiding(bad).Metadata(ctx, in.Whole(), shown)
	if err != nil {
		return nil, cmp.Or(in.Damage(), err)
	}
	if res.Super() == nil {
		return nil, fmt.Errorf("%s %w", name, app.ErrNoSuperblock)
	}
	found, err := res.Patch(ctx)
	if err := cmp.Or(in.Damage(), err); err != nil {
		return nil, err
	}
	if lost := res.Unreadable(); len(lost) > 0 && !o.force {
		return nil, fmt.Errorf("%s %w (the first at byte %d)", name, errSourceLacks, lost[0].Start)
	}
	return patchOf(res.Super(), patch{img: found, scan: res, size: found.Size(), absent: found.Absent()}), nil
}

// patchOf returns a patch with the fields of the superblock.
func patchOf(sb *ext.Superblock, p patch) *patch {
	p.block, p.blocks, p.uuid = int(sb.BlockSize()), sb.BlocksCount(), app.UUID(sb.UUID())
	p.over = p.uuid
	return &p
}

// checkIdentity refuses a target from which the image was not made. It compares
// the size, and the UUID in the superblock or, if that is destroyed, in a
// backup.
func (o *installOptions) checkIdentity(ctx context.Context, in *app.Input, to *target.Target, p *patch) error {
	if o.force {
		return nil
	}
	name := to.Name()
	if to.Kind() != target.Device && in.Src.IsDevice() {
		return fmt.Errorf("%s %w", name, errTargetIsFile)
	}
	const sector = 512 // images end with a whole sector
	if size := to.Size() / sector * sector; p.size != 0 && size != p.size {
		return fmt.Errorf("%s %w: %d bytes, the image is of %d", name, errOtherSize, size, p.size)
	}
	found := ""
	res, err := scan.Scan(ctx, to, to.Size(), scan.Options{TablesOnly: true})
	switch {
	case errors.Is(err, scan.ErrNotExt):
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case res.Super() != nil:
		sb := res.Super()
		found = app.UUID(sb.UUID())
		if p.blocks != 0 && (sb.BlocksCount() != p.blocks || int(sb.BlockSize()) != p.block) {
			return fmt.Errorf("%s %w: a filesystem of %d blocks of %d bytes, the image is of %d of %d", name, errOtherSize,
				sb.BlocksCount(), sb.BlockSize(), p.blocks, p.block)
		}
	}
	switch found {
	case p.uuid, p.over:
		return nil
	case "":
		if s, ok, err := signature.Find(to, to.Size()); ok && err == nil && s.Name != signature.Ext {
			return fmt.Errorf("%s %w: it looks like %s; %s", name, errNoFilesystem, s.Name, advise.OnContent(s, 0))
		}
		return fmt.Errorf("%s %w", name, errNoFilesystem)
	}
	return fmt.Errorf("%s %w: its UUID is %s, that of the image %s", name, errOtherUUID, found, cmp.Or(p.over, p.uuid))
}

// measurePatch reads the whole patch, and returns its number of bytes. It
// refuses a target that ends before the patch.
func measurePatch(ctx context.Context, in *app.Input, to *target.Target, p *patch) (int64, error) {
	m := &measure{}
	err := ordered.Run(ctx, p.img, ordered.Options{Granule: 1, Threads: 1}, func() ordered.Worker { return m })
	if err := cmp.Or(in.Damage(), err); err != nil {
		return 0, err
	}
	if m.end > to.Size() {
		return 0, fmt.Errorf("%s %w: it has %s, the metadata reaches up to byte %d", to.Name(), target.ErrTooSmall, advise.ExactBytes(to.Size()), m.end)
	}
	return m.bytes, nil
}

// A measure counts the bytes of an image while it reads all of them.
type measure struct{ bytes, end int64 }

// Prepare does nothing.
func (*measure) Prepare(*ordered.Chunk) error { return nil }

// Commit counts a chunk.
func (m *measure) Commit(c *ordered.Chunk) error {
	for _, s := range c.Spans {
		m.bytes += int64(len(s.Data))
		m.end = s.Off + int64(len(s.Data))
	}
	return nil
}

// Finish does nothing.
func (*measure) Finish(*ordered.Chunk) error { return nil }

// write writes the patch to the target, and returns how many bytes it wrote.
// From the first write to the end of the sync, an error says in which state the
// target is.
func (o *installOptions) write(ctx context.Context, t *Tool, to *target.Target, p *patch, total int64, shown *progress.Reporter) (int64, error) {
	t.AtStake(o.halfway(to), true)
	stats, err := raw.WriteInPlace(ctx, to, p.img, total, raw.Options{
		Threads:  o.threads,
		Progress: shown.Phase(app.Installing, progress.Bytes),
	})
	var part *raw.PartialError
	if err != nil {
		if !errors.As(err, &part) {
			t.AtStake(to.Name()+" is unchanged", false)
			return 0, err
		}
		return 0, fmt.Errorf("%s: %w", to.Name(), err)
	}
	if err := to.Commit(); err != nil {
		return 0, err
	}
	t.AtStake(to.Name()+" holds the metadata of the image, whole", false)
	return stats.Data, nil
}

// halfway returns the state of a target after a partial write, and what to do.
func (o *installOptions) halfway(to *target.Target) string {
	text := to.Name() + " now holds metadata of two states: "
	if o.undo == "" {
		return text + "install once more; what was there is not kept without --" + flagUndo
	}
	return text + fmt.Sprintf("%s -I %s %s puts back what was there, or install once more without --%s",
		app.Name, to.Name(), o.undo, flagUndo)
}

// sayInstalled says what was done.
func (o *installOptions) sayInstalled(t *Tool, in *app.Input, to *target.Target, p *patch, done app.Done) {
	if p.scan != nil {
		t.SayProblems(p.scan.Problems())
	}
	if p.absent > 0 {
		t.Say("%s lacks %s of metadata: %s is unchanged there", in.Src.Name(), advise.Count(p.absent, "block"), to.Name())
	}
	what := "metadata"
	if p.undo {
		what = "what was there before"
	}
	if !o.quiet {
		t.Say("%s installed on %s: %s of %s, %s", in.Src.Name(), to.Name(), advise.ExactBytes(done.DataBytes), what, done.Took())
	}
	if o.undo != "" {
		t.Say("%s contains the old metadata; to put it back: %s -I %s %s", o.undo, app.Name, to.Name(), o.undo)
	}
	if !p.undo && !o.quiet {
		t.Say("run e2fsck -f %s before you mount it", to.Name())
	}
}
