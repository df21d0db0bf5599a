// Package prober finds out whether a running service keeps its promises about state data. It writes documents of its own through every
// instance in turn, reads them back through every instance in every mode after a while, and judges what comes (package freshness). It
// sees a service as its callers do: what a proxy between them adds is seen as well.
//
// A read is taken to begin when its call does, also if it has to be sent again, and a write to be acknowledged when its reply is here. So
// it never complains of what is right, and what is older by less than a round trip may escape it.
package prober

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/internal/freshness"
	"github.com/statesvc/statesvc/state"
)

// Delays are how long after the acknowledgement of a write it is read back.
var Delays = [...]time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute}

// Config is what a prober needs. All of it is required.
type Config struct {
	Instances []*client.Client
	Names     []string // of instances, for complaints
	Kind      string   // of the documents; it must be declared and take any object
	Prefix    string   // of their ids, which nobody else has
	Documents int      // that are written in turn
	Rate      float64  // writes per second
	Duration  time.Duration
	Now       func() time.Time // monotonic
	Say       func(format string, args ...any)
}

// Report is what a prober has found. A read of an eventual tally is older if it misses the write that it was made for.
type Report struct {
	Writes     int64
	Unanswered int64 // reads and writes without an answer, which prove nothing
	ByDelay    [len(Delays)]freshness.Tally
}

// Checked is the number of all reads that were judged.
func (r *Report) Checked() (sum int64) {
	for i := range r.ByDelay {
		sum += r.ByDelay[i].Checked()
	}
	return sum
}

// Of counts the reads of a mode after all delays.
func (r *Report) Of(mode cache.Mode) (sum freshness.Count) {
	for i := range r.ByDelay {
		c := r.ByDelay[i].Of(mode)
		sum.Checked += c.Checked
		sum.Older += c.Older
	}
	return sum
}

// Violations is the number of promises that were broken.
func (r *Report) Violations() (sum int64) {
	for i := range r.ByDelay {
		sum += r.ByDelay[i].Violations()
	}
	return sum
}

// Run probes for as long as it is told to. Reads that would come later than that are left out. The documents are deleted afterwards.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	p := &prober{cfg: cfg, documents: make([]document, cfg.Documents), end: cfg.Now().Add(cfg.Duration)}
	for i := range p.documents {
		p.documents[i].id = fmt.Sprintf("%s-%d", cfg.Prefix, i)
	}
	err := p.write(ctx)
	p.reads.Wait()
	p.report.Writes, p.report.Unanswered = p.writes.Load(), p.unanswered.Load()
	return &p.report, errors.Join(err, p.remove(context.WithoutCancel(ctx)))
}

type prober struct {
	cfg        Config
	documents  []document
	end        time.Time
	report     Report
	reads      sync.WaitGroup
	writes     atomic.Int64
	unanswered atomic.Int64
}

// document is one that is written again and again. Its writes come one after the other.
type document struct {
	id      string
	made    bool
	history freshness.History
}

