package cache_test

import (
	"testing"

	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/internal/testdb"
)

func TestOneInstanceLeads(t *testing.T) {
	server := testdb.Redis(t)
	a, b := connect(t, server.Addr()), connect(t, server.Addr())
	ctx := t.Context()
	if !a.Lead(ctx, "sweep-1") {
		t.Fatal("the first instance does not lead")
	}
	if b.Lead(ctx, "sweep-1") {
		t.Error("two instances lead")
	}
	if !b.Lead(ctx, "sweep-2") {
		t.Error("a lease on other work is refused")
	}
	if !a.Lead(ctx, "sweep-1") {
		t.Error("the holder cannot extend")
	}
	if err := a.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if !b.Lead(ctx, "sweep-1") {
		t.Error("a released lease cannot be taken")
	}
}

func TestWithoutRedisEverybodyLeads(t *testing.T) {
	server := testdb.Redis(t)
	a := connect(t, server.Addr())
	if !a.Lead(t.Context(), "sweep-1") {
		t.Fatal("the first instance does not lead")
	}
	server.Kill(t)
	if !a.Lead(t.Context(), "sweep-1") || !connect(t, server.Addr()).Lead(t.Context(), "sweep-1") {
		t.Error("the work stops because Redis is away")
	}
}

func connect(t *testing.T, addr string) *cache.Leases {
	t.Helper()
	client := cache.Connect(addr)
	t.Cleanup(func() { _ = client.Close() })
	return cache.NewLeases(client)
}
