package shard_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// observation collects what a store or committer tells.
type observation struct {
	t      *testing.T
	spans  *tracetest.SpanRecorder
	tracer trace.Tracer
	reader *metric.ManualReader
}

func observe(t *testing.T, cfg *shard.Config) *observation {
	t.Helper()
	o := &observation{t: t, spans: tracetest.NewSpanRecorder(), reader: metric.NewManualReader()}
	o.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(o.spans)).Tracer("test")
	metrics, err := shard.NewMetrics(metric.NewMeterProvider(metric.WithReader(o.reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Tracer, cfg.Metrics = o.tracer, metrics
	return o
}

// submit is submit within the span of a request.
func (o *observation) submit(c interface {
	Submit(ctx context.Context, op *shard.Op) shard.Reply
}, request string, op *shard.Op,
) shard.Reply {
	ctx, span := o.tracer.Start(o.t.Context(), request)
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.Submit(ctx, op)
}

// tree lists the spans as "parent/name: attributes links status", without what differs from run to run.
func (o *observation) tree() (lines []string) {
	names := map[trace.SpanID]string{}
	for _, s := range o.spans.Ended() {
		names[s.SpanContext().SpanID()] = s.Name()
	}
	for _, s := range o.spans.Ended() {
		line := names[s.Parent().SpanID()] + "/" + s.Name() + ":"
		for _, a := range s.Attributes() {
			if !measured[a.Key] {
				line += fmt.Sprintf(" %s=%s", a.Key, a.Value.String())
			} else if a.Value.AsInt64() <= 0 {
				o.t.Errorf("%s has %s=%s", s.Name(), a.Key, a.Value.String())
			}
		}
		for _, link := range s.Links() {
			line += " →" + names[link.SpanContext.SpanID()]
		}
		if s.Status().Code == codes.Error {
			line += " !" + s.Status().Description
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// measured are attributes whose values differ between the databases.
var measured = map[attribute.Key]bool{"statesvc.statements": true, "statesvc.bytes": true}

// trips lists the round trips in the metrics as "kind outcome: count".
func (o *observation) trips() (lines []string) {
	o.t.Helper()
	var collected metricdata.ResourceMetrics
	if err := o.reader.Collect(o.t.Context(), &collected); err != nil {
		o.t.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if m.Name != "statesvc.round.trip" {
			continue
		}
		for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
			kind, _ := p.Attributes.Value("kind")
			outcome, _ := p.Attributes.Value("outcome")
			lines = append(lines, fmt.Sprintf("%s %s: %d", kind.AsString(), outcome.AsString(), p.Count))
		}
	}
	slices.Sort(lines)
	return lines
}

func (o *observation) want(tree, trips []string) {
	o.t.Helper()
	if diff := cmp.Diff(tree, o.tree()); diff != "" {
		o.t.Errorf("spans: %s", diff)
	}
	if diff := cmp.Diff(trips, o.trips()); diff != "" {
		o.t.Errorf("round trips: %s", diff)
	}
}

// A batch is a span below the first traced request in it, and is linked with all of them; its round trips are below it.
func TestSpansOfABatch(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		var g gate
		cfg := shard.Config{DB: db, Shard: 7, Lanes: 1, FailPoints: g.at(failpoint.BeforeBegin)}
		o := observe(t, &cfg)
		c := start(t, cfg)
		shut := &shutGate{make(chan struct{}), make(chan struct{})}
		g.shut.Store(shut)
		replies := make(chan shard.Reply, 4)
		go func() { replies <- submit(t, c, op("busy", "k", 1)) }()
		<-shut.arrived
		g.shut.Store(nil)
		for i, request := range []string{"", "one", "two"} {
			go func() {
				if request == "" {
					replies <- submit(t, c, op("untraced", "k", 1))
				} else {
					replies <- o.submit(c, request, op(request, "k", 1))
				}
			}()
			for c.Depth()[0] <= i {
				time.Sleep(time.Millisecond)
			}
		}
		close(shut.open)
		for range 4 {
			want(t, <-replies, shard.Done, "1")
		}
		about := fmt.Sprintf(" db.system.name=%s statesvc.shard=7 statesvc.lane=0", db.Dialect)
		o.want([]string{
			"/one: →batch",
			"/two: →batch",
			"batch/load:" + about + " statesvc.round=1",
			"batch/write:" + about,
			"one/batch:" + about + " statesvc.operations=3 statesvc.collided=false →one →two",
		}, []string{"load ok: 2", "write ok: 2"})
	})
}

// What fails says why, in words that name no owner.
func TestSpansOfFaults(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		cfg := shard.Config{DB: db, Shard: 7, Lanes: 1}
		o := observe(t, &cfg)
		c := start(t, cfg)
		poisoned := op("secret", "k", -1)
		poisoned.Body = add{n: -1, poison: true}
		if r := o.submit(c, "poison", poisoned); !errors.Is(r.Err, shard.ErrInternal) {
			t.Fatal(r.Err)
		}
		exec(t, db, "UPDATE fence SET epoch=2 WHERE id=1")
		if r := o.submit(c, "stale", op("secret", "k", 1)); !errors.Is(r.Err, shard.ErrStaleRoute) {
			t.Fatal(r.Err)
		}
		about := fmt.Sprintf(" db.system.name=%s statesvc.shard=7 statesvc.lane=0", db.Dialect)
		number := ""
		if db.Dialect == shard.MariaDB {
			number = " db.response.status_code=4025"
		}
		o.want([]string{
			"/poison: →batch",
			"/stale: →batch",
			"batch/load:" + about + " statesvc.round=1",
			"batch/load:" + about + " statesvc.round=1",
			"batch/rollback:" + about,
			"batch/rollback:" + about,
			"batch/write:" + about + number + " !bug",
			"poison/batch:" + about + " statesvc.operations=1 statesvc.collided=false" + number + " →poison !bug",
			"stale/batch:" + about + " statesvc.operations=1 statesvc.collided=false →stale !stale-route",
		}, []string{"load ok: 2", "rollback ok: 2", "write bug: 1"})
		for _, s := range o.spans.Ended() {
			if text := fmt.Sprint(s.Attributes(), s.Status(), s.Events()); strings.Contains(text, "secret") {
				t.Errorf("the span %s names the owner: %s", s.Name(), text)
			}
		}
	})
}

