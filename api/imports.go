package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/api/strictjson"
	"github.com/statesvc/statesvc/ledger"
)

const (
	importBytesMax  = 16 << 20
	importRowMax    = 64 << 10 // bytes of one JSON line; a coupon has a few hundred
	importErrorsMax = 1000     // failed rows that the reply names; their number is always exact
	importAtOnce    = 128      // rows on their way to the shards: enough for full batches, far from filling a queue
	importPause     = 20 * time.Millisecond
	importPatience  = 10 * time.Minute // for a file of 16 MiB over a slow line
)

// ImportCoupons answers POST /v1/campaigns/{campaign_id}/imports. Rows are issued while the file is read, and each has a
// deadline of its own.
func (s *server) ImportCoupons(ctx context.Context, r gen.ImportCouponsRequestObject) (gen.ImportCouponsResponseObject, error) {
	call := callOf(ctx)
	rows, err := newRows(call.contentType, call.contentLength, r.Body)
	if err != nil {
		return nil, err
	}
	run := &importRun{s: s, campaign: r.CampaignID, call: call, dry: r.Params.DryRun, result: gen.ImportResult{Errors: []gen.RowError{}}}
	return shown(http.StatusOK, run.all(context.WithoutCancel(ctx), rows), nil)
}

// importRun is one import under way.
type importRun struct {
	s        *server
	campaign string
	call     *call
	dry      bool // rows are checked and not issued

	mu     sync.Mutex
	result gen.ImportResult
}

// all issues the rows of a file. What cannot be read any more ends the import, and is its last failed row: what came before it
// has been done.
func (run *importRun) all(ctx context.Context, rows rows) gen.ImportResult {
	var working errgroup.Group
	working.SetLimit(importAtOnce)
	for number := int64(1); ; number++ {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if _, broken := errors.AsType[*rowError](err); err != nil {
			run.note(ctx, number, false, err)
			if broken {
				continue
			}
			break
		}
		working.Go(func() error {
			created, err := run.issue(ctx, &row)
			run.note(ctx, number, created, err)
			return nil
		})
	}
	_ = working.Wait() // the rows keep their errors
	result := &run.result
	slices.SortFunc(result.Errors, func(a, b gen.RowError) int { return int(a.Row - b.Row) })
	result.Errors = result.Errors[:min(len(result.Errors), importErrorsMax)]
	return *result
}

// issue gives one row its coupon. While nothing has happened for a reason that passes, it tries again.
func (run *importRun) issue(ctx context.Context, row *gen.IssueRequest) (created bool, err error) {
	issue, err := issueOf(run.campaign, row)
	if err != nil {
		return false, err
	}
	caller := ledger.Caller{Key: importKey(run.call.idempotency, run.campaign, row), Client: run.call.key.ID}
	if run.dry {
		return true, pointAtAmounts(run.s.cfg.Ledger.CheckIssue(caller, issue), &row.Discount)
	}
	ctx, cancel := context.WithTimeout(ctx, run.call.timeout)
	defer cancel()
	for pause := importPause; ; pause *= 2 {
		answer, err := run.s.cfg.Ledger.IssueCoupon(ctx, caller, issue)
		if err == nil {
			return answer.Created && !answer.Replayed, nil
		}
		if known, _ := problemOf(err); !known.retryable || known == internal || !sleep(ctx, pause) {
			return false, pointAtAmounts(err, &row.Discount)
		}
	}
}

// sleep reports whether d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// importKey is the idempotency key of a row. It depends on what names the coupon and not on the row's number, so that a file
// which lost or gained rows can be sent again under the same key.
func importKey(key, campaign string, row *gen.IssueRequest) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{key, campaign, row.Owner, row.IssueRef}, "\x00")))
	return "import:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// note counts a row that has ended.
func (run *importRun) note(ctx context.Context, number int64, created bool, err error) {
	verdict := "done"
	run.mu.Lock()
	defer run.mu.Unlock()
	result := &run.result
	result.Rows++
	switch {
	case err != nil:
		result.Failed++
		d := newDocument(err, true)
		verdict = d.Code
		if len(result.Errors) < importErrorsMax+importAtOnce { // rows end out of order: the first ones may still come
			result.Errors = append(result.Errors, gen.RowError{Row: number, Code: d.Code, Detail: d.Detail})
		}
	case created:
		result.Issued++
	default:
		result.AlreadyExisted++
		verdict = "replayed"
	}
	if !run.dry {
		run.s.metrics.operation(ctx, "issue-coupon", verdict)
	}
}

// rows is a file of coupons. next returns io.EOF at its end, and a *rowError for a row that can be passed over.
type rows interface {
	next() (gen.IssueRequest, error)
}

// rowError is a row that is no coupon.
type rowError struct{ partError }

func (e *rowError) Unwrap() error { return &e.partError }

func badRow(pointer, detail string) error { return &rowError{partError{errInvalid, pointer, detail}} }

