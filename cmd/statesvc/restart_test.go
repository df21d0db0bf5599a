package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// What was acknowledged survives a kill -9, and goes on: a hold is still there, can be confirmed, and its key still answers.
func TestKilledProgramKeepsWhatItAcknowledged(t *testing.T) {
	data := t.TempDir()
	before := startDev(t, data)
	coupon := before.caller(t).want(t, http.StatusCreated, "POST", "/v1/campaigns/test/issues", "issue", fmt.Sprintf(
		`{"owner":"user-1","issue_ref":"kill","discount":{"kind":"FIXED","amount":{"amount":100,"currency":"CNY"}},"expires_at":%q}`,
		demoEnd().Format(time.RFC3339)))
	holdBody := fmt.Sprintf(`{"owner":"user-1","order_id":"kill","lines":[{"line_id":"l","amount":{"amount":5000,"currency":"CNY"}}],`+
		`"items":[{"kind":"coupon","coupon_id":%q},{"kind":"money","amount":{"amount":70,"currency":"CNY"}}]}`,
		coupon.at(t, "coupon", "coupon_id"))
	hold := before.caller(t).want(t, http.StatusCreated, "POST", "/v1/holds", "hold", holdBody)
	kill(t, before)

	after := startDev(t, data).caller(t)
	again := after.want(t, http.StatusCreated, "POST", "/v1/holds", "hold", holdBody)
	if !again.replayed || again.body != hold.body {
		t.Errorf("the hold's key answers %s (replayed: %t), and before the kill %s", again.body, again.replayed, hold.body)
	}
	path := fmt.Sprintf("/v1/holds/%s/confirm", hold.at(t, "hold", "hold_id"))
	confirmed := after.want(t, http.StatusOK, "POST", path, "confirm", `{"owner":"user-1"}`)
	if state := confirmed.at(t, "hold", "state"); state != "CONFIRMED" {
		t.Errorf("the hold is %v", state)
	}
	verified := after.want(t, http.StatusOK, "GET", "/v1/owners/user-1/entries/verify", "", "")
	if verified.at(t, "intact") != true {
		t.Errorf("the history: %s", verified.body)
	}
}

// The program is killed under load, again and again. Every credit that was acknowledged is there, none is there twice, and each
// key gives one answer.
func TestKilledUnderLoad(t *testing.T) {
	data := t.TempDir()
	acknowledged := map[string]string{} // key → reply
	for round := range 3 {
		p := startDev(t, data)
		c := p.caller(t)
		var mu sync.Mutex
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for n := 0; ; n++ {
					key := fmt.Sprintf("%d-%d-%d", round, w, n)
					r, err := c.send(t, "POST", fmt.Sprintf("/v1/owners/load-%d/lots", w), key, creditBody(key, 1))
					if err != nil {
						return // killed
					}
					if r.status != http.StatusCreated {
						t.Errorf("a credit is answered with %d: %s", r.status, r.body)
						return
					}
					mu.Lock()
					acknowledged[key] = r.body
					mu.Unlock()
				}
			})
		}
		enough := (round + 1) * 40
		eventually(t, "some credits", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged) >= enough
		})
		kill(t, p)
		writers.Wait()
	}
	c := startDev(t, data).caller(t)
	perOwner := map[string]int{}
	for key, body := range acknowledged {
		owner := "load-" + strings.Split(key, "-")[1]
		perOwner[owner]++
		r := c.want(t, http.StatusCreated, "POST", "/v1/owners/"+owner+"/lots", key, creditBody(key, 1))
		if !r.replayed || r.body != body {
			t.Fatalf("%s: acknowledged with %s, and now answered with %s (replayed: %t)", key, body, r.body, r.replayed)
		}
	}
	for owner, credits := range perOwner {
		money := c.want(t, http.StatusOK, "GET", "/v1/owners/"+owner, "", "").at(t, "balances").([]any)[0].(map[string]any)["available"]
		// One write of each owner was under way at each kill: it may have happened.
		if got := int(money.(float64)); got < credits || got > credits+3 {
			t.Errorf("%s has %d, and %d credits were acknowledged", owner, got, credits)
		}
	}
	t.Logf("%d credits were acknowledged over 3 kills", len(acknowledged))
}

// A clean restart keeps the demo key, and seeds nothing twice.
func TestRestart(t *testing.T) {
	data := t.TempDir()
	var keys []string
	for range 2 {
		s := serve(t, devServes, "dev", "--listen", "127.0.0.1:0", "--data", data)
		c := caller{s.base, demoToken(t, data)}
		keys = append(keys, c.token)
		money := c.want(t, http.StatusOK, "GET", "/v1/owners/user-2", "", "").at(t, "balances").([]any)[0].(map[string]any)["available"]
		if money != float64(200_000) {
			t.Errorf("user-2 has %v", money)
		}
		s.stop(t)
	}
	if keys[0] != keys[1] {
		t.Error("the demo key has changed")
	}
}

// dev is a `statesvc dev` of its own process.
type dev struct {
	*process
	data string
}

func startDev(t testing.TB, data string) *dev {
	t.Helper()
	return &dev{startProcess(t, devServes, "dev", "--listen", "127.0.0.1:0", "--data", data), data}
}

func (d *dev) caller(t testing.TB) caller {
	t.Helper()
	return caller{d.base, demoToken(t, d.data)}
}

func demoToken(t testing.TB, data string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, demoKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func kill(t testing.TB, d *dev) {
	t.Helper()
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
}
