package ledger_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// injections are drifts of one unit or one letter, each in the tables of an owner of its own, made by hand with the CHECKs switched off,
// and the check that must find it. ? is the owner.
var injections = []struct{ check, statement string }{
	{"lot", "UPDATE lots SET available=available+1 WHERE owner=?"},
	{"lot", "UPDATE lots SET issued=issued-1 WHERE owner=?"},
	{"lot", "UPDATE lots SET revoked=-1, available=available+1 WHERE owner=?"},
	{"lot", "UPDATE lots SET live=0 WHERE owner=?"},
	{"held", "UPDATE lots SET held=held+1, available=available-1 WHERE owner=?"},
	{"history", "UPDATE lots SET spent=spent+1, available=available-1 WHERE owner=?"},
	{"history", "UPDATE lots SET expired=expired+1, available=available-1 WHERE owner=?"},
	{"history", "UPDATE lots SET revoked=revoked+1, available=available-1 WHERE owner=?"},
	{"history", "UPDATE lots SET issued=issued+1, available=available+1 WHERE owner=?"},
	{"history", "DELETE FROM lots WHERE owner=?"},
	{"held", "DELETE FROM lots WHERE owner=?"},
	{"history", "UPDATE coupons SET state='REVOKED' WHERE owner=? AND state='AVAILABLE'"},
	{"history", "DELETE FROM coupons WHERE owner=? AND state='AVAILABLE'"},
	{"coupon", "DELETE FROM coupons WHERE owner=? AND state='HELD'"},
	{"coupon", "UPDATE coupons SET state='AVAILABLE', hold_id=x'00000000000000000000000000000000', held_until=0 " +
		"WHERE owner=? AND state='HELD'"},
	{"coupon", "UPDATE coupons SET held_until=held_until+1 WHERE owner=? AND state='HELD'"},
	{"coupon", "UPDATE coupons SET state='HELD', held_until=expires_at WHERE owner=? AND state='USED'"},
	{"coupon", "UPDATE decided_holds SET state='CANCELLED' WHERE owner=? AND state='CONFIRMED'"},
	{"decided", "UPDATE decided_holds SET state='CONFIRMED' WHERE owner=? AND state='CANCELLED'"},
	{"decided", "DELETE FROM decided_holds WHERE owner=? AND state='CANCELLED'"},
	{"hold", "INSERT INTO decided_holds (bucket, hold_id, owner, state, created_at, expires_at, decided_at) " +
		"SELECT bucket, hold_id, owner, 'EXPIRED', created_at, expires_at, expires_at FROM holds WHERE owner=?"},
	{"hold", "DELETE FROM orders WHERE owner=?"},
	{"owner", "DELETE FROM holds WHERE owner=?"},
	{"owner", "UPDATE owners SET live_holds=live_holds+1 WHERE owner=?"},
	{"owner", "UPDATE owners SET live_holds=live_holds-1 WHERE owner=?"},
	{"owner", "UPDATE owners SET due_at=due_at+1 WHERE owner=?"},
	{"owner", "UPDATE owners SET due_at=0 WHERE owner=?"},
	{"owner", "DELETE FROM owners WHERE owner=?"},
	{"owner", "UPDATE owners SET bucket=(bucket+1)%16384 WHERE owner=?"},
	{"chain", "UPDATE owners SET entry_seq=entry_seq+1 WHERE owner=?"},
	{"chain", "UPDATE owners SET head=(SELECT MIN(e.hash) FROM entries e WHERE e.seq=1) WHERE owner=?"},
	{"chain", "UPDATE entries SET at=at+1 WHERE owner=? AND seq=2"},
	{"chain", "DELETE FROM entries WHERE owner=? AND seq=4"},
	{"chain", "UPDATE entries SET kind='CANCELLED' WHERE owner=? AND kind='CONFIRMED'"},
	{"history", "UPDATE entries SET doc=CAST(REPLACE(doc,'\"spent\":10','\"spent\":11') AS BLOB) WHERE owner=? AND kind='CONFIRMED'"},
	{"held", "UPDATE orders SET doc=CAST(REPLACE(doc,'\"amount\":30}','\"amount\":31}') AS BLOB) WHERE owner=?"},
}

// TestAuditor: C44. While the service runs there is no drift; a drift of one unit is found, whatever it is in, and is still there
// afterwards.
func TestAuditor(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			auditor := w.auditor(t)
			w.auditUnderLoad(t, auditor)
			owners := make([]string, len(injections))
			for i := range injections {
				owners[i] = w.audited(t).owner
			}
			if found, drift := auditOnce(t, auditor); found.Drift != 0 || found.Owners < int64(len(owners)) {
				t.Fatalf("before any injection: %+v %v", found, drift)
			}
			for i, in := range injections {
				w.inject(t, in.statement, owners[i])
			}
			_, drift := auditOnce(t, auditor)
			for i, in := range injections {
				found := func(d ledger.Drift) bool { return d.Owner == owners[i] && d.Check == in.check && d.Shard == 1 }
				if !slices.ContainsFunc(drift, found) {
					t.Errorf("%s: no drift of %q in %v", in.statement, in.check, ofOwner(drift, owners[i]))
				}
			}
			if _, again := auditOnce(t, auditor); len(again) != len(drift) {
				t.Errorf("the second audit finds %d drifts and not %d: something was repaired", len(again), len(drift))
			}
		})
	}
}

