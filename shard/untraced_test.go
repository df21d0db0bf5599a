package shard

import (
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// TestUntracedCostsNothing: without an exporter of traces neither operations nor round trips allocate for them.
func TestUntracedCostsNothing(t *testing.T) {
	metrics, err := NewMetrics(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{DB: &DB{Dialect: MariaDB}, Now: time.Now, Metrics: metrics}
	cfg.setDefaults()
	l := newLane(&Committer{cfg: cfg, observer: newObserver(&cfg)}, 0)
	op := new(Op)
	if n := testing.AllocsPerRun(100, func() {
		if ofRequest(t.Context(), op) != op {
			t.Error("an operation was copied")
		}
		l.end(l.begin(tripLoad, 1), nil)
		l.end(l.begin(tripWrite, 0), nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