// A read is a span with one below it for each query. Not to find something is no fault.
func TestSpansOfReads(t *testing.T) {
	engines(t, func(t *testing.T, db *shard.DB) {
		var cfg shard.Config
		o := observe(t, &cfg)
		r := newRouted(t, func() (*shard.DB, error) { return again(t, db) }, db, cfg)
		read := func(request string, query func(tx *gorm.DB) error) {
			ctx, span := o.tracer.Start(t.Context(), request)
			defer span.End()
			_ = r.Read(ctx, shard.BucketOf("a"), func(tx *gorm.DB, _ time.Time) error { return query(tx) })
		}
		if _, err := r.read(); err != nil { // nobody traces it
			t.Fatal(err)
		}
		read("found", func(tx *gorm.DB) error { return tx.Raw("SELECT 1").Scan(new(int)).Error })
		read("nothing", func(tx *gorm.DB) error { return tx.Table("counters").Where("n=-1").Take(&map[string]any{}).Error })
		read("wrong", func(tx *gorm.DB) error { return tx.Raw("SELECT secret FROM counters").Scan(new(int)).Error })
		about := fmt.Sprintf(" db.system.name=%s statesvc.shard=1", db.Dialect)
		number := ""
		if db.Dialect == shard.MariaDB {
			number = " db.response.status_code=1054"
		}
		o.want([]string{
			"/found:",
			"/nothing:",
			"/wrong:",
			"found/snapshot:" + about,
			"nothing/snapshot:" + about,
			"snapshot/read:" + about,
			"snapshot/read:" + about,
			"snapshot/read:" + about,
			"snapshot/read:" + about,
			"snapshot/read:" + about,
			"snapshot/read:" + about + number + " !bug",
			"wrong/snapshot:" + about,
		}, []string{"read bug: 1", "read ok: 7"})
	})
}
