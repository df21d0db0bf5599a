package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/client"
)

// codesPiece is how many codes one request makes, which is the most that it may.
const codesPiece = 1000

var (
	errOneOf     = errors.New("one of --count, --from and --shared is needed, and no more")
	errElsewhere = errors.New("some codes belong to other batches; the others were made")
)

func (p *program) codes() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "codes",
		Short: "Make and list the codes of campaigns",
		Long: "Make codes of a campaign, any number of them, and list them with who has redeemed them; to a file or to standard output.\n" +
			"A running service is asked, with an API key that has the scope issue.",
	}
	cmd.AddCommand(p.makeCodes(), p.listCodes())
	return cmd
}

func (p *program) makeCodes() *cobra.Command {
	var t target
	var m making
	var from string
	cmd := &cobra.Command{
		Use:   "make --campaign CAMPAIGN --batch BATCH --count N",
		Short: "Make unique codes, those of a list, or one shared code",
		Long: "Make codes of a campaign: --count unique ones that nobody can guess, the unique ones of a file with one in each line, or one\n" +
			"shared code. More than 1000 codes are made in pieces, which are batches called BATCH/1, BATCH/2 and so on.\n\n" +
			"After a fault, call it again with the same flags: what was made is not made twice, and all codes are written. The exit\n" +
			"status is 1 if codes of the file belong to other batches.",
		Example: "  export STATESVC_KEY=ss_…\n" +
			"  statesvc codes make --campaign spring --batch letters --count 50000 --out letters.csv\n" +
			"  statesvc codes make --campaign spring --batch flyers --from printed.txt\n" +
			"  statesvc codes make --campaign spring --batch banner --shared SPRING26",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if m.list, err = codesIn(from); err != nil {
				return err
			}
			if err := m.check(cmd.Flags().Changed("count"), from != ""); err != nil {
				return err
			}
			if m.client, err = p.connect(cmd, &t); err != nil {
				return err
			}
			m.progress = cmd.ErrOrStderr()
			if err := p.intoFile(m.out, func(to io.Writer) error { return m.all(cmd.Context(), to) }); err != nil {
				return fmt.Errorf("%d codes are there: %w%s", m.done, err, advice(err, "issue"))
			}
			fmt.Fprintf(m.progress, "made=%d already_existed=%d elsewhere=%d\n", m.made, m.existed, m.elsewhere)
			if m.elsewhere > 0 {
				return errElsewhere
			}
			return nil
		},
	}
	targetFlags(cmd, &t, "issue")
	m.batchFlags(cmd)
	cmd.Flags().IntVar(&m.count, "count", 0, "unique codes to make")
	cmd.Flags().StringVar(&from, "from", "", "file with the codes to make, one in each line")
	cmd.Flags().StringVar(&m.shared, "shared", "", "a code for everybody")
	return cmd
}

// batch says which codes a command is about, and where they are written.
type batch struct {
	client        *client.Client
	campaign, ref string
	out           string
	progress      io.Writer
	done          int // codes so far
	said          time.Time
}

func (b *batch) batchFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.campaign, "campaign", "", "of the codes")
	cmd.Flags().StringVar(&b.ref, "batch", "", "name of the codes in the campaign, for ever")
	cmd.Flags().StringVar(&b.out, "out", "", "CSV file; it is there only when it is whole; empty: standard output")
	_ = cmd.MarkFlagRequired("campaign")
	_ = cmd.MarkFlagRequired("batch")
}

// piece is the name of a piece of a batch that is made in several; the first one is 1.
func (b *batch) piece(n int) string { return b.ref + "/" + strconv.Itoa(n) }

// say tells now and then how many codes there are.
func (b *batch) say(of string) {
	if now := time.Now(); now.Sub(b.said) >= progressEvery {
		b.said = now
		fmt.Fprintf(b.progress, "%d%s codes\n", b.done, of)
	}
}

// making is the making of codes under way.
type making struct {
	batch

	count  int
	list   []string
	shared string

	made, existed, elsewhere int
}

// codesIn reads a file of codes; without one there are none.
func codesIn(path string) (codes []string, err error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		if code := strings.TrimSpace(string(line)); code != "" {
			codes = append(codes, code)
		}
	}
	if len(codes) == 0 {
		return nil, fmt.Errorf("%s: there are no codes in it", path)
	}
	return codes, nil
}

