package ledger_test

import (
	"sync"
	"testing"
	"time"
)

// The load asks twice about the owner's holds: which have expired, and when the next one will. Time goes on in between; a hold that
// expires just then must be seen by one of the questions, or nobody would ever look for it.
func TestHoldThatExpiresDuringTheLoadIsSeen(t *testing.T) {
	const holds = 400
	w := newWorld(t, engines[0])
	a := w.fresh()
	a.credit(t, holds, time.Hour)
	start := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	for i := range holds {
		wg.Go(func() {
			r := a.request(money(1))
			r.TTL = time.Until(start.Add(time.Duration(i) * time.Millisecond))
			a.hold(t, r)
		})
	}
	wg.Wait()
	time.Sleep(time.Until(start))
	unseen := audits["an expiry that nobody would see"]
	for n := holds; n > 0 && !t.Failed(); {
		if err := a.l.ExpireDue(t.Context(), a.owner); err != nil {
			t.Fatal(err)
		}
		w.each(t, unseen, func([]any) { t.Error("a hold expires before due_at") })
		w.each(t, "SELECT live_holds FROM owners", func(row []any) {
			if row[0] == "0" {
				n = 0
			}
		})
	}
	w.audit(t)
}
