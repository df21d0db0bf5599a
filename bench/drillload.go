package bench

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// write is one write of a client, with all its attempts.
type write struct {
	Owner string    `json:"owner"`
	Key   string    `json:"key"`
	Ref   string    `json:"ref"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Lot   string    `json:"lot,omitempty"` // of the acknowledged answer
	Error string    `json:"error,omitempty"`
}

// drillLoad is the clients of a drill. Each writes for one owner, one write after the other, and goes on with the same key
// until it is told the outcome.
type drillLoad struct {
	clients []*client.Client
	options DrillOptions
	prefix  string
	writers []*writer
}

type writer struct {
	owner  string
	client *client.Client
	writes []write
}

func newDrillLoad(target DrillTarget, options DrillOptions) (*drillLoad, error) {
	l := &drillLoad{options: options, prefix: client.NewKey()[:13]}
	for _, url := range target.Instances {
		c, err := client.New(client.Options{BaseURL: url, Token: target.Token, Patience: time.Minute})
		if err != nil {
			return nil, err
		}
		l.clients = append(l.clients, c)
	}
	if len(l.clients) == 0 {
		return nil, errors.New("a drill needs an instance")
	}
	for i := range options.Writers {
		l.writers = append(l.writers, &writer{owner: fmt.Sprintf("drill-%s-%d", l.prefix, i), client: l.clients[i%len(l.clients)]})
	}
	return l, nil
}

func (l *drillLoad) start(ctx context.Context, group *errgroup.Group) {
	for _, w := range l.writers {
		group.Go(func() error {
			w.run(ctx, l.options.Pause)
			return nil
		})
	}
}

// run writes until ctx ends; the last write is waited for, because an outcome that nobody asked for cannot be compared.
func (w *writer) run(ctx context.Context, between time.Duration) {
	for n := 0; pause(ctx, between) == nil; n++ {
		w.writes = append(w.writes, w.credit(context.WithoutCancel(ctx), fmt.Sprintf("%s-%d", w.owner, n)))
	}
}

func (w *writer) credit(ctx context.Context, ref string) write {
	done := write{Owner: w.owner, Key: client.NewKey(), Ref: ref, From: time.Now()}
	reply, err := w.client.CreditLot(ctx, done.Key, w.owner, done.request())
	done.To = time.Now()
	if err != nil {
		done.Error = err.Error()
		return done
	}
	done.Lot = reply.Lot.LotID
	return done
}

// replay sends every write again that was under way when something broke, and some others, and counts the answers that are
// not the first ones.
func (l *drillLoad) replay(ctx context.Context, kills []kill) (contradicted int, err error) {
	for _, w := range l.writers {
		for i, first := range w.writes {
			if first.Error != "" || i%replayEach != 0 && !slices.ContainsFunc(kills, first.spans) {
				continue
			}
			again, err := w.client.CreditLot(ctx, first.Key, w.owner, first.request())
			if err != nil {
				return contradicted, fmt.Errorf("repeat %s of %s: %w", first.Key, w.owner, err)
			}
			if again.Lot.LotID != first.Lot {
				contradicted++
			}
		}
	}
	return contradicted, nil
}

// replayEach is how many of the writes that nothing happened to are repeated: one of so many.
const replayEach = 50

// spans says that the write was under way at a kill or in the failover after it.
func (w write) spans(k kill) bool { return w.From.Before(k.ServingAt) && w.To.After(k.At) }

func (w write) request() client.CreditRequest {
	return client.CreditRequest{
		Amount: client.Money{Amount: 1, Currency: currency}, IssueRef: w.Ref, Source: "drill", ExpiresAt: drillExpiry,
	}
}

var drillExpiry = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)

// drillHistory is all writes by owner, each owner's in order.
type drillHistory map[string][]write

func (l *drillLoad) history() drillHistory {
	h := drillHistory{}
	for _, w := range l.writers {
		h[w.owner] = w.writes
	}
	return h
}

// save keeps the raw history, so that a result can be looked into later.
func (h drillHistory) save(folder string, kills []kill, undecided map[string][]time.Time, journals []failover.Journal) error {
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fmt.Errorf("keep the history: %w", err)
	}
	var writes []any
	for _, owner := range sortedKeys(h) {
		for _, w := range h[owner] {
			writes = append(writes, w)
		}
	}
	var blocked []any
	for _, owner := range sortedKeys(undecided) {
		blocked = append(blocked, map[string]any{"owner": owner, "at": undecided[owner]})
	}
	var killed []any
	for _, k := range kills {
		killed = append(killed, k)
	}
	var told []any
	for _, j := range journals {
		told = append(told, j)
	}
	return errors.Join(saveLines(folder, "writes.jsonl", writes), saveLines(folder, "kills.jsonl", killed),
		saveLines(folder, "undecided.jsonl", blocked), saveLines(folder, "journals.jsonl", told))
}

func saveLines(folder, name string, lines []any) error {
	f, err := os.Create(filepath.Join(folder, name))
	if err != nil {
		return fmt.Errorf("keep the history: %w", err)
	}
	buffered := bufio.NewWriter(f)
	encoder := json.NewEncoder(buffered)
	for _, line := range lines {
		err = errors.Join(err, encoder.Encode(line))
	}
	return errors.Join(err, buffered.Flush(), f.Close())
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// undecidedWatch notes when owners were blocked because the outcome of a write was not known.
type undecidedWatch struct {
	owners map[string][]time.Time
	cancel context.CancelFunc
	done   sync.WaitGroup
}

const undecidedKeys = "undecided/"

func watchUndecided(ctx context.Context, reg register.Register) (*undecidedWatch, error) {
	_, rev, err := reg.List(ctx, undecidedKeys)
	if err != nil {
		return nil, fmt.Errorf("follow undecided outcomes: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &undecidedWatch{owners: map[string][]time.Time{}, cancel: cancel}
	w.done.Go(func() {
		for ctx.Err() == nil {
			for events := range reg.Watch(ctx, undecidedKeys, rev) {
				for _, e := range events {
					rev = max(rev, e.Rev)
					if owner, ok := undecidedOwner(e.Key); ok && !e.Deleted {
						w.owners[owner] = append(w.owners[owner], time.Now())
					}
				}
			}
		}
	})
	return w, nil
}

func (w *undecidedWatch) stop() {
	w.cancel()
	w.done.Wait()
}

// undecidedOwner reads the owner out of undecided/<shard>/<bucket>.<owner>.<key>.
func undecidedOwner(key string) (string, bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return "", false
	}
	owner, err := base64.RawURLEncoding.DecodeString(parts[1])
	return string(owner), err == nil
}

// ownersOf are the owners whose buckets a shard of the uniform map has.
func (h drillHistory) ownersOf(m shard.Map, number int) []string {
	return slices.DeleteFunc(sortedKeys(h), func(owner string) bool {
		on, _ := m.Lookup(shard.BucketOf(owner))
		return on != number
	})
}

// place notes for each kill whose owners it concerned.
func (h drillHistory) place(ctx context.Context, target DrillTarget, kills []kill) error {
	m, err := readMap(ctx, target)
	if err != nil {
		return err
	}
	for i := range kills {
		kills[i].owners = map[string]bool{}
		for _, owner := range h.ownersOf(m, kills[i].Shard) {
			kills[i].owners[owner] = true
		}
	}
	return nil
}
