package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api"
	"github.com/statesvc/statesvc/ledger"
)

// stream is an open stream, read message by message.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	reply *http.Response
}

// open begins a stream; lastID may be empty.
func (c *client) open(t *testing.T, base, query, lastID string) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/events/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.rig.Tokens[access.ScopeEvents])
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reply.Body.Close() })
	return &stream{t, bufio.NewScanner(reply.Body), reply}
}

// message reads the next message: its lines by their names, a comment by "". It is nil at the end of the stream.
func (s *stream) message() map[string]string {
	s.t.Helper()
	read := map[string]string{}
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return read
		}
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		read[name] = value
	}
	return nil
}

// next reads the next event of an owner.
func (s *stream) next(owner string) (id string, e ledger.FeedEvent) {
	s.t.Helper()
	for {
		m := s.message()
		if m == nil {
			s.t.Fatal("the stream has ended")
		}
		if m["data"] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(m["data"]), &e); err != nil {
			s.t.Fatal(err)
		}
		if e.Type != m["event"] {
			s.t.Errorf("the event of type %s is called %s", e.Type, m["event"])
		}
		if e.Owner == owner {
			return m["id"], e
		}
	}
}

// A stream has what happens while it is open, beats while nothing does, goes on after the last id, and ends when the instance stops.
func TestStream(t *testing.T) {
	ending := make(chan struct{})
	c := newClient(t, sharedRig(t), func(cfg *api.Config) { cfg.Ending, cfg.Heartbeat = ending, 100*time.Millisecond })
	server := httptest.NewServer(c.bare)
	defer server.Close()

	s := c.open(t, server.URL, "?after=now", "")
	if kind := s.reply.Header.Get("Content-Type"); s.reply.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("%s, %s", s.reply.Status, kind)
	}
	if m := s.message(); m["retry"] != "1000" {
		t.Errorf("it begins with %v", m)
	}
	c.money(100)
	h := c.held("o", cny(10))
	c.post("/v1/holds/"+h.HoldID+"/confirm", c.ofOwner()).is(200)
	first, credited := s.next(c.owner)
	last, confirmed := s.next(c.owner)
	if credited.Type != "CREDITED" || confirmed.Type != "CONFIRMED" || confirmed.HoldID != h.HoldID || confirmed.Entry != 2 {
		t.Errorf("%+v, then %+v", credited, confirmed)
	}
	for m := s.message(); ; m = s.message() {
		if m == nil {
			t.Fatal("the stream has ended")
		}
		if m[""] == "heartbeat" {
			break
		}
	}
	if _, e := c.open(t, server.URL, "?after=now", first).next(c.owner); e.EventID != confirmed.EventID {
		t.Errorf("after the first comes %+v", e)
	}
	c.money(7)
	if _, e := c.open(t, server.URL, "?after="+last, "").next(c.owner); e.Entry != 3 {
		t.Errorf("after the last comes %+v", e)
	}
	close(ending)
	for m := s.message(); m != nil; m = s.message() {
	}
}

// Lists go on from the position of the page before; a stream that cannot begin says why.
func TestEventLists(t *testing.T) {
	c := newClient(t, sharedRig(t), nil)
	page := func(after string) (found []ledger.FeedEvent, position string) {
		body := read[struct {
			Events   []ledger.FeedEvent
			Position string
		}](c.get("/v1/events?limit=2" + after).is(200))
		return body.Events, body.Position
	}
	_, position := page("&after=now")
	for range 5 {
		c.money(1)
	}
	var entries []int64
	for deadline := time.Now().Add(30 * time.Second); len(entries) < 5; {
		events, next := page("&after=" + position)
		for _, e := range events {
			if e.Owner == c.owner {
				entries = append(entries, e.Entry)
			}
		}
		if position = next; time.Now().After(deadline) {
			t.Fatalf("only entries %v", entries)
		}
	}
	if fmt.Sprint(entries) != "[1 2 3 4 5]" {
		t.Errorf("%v", entries)
	}
	for _, path := range []string{"/v1/events?after=1", "/v1/events/stream?after=x-y"} {
		c.get(path).refused(400, "invalid-request").at("after")
	}
	c.send(http.MethodGet, "/v1/events/stream", "", header{"Last-Event-ID", "one"}).refused(400, "invalid-request").at("Last-Event-ID")
}

// Webhooks are made, shown without their secrets, and ended.
func TestWebhooks(t *testing.T) {
	c := newClient(t, sharedRig(t), nil)
	type made struct {
		Webhook struct {
			ID         string `json:"webhook_id"`
			URL        string
			Deliveries []struct{ Shard int }
		}
		Secret string
	}
	created := read[made](c.post("/v1/webhooks", `{"url":"http://127.0.0.1:9/none"}`).is(201))
	path := "/v1/webhooks/" + created.Webhook.ID
	shown := c.get(path).is(200)
	if strings.Contains(shown.body, created.Secret) || !strings.HasPrefix(created.Secret, "whsec_") || len(created.Webhook.Deliveries) != 2 {
		t.Errorf("made %+v, shown %s", created, shown.body)
	}
	if list := c.get("/v1/webhooks").is(200); !strings.Contains(list.body, created.Webhook.ID) || strings.Contains(list.body, "whsec_") {
		t.Error(list.body)
	}
	c.post(path+"/replay", `{"after":"1-0"}`).is(200)
	c.post(path+"/replay", `{"after":"1"}`).refused(400, "invalid-request").at("/after")
	c.post("/v1/webhooks", `{"url":"ftp://example.com"}`).refused(400, "invalid-request")
	c.post("/v1/webhooks", `{}`).refused(400, "invalid-request").at("/url")
	c.send(http.MethodDelete, path, "").is(204)
	c.send(http.MethodDelete, path, "").refused(404, "not-found")
	c.get(path).refused(404, "not-found")
	c.post(path+"/replay", `{}`).refused(404, "not-found")
}
