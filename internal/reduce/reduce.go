// Package reduce makes a small disk image on which a command still says what it
// says of a large one: a regression test out of a bug report.
//
//	disk ──► candidate: a change ──► command on a file ──► as before? ──► disk
//	  ▲                                                       │ yes
//	  └───────────────────────────────────────────────────────┘
//
// A pass proposes changes, the largest first: inodes are freed, groups cut off,
// features switched off, blocks zeroed, fields set to constants. A change keeps
// what hangs together in order (bits, counts, entries, checksums that were right),
// so that no new complaint comes. A change on which the command does not say the
// same is dropped.
//
//	res, err := reduce.Run(ctx, img, reduce.Options{
//		Judge: reduce.Judge{Command: []string{"e2fsck", "-fn", "{}"}},
//	})
package reduce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"e2qcow/image"
)

// Options say what is kept, and how long the search may take.
type Options struct {
	Judge   Judge
	Folder  string                  // for the file that the command is given; "" for the usual one
	Limit   time.Duration           // the search ends with the best result; 0 for no limit
	Better  func(image.Image) error // called with each better result, at the end of a pass
	Made    func(folder string)     // called with each folder that is removed at the end; may be nil
	Said    func(string)            // called with a line for each pass that helped; may be nil
	Workers int                     // commands that run at the same time; 0 for 1
}

// A Result is the smallest image that was found.
type Result struct {
	Image      image.Image
	Candidates int   // commands that were run
	Size       int64 // of the disk, bytes
	Blocks     int   // that are not zero
	Verdict    Verdict
	Large      string // why the filesystem could not be cut to fewer groups; "" if it was
	Ended      bool   // by Limit or by the context, before nothing helped any more
}

// ErrUnstable says that the command does not say the same of the same disk.
var ErrUnstable = errors.New("the command says different things of the same disk")

// A reducer is the state of a search.
type reducer struct {
	opt   Options
	disk  *disk
	want  Verdict
	files []*file
	judge []judgeFunc // one for each candidate that is tried at the same time
	tried int
	until time.Time
	last  Verdict // of the last change that was dropped
	large string

	surveyed struct { // what look found, of one version of the disk
		version int
		f       *filesystem
		t       *tree
	}
}

// A judgeFunc returns what the command says of the disk with a change.
type judgeFunc func(context.Context, *change) (Verdict, error)

// look returns the layout and the inodes of the filesystem as it is now.
func (r *reducer) look() (*filesystem, *tree, error) {
	if s := &r.surveyed; s.f == nil || s.version != r.disk.version {
		f, err := r.disk.open()
		if err != nil {
			return nil, nil, err
		}
		t, err := f.survey()
		if err != nil {
			return nil, nil, err
		}
		s.version, s.f, s.t = r.disk.version, f, t
	}
	return r.surveyed.f, r.surveyed.t, nil
}

// ignore returns nil for a filesystem that a pass cannot follow.
func ignore(err error) error {
	if errors.Is(err, errNoLayout) {
		return nil
	}
	return err
}

// A pass proposes changes to the disk.
type pass struct {
	name string
	run  func(context.Context, *reducer) error
}

// passes are tried in this order, until a whole round helps nothing.
var passes = []pass{
	{"inodes that the messages do not name", freeUnnamed},
	{"features", dropFeatures},
	{"contents of files", truncateFiles},
	{"inodes", freeInodes},
	{"groups", cutGroups},
	{"blocks at the end", cutBlocks},
	{"attributes", dropAttributes},
	{"names", shortenNames},
	{"UUID", setUUID},
	{"fields", setConstants},
	{"blocks", zeroBlocks},
}

// Run reduces img. The error is ErrUnstable, one of the context, or of the
// command. When the context ends or the limit is reached, the result is the best
// that was found.
func Run(ctx context.Context, img image.Image, opt Options) (*Result, error) {
	r := &reducer{opt: opt, disk: newDisk(img)}
	if opt.Limit > 0 {
		r.until = time.Now().Add(opt.Limit)
	}
	for range max(opt.Workers, 1) {
		f, err := newFile(opt.Folder, r.disk, opt.Made)
		if err != nil {
			r.close()
			return nil, err
		}
		r.files = append(r.files, f)
		r.judge = append(r.judge, func(ctx context.Context, c *change) (Verdict, error) { return f.judge(ctx, r.opt.Judge, c) })
	}
	defer r.close()
	if err := r.learn(ctx); err != nil {
		return nil, err
	}
	ended, err := r.rounds(ctx)
	if err != nil {
		return nil, err
	}
	small := r.disk.image()
	return &Result{Image: small, Candidates: r.tried, Size: r.disk.size, Blocks: small.blocks(), Verdict: r.want, Large: r.large, Ended: ended}, nil
}

