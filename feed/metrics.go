package feed

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Metrics are the instruments of tailers. They are shared by all of a process.
type Metrics struct {
	transactions metric.Int64Counter
	changes      metric.Int64Counter
	resets       metric.Int64Counter
	alarms       metric.Int64Counter
	interrupts   metric.Int64Counter
	lag          metric.Float64ObservableGauge
	behind       metric.Int64ObservableGauge
	meter        metric.Meter
}

// NewMetrics makes the instruments.
func NewMetrics(m metric.Meter) (*Metrics, error) {
	var errs [7]error
	x := &Metrics{meter: m}
	x.transactions, errs[0] = m.Int64Counter("statesvc.feed.transactions", metric.WithDescription("Transactions handed over."))
	x.changes, errs[1] = m.Int64Counter("statesvc.feed.changes", metric.WithDescription("Changes of rows handed over."))
	x.resets, errs[2] = m.Int64Counter("statesvc.feed.resets", metric.WithDescription("Times that a consumer had to start anew, by reason."))
	x.alarms, errs[3] = m.Int64Counter("statesvc.feed.alarms",
		metric.WithDescription("What must not happen while only this service writes, by kind."))
	x.interrupts, errs[4] = m.Int64Counter("statesvc.feed.interrupts", metric.WithDescription("Times that a feed lost its primary."))
	x.lag, errs[5] = m.Float64ObservableGauge("statesvc.feed.lag", metric.WithUnit("s"),
		metric.WithDescription("For how long changes may have been acknowledged without having been handed over."))
	x.behind, errs[6] = m.Int64ObservableGauge("statesvc.feed.behind",
		metric.WithDescription("Transactions in the history of the shard that were not handed over yet."))
	return x, errors.Join(errs[:]...)
}

func discardMetrics() *Metrics {
	m, _ := NewMetrics(noop.Meter{}) // the no-op meter has no errors
	return m
}

// Observe makes the gauges show a tailer until the registration is ended.
func (m *Metrics) Observe(t *Tailer, now func() time.Time) (metric.Registration, error) {
	return m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		status := t.Status()
		of := metric.WithAttributes(shardAttr(status.Shard), attribute.String("work", status.Work))
		if lag, known := status.Lag(now()); known && status.Leading {
			o.ObserveFloat64(m.lag, lag.Seconds(), of)
			o.ObserveInt64(m.behind, int64(status.Behind), of)
		}
		return nil
	}, m.lag, m.behind)
}

func shardAttr(n int) attribute.KeyValue { return attribute.Int("shard", n) }

func (m *Metrics) released(r Release) {
	of := metric.WithAttributes(shardAttr(r.Shard))
	changes := 0
	for _, t := range r.Transactions {
		changes += len(t.Changes)
	}
	m.transactions.Add(context.Background(), int64(len(r.Transactions)), of)
	m.changes.Add(context.Background(), int64(changes), of)
}

func (m *Metrics) reset(g Gap) {
	m.resets.Add(context.Background(), 1, metric.WithAttributes(shardAttr(g.Shard), attribute.String("reason", string(g.Reason))))
}

func (m *Metrics) alarmed(a Alarm) {
	m.alarms.Add(context.Background(), 1, metric.WithAttributes(shardAttr(a.Shard), attribute.String("kind", string(a.Kind))))
}

func (m *Metrics) interrupted(shard int) {
	m.interrupts.Add(context.Background(), 1, metric.WithAttributes(shardAttr(shard)))
}