func (m *making) check(counted, listed bool) error {
	ways := 0
	for _, used := range []bool{counted, listed, m.shared != ""} {
		if used {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errOneOf
	case counted && m.count < 1:
		return fmt.Errorf("--count: %d codes cannot be made", m.count)
	}
	return nil
}

// requests are what makes all codes, piece by piece.
func (m *making) requests() (all []client.CodesRequest) {
	total := max(m.count, len(m.list))
	if m.shared != "" || total <= codesPiece {
		return []client.CodesRequest{{BatchRef: m.ref, Count: m.count, Codes: m.list, SharedCode: m.shared}}
	}
	for from := 0; from < total; from += codesPiece {
		r := client.CodesRequest{BatchRef: m.piece(len(all) + 1)}
		if to := min(from+codesPiece, total); m.list == nil {
			r.Count = to - from
		} else {
			r.Codes = m.list[from:to]
		}
		all = append(all, r)
	}
	return all
}

// all makes the codes, and writes those that are there then.
func (m *making) all(ctx context.Context, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, transferBudget)
	defer cancel()
	rows := csv.NewWriter(to)
	_ = rows.Write([]string{"code", "batch_ref"}) // an error comes again with the next row
	for _, r := range m.requests() {
		reply, err := m.client.MakeCodes(ctx, client.NewKey(), m.campaign, r)
		if err != nil {
			return err
		}
		for _, code := range reply.Codes {
			_ = rows.Write([]string{code, r.BatchRef})
		}
		if m.done += len(reply.Codes); reply.AlreadyExists {
			m.existed += len(reply.Codes)
		} else {
			m.made += len(reply.Codes)
		}
		for _, code := range reply.Elsewhere {
			fmt.Fprintln(m.progress, "another batch has", code)
		}
		m.elsewhere += len(reply.Elsewhere)
		m.say(fmt.Sprintf(" of %d", max(m.count, len(m.list), 1)))
	}
	rows.Flush()
	return rows.Error()
}

func (p *program) listCodes() *cobra.Command {
	var t target
	var l batch
	cmd := &cobra.Command{
		Use:   "list --campaign CAMPAIGN --batch BATCH",
		Short: "List the codes of a batch, and who has redeemed them",
		Long: "List the codes of a batch as CSV, in their order, with their states: FREE, RESERVED while it is decided who gets a coupon, or\n" +
			"REDEEMED. A batch that was made in pieces is listed as a whole.",
		Example: "  export STATESVC_KEY=ss_…\n  statesvc codes list --campaign spring --batch letters --out letters.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if l.client, err = p.connect(cmd, &t); err != nil {
				return err
			}
			l.progress = cmd.ErrOrStderr()
			if err := p.intoFile(l.out, func(to io.Writer) error { return l.list(cmd.Context(), to) }); err != nil {
				return fmt.Errorf("after %d codes: %w%s", l.done, err, advice(err, "issue"))
			}
			fmt.Fprintf(l.progress, "codes=%d\n", l.done)
			return nil
		},
	}
	targetFlags(cmd, &t, "issue")
	l.batchFlags(cmd)
	return cmd
}

// list writes the codes of a batch, or of all its pieces: they were made one after the other, so the first one without codes is the end.
func (b *batch) list(ctx context.Context, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, transferBudget)
	defer cancel()
	rows := csv.NewWriter(to)
	_ = rows.Write([]string{"code", "batch_ref", "number", "kind", "state", "owner"}) // an error comes again with the next row
	if err := b.listPiece(ctx, rows, b.ref); err != nil {
		return err
	}
	for n, more := 1, b.done == 0; more; n++ {
		before := b.done
		if err := b.listPiece(ctx, rows, b.piece(n)); err != nil {
			return err
		}
		more = b.done > before
	}
	rows.Flush()
	return rows.Error()
}

func (b *batch) listPiece(ctx context.Context, rows *csv.Writer, ref string) error {
	for code, err := range b.client.Codes(ctx, b.campaign, ref) {
		if err != nil {
			return err
		}
		row := []string{code.Code, code.BatchRef, strconv.FormatInt(code.Number, 10), code.Kind, code.State, code.Owner}
		if err := rows.Write(row); err != nil {
			return err
		}
		b.done++
		b.say("")
	}
	return nil
}
