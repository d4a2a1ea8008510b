package cli

import (
	"context"
	"os"

	"golang.org/x/term"

	"e2qcow/internal/app"
	"e2qcow/internal/report"
	"e2qcow/scan"
	"e2qcow/scan/survey"
)

const flagMap = "map"

// survey looks at the metadata of a filesystem, for its map.
func (i *jsonInfo) survey(ctx context.Context, t *Tool, p *app.Part) error {
	shown := t.Progress(false)
	defer shown.Finish()
	search := app.Search{Scan: survey.Watch(scan.Options{Retries: 1}), Force: true}
	res, err := search.Metadata(ctx, p, shown)
	if err != nil {
		return err
	}
	i.surveyed, err = survey.Gather(ctx, res)
	return err
}

// printMap draws the map as the terminal shows it.
func (t *Tool) printMap(d *survey.Data) error {
	var o report.TextOptions
	if f, ok := t.Stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.Blocks = report.CanShowBlocks(os.Getenv)
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			o.Columns = width
		}
	}
	return report.WriteMap(t.Stdout, d, o)
}
