package bench

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/scratch"
)

// The load and the baseline are what the service is compared with: here they meet each other.
func TestLoadOnBaseline(t *testing.T) {
	t.Parallel()
	task := loadOnBaseline(t, http.StatusOK)
	result, err := Load(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	if result.Acknowledged == 0 || result.Pairs == 0 || result.Pairs > result.Acknowledged {
		t.Errorf("%d pairs were acknowledged, %d measured", result.Acknowledged, result.Pairs)
	}
	if holds := result.Requests - result.Pairs; holds < result.Pairs-4 || holds > result.Pairs+4 {
		t.Errorf("%d requests in %d pairs over 4 connections", result.Requests, result.Pairs)
	}
	if result.P50 <= 0 || result.P99 < result.P50 {
		t.Errorf("p50 %v, p99 %v", result.P50, result.P99)
	}
}

func TestLoadEndsWithTheFirstRefusal(t *testing.T) {
	t.Parallel()
	_, err := Load(t.Context(), loadOnBaseline(t, http.StatusConflict))
	if err == nil || !strings.Contains(err.Error(), "status 409") {
		t.Errorf("got %v, want status 409", err)
	}
}

func TestLoadEndsWithTheLastCoupon(t *testing.T) {
	t.Parallel()
	task := loadOnBaseline(t, http.StatusOK)
	task.Repeat = false
	if _, err := Load(t.Context(), task); !errors.Is(err, errUsedUp) {
		t.Errorf("got %v, want %v", err, errUsedUp)
	}
}

// loadOnBaseline starts a baseline that answers confirms with this status, and returns a short load of it.
func loadOnBaseline(t *testing.T, confirmed int) LoadTask {
	t.Helper()
	port, err := scratch.NewPort()
	if err != nil {
		t.Fatal(err)
	}
	address := (&child{port: port}).address()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Baseline(ctx, address, BaselineTask{
			Hold:    RecordedReply{http.StatusCreated, nil, `{"hold":{"hold_id":"hold_1"}}`},
			Confirm: RecordedReply{confirmed, nil, `{}`},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, port.Close()); err != nil {
			t.Error(err)
		}
	})
	awaitDial(t, address)
	coupons := filepath.Join(t.TempDir(), "coupons")
	if err := os.WriteFile(coupons, []byte("coupon_"+strings.Repeat("0", 26)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadTask{
		Address: address, Coupons: coupons, Repeat: true, Connections: 4,
		Warmup: 50 * time.Millisecond, Length: time.Second, Processes: map[string]int{"service": os.Getpid()},
	}
}

func awaitDial(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestSumsCheck(t *testing.T) {
	t.Parallel()
	if err := (&sums{}).check(expectation{"holds", 3, 3}); err != nil {
		t.Error(err)
	}
	faults := map[string]struct {
		sums     sums
		expected expectation
	}{
		"another number":    {sums{}, expectation{"holds", 2, 3}},
		"a crooked lot":     {sums{crookedLots: 1}, expectation{}},
		"a stray coupon":    {sums{strayCoupons: 1}, expectation{}},
		"a broken chain":    {sums{brokenChains: 1}, expectation{}},
		"an unpaid confirm": {sums{unpaidConfirms: 1}, expectation{}},
	}
	for name, fault := range faults {
		if err := fault.sums.check(fault.expected); !errors.Is(err, errViolation) {
			t.Errorf("%s: got %v, want %v", name, err, errViolation)
		}
	}
}
