package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"e2qcow/ext"
	"e2qcow/image"
	"e2qcow/internal/ordered"
	"e2qcow/internal/progress"
	"e2qcow/internal/raw"
	"e2qcow/internal/signature"
	"e2qcow/internal/target"
	"e2qcow/scan"
)

// errTargetIsImage says that the operands may be swapped.
var errTargetIsImage = errors.New("is an image itself")

// Why an image is not installed without -f.
var (
	errTargetIsFile   = errors.New("is a file, and what would be installed on it is a device")
	errNoFilesystem   = errors.New("holds no ext2, ext3 or ext4 filesystem to know it by")
	errOtherUUID      = errors.New("holds another filesystem")
	errOtherSize      = errors.New("has another size")
	errImageScrambled = errors.New("is scrambled: its names would take the place of those on the device")
	errImageLacks     = errors.New("lacks metadata that could not be read when it was made: it would be installed as zeros")
	errSourceLacks    = errors.New("has metadata that cannot be read")
)

// install writes the metadata in an image over that of the filesystem on the
// target. Nothing is written there before all of the image has been read and
// what is written over is kept.
//
//	image ─► patch ─► checks ─► read once ─► undo, whole and synced ─► target
func (s *session) install(ctx context.Context, w *work) error {
	var err error
	if w.target, err = target.OpenInPlace(w.options.target, target.Options{Source: w.input.region, DryRun: w.dryRun}); err != nil {
		return err
	}
	defer w.target.Close()
	if err := s.openRecord(ctx, w); err != nil {
		return err
	}
	defer w.record.Close()
	s.atStake(w.target.Name()+" is as it was", false)
	switch found, _, err := signature.Find(w.target, w.target.Size()); {
	case err != nil:
		return err
	case found.Name == signature.QCOW2 || found.Name == signature.Normal:
		return fmt.Errorf("%s %w, %s", w.target.Name(), errTargetIsImage, found.Name)
	}
	p, err := s.patch(ctx, w)
	if err != nil {
		return err
	}
	if err := w.checkIdentity(ctx, p); err != nil {
		return err
	}
	size := &measure{}
	err = ordered.Run(ctx, p.img, ordered.Options{Granule: 1, Threads: 1}, func() ordered.Worker { return size })
	if err := cmp.Or(w.input.guest.damage(), err); err != nil {
		return err
	}
	if size.end > w.target.Size() {
		return fmt.Errorf("%s %w: it has %s, the metadata reaches up to byte %d", w.target.Name(), target.ErrTooSmall, exactBytes(w.target.Size()), size.end)
	}
	if w.dryRun {
		return s.finishDryInstall(ctx, w, p, size.bytes)
	}
	if err := s.keepUndo(ctx, w, p); err != nil {
		return err
	}
	if w.undo == "" && !p.undo {
		w.progress.Finish()
		s.say("what is written over on %s is not kept: --%s does that", w.target.Name(), flagUndo)
	}
	if err := s.writePatch(ctx, w, p.img, size.bytes); err != nil {
		return err
	}
	if err = w.writeRecord(); err == nil {
		err = w.record.Commit()
	}
	if err != nil {
		s.release()
		err = &doneError{w.target.Name(), fmt.Errorf("not what goes with it: %w", err)}
	}
	w.progress.Finish()
	return cmp.Or(err, s.reportInstall(w, p, time.Since(w.start)))
}

// finishDryInstall lists what would be written, n bytes.
func (s *session) finishDryInstall(ctx context.Context, w *work, p *patch, n int64) error {
	if w.undo != "" {
		t, err := w.openUndo(ctx)
		if err != nil {
			return err
		}
		t.Close()
	}
	w.disk, w.block = p.img, p.block
	if err := w.list(ctx, p.img); err != nil {
		return err
	}
	w.imageBytes, w.dataBytes = n, n
	if err := w.writeRecord(); err != nil {
		return err
	}
	if err := w.record.Commit(); err != nil {
		return err
	}
	w.progress.Finish()
	s.say("%s to %s: %s would be written, or parts of them: %s, %s", w.input.src.Name(), w.target.Name(), count(w.written, "block"),
		exactBytes(n), time.Since(w.start).Round(time.Millisecond))
	return nil
}

// A patch is what is written over the target.
type patch struct {
	img    image.Image
	block  int    // bytes of a block
	size   int64  // of the device that it is of, 0 where that is not known
	blocks uint64 // of the filesystem, 0 where there is none
	uuid   string // of the filesystem that the target has then, "" where it has none
	over   string // of one that it may have now, too
	undo   bool   // it is what another patch was written over
	absent uint64 // blocks that the image lacks, left as they are
}

