package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/statesvc/statesvc/api"
)

// TestMetrics: what is counted, and under which labels; never an owner, a key or an address that a caller made up.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	c := newClient(t, sharedRig(t), func(config *api.Config) {
		config.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
	})
	c.money(100)
	key := header{"Idempotency-Key", newKey()}
	c.hold("o", cny(1), key).is(201)
	c.hold("o", cny(1), key).is(201)
	c.hold("p", cny(1000)).is(409)
	c.get("/v1/owners/" + c.owner).is(200)
	c.get("/nothing/" + c.owner).is(404)
	c.imported("{}\n", jsonFile())
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &collected); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"http.server.request.duration http.request.method=GET http.response.status_code=200 http.route=/v1/owners/{owner}: 1",
		"http.server.request.duration http.request.method=POST http.response.status_code=200 http.route=/v1/campaigns/{campaign_id}/imports: 1",
		"http.server.request.duration http.request.method=POST http.response.status_code=201 http.route=/v1/holds: 2",
		"http.server.request.duration http.request.method=POST http.response.status_code=201 http.route=/v1/owners/{owner}/lots: 1",
		"http.server.request.duration http.request.method=POST http.response.status_code=409 http.route=/v1/holds: 1",
		"http.server.request.duration http.response.status_code=404: 1",
		"statesvc.operations op=credit-lot verdict=done: 1",
		"statesvc.operations op=hold verdict=done: 1",
		"statesvc.operations op=hold verdict=insufficient: 1",
		"statesvc.operations op=hold verdict=replayed: 1",
		"statesvc.operations op=issue-coupon verdict=invalid-request: 1",
		"statesvc.problems code=insufficient: 1",
		"statesvc.problems code=no-route: 1",
	}
	if diff := cmp.Diff(want, points(collected)); diff != "" {
		t.Error(diff)
	}
}

func points(collected metricdata.ResourceMetrics) (lines []string) {
	add := func(name string, set attribute.Set, n any) {
		lines = append(lines, fmt.Sprintf("%s %s: %v", name, strings.ReplaceAll(set.Encoded(attribute.DefaultEncoder()), ",", " "), n))
	}
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Count)
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// TestTraces: a request continues the caller's trace, and the reply names its span.
func TestTraces(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	c := newClient(t, sharedRig(t), func(config *api.Config) {
		config.Tracer = trace.NewTracerProvider(trace.WithSpanProcessor(spans)).Tracer("test")
	})
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	reply := c.send(http.MethodGet, "/v1/owners/"+c.owner, "", header{"Traceparent", parent}).is(200)
	c.get("/v1/owners/" + c.owner + "/entries?limit=0").is(400)
	ended := spans.Ended()
	if len(ended) != 2 || ended[0].Name() != "GET /v1/owners/{owner}" || ended[1].Name() != "GET /v1/owners/{owner}/entries" {
		t.Fatalf("%d spans", len(ended))
	}
	own := ended[0].SpanContext()
	if got := reply.header.Get("Traceparent"); got != fmt.Sprintf("00-%s-%s-01", own.TraceID(), own.SpanID()) {
		t.Errorf("the reply names %s", got)
	}
	if !strings.Contains(parent, own.TraceID().String()) {
		t.Errorf("the trace is %s, not that of %s", own.TraceID(), parent)
	}
	for _, a := range ended[0].Attributes() {
		if strings.Contains(a.Value.String(), c.owner) {
			t.Errorf("the span names the owner in %s", a.Key)
		}
	}
}
