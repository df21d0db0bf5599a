package register

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestMirrorModel gives a mirror its three sources of news (watch, listing, own writes) in random interleavings: each
// source is in order, but late by any amount. No key may ever go back in time, an own write must show at once, and when
// all news have arrived the mirror must equal the register. A failure names the seed.
func TestMirrorModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		if err := runMirror(rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// mirrorModel is the register as a list of states: states[r] is the content at revision r.
type mirrorModel struct {
	mirror  *Mirror
	states  []map[string]Entry
	batches []Event        // by revision, from 1
	own     []int64        // own transactions whose Wrote is still to come
	lists   []int64        // revisions of listings on their way
	shown   map[string]int // the earliest state of each key that the mirror may have shown last
}

var mirrorKeys = []string{"a", "b", "c"}

func runMirror(random *rand.Rand) error {
	m := &mirrorModel{
		mirror: &Mirror{
			opts:    MirrorOptions{Changed: func([]Event) {}, Now: time.Now},
			entries: map[string]Entry{}, own: map[string]int64{},
		},
		states: []map[string]Entry{{}}, shown: map[string]int{},
	}
	for range 60 {
		if err := m.step(random); err != nil {
			return err
		}
	}
	return m.finish()
}

func (m *mirrorModel) step(random *rand.Rand) error {
	switch random.IntN(6) {
	case 0, 1:
		m.write(random)
	case 2:
		m.lists = append(m.lists, int64(len(m.states)-1))
	case 3:
		m.deliverNext()
	case 4:
		if i, found := pick(random, m.lists); found {
			rev := m.lists[i]
			m.lists = slices.Delete(m.lists, i, i+1)
			m.mirror.reconcile(slices.Collect(maps.Values(m.states[rev])), rev)
		}
	case 5:
		if i, found := pick(random, m.own); found {
			rev := m.own[i]
			m.own = slices.Delete(m.own, i, i+1)
			event := m.batches[rev-1]
			m.mirror.Wrote(rev, []Op{{Key: event.Key, Value: event.Value, Delete: event.Deleted}})
			m.shown[event.Key] = max(m.shown[event.Key], int(rev))
		}
	}
	return m.check()
}

func (m *mirrorModel) write(random *rand.Rand) {
	rev := int64(len(m.states))
	next := maps.Clone(m.states[rev-1])
	event := Event{Entry: Entry{Key: mirrorKeys[random.IntN(len(mirrorKeys))], Rev: rev}, Deleted: random.IntN(3) == 0}
	if event.Deleted {
		delete(next, event.Key)
	} else {
		event.Value = strconv.AppendInt(nil, rev, 10)
		next[event.Key] = event.Entry
	}
	m.states = append(m.states, next)
	m.batches = append(m.batches, event)
	if random.IntN(2) == 0 {
		m.own = append(m.own, rev)
	}
}

// deliverNext is the watch: the change after the position at which the mirror would watch.
func (m *mirrorModel) deliverNext() {
	if next := m.mirror.position(); next < int64(len(m.batches)) {
		m.mirror.watched(m.batches[next : next+1])
	}
}

func (m *mirrorModel) finish() error {
	for int(m.mirror.position()) < len(m.batches) {
		m.deliverNext()
		if err := m.check(); err != nil {
			return err
		}
	}
	last := m.states[len(m.states)-1]
	if !maps.EqualFunc(last, m.mirror.entries, sameEntry) {
		return fmt.Errorf("at the end %v, the register has %v", m.mirror.entries, last)
	}
	if len(m.mirror.own) != 0 {
		return fmt.Errorf("own writes are remembered for ever: %v", m.mirror.own)
	}
	return nil
}

// check looks for a state of each key that the mirror shows, not earlier than what it showed before.
func (m *mirrorModel) check() error {
	for _, key := range mirrorKeys {
		from := m.shown[key]
		offset := slices.IndexFunc(m.states[from:], func(state map[string]Entry) bool {
			return sameEntry(state[key], m.mirror.entries[key])
		})
		if offset < 0 {
			return fmt.Errorf("key %s went back to %+v, it had shown revision %d", key, m.mirror.entries[key], from)
		}
		m.shown[key] = from + offset
	}
	return nil
}

func sameEntry(a, b Entry) bool { return a.Key == b.Key && a.Rev == b.Rev }

func pick(random *rand.Rand, list []int64) (int, bool) {
	if len(list) == 0 {
		return 0, false
	}
	return random.IntN(len(list)), true
}
