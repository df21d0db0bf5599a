package shard

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Metrics are the committer's instruments. They are shared by all committers of a process.
type Metrics struct {
	operations   metric.Int64Histogram
	phases       metric.Float64Histogram
	retries      metric.Int64Counter
	refusals     metric.Int64Counter
	wait         metric.Float64Histogram
	trips        metric.Float64Histogram
	undecidedOps metric.Int64Counter
	poison       metric.Int64Counter
	staleRoutes  metric.Int64Counter
	load         metric.MeasurementOption
	apply        metric.MeasurementOption
	commit       metric.MeasurementOption
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	var errs [9]error
	x := &Metrics{}
	x.operations, errs[0] = m.Int64Histogram("statesvc.batch.operations", metric.WithDescription("Operations per transaction."),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
	x.phases, errs[1] = m.Float64Histogram("statesvc.batch", metric.WithUnit("s"),
		metric.WithDescription("Time of a batch by phase: load (round trip 1), apply, commit (round trip 2)."))
	x.retries, errs[2] = m.Int64Counter("statesvc.batch.retries", metric.WithDescription("Batches that did not commit at once, by cause."))
	x.refusals, errs[3] = m.Int64Counter("statesvc.refused", metric.WithDescription("Operations refused before any effect, by reason."))
	x.wait, errs[4] = m.Float64Histogram("statesvc.queue.wait", metric.WithUnit("s"), metric.WithDescription("Time in a lane's queue."))
	x.undecidedOps, errs[5] = m.Int64Counter("statesvc.undecided.operations",
		metric.WithDescription("Operations whose COMMIT got no answer."))
	x.poison, errs[6] = m.Int64Counter("statesvc.poisoned.operations",
		metric.WithDescription("Operations rolled back alone because they violated an invariant; every one is a bug."))
	x.staleRoutes, errs[7] = m.Int64Counter("statesvc.stale.route", metric.WithDescription("Operations that came by a stale route."))
	x.trips, errs[8] = m.Float64Histogram("statesvc.round.trip", metric.WithUnit("s"),
		metric.WithDescription("Time of a round trip to a shard by kind: load, write (with COMMIT), rollback, read; and by outcome."))
	phase := func(name string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("phase", name)))
	}
	x.load, x.apply, x.commit = phase("load"), phase("apply"), phase("commit")
	return x, errors.Join(errs[:]...)
}

func discardMetrics() *Metrics {
	m, _ := NewMetrics(noop.Meter{}) // the no-op meter has no errors
	return m
}

func shardAttr(n int) attribute.KeyValue { return attribute.Int("shard", n) }

func (m *Metrics) batch(ctx context.Context, shard int, t *transaction, start, loaded, decided, done time.Time) {
	m.operations.Record(ctx, int64(len(t.calls)))
	m.phases.Record(ctx, loaded.Sub(start).Seconds(), m.load)
	m.phases.Record(ctx, decided.Sub(loaded).Seconds(), m.apply)
	m.phases.Record(ctx, done.Sub(decided).Seconds(), m.commit)
	stale := 0
	for _, r := range t.replies {
		if errors.Is(r.Err, ErrStaleRoute) {
			stale++
		}
	}
	if stale > 0 {
		m.staleRoutes.Add(ctx, int64(stale), metric.WithAttributes(shardAttr(shard)))
	}
}

func (m *Metrics) waited(d time.Duration) { m.wait.Record(context.Background(), d.Seconds()) }

var faultNames = [...]string{"ok", "race", "stale-route", "bug", "lost", "duplicate", "large", "given-up"}

func (m *Metrics) retried(shard int, f fault) {
	m.retries.Add(context.Background(), 1, metric.WithAttributes(shardAttr(shard), attribute.String("cause", faultNames[f])))
}

func (m *Metrics) refused(shard int, err error) {
	reason := "overloaded"
	if errors.Is(err, ErrClosed) {
		reason = "closed"
	}
	m.refusals.Add(context.Background(), 1, metric.WithAttributes(shardAttr(shard), attribute.String("reason", reason)))
}

func (m *Metrics) undecided(shard, n int) {
	m.undecidedOps.Add(context.Background(), int64(n), metric.WithAttributes(shardAttr(shard)))
}

func (m *Metrics) poisoned(shard int) {
	m.poison.Add(context.Background(), 1, metric.WithAttributes(shardAttr(shard)))
}
