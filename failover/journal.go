package failover

import (
	"encoding/json"
	"time"

	"github.com/statesvc/statesvc/register"
)

// Journal is the story of one failover, for people. The register has it when the failover is over.
type Journal struct {
	Shard       int       `json:"shard"`
	Epoch       uint64    `json:"epoch"`
	From        string    `json:"from"`
	To          string    `json:"to,omitempty"`
	Why         string    `json:"why"`
	SuspectedAt time.Time `json:"suspected_at,omitzero"` // the first probe that failed; absent if the agent was quicker
	DecidedAt   time.Time `json:"decided_at"`
	ServingAt   time.Time `json:"serving_at,omitzero"`
	Steps       []Step    `json:"steps"`
}

// Step is an attempt of an action.
type Step struct {
	Kind   Kind    `json:"step"`
	Node   string  `json:"node,omitempty"`
	FromMS float64 `json:"from_ms"` // since the decision
	TookMS float64 `json:"took_ms"`
	Error  string  `json:"error,omitempty"`
}

// stepsMax bounds a journal; a failover that cannot go on tries the same step again and again.
const stepsMax = 200

func newJournal(number int, r Record, why string, suspected, decided time.Time) Journal {
	return Journal{
		Shard: number, Epoch: r.Epoch, From: r.Primary, Why: why, SuspectedAt: suspected.UTC(), DecidedAt: decided.UTC(),
	}
}

// add notes how a step ended. There is no journal outside of a failover.
func (j *Journal) add(o outcome, now time.Time) {
	if j.Epoch == 0 || len(j.Steps) >= stepsMax {
		return
	}
	step := Step{Kind: o.action.Kind, Node: o.action.Node}
	step.FromMS, step.TookMS = milliseconds(o.began.Sub(j.DecidedAt)), milliseconds(now.Sub(o.began))
	if o.err != nil {
		step.Error = o.err.Error()
	}
	j.Steps = append(j.Steps, step)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ops write the journal beside the record that ends the failover, and forget an old one.
func (j *Journal) ops(r Record, now time.Time) ([]register.Op, error) {
	if j.Epoch == 0 {
		return nil, nil
	}
	done := *j
	done.To, done.ServingAt = r.Primary, now.UTC()
	value, err := json.Marshal(done)
	if err != nil {
		return nil, err
	}
	ops := []register.Op{{Key: journalKey(j.Shard, r.Epoch), Value: value}}
	if r.Epoch > journalsKept {
		ops = append(ops, register.Op{Key: journalKey(j.Shard, r.Epoch-journalsKept), Delete: true})
	}
	return ops, nil
}
