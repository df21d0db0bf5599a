package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// latencyBuckets are those of every latency histogram of the service, in seconds. The default ones start at 5 ms, where half
// of our requests have long been answered.
var latencyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// instruments are what requests are counted with. No label has an owner, a key or an id.
type instruments struct {
	duration   metric.Float64Histogram
	problems   metric.Int64Counter
	operations metric.Int64Counter
	sets       sync.Map // labels → metric.MeasurementOption; making one anew costs more than the rest of a measurement
}

func newInstruments(meter metric.Meter) (*instruments, error) {
	var errs [3]error
	m := &instruments{}
	m.duration, errs[0] = meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP requests."), metric.WithExplicitBucketBoundaries(latencyBuckets...))
	m.problems, errs[1] = meter.Int64Counter("statesvc.problems", metric.WithDescription("Problem documents, by code."))
	m.operations, errs[2] = meter.Int64Counter("statesvc.operations",
		metric.WithDescription("Writes, by operation and verdict: done, replayed, or the code of the refusal."))
	return m, errors.Join(errs[:]...)
}

// labels are those of all instruments; the empty ones are left out.
type labels struct {
	method, route string
	status        int
	op, verdict   string
	code          string
}

func (m *instruments) set(l labels) metric.MeasurementOption {
	if found, ok := m.sets.Load(l); ok {
		return found.(metric.MeasurementOption)
	}
	var attrs []attribute.KeyValue
	for _, one := range [...]struct{ name, value string }{
		{"http.request.method", l.method}, {"http.route", l.route}, {"op", l.op}, {"verdict", l.verdict}, {"code", l.code},
	} {
		if one.value != "" {
			attrs = append(attrs, attribute.String(one.name, one.value))
		}
	}
	if l.status != 0 {
		attrs = append(attrs, attribute.Int("http.response.status_code", l.status))
	}
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	m.sets.Store(l, set)
	return set
}

// served counts a request. What is not in openapi.yaml has no route: a label must not be made of what callers invent.
func (m *instruments) served(ctx context.Context, call *call, status int, took time.Duration) {
	l := labels{status: status}
	if call.route != nil {
		l.method, l.route = call.route.method, call.route.path
	}
	m.duration.Record(ctx, took.Seconds(), m.set(l))
	if call.problem != "" {
		m.problems.Add(ctx, 1, m.set(labels{code: call.problem}))
	}
	if call.route != nil && call.route.op != "" && call.key != nil {
		m.operation(ctx, call.route.op, call.outcome())
	}
}

// outcome is the verdict of a call that has ended.
func (c *call) outcome() string {
	switch {
	case c.replayed:
		return "replayed"
	case c.problem != "":
		return c.problem
	default:
		return c.verdict
	}
}

func (m *instruments) operation(ctx context.Context, op, verdict string) {
	m.operations.Add(ctx, 1, m.set(labels{op: op, verdict: verdict}))
}
