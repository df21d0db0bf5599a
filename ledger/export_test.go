package ledger_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
)

// C48: adjoining periods have each entry once, also those exactly on their bounds.
func TestC48AdjoiningPeriods(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			var all []string
			bounds := []time.Time{{}}
			for range 5 {
				a := w.fresh()
				a.credit(t, 10, time.Hour)
				a.credit(t, 10, time.Hour)
				page, err := a.l.Entries(t.Context(), a.owner, ledger.EntryFilter{})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page.Items {
					all = append(all, fmt.Sprint(e.Owner, e.Seq))
					bounds = append(bounds, e.At)
				}
			}
			slices.SortFunc(bounds, time.Time.Compare)
			bounds = append(bounds, time.Time{})
			var found []string
			for i := range bounds[1:] {
				for place, more := (ledger.ExportPlace{}), true; more; {
					var page []ledger.Entry
					var err error
					page, place, more, err = w.ledgers[0].ExportEntries(t.Context(), 0, place, bounds[i], bounds[i+1])
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range page {
						found = append(found, fmt.Sprint(e.Owner, e.Seq))
					}
				}
			}
			slices.Sort(all)
			slices.Sort(found)
			if !slices.Equal(all, found) {
				t.Errorf("exported %v, decided %v", found, all)
			}
		})
	}
}

// The money as of each instant is what a read showed then, in every state of a hold, and after lots and holds have expired.
func TestMoneyAt(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t, e)
			a := w.fresh()
			then := map[time.Time][2]int64{w.now(t): {}}
			look := func() {
				w.advance(t, time.Millisecond)
				body, err := a.l.Owner(t.Context(), a.owner)
				if err != nil {
					t.Fatal(err)
				}
				now := w.now(t)
				then[now] = [2]int64{body.Balances[0].Available, body.Balances[0].Held}
				w.advance(t, time.Millisecond)
			}
			a.credit(t, 100, time.Hour)
			look()
			a.credit(t, 50, 10*time.Second)
			look()
			h := a.hold(t, a.request(money(70)))
			look()
			if err := a.confirm(t.Context(), a.ref(h)); err != nil {
				t.Fatal(err)
			}
			look()
			h = a.hold(t, a.request(money(20)))
			look()
			if err := a.cancel(t.Context(), a.ref(h)); err != nil {
				t.Fatal(err)
			}
			look()
			request := a.request(money(30))
			request.OverCapture = 7
			h = a.hold(t, request)
			for _, part := range []int64{10, 24} { // more than is held, too
				if err := a.part(t.Context(), a.ref(h), part); err != nil {
					t.Fatal(err)
				}
				look()
			}
			a.hold(t, a.request(money(30))) // expires after a minute, and nobody settles it
			look()
			w.advance(t, 2*time.Minute)
			look()
			a.credit(t, 1, time.Hour) // settles it
			look()
			for _, at := range slices.SortedFunc(maps.Keys(then), time.Time.Compare) {
				body, err := a.l.MoneyAt(t.Context(), a.owner, at)
				if err != nil {
					t.Fatal(err)
				}
				got := [2]int64{}
				if len(body.Balances) > 0 {
					got = [2]int64{body.Balances[0].Available, body.Balances[0].Held}
				}
				if got != then[at] {
					t.Errorf("as of %s: %v, and a read showed %v", at, got, then[at])
				}
			}
			_, err := a.l.MoneyAt(t.Context(), a.owner, w.now(t).Add(time.Minute))
			wantError(t, err, ledger.ErrInvalid)
		})
	}
}
