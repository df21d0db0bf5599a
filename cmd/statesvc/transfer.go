package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/client"
)

// The pieces and clocks of long commands.
const (
	importPiece    = 2000 // rows that are sent at once: progress is seen, and each piece is far below what a body may have
	progressEvery  = time.Second
	transferBudget = 24 * time.Hour // for a whole file
)

var errRowsFailed = errors.New("some rows failed; correct them and send the file again: what was issued is not issued twice")

// mediaTypes are those of files, by the ends of their names.
var mediaTypes = map[string]string{".csv": client.CSV, ".jsonl": client.JSONLines, ".ndjson": client.JSONLines}

func targetFlags(cmd *cobra.Command, t *target, scope string) {
	cmd.Flags().StringVar(&t.address, "address", "http://"+defaults().Listen, "URL of the service, or STATESVC_ADDRESS")
	cmd.Flags().StringVar(&t.key, "key", "", "API key with the scope "+scope+", or STATESVC_KEY")
}

func (p *program) imports() *cobra.Command {
	var t target
	var campaign string
	var dry bool
	cmd := &cobra.Command{
		Use:   "import --campaign CAMPAIGN FILE",
		Short: "Issue coupons from a CSV or JSON Lines file, with progress and the errors of its rows",
		Long: "Issue coupons from a CSV or JSON Lines file, as POST /v1/campaigns/{campaign_id}/imports does, in pieces of 2000 rows.\n" +
			"Every row is issued once, however often the file is sent: after a fault, send it again. Failed rows are printed with\n" +
			"their numbers in the file, not counting the header; the last line counts. The exit status is 1 if any failed.",
		Example: "  export STATESVC_KEY=ss_…\n  statesvc import --campaign spring --dry-run coupons.csv\n" +
			"  statesvc import --campaign spring coupons.csv",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.connect(cmd, &t)
			if err != nil {
				return err
			}
			run := &importing{program: p, client: c, campaign: campaign, dry: dry, progress: cmd.ErrOrStderr()}
			return run.file(cmd.Context(), args[0])
		},
	}
	targetFlags(cmd, &t, "issue")
	cmd.Flags().StringVar(&campaign, "campaign", "", "of the coupons")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only check the rows; nothing is issued")
	_ = cmd.MarkFlagRequired("campaign")
	return cmd
}

// importing is an import of a file under way.
type importing struct {
	*program

	client                        *client.Client
	campaign                      string
	dry                           bool
	progress                      io.Writer
	mediaType, header             string
	rows, issued, existed, failed int64
}

