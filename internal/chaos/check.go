package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/statesvc/statesvc/internal/linear"
)

const (
	searchPatience = 60 * time.Second
	askersMax      = 16 // side by side
	replayEach     = 8  // of the keys that nothing happened to, one of so many is sent again
	finalAmount    = 1  // of the last credit of each owner
)

// check asks everybody for everything, after the load has stopped.
func (w *world) check(ctx context.Context, l *load, broken, whole time.Time) error {
	var wg sync.WaitGroup
	work := make(chan *history)
	for range askersMax {
		wg.Go(func() {
			for h := range work {
				w.checkOwner(ctx, h, broken, whole)
			}
		})
	}
	for _, h := range l.histories {
		work <- h
	}
	close(work)
	wg.Wait()
	if err := w.checkRegister(ctx); err != nil {
		return err
	}
	return w.checkNodes(ctx, l)
}

func (w *world) checkOwner(ctx context.Context, h *history, broken, whole time.Time) {
	w.resolve(ctx, h)
	w.replay(ctx, h, broken, whole)
	c := h.callers[0]
	last := c.call(ctx, linear.Action{Kind: linear.Credit, Key: h.owner + "-last", Amount: finalAmount})
	if !last.acknowledged() {
		w.violate("%s is blocked: its last credit ended with %+v", h.owner, last.outcome)
	}
	w.linearize(h)
	verification, err := c.client.Verify(ctx, h.owner)
	if err != nil || !verification.Intact {
		w.violate("the history of %s is broken: %+v, %v", h.owner, verification, err)
	}
}

// resolve sends the keys again whose callers have given up. What they are told now is the answer of all calls with that key.
func (w *world) resolve(ctx context.Context, h *history) {
	known := h.ops[:0]
	answered, first := map[string]int{}, map[string]porcupine.Operation{}
	for _, op := range h.ops {
		key := op.Input.(linear.Action).Key
		if !op.Output.(linear.Outcome).Unknown {
			if at, found := answered[key]; !found || op.Return < known[at].Return {
				answered[key] = len(known)
			}
			known = append(known, op)
		} else if earlier, found := first[key]; !found || op.Call < earlier.Call {
			first[key] = op
		}
	}
	h.ops = known
	for key, op := range first {
		w.addUnknown()
		if at, found := answered[key]; found {
			h.ops[at].Call = min(h.ops[at].Call, op.Call)
			continue
		}
		d := h.callers[0].call(ctx, op.Input.(linear.Action))
		if d.outcome.Unknown {
			w.violate("key %s of %s has no answer when all faults are over", key, h.owner)
			continue
		}
		h.ops[len(h.ops)-1].Call = op.Call
	}
}

// replay sends keys again: all that were under way while something was broken, and some others.
func (w *world) replay(ctx context.Context, h *history, broken, whole time.Time) {
	c := h.callers[0]
	for i, d := range slices.Clone(h.dones) {
		if d.outcome.Unknown || i%replayEach != 0 && (d.to.Before(broken) || d.from.After(whole)) {
			continue
		}
		outcome := c.send(ctx, d.Action)
		heard := c.tape.heard()
		switch {
		case outcome != d.outcome:
			w.contradict("key %s of %s: told %+v, and now %+v", d.Key, h.owner, d.outcome, outcome)
		case d.taped.status != 0 && heard.status != 0 && !heard.sameAs(d.taped):
			w.contradict("key %s of %s: told %d %s, and now %d %s", d.Key, h.owner, d.taped.status, d.taped.body, heard.status, heard.body)
		case heard.status != 0 && !heard.replayed:
			w.contradict("key %s of %s: its repetition does not say that it is one: %d %s", d.Key, h.owner, heard.status, heard.body)
		}
	}
}

func (w *world) linearize(h *history) {
	result := porcupine.CheckOperationsTimeout(linear.Model, h.ops, searchPatience)
	if result == porcupine.Ok {
		return
	}
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var lines strings.Builder
	for _, op := range h.ops {
		fmt.Fprintf(&lines, "%12d %20d  %+v → %+v\n", op.Call, op.Return, op.Input, op.Output)
	}
	w.keep(h.owner+".history", lines.String())
	w.contradict("no order explains the replies to %s (%s); see %s.history", h.owner, result, h.owner)
}
