package instance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/ledger"
)

// Owners of the two shards of a cluster.
const (
	ofFirst  = "guest:7f3a" // bucket 1840
	ofSecond = "user-1"     // bucket 12720
)

// scrape reads all gauges, as "name label=value: number". It must not wait for a shard.
func scrape(t *testing.T, reader metric.Reader) map[string]float64 {
	t.Helper()
	var collected metricdata.ResourceMetrics
	began := time.Now()
	if err := reader.Collect(t.Context(), &collected); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("a scrape took %s", took)
	}
	got := map[string]float64{}
	add := func(name string, set attribute.Set, n float64) {
		got[strings.TrimSpace(name+" "+set.Encoded(attribute.DefaultEncoder()))] = n
	}
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			}
		}
	}
	return got
}

// shows waits until a scrape has all of these numbers; -1 stands for none.
func shows(t *testing.T, reader metric.Reader, want map[string]float64) {
	t.Helper()
	eventually(t, fmt.Sprint("a scrape shows ", want), func() bool {
		got := scrape(t, reader)
		for name, number := range want {
			if found, ok := got[name]; ok != (number >= 0) || ok && found != number {
				return false
			}
		}
		return true
	})
}

func holdMoney(t *testing.T, in *instance.Instance, owner string, ttl time.Duration) {
	t.Helper()
	ref := fmt.Sprint(owner, "-", ttl)
	_, err := in.Ledger.CreditLot(t.Context(), ledger.Caller{Key: "credit-" + ref}, ledger.CreditLot{
		Owner: owner, IssueRef: ref, Source: "test", Amount: ledger.Money{Amount: 10, Currency: "CNY"}, ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = in.Ledger.Hold(t.Context(), ledger.Caller{Key: "hold-" + ref}, ledger.Hold{
		Owner: owner, OrderID: ref, Attempt: 1, TTL: ttl,
		Items: []ledger.Item{{Kind: ledger.MoneyItem, Amount: ledger.Money{Amount: 10, Currency: "CNY"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Gauges show what there is to do. A shard that is down has no count, and keeps no scrape waiting.
func TestGauges(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{})
	folder, reader := t.TempDir(), metric.NewManualReader()
	in := open(t, openRegister(t, folder), instance.Config{
		Shards: append([]instance.Shard{{Name: "s1", DSN: server.DSN(server.Schema(t))}}, sqlite(folder, "s2")...),
		Meter:  metric.NewMeterProvider(metric.WithReader(reader)).Meter("test"),
	})
	holdMoney(t, in, ofFirst, time.Hour)
	holdMoney(t, in, ofSecond, time.Hour)
	holdMoney(t, in, ofSecond, time.Second)
	time.Sleep(time.Second) // nobody sweeps, so it stays where it is
	shows(t, reader, map[string]float64{
		"statesvc.queue.depth lane=0,shard=1": 0, "statesvc.queue.depth lane=1,shard=1": 0, "statesvc.queue.depth lane=0,shard=2": 0,
		"statesvc.pending.holds shard=1": 1, "statesvc.overdue.holds shard=1": 0,
		"statesvc.pending.holds shard=2": 2, "statesvc.overdue.holds shard=2": 1,
		"statesvc.undecided.owners": 0,
	})
	for _, owner := range []string{"a", "b", "b"} {
		defer in.Blacklist.BlockLocal(owner, blacklist.HolderUndecided, "test")()
	}
	defer in.Blacklist.BlockLocal("c", blacklist.HolderAdmin, "test")()
	shows(t, reader, map[string]float64{"statesvc.undecided.owners": 2})

	for view, age := range scrape(t, reader) {
		if strings.HasPrefix(view, "statesvc.view.age view=") && (age < 0 || age > patience.Seconds()) {
			t.Errorf("%s is %v", view, age)
		}
	}
	server.Pause(t)
	defer server.Resume(t)
	shows(t, reader, map[string]float64{
		"statesvc.pending.holds shard=1": -1, "statesvc.overdue.holds shard=1": -1,
		"statesvc.pending.holds shard=2": 2, "statesvc.overdue.holds shard=2": 1,
	})
}