// write writes documents in turn until the time is over.
func (p *prober) write(ctx context.Context) error {
	every := time.NewTicker(time.Duration(float64(time.Second) / p.cfg.Rate))
	defer every.Stop()
	said := p.cfg.Now()
	for n := 0; p.cfg.Now().Before(p.end); n++ {
		if err := p.probe(ctx, n); err != nil {
			return err
		}
		if now := p.cfg.Now(); now.Sub(said) >= progressEvery {
			said = now
			p.cfg.Say("%d writes, %d reads were checked, %d of them are violations, %d calls had no answer\n", p.writes.Load(), p.report.Checked(),
				p.report.Violations(), p.unanswered.Load())
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

const progressEvery = 10 * time.Second

// probe writes a document, and has it read back. An error is one that would come again.
func (p *prober) probe(ctx context.Context, n int) error {
	d := &p.documents[n%len(p.documents)]
	through := p.cfg.Instances[n%len(p.cfg.Instances)]
	when := client.IfExists()
	if !d.made {
		when = client.IfAbsent()
	}
	written, err := through.PutDocument(ctx, client.NewKey(), p.cfg.Kind, d.id, when, json.RawMessage(fmt.Sprintf(`{"probe":%d}`, n)))
	switch {
	case errors.Is(err, client.ErrPreconditionFailed) && !d.made: // an attempt without an answer has made it
		d.made = true
		return nil // the next one replaces it
	case err != nil && final(err):
		return fmt.Errorf("write %s/%s: %w", p.cfg.Kind, d.id, err)
	case err != nil:
		p.unanswered.Add(1)
		return nil //nolint:nilerr // it is counted
	}
	version, ok := state.ParseVersion(written.Version)
	if !ok {
		return fmt.Errorf("%w: it has given %s the version %q", errReply, d.id, written.Version)
	}
	d.made = true
	p.writes.Add(1)
	at := p.cfg.Now()
	d.history.Acknowledge(version, at)
	p.reads.Go(func() { p.follow(ctx, d, version, written.Token, at) })
	return nil
}

var errReply = errors.New("not what the service promises to reply")

// final reports an error that repeating does not help against.
func final(err error) bool {
	for _, one := range []error{client.ErrUnauthenticated, client.ErrForbidden, client.ErrNotFound, client.ErrInvalidRequest} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// follow reads a document back after every delay that is over before the end.
func (p *prober) follow(ctx context.Context, d *document, version state.Version, token string, ackAt time.Time) {
	for i, delay := range Delays {
		due := ackAt.Add(delay)
		if due.After(p.end) {
			return
		}
		select {
		case <-time.After(due.Sub(p.cfg.Now())):
		case <-ctx.Done():
			return
		}
		for at, instance := range p.cfg.Instances {
			for _, mode := range freshness.Modes {
				if err := p.read(ctx, instance, d, cache.Ask{Mode: mode, Version: version}, token, i, at); err != nil {
					p.unanswered.Add(1)
				}
			}
		}
	}
}

// read reads a document and judges what comes. Its error is that there was no answer.
func (p *prober) read(
	ctx context.Context, instance *client.Client, d *document, ask cache.Ask, token string, delay, at int,
) error {
	options := client.ReadOptions{Consistency: ask.Mode.String()}
	if ask.Mode == cache.AtLeast {
		options = client.ReadOptions{Token: token}
	}
	began := p.cfg.Now()
	found, err := instance.GetDocument(ctx, p.cfg.Kind, d.id, options)
	absent := errors.Is(err, client.ErrNotFound)
	if err != nil && !absent {
		return err
	}
	var got state.Version // of a document that is not there: older than everything
	if !absent {
		var ok bool
		if got, ok = state.ParseVersion(found.Version); !ok {
			return fmt.Errorf("%w: the version %q", errReply, found.Version)
		}
	}
	oldest := ask.Version
	if ask.Mode != cache.Eventual {
		oldest = d.history.Oldest(ask, began)
	}
	if !p.report.ByDelay[delay].Judge(ask.Mode, got, oldest) && ask.Mode != cache.Eventual {
		p.cfg.Say("violation mode=%s instance=%s document=%s/%s after=%s want=%s have=%s\n", ask.Mode, p.cfg.Names[at], p.cfg.Kind, d.id,
			Delays[delay], oldest, got)
	}
	return nil
}

// remove deletes the documents. What cannot be deleted stays; its name says whose it is.
func (p *prober) remove(ctx context.Context) error {
	for i := range p.documents {
		d := &p.documents[i]
		if !d.made {
			continue
		}
		_, err := p.cfg.Instances[0].DeleteDocument(ctx, client.NewKey(), p.cfg.Kind, d.id, client.IfExists())
		if err != nil && !errors.Is(err, client.ErrPreconditionFailed) {
			return fmt.Errorf("delete %s/%s: %w", p.cfg.Kind, d.id, err)
		}
	}
	return nil
}
