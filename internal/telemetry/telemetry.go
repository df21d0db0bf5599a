// Package telemetry sets up OpenTelemetry: metrics in a Prometheus registry, traces to an OTLP collector if there is one.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// latencyBounds are the buckets of every histogram of seconds. OpenTelemetry's own start at 5 ms, where we are done.
var latencyBounds = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Config says what to send where.
type Config struct {
	Instance     string
	Version      string
	OTLPEndpoint string  // URL of a collector; empty: no traces
	SampleRatio  float64 // of traces that begin here, 0…1
}

// Telemetry are the providers that the parts of the service take their instruments from.
type Telemetry struct {
	Metrics  metric.MeterProvider
	Traces   trace.TracerProvider
	Handler  http.Handler // Prometheus
	shutdown []func(context.Context) error
}

// Start sets the providers up. A collector that is away costs nothing but its traces.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("start metrics: %w", err)
	}
	res := resource.NewWithAttributes(semconv.SchemaURL,
		semconv.ServiceName("statesvc"), semconv.ServiceVersion(cfg.Version), semconv.ServiceInstanceID(cfg.Instance))
	metrics := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter), sdkmetric.WithView(latencyView()))
	t := &Telemetry{
		Metrics: metrics, Traces: noop.NewTracerProvider(),
		Handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		shutdown: []func(context.Context) error{metrics.Shutdown},
	}
	if err := runtime.Start(runtime.WithMeterProvider(metrics)); err != nil {
		return nil, fmt.Errorf("start runtime metrics: %w", err)
	}
	if cfg.OTLPEndpoint == "" {
		return t, nil
	}
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.OTLPEndpoint))
	if err != nil {
		return nil, fmt.Errorf("start traces to %s: %w", cfg.OTLPEndpoint, err)
	}
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))))
	t.Traces = traces
	t.shutdown = append(t.shutdown, traces.Shutdown)
	return t, nil
}

func latencyView() sdkmetric.View {
	return sdkmetric.NewView(
		sdkmetric.Instrument{Name: "*", Kind: sdkmetric.InstrumentKindHistogram, Unit: "s"},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: latencyBounds}},
	)
}

// Close sends what is left.
func (t *Telemetry) Close(ctx context.Context) error {
	var errs []error
	for _, shutdown := range t.shutdown {
		errs = append(errs, shutdown(ctx))
	}
	return errors.Join(errs...)
}
