package shard

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"
)

// maxLinks bounds the requests that the span of a batch names; more of them explain nothing.
const maxLinks = 32

// tripKind is what a round trip to a shard is for.
type tripKind int

const (
	tripLoad     tripKind = iota // of a batch: the first one, and what it has to look up after that
	tripWrite                    // all that a batch has changed, and COMMIT
	tripRollback                 // of a batch that ends without COMMIT
	tripRead                     // one query of a snapshot
)

var tripNames = [...]string{"load", "write", "rollback", "read"}

// trip is a round trip that is under way.
type trip struct {
	kind  tripKind
	began time.Time
	span  trace.Span // nil: not traced
}

// observer tells metrics and traces of the round trips to one shard. What is not traced costs no allocation.
type observer struct {
	tracer  trace.Tracer
	now     func() time.Time
	seconds metric.Float64Histogram
	labels  [len(tripNames)][len(faultNames)][]metric.RecordOption // made once: making them costs more than the rest
	about   []attribute.KeyValue                                   // of every span
}

func newObserver(cfg *Config) *observer {
	o := &observer{tracer: cfg.Tracer, now: cfg.Now, seconds: cfg.Metrics.trips, about: []attribute.KeyValue{
		attribute.String("db.system.name", cfg.DB.Dialect.String()), attribute.Int("statesvc.shard", cfg.Shard),
	}}
	for kind, name := range tripNames {
		for f, outcome := range faultNames {
			o.labels[kind][f] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(
				shardAttr(cfg.Shard), attribute.String("kind", name), attribute.String("outcome", outcome),
			))}
		}
	}
	return o
}

// start begins a span. Statements and errors of a database have owners and keys in them, so no span carries their texts.
func (o *observer) start(ctx context.Context, name string, kind trace.SpanKind, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	options := trace.WithAttributes(append(slices.Clip(o.about), attrs...)...)
	return o.tracer.Start(ctx, name, trace.WithSpanKind(kind), options) //nolint:spancheck // endSpan ends it
}

// end tells what became of a round trip.
func (o *observer) end(t trip, f fault, err error) {
	o.seconds.Record(context.Background(), o.now().Sub(t.began).Seconds(), o.labels[t.kind][f]...)
	if t.span != nil {
		endSpan(t.span, f, err)
	}
}

func endSpan(span trace.Span, f fault, err error) {
	if f != faultNone {
		span.SetStatus(codes.Error, faultNames[f])
	}
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		span.SetAttributes(attribute.String("db.response.status_code", strconv.Itoa(int(my.Number))))
	}
	span.End()
}

// ofRequest is op with the span of its request, if that is recorded. It is a copy, because the caller may submit his own again
// while a lane still has it.
func ofRequest(ctx context.Context, op *Op) *Op {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return op
	}
	own := *op
	own.span = span
	return &own
}

// traced is transact within a span, if a request of the batch is traced: a child of the first such request, so that its trace
// shows what it waited for, and linked with the others in both directions.
func (l *lane) traced(calls []*call, collided bool) (*transaction, error) {
	spans := requestSpans(calls)
	if len(spans) == 0 {
		return l.transact(calls, collided)
	}
	ctx, span := l.observer.start(trace.ContextWithSpan(l.ctx, spans[0]), "batch", trace.SpanKindInternal,
		attribute.Int("statesvc.lane", l.number), attribute.Int("statesvc.operations", len(calls)), attribute.Bool("statesvc.collided", collided))
	for _, request := range spans {
		span.AddLink(trace.Link{SpanContext: request.SpanContext()})
		request.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	l.batch = ctx
	t, err := l.transact(calls, collided)
	l.batch = nil
	endSpan(span, classify(err), err)
	return t, err
}

func requestSpans(calls []*call) (spans []trace.Span) {
	for _, c := range calls {
		if c.op.span != nil && len(spans) < maxLinks {
			spans = append(spans, c.op.span)
		}
	}
	return spans
}

// begin begins a round trip of the lane's batch. round numbers the loads of a batch, from 1.
func (l *lane) begin(kind tripKind, round int) trip {
	t := trip{kind: kind, began: l.cfg.Now()}
	if l.batch == nil {
		return t
	}
	attrs := []attribute.KeyValue{attribute.Int("statesvc.lane", l.number)}
	if kind != tripRollback {
		attrs = append(attrs, attribute.Int("statesvc.statements", len(l.packet.stmts)), attribute.Int("statesvc.bytes", l.packet.bytes))
	}
	if kind == tripLoad {
		attrs = append(attrs, attribute.Int("statesvc.round", round))
	}
	_, t.span = l.observer.start(l.batch, tripNames[kind], trace.SpanKindClient, attrs...)
	return t
}

// end ends a round trip of the lane's batch.
func (l *lane) end(t trip, err error) { l.observer.end(t, classify(err), err) }

// snapshot begins the span of a read; it is nil if nobody traces the read.
func (o *observer) snapshot(ctx context.Context) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	return o.start(ctx, "snapshot", trace.SpanKindInternal)
}

// endSnapshot ends it. What the reader found or not is no fault of the shard.
func endSnapshot(span trace.Span, err error) {
	if span == nil {
		return
	}
	f := faultNone
	switch {
	case errors.Is(err, ErrStaleRoute):
		f = faultStale
	case errors.Is(err, ErrOverloaded):
		f = faultGivenUp
	case errors.Is(err, ErrFailover):
		f = faultLost
	}
	endSpan(span, f, nil) // what a query failed with, its own span says
}

// tripKey is where a gorm statement keeps the trip that it makes.
const tripKey = "statesvc:trip"

// observeQueries has gorm tell the observer of each query, once there is one.
func (db *DB) observeQueries() error {
	query, row := db.orm.Callback().Query(), db.orm.Callback().Row()
	return errors.Join(
		query.Before("gorm:query").Register("statesvc:begin", db.beginQuery),
		query.After("gorm:query").Register("statesvc:end", db.endQuery),
		row.Before("gorm:row").Register("statesvc:begin", db.beginQuery),
		row.After("gorm:row").Register("statesvc:end", db.endQuery),
	)
}

func (db *DB) beginQuery(tx *gorm.DB) {
	if db.observer == nil {
		return
	}
	t := trip{kind: tripRead, began: db.now()}
	if ctx := tx.Statement.Context; trace.SpanFromContext(ctx).IsRecording() {
		_, t.span = db.observer.start(ctx, tripNames[tripRead], trace.SpanKindClient)
	}
	tx.Statement.Settings.Store(tripKey, t)
}

func (db *DB) endQuery(tx *gorm.DB) {
	t, begun := tx.Statement.Settings.LoadAndDelete(tripKey)
	if !begun {
		return
	}
	f := faultNone
	switch {
	case tx.Error == nil, errors.Is(tx.Error, gorm.ErrRecordNotFound):
	case tx.Statement.Context.Err() != nil:
		f = faultGivenUp
	default:
		f = classify(tx.Error)
	}
	db.observer.end(t.(trip), f, tx.Error)
}
