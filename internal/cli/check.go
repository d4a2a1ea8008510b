package cli

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"e2qcow/internal/advise"
	"e2qcow/internal/app"
	"e2qcow/internal/progress"
	"e2qcow/internal/simg"
	"e2qcow/internal/source"
	"e2qcow/qcow2"
)

const checkHelp = `Usage: e2qcow check IMAGE [--json] [--salvage]
Check the tables and refcounts of a qcow2 image, that every compressed cluster
can be decompressed, and that every other is whole; or the chunks of an Android
sparse image, and its checksums. Exits with 0 if all is well, 1 if the image
cannot be checked, 2 if it is damaged, 3 if only space in it is lost.

`

// What check --json prints. The names never change, as those of jsonRecord.
type jsonCheck struct {
	Image              string        `json:"image"`
	Status             int           `json:"status"`
	Corruptions        int64         `json:"corruptions"`
	Leaks              int64         `json:"leaks"`
	Unchecked          int64         `json:"unchecked"` // clusters whose refcount cannot be read
	Untried            int64         `json:"untried"`   // compressed clusters that were not decompressed
	FileClusters       int64         `json:"file_clusters"`
	AllocatedClusters  int64         `json:"allocated_clusters"`
	CompressedClusters int64         `json:"compressed_clusters"`
	Findings           []jsonFinding `json:"findings"` // the first qcow2.MaxFindings

	Salvage *app.Salvageable `json:"salvage,omitempty"` // with --salvage
}

type jsonFinding struct {
	Severity string `json:"severity"` // corruption or leak
	What     string `json:"what"`
	Offset   int64  `json:"offset"`          // in the file
	Guest    *int64 `json:"guest,omitempty"` // in the disk
}

// check checks an image.
func (t *Tool) check(c *cli.Context) error {
	src, err := openImage(c, "check")
	if err != nil {
		return err
	}
	defer src.Close()
	if head, err := src.Head(app.HeadSize); err == nil && simg.Is(head) {
		return t.checkSparse(c, src)
	}
	shown := t.Progress(false)
	defer shown.Finish()
	r, err := qcow2.Check(c.Context, src, src.Size(), shown.Phase("check", progress.Bytes))
	var salvage *app.Salvageable
	if c.Bool(flagSalvage) {
		img, failed := qcow2.OpenSalvage(c.Context, src, src.Size(), qcow2.SalvageOptions{})
		switch {
		case failed == nil:
			salvage = app.SalvageableOf(img)
		case err != nil || errors.Is(failed, qcow2.ErrNotQcow2):
			return notImage(src, failed)
		default:
			t.Say("%s: nothing can be read with --salvage: %v", src.Name(), failed)
		}
	}
	if err != nil && salvage != nil && !c.Bool(flagJSON) {
		t.Say("%s: what can be read with --salvage: %v", src.Name(), salvage)
	}
	if err != nil {
		return notImage(src, err)
	}
	shown.Finish()
	if c.Bool(flagJSON) {
		j := checkOf(src.Name(), r)
		j.Salvage = salvage
		err = app.EncodeJSON(t.Stdout, j)
	} else {
		err = t.printCheck(src.Name(), src.Size(), r)
		if err == nil && salvage != nil {
			_, err = fmt.Fprintf(t.Stdout, "what can be read with --salvage: %v\n", salvage)
		}
	}
	if err == nil && r.Status() != 0 {
		return exitStatus(r.Status())
	}
	return err
}

// checkSparse checks an Android sparse image.
func (t *Tool) checkSparse(c *cli.Context, src *source.Source) error {
	sums := "it has no checksum"
	img, err := app.OpenSparse(c.Context, src)
	if err == nil {
		err = img.Verify(c.Context)
		if img.HasChecksum() {
			sums = "its checksum is right"
		}
	}
	var corrupt *simg.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return err
	}
	r := &qcow2.Report{}
	if corrupt != nil {
		r.Corruptions = 1
		r.Findings = []qcow2.Finding{{Severity: qcow2.Corruption, What: corrupt.Error(), Offset: corrupt.Offset, Guest: -1}}
	}
	switch {
	case c.Bool(flagJSON):
		err = app.EncodeJSON(t.Stdout, checkOf(src.Name(), r))
	case corrupt != nil:
		_, err = fmt.Fprintf(t.Stdout, "%s: damaged\n%s\n", advise.Printable(src.Name()), advise.Printable(corrupt.Error()))
	default:
		_, err = fmt.Fprintf(t.Stdout, "%s: no errors; chunks: %s; %s\n", advise.Printable(src.Name()), advise.Comma(uint64(img.Chunks())), sums)
	}
	if err == nil && r.Status() != 0 {
		return exitStatus(r.Status())
	}
	return err
}

func checkOf(name string, r *qcow2.Report) jsonCheck {
	j := jsonCheck{
		Image:              name,
		Status:             r.Status(),
		Corruptions:        r.Corruptions,
		Leaks:              r.Leaks,
		Unchecked:          r.Unchecked,
		Untried:            r.Untried,
		FileClusters:       r.FileClusters,
		AllocatedClusters:  r.AllocatedClusters,
		CompressedClusters: r.CompressedClusters,
		Findings:           []jsonFinding{},
	}
	for _, f := range r.Findings {
		each := jsonFinding{Severity: f.Severity.String(), What: f.What, Offset: f.Offset}
		if f.Guest >= 0 {
			each.Guest = &f.Guest
		}
		j.Findings = append(j.Findings, each)
	}
	return j
}

// mostFindings is the number of findings in the text.
const mostFindings = 5

// printCheck writes the verdict on the image, then the findings. The file has
// size bytes.
func (t *Tool) printCheck(name string, size int64, r *qcow2.Report) error {
	b := bufio.NewWriter(t.Stdout)
	used := fmt.Sprintf("clusters in use: %s, compressed: %s", advise.Comma(r.AllocatedClusters), advise.Comma(r.CompressedClusters))
	var verdict string
	switch {
	case r.BeyondEnd > 0:
		verdict = fmt.Sprintf("damaged or cut short: its tables lead beyond the end, byte %d; get it again, or see what --salvage reads", size)
	case r.Corruptions > 0:
		verdict = "damaged"
	case r.Leaks > 0:
		verdict = "sound, but some of its space is lost"
	case r.Unchecked+r.Untried > 0:
		verdict = "not checked in full"
	default:
		_, _ = fmt.Fprintf(b, "%s: no errors; %s\n", advise.Printable(name), used)
		return b.Flush()
	}
	_, _ = fmt.Fprintf(b, "%s: %s\ncorruptions: %s; leaked clusters: %s; not checked: %s; %s\n", advise.Printable(name), verdict,
		advise.Comma(r.Corruptions), advise.Comma(r.Leaks), advise.Comma(r.Unchecked+r.Untried), used)
	list := r.Findings[:min(len(r.Findings), mostFindings)]
	for _, f := range list {
		_, _ = fmt.Fprintln(b, advise.Printable(f.String()))
	}
	if more := r.Corruptions + r.Leaks - int64(len(list)); more > 0 {
		_, _ = fmt.Fprintf(b, "and %s more; --json lists the first %d\n", advise.Comma(more), qcow2.MaxFindings)
	}
	return b.Flush()
}