func ofOwner(all []ledger.Drift, owner string) []ledger.Drift {
	return slices.DeleteFunc(slices.Clone(all), func(d ledger.Drift) bool { return d.Owner != owner })
}

// auditor is an auditor of the world's shard with a register of its own.
func (w *world) auditor(t testing.TB) *ledger.Auditor {
	t.Helper()
	return ledger.NewAuditor(w.auditorConfig(t))
}

func (w *world) auditorConfig(t testing.TB) ledger.AuditorConfig {
	t.Helper()
	reg := must(register.OpenFile(filepath.Join(t.TempDir(), "register")))
	t.Cleanup(func() { _ = reg.Close() })
	return ledger.AuditorConfig{
		Ledger: w.ledgers[0], Register: reg, Shards: func() []int { return []int{1} },
		Primary: func(int) (*shard.DB, error) { return w.db, nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func auditOnce(t testing.TB, a *ledger.Auditor) (ledger.AuditPass, []ledger.Drift) {
	t.Helper()
	var drift []ledger.Drift
	pass, err := a.Once(t.Context(), func(d ledger.Drift) { drift = append(drift, d) })
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(drift)) != pass.Drift {
		t.Errorf("told of %d drifts, counted %d", len(drift), pass.Drift)
	}
	return pass, drift
}

// audited is an owner with a lot and coupons in every state, and holds of every kind.
func (w *world) audited(t *testing.T) as {
	t.Helper()
	a := w.fresh()
	a.credit(t, 100, time.Hour)
	used, held := a.issue(t, fixed(5), time.Hour), a.issue(t, fixed(5), time.Hour)
	a.issue(t, fixed(5), time.Hour)
	confirmed := a.hold(t, a.request(a.coupon(used), money(10)))
	cancelled := a.hold(t, a.request(a.coupon(held), money(20)))
	if err := a.confirm(t.Context(), a.ref(confirmed)); err != nil {
		t.Fatal(err)
	}
	if err := a.cancel(t.Context(), a.ref(cancelled)); err != nil {
		t.Fatal(err)
	}
	a.hold(t, a.request(a.coupon(held), money(30)))
	return a
}

// auditUnderLoad audits again and again while owners write.
func (w *world) auditUnderLoad(t *testing.T, auditor *ledger.Auditor) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var writing sync.WaitGroup
	for i := range 8 {
		writing.Go(func() {
			a := as{w, w.ledgers[i%len(w.ledgers)], w.owner()}
			a.credit(t, 1_000_000, time.Hour)
			for ctx.Err() == nil {
				h := a.hold(t, a.request(money(3)))
				if err := a.confirm(t.Context(), a.ref(h)); err != nil {
					t.Error(err)
				}
				a.hold(t, a.request(a.coupon(a.issue(t, fixed(1), time.Hour)), money(1)))
			}
		})
	}
	passes := 0
	for ; ctx.Err() == nil; passes++ {
		if pass, drift := auditOnce(t, auditor); pass.Drift != 0 {
			t.Fatalf("drift while the service runs: %v", drift)
		}
	}
	writing.Wait()
	if passes < 2 {
		t.Errorf("%d passes", passes)
	}
}

// inject runs a statement with the CHECKs of the schema switched off.
func (w *world) inject(t *testing.T, statement, owner string) {
	t.Helper()
	if unchecked(t, w.db, statement, owner) == 0 {
		t.Fatalf("%s: it changes nothing", statement)
	}
}

// unchecked runs a statement on a shard, and says how many rows it has changed.
func unchecked(t *testing.T, db *shard.DB, statement string, args ...any) int64 {
	t.Helper()
	conn := must(db.SQL().Conn(t.Context()))
	defer conn.Close()
	off, on := "PRAGMA ignore_check_constraints=ON", "PRAGMA ignore_check_constraints=OFF"
	if db.Dialect == shard.MariaDB {
		off, on = "SET check_constraint_checks=0", "SET check_constraint_checks=1"
		statement = strings.ReplaceAll(statement, "AS BLOB)", "AS BINARY)")
	}
	must(conn.ExecContext(t.Context(), off))
	result, err := conn.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	must(conn.ExecContext(t.Context(), on))
	return must(result.RowsAffected())
}

// The continuous auditor leaves reports in the register, and goes on where it was stopped.
func TestAuditorReports(t *testing.T) {
	w := newWorld(t, engines[1])
	a := w.audited(t)
	cfg := w.auditorConfig(t)
	auditor := ledger.NewAuditor(cfg)
	wait := func(what string, ok func(r ledger.AuditReport) bool) (report ledger.AuditReport) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- auditor.Run(ctx) }()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if report = must(auditor.Report(t.Context(), 1)); ok(report) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("never: %s; %+v", what, report)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return report
	}
	wait("a whole pass without drift", func(r ledger.AuditReport) bool {
		return !r.Last.EndedAt.IsZero() && r.Last.Owners == 1 && r.DriftKnown() == 0
	})
	w.inject(t, "UPDATE lots SET held=held+1, available=available-1 WHERE owner=?", a.owner)
	report := wait("a pass with a drift", func(r ledger.AuditReport) bool { return r.DriftKnown() == 1 })
	if d := report.Last.Findings; len(d) != 1 || d[0].Owner != a.owner || d[0].Check != "held" || !strings.HasPrefix(d[0].Subject, "lot_") {
		t.Errorf("%+v", d)
	}
}