func (run *importing) file(ctx context.Context, path string) error {
	run.mediaType = mediaTypes[strings.ToLower(filepath.Ext(path))]
	if run.mediaType == "" {
		return fmt.Errorf("%s: its name must end in .csv, .jsonl or .ndjson", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if run.mediaType == client.CSV {
		run.header, lines = string(lines[0]), lines[1:]
		if bytes.IndexByte(text, '"') >= 0 {
			lines = [][]byte{bytes.Join(lines, nil)} // a value may go over several lines
		}
	}
	ctx, cancel := context.WithTimeout(ctx, transferBudget)
	defer cancel()
	for from := 0; from < len(lines); from += importPiece {
		piece := lines[from:min(from+importPiece, len(lines))]
		if err := run.piece(ctx, bytes.Join(piece, nil)); err != nil {
			return fmt.Errorf("after %d rows: %w%s", run.rows, err, advice(err, "issue"))
		}
		fmt.Fprintf(run.progress, "%d of about %d rows\n", run.rows, len(lines))
	}
	run.printf("rows=%d %s=%d already_existed=%d failed=%d\n", run.rows, run.word(), run.issued, run.existed, run.failed)
	if run.failed > 0 {
		return errRowsFailed
	}
	return nil
}

func (run *importing) word() string {
	if run.dry {
		return "well"
	}
	return "issued"
}

// piece sends some rows. Their numbers in the file follow from what was sent before.
func (run *importing) piece(ctx context.Context, rows []byte) error {
	if len(bytes.TrimSpace(rows)) == 0 {
		return nil
	}
	body := append([]byte(run.header), rows...)
	send := func() (client.ImportResult, error) {
		if run.dry {
			return run.client.CheckCoupons(ctx, run.campaign, run.mediaType, body)
		}
		return run.client.ImportCoupons(ctx, client.NewKey(), run.campaign, run.mediaType, body)
	}
	result, err := send()
	if err != nil {
		return err
	}
	for _, wrong := range result.Errors {
		run.printf("row %d: %s: %s\n", run.rows+wrong.Row, wrong.Code, wrong.Detail)
	}
	run.rows += result.Rows
	run.issued += result.Issued
	run.existed += result.AlreadyExisted
	run.failed += result.Failed
	return nil
}

func (p *program) export() *cobra.Command {
	var t target
	var x client.Export
	var format, out string
	cmd := &cobra.Command{
		Use:   "export --format csv --from DAY --to DAY",
		Short: "Export the histories of all owners as CSV or JSON Lines",
		Long: "Export every entry that was decided from one instant on and before another, owner by owner. Bounds are instants, or days\n" +
			"and times in --time-zone; adjoining periods have each entry once. Without --to the export ends ten seconds ago.",
		Example: "  export STATESVC_KEY=ss_…\n" +
			"  statesvc export --format csv --from 2026-03-01 --to 2026-04-01 --time-zone Europe/Berlin --out march.csv",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.connect(cmd, &t)
			if err != nil {
				return err
			}
			if x.Format = mediaTypes["."+format]; x.Format == "" {
				return fmt.Errorf("--format: %q is neither csv nor jsonl", format)
			}
			return p.exportTo(cmd, c, x, out)
		},
	}
	targetFlags(cmd, &t, "events")
	cmd.Flags().StringVar(&format, "format", "csv", "csv or jsonl")
	cmd.Flags().StringVar(&x.From, "from", "", "first instant, e.g. 2026-03-29 or 2026-03-29T12:00:00Z; empty: the beginning")
	cmd.Flags().StringVar(&x.To, "to", "", "first instant that does not belong to it; empty: ten seconds ago")
	cmd.Flags().StringVar(&x.TimeZone, "time-zone", "", "of days and times, and of the times in the file; empty: UTC")
	cmd.Flags().StringVar(&out, "out", "", "file; it is there only when it is whole; empty: standard output")
	return cmd
}

// exportTo writes an export to standard output, or to a file that gets its name at the end.
func (p *program) exportTo(cmd *cobra.Command, c *client.Client, x client.Export, path string) error {
	var n int64
	err := p.intoFile(path, func(to io.Writer) (err error) {
		meter := &meter{to: to, progress: cmd.ErrOrStderr(), quiet: path == ""}
		if n, err = c.ExportEntries(cmd.Context(), meter, x); err != nil {
			err = fmt.Errorf("export: %w%s", err, advice(err, "events"))
		}
		return err
	})
	if err != nil || path == "" {
		return err
	}
	p.printf("exported bytes=%d file=%s\n", n, path)
	return nil
}

// intoFile has something written to standard output, or to a file that gets its name only when it is whole and on disk. Nobody else may
// read the file.
func (p *program) intoFile(path string, write func(to io.Writer) error) error {
	if path == "" {
		return write(p.out)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // it has another name by then, if all is well
	defer file.Close()
	if err := write(file); err != nil {
		return err
	}
	return errors.Join(file.Sync(), os.Rename(file.Name(), path))
}

// meter says now and then how much has gone through it.
type meter struct {
	to, progress io.Writer
	quiet        bool
	n            int64
	said         time.Time
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.to.Write(b)
	m.n += int64(n)
	if now := time.Now(); !m.quiet && now.Sub(m.said) >= progressEvery {
		m.said = now
		fmt.Fprintf(m.progress, "%d bytes\n", m.n)
	}
	return n, err
}
