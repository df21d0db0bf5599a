package instance

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// showCopies makes a scrape show what reads of state data were answered by.
func (in *Instance) showCopies(m metric.Meter) (metric.Registration, error) {
	hits, err1 := m.Int64ObservableCounter("statesvc.cache.hits",
		metric.WithDescription("Reads of state data that a copy has answered, by level; those that waited for each other count once in Redis."))
	misses, err2 := m.Int64ObservableCounter("statesvc.cache.misses",
		metric.WithDescription("Reads of state data that no copy could answer; those that waited for each other count once."))
	waits, err3 := m.Int64ObservableCounter("statesvc.cache.waits",
		metric.WithDescription("Pauses of readers while another instance had the lease to fill a document."))
	reads, err4 := m.Int64ObservableCounter("statesvc.cache.database.reads",
		metric.WithDescription("Statements that read documents from a primary, of up to 256 documents each."))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		c := in.State.Counts()
		for level, n := range map[string]int64{"l1": c.L1Hits, "redis": c.RedisHits, "stale": c.StaleHits} {
			o.ObserveInt64(hits, n, metric.WithAttributes(attribute.String("level", level)))
		}
		o.ObserveInt64(misses, c.Misses)
		o.ObserveInt64(waits, c.Waits)
		o.ObserveInt64(reads, c.PrimaryReads)
		return nil
	}, hits, misses, waits, reads)
}