// newRows reads a file by its media type.
func newRows(contentType string, length int64, body io.Reader) (rows, error) {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if charset := parameters["charset"]; err != nil || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, errMediaType
	}
	if length > importBytesMax {
		return nil, fmt.Errorf("%w: %d bytes", errTooLarge, length)
	}
	body = &limitedReader{body, importBytesMax}
	switch kind {
	case "text/csv":
		return newCSVRows(body)
	case "application/jsonl", "application/x-ndjson":
		scanner := bufio.NewScanner(body)
		scanner.Buffer(nil, importRowMax)
		return &jsonRows{scanner}, nil
	}
	return nil, errMediaType
}

// limitedReader fails with errTooLarge where io.LimitReader would pretend that the file has ended.
type limitedReader struct {
	reader io.Reader
	left   int64
}

func (r *limitedReader) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	if r.left -= int64(n); r.left < 0 {
		return 0, fmt.Errorf("%w: the rest was not read", errTooLarge)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = invalid("", "the file ended early")
	}
	return n, err
}

// jsonRows reads JSON lines. Empty lines are no rows.
type jsonRows struct{ scanner *bufio.Scanner }

func (r *jsonRows) next() (row gen.IssueRequest, err error) {
	for r.scanner.Scan() {
		line := strings.TrimSpace(r.scanner.Text())
		if line == "" {
			continue
		}
		if err := strictjson.Decode(line, &row); err != nil {
			problem, _ := errors.AsType[*strictjson.Error](err)
			return row, badRow(problem.Problems[0].Pointer, problem.Problems[0].Detail)
		}
		return row, nil
	}
	if errors.Is(r.scanner.Err(), bufio.ErrTooLong) {
		return row, fmt.Errorf("%w: a line has more than %d bytes", errTooLarge, importRowMax)
	}
	if r.scanner.Err() != nil {
		return row, r.scanner.Err()
	}
	return row, io.EOF
}

// csvRows reads CSV with a header.
type csvRows struct {
	reader  *csv.Reader
	columns []string
}

// csvColumns are all columns there are; the first four are needed.
var csvColumns = []string{
	"owner", "issue_ref", "kind", "expires_at", "currency", "amount", "basis_points", "cap", "min_spend", "valid_from",
}

const csvNeeded = 4

func newCSVRows(body io.Reader) (*csvRows, error) {
	reader := csv.NewReader(body)
	columns, err := reader.Read()
	switch {
	case errors.Is(err, errTooLarge):
		return nil, err
	case err != nil:
		return nil, invalid("header", "the first row must name the columns")
	}
	for i, column := range columns {
		if !slices.Contains(csvColumns, column) || slices.Contains(columns[:i], column) {
			return nil, invalid("header", fmt.Sprintf("column %.32q is not known, or there twice", column))
		}
	}
	for _, needed := range csvColumns[:csvNeeded] {
		if !slices.Contains(columns, needed) {
			return nil, invalid("header", "column "+needed+" is missing")
		}
	}
	return &csvRows{reader, slices.Clone(columns)}, nil
}

func (r *csvRows) next() (row gen.IssueRequest, err error) {
	fields, err := r.reader.Read()
	if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
		return row, badRow("", "line "+strconv.Itoa(wrong.Line)+": "+wrong.Err.Error())
	}
	if err != nil {
		return row, err
	}
	for i, column := range r.columns {
		if fields[i] == "" {
			continue // as good as left out
		}
		if detail := setColumn(&row, column, fields[i]); detail != "" {
			return row, badRow("/"+column, detail)
		}
	}
	for _, money := range []*gen.Money{&row.Discount.Amount, &row.Discount.Cap, &row.Discount.MinSpend} {
		if money.Amount != 0 {
			money.Currency = row.Discount.Currency
		}
	}
	return row, nil
}

// setColumn sets one field of a row and says what is wrong with it.
func setColumn(row *gen.IssueRequest, column, text string) (wrong string) {
	var number *int64
	switch column {
	case "owner":
		row.Owner = text
	case "issue_ref":
		row.IssueRef = text
	case "kind":
		row.Discount.Kind = text
	case "currency":
		row.Discount.Currency = text
	case "amount":
		number = &row.Discount.Amount.Amount
	case "basis_points":
		number = &row.Discount.BasisPoints
	case "cap":
		number = &row.Discount.Cap.Amount
	case "min_spend":
		number = &row.Discount.MinSpend.Amount
	case "expires_at":
		return setTime(&row.ExpiresAt, text)
	case "valid_from":
		return setTime(&row.ValidFrom, text)
	}
	if number == nil {
		return ""
	}
	value, ok := strictjson.ParseInteger(text)
	if !ok || value < 1 {
		return "must be a whole number from 1 on"
	}
	*number = value
	return ""
}

func setTime(to *time.Time, text string) (wrong string) {
	at, ok := strictjson.ParseTime(text)
	if !ok {
		return strictjson.WrongTime
	}
	*to = at
	return ""
}