// patch finds out what of the image is to be written: of a normal image all
// that it holds, of an undo what it holds too, and of the image of a disk what
// a scan finds, whatever is allocated there.
func (s *session) patch(ctx context.Context, w *work) (*patch, error) {
	name := w.input.src.Name()
	if w.input.scrambled() {
		return nil, fmt.Errorf("%s %w", name, errImageScrambled)
	}
	made, ok := w.input.guest.info()
	undo := ok && made.Mode == infoUndo
	if w.scanFlag != "" && undo {
		return nil, usagef("option --%s concerns a filesystem; of %s all is installed", w.scanFlag, name)
	}
	if n := w.input.normal; n != nil {
		return patchOf(n.Superblock(), &patch{img: n}), nil
	}
	if undo {
		p := &patch{img: w.input.guest, size: w.input.guest.Size(), block: int(made.BlockSize), over: made.UUID, undo: true}
		if sb := superblockAt(w.input.guest); sb != nil {
			p.uuid = uuid(sb.UUID())
		}
		return p, nil
	}
	if ok && made.Unreadable > 0 && !w.force {
		return nil, fmt.Errorf("%s %w (%s)", name, errImageLacks, count(made.Unreadable, "block"))
	}
	disk := w.input.disk()
	var err error
	if w.scan, err = metadata(ctx, disk, name, w.input.src.SectorSize(), w.options, w.progress); err != nil {
		return nil, cmp.Or(w.input.guest.damage(), err)
	}
	if w.scan.Super() == nil {
		return nil, fmt.Errorf("%s %w", name, errNoSuperblock)
	}
	found, err := w.scan.Patch(ctx)
	if err := cmp.Or(w.input.guest.damage(), err); err != nil {
		return nil, err
	}
	if lost := w.scan.Unreadable(); len(lost) > 0 && !w.force {
		return nil, fmt.Errorf("%s %w (the first at byte %d)", name, errSourceLacks, lost[0].Start)
	}
	return patchOf(w.scan.Super(), &patch{img: found, size: found.Size(), absent: found.Absent()}), nil
}

// patchOf fills in what the superblock says.
func patchOf(sb *ext.Superblock, p *patch) *patch {
	p.block, p.blocks, p.uuid = int(sb.BlockSize()), sb.BlocksCount(), uuid(sb.UUID())
	p.over = p.uuid
	return p
}

// superblockAt returns the primary superblock on a disk, nil where none can be
// read.
func superblockAt(disk io.ReaderAt) *ext.Superblock {
	b := make([]byte, ext.SuperblockSize)
	n, _ := disk.ReadAt(b, ext.SuperblockOffset)
	sb, err := ext.DecodeSuperblock(b[:n])
	if err != nil {
		return nil
	}
	return sb
}

// checkIdentity refuses a target that is not what the image was made of, by its
// size and by the UUID in its superblock or, where that is gone, a backup.
func (w *work) checkIdentity(ctx context.Context, p *patch) error {
	if w.force {
		return nil
	}
	name := w.target.Name()
	if w.target.Kind() != target.Device && w.input.src.IsDevice() {
		return fmt.Errorf("%s %w", name, errTargetIsFile)
	}
	const sector = 512 // images end with whole ones
	if size := w.target.Size() / sector * sector; p.size != 0 && size != p.size {
		return fmt.Errorf("%s %w: %d bytes, the image is of %d", name, errOtherSize, size, p.size)
	}
	found := ""
	res, err := scan.Scan(ctx, w.target, w.target.Size(), scan.Options{TablesOnly: true})
	switch {
	case errors.Is(err, scan.ErrNotExt):
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case res.Super() != nil:
		sb := res.Super()
		found = uuid(sb.UUID())
		if p.blocks != 0 && (sb.BlocksCount() != p.blocks || int(sb.BlockSize()) != p.block) {
			return fmt.Errorf("%s %w: a filesystem of %d blocks of %d bytes, the image is of %d of %d", name, errOtherSize,
				sb.BlocksCount(), sb.BlockSize(), p.blocks, p.block)
		}
	}
	switch found {
	case p.uuid, p.over:
		return nil
	case "":
		return fmt.Errorf("%s %w", name, errNoFilesystem)
	}
	return fmt.Errorf("%s %w: its UUID is %s, that of the image %s", name, errOtherUUID, found, cmp.Or(p.over, p.uuid))
}

// A measure finds out how much an image holds, and that it can be read.
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

// writePatch writes to the target. From the first byte to the last that is
// synced, an error comes with what state the target is in.
func (s *session) writePatch(ctx context.Context, w *work, img image.Image, total int64) error {
	s.atStake(halfway(w), true)
	stats, err := raw.WriteInPlace(ctx, w.target, img, total, raw.Options{
		Threads:  w.threads,
		Progress: w.progress.Phase("install", progress.Bytes),
	})
	w.imageBytes, w.dataBytes = stats.Data, stats.Data
	var part *raw.PartialError
	if err != nil {
		if !errors.As(err, &part) {
			s.atStake(w.target.Name()+" is as it was", false)
			return err
		}
		return fmt.Errorf("%s: %w", w.target.Name(), err)
	}
	if err := w.target.Commit(); err != nil {
		return err
	}
	s.atStake(w.target.Name()+" holds the metadata of the image, whole", false)
	return nil
}

// halfway says what a target is that was written in part, and what to do.
func halfway(w *work) string {
	text := w.target.Name() + " now holds metadata of two states: "
	if w.undo == "" {
		return text + "install once more; what was there is not kept without --" + flagUndo
	}
	return text + fmt.Sprintf("%s -I %s %s puts back what was there, or install once more without --%s",
		name, w.target.Name(), w.undo, flagUndo)
}

// reportInstall says what was done.
func (s *session) reportInstall(w *work, p *patch, took time.Duration) error {
	if w.scan != nil {
		s.sayProblems(w.scan.Problems())
	}
	if p.absent > 0 {
		s.say("%s lacks %s of metadata: %s keeps what it has there", w.input.src.Name(), count(p.absent, "block"), w.target.Name())
	}
	what := "metadata"
	if p.undo {
		what = "what was there before"
	}
	if !w.quiet {
		s.say("%s installed on %s: %s of %s, %s", w.input.src.Name(), w.target.Name(), exactBytes(w.dataBytes), what, took.Round(time.Millisecond))
	}
	if w.undo != "" {
		s.say("%s holds what was there: %s -I %s %s puts it back", w.undo, name, w.target.Name(), w.undo)
	}
	if !p.undo && !w.quiet {
		s.say("run e2fsck -f %s before it is mounted", w.target.Name())
	}
	return nil
}