func (r *reducer) close() {
	for _, f := range r.files {
		f.close()
	}
}

// learn finds out what the command says of the disk, and that it says the same
// each time.
func (r *reducer) learn(ctx context.Context) (err error) {
	if !r.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, r.until, errEnough)
		defer cancel()
		defer func() {
			if errors.Is(err, errEnough) {
				err = fmt.Errorf("%w: it did not end within the limit of %v", ErrCommand, r.opt.Limit)
			}
		}()
	}
	start := time.Now()
	if r.want, err = r.opt.Judge.run(ctx, r.files[0].path()); err != nil {
		return err
	}
	r.opt.Judge = r.opt.Judge.within(time.Since(start))
	if err := r.opt.Judge.check(r.want); err != nil {
		return err
	}
	for range max(r.opt.Judge.Runs, 1) {
		if err := r.files[0].restore(); err != nil {
			return err
		}
		again, err := r.opt.Judge.run(ctx, r.files[0].path())
		if err != nil {
			return err
		}
		if !r.opt.Judge.same(r.want, again) {
			return fmt.Errorf("%w: %s", ErrUnstable, difference(r.want, again))
		}
	}
	return r.files[0].restore()
}

// errEnough ends the search with the best result.
var errEnough = errors.New("enough")

// rounds runs all passes until none helps. It reports whether the search was
// ended before.
func (r *reducer) rounds(ctx context.Context) (ended bool, err error) {
	for helped := true; helped; {
		helped = false
		for _, p := range passes {
			before := r.disk.version
			err := p.run(ctx, r)
			if r.disk.version != before {
				helped = true
				if r.opt.Said != nil {
					r.opt.Said(p.name)
				}
				if r.opt.Better != nil {
					if err := r.opt.Better(r.disk.image()); err != nil {
						return false, err
					}
				}
			}
			if errors.Is(err, errEnough) {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// try reports whether the command says the same of the disk with c, and if so
// makes c a part of the disk. A nil change is none.
func (r *reducer) try(ctx context.Context, c *change) (bool, error) {
	if c == nil || c.empty(r.disk) {
		return false, nil
	}
	i, err := r.first(ctx, []*change{c})
	return i == 0, err
}

// first tries changes at the same time, as many as there are workers, and makes
// the first one on which the command says the same a part of the disk. It returns
// its place in the list, -1 for none.
func (r *reducer) first(ctx context.Context, list []*change) (int, error) {
	type answer struct {
		v    Verdict
		same bool
		err  error
	}
	if !r.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, r.until, errEnough)
		defer cancel()
	}
	for at := 0; at < len(list); at += len(r.judge) {
		if ctx.Err() != nil {
			return -1, errEnough
		}
		part := list[at:min(at+len(r.judge), len(list))]
		answers := make([]chan answer, len(part))
		for i, c := range part {
			answers[i] = make(chan answer, 1)
			go func() {
				v, err := r.judge[i](ctx, c)
				answers[i] <- answer{v, err == nil && r.opt.Judge.same(r.want, v), err}
			}()
		}
		r.tried += len(part)
		found := -1
		var failed error
		for i := range part {
			a := <-answers[i]
			if a.err != nil && failed == nil {
				failed = a.err
			}
			if a.same && found < 0 {
				found = i
			}
			r.last = a.v
		}
		switch {
		case found >= 0: // what fails behind it would not have been tried alone
			r.disk.accept(part[found])
			return at + found, nil
		case failed != nil && ctx.Err() != nil:
			return -1, errEnough
		case failed != nil:
			return -1, failed
		}
	}
	return -1, nil
}

// eachPart tries to leave out parts of a list of n things, by halves, then by
// smaller parts, as delta debugging does. leave returns the change that leaves
// out the things of which it gets the numbers; it may be nil.
func (r *reducer) eachPart(ctx context.Context, n int, leave func(things []int) *change) error {
	left := make([]int, n)
	for i := range left {
		left[i] = i
	}
	for size := n; size > 0; size /= 2 {
		for at := 0; at < len(left); {
			var (
				list []*change
				ends [][2]int
			)
			for i := at; i < len(left) && len(list) < len(r.judge); i += size {
				end := min(i+size, len(left))
				if c := leave(left[i:end]); c != nil && !c.empty(r.disk) {
					list, ends = append(list, c), append(ends, [2]int{i, end})
				}
				at = end
			}
			if len(list) == 0 {
				continue
			}
			i, err := r.first(ctx, list)
			if err != nil {
				return err
			}
			if i >= 0 {
				left = append(left[:ends[i][0]:ends[i][0]], left[ends[i][1]:]...)
				at = ends[i][0]
			}
		}
	}
	return nil
}
