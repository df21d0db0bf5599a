package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

func (c *client) put(path, body string) answer {
	c.t.Helper()
	return c.send(http.MethodPut, path, body)
}

func (c *client) patch(path, body string) answer {
	c.t.Helper()
	return c.send(http.MethodPatch, path, body)
}

func (c *client) del(path string) answer { c.t.Helper(); return c.send(http.MethodDelete, path, "") }

func TestBlocks(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	c.money(100)
	path := "/v1/admin/blocks/owner/" + c.owner
	until := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	body := fmt.Sprintf(`{"reason":"case 4711","public_reason":"please wait","expires_at":%q}`, until.Format(time.RFC3339))
	block := read[gen.Block](c.put(path, body).is(200))
	if block.Holder != "admin" || block.Reason != "case 4711" || !block.ExpiresAt.Equal(until) || block.UntilRemoved {
		t.Errorf("%+v", block)
	}
	reply := c.hold("o", cny(1))
	p := reply.refused(503, "blocked")
	if !p.Retryable || !p.RetryAt.Equal(until) || p.Outcome != "none" {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(p.Detail, "please wait") || strings.Contains(reply.body, "4711") {
		t.Errorf("the caller is told %q", p.Detail)
	}
	c.put(path, `{"reason":"for longer","until_removed":true}`).is(200)
	if p := c.hold("o", cny(1)).refused(503, "blocked"); !p.RetryAt.IsZero() || strings.Contains(p.Detail, "longer") {
		t.Errorf("%+v", p)
	}
	found := read[gen.BlockList](c.get("/v1/admin/blocks?grain=owner&holder=admin&id=" + c.owner).is(200)).Blocks
	if len(found) != 1 || !found[0].UntilRemoved || found[0].SetBy == "" {
		t.Errorf("%+v", found)
	}
	c.del(path + "?reason=solved").is(204)
	c.hold("o", cny(1)).is(201)
	c.del(path+"?reason=again").refused(404, "not-found")
	c.del(path).refused(400, "invalid-request").at("reason")
	changes := read[gen.BlockAudit](c.get("/v1/admin/blocks/audit?limit=200").is(200)).Changes
	var story []string
	for _, change := range changes {
		if change.ID == c.owner {
			story = append(story, change.Action+" "+change.Reason)
		}
	}
	if got := strings.Join(story, ", "); got != "unblock solved, block for longer, block case 4711" {
		t.Error(got)
	}
	next := read[gen.BlockAudit](c.get("/v1/admin/blocks/audit?limit=1").is(200))
	older := read[gen.BlockAudit](c.get("/v1/admin/blocks/audit?limit=1&cursor=" + next.NextCursor).is(200)).Changes
	if older[0].Number != next.Changes[0].Number-1 {
		t.Errorf("after %d comes %d", next.Changes[0].Number, older[0].Number)
	}
}

func TestBlocksRefused(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	for path, body := range map[string]string{
		"/v1/admin/blocks/owner/x": `{"reason":"a"}`, "/v1/admin/blocks/owner/y": `{"reason":"","until_removed":true}`,
		"/v1/admin/blocks/owner/z":      `{"reason":"a","until_removed":true,"expires_at":"2030-01-01T00:00:00Z"}`,
		"/v1/admin/blocks/owner/a%20b":  `{"reason":"a","until_removed":true}`,
		"/v1/admin/blocks/bucket/16384": `{"reason":"a","until_removed":true}`,
		"/v1/admin/blocks/shard/01":     `{"reason":"a","until_removed":true}`,
		"/v1/admin/blocks/planet/x":     `{"reason":"a","until_removed":true}`,
		"/v1/admin/blocks/owner/late":   `{"reason":"a","expires_at":"2020-01-01T00:00:00Z"}`,
		"/v1/admin/blocks/owner/long":   `{"reason":"` + strings.Repeat("a", 501) + `","until_removed":true}`,
	} {
		c.put(path, body).refused(400, "invalid-request")
	}
}

// TestUndecided: a record blocks its owner and is listed; the resolver finds out that the operation did not happen.
func TestUndecided(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	c := newClient(t, r, nil)
	bucket := shard.BucketOf(c.owner)
	number, _ := r.Routes.Lookup(bucket)
	key := newKey()
	record := blacklist.Undecided{
		Shard: uint16(number), Owner: c.owner, Bucket: uint16(bucket), Key: key, Fingerprint: []byte{1},
		Epoch: 1, Instance: "gone", At: time.Now(),
	}
	if err := r.Blacklist.PutUndecided(t.Context(), []blacklist.Undecided{record}); err != nil {
		t.Fatal(err)
	}
	for _, u := range read[gen.UndecidedList](c.get("/v1/admin/undecided").is(200)).Undecided {
		if u.Owner != c.owner {
			continue
		}
		if u.OperationKey != key || u.Instance != "gone" {
			t.Errorf("%+v", u)
		}
		c.del("/v1/admin/blocks/owner/"+c.owner+"?reason=impatient").refused(409, "block-in-force")
		path := fmt.Sprintf("/v1/admin/undecided/%d/%s/resolve", u.Shard, u.Key)
		answer := c.post(path, "", header{"Content-Type", ""})
		if answer.status == 404 {
			break // the resolver of the instance was quicker
		}
		if got := read[ledger.OperationBody](answer.is(200)); got.Status != "ABORTED" {
			t.Errorf("%+v", got)
		}
	}
	c.post("/v1/admin/undecided/1/bm9ib2R5.a2V5/resolve", "").refused(404, "not-found")
	c.post("/v1/admin/undecided/x/bm9ib2R5.a2V5/resolve", "").refused(400, "invalid-request").at("shard")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	body := `{"name":"checkout","scopes":["hold","read"],"rate":{"per_second":7,"burst":9}}`
	made := read[gen.NewAPIKey](c.post("/v1/admin/keys", body).is(201))
	path := "/v1/admin/keys/" + made.Key.KeyID
	ask := func() answer {
		return c.send(http.MethodGet, "/v1/owners/"+c.owner, "", header{"Authorization", "Bearer " + made.Token})
	}
	if got := ask().is(200).header.Get("RateLimit-Policy"); got != `"default";q=9;w=2` {
		t.Error(got)
	}
	changed := read[gen.APIKey](c.patch(path, `{"name":"till","scopes":["hold"],"expires_at":"2030-01-01T00:00:00Z"}`).is(200))
	if changed.Name != "till" || changed.ExpiresAt.IsZero() || changed.Rate.Burst != 9 {
		t.Errorf("%+v", changed)
	}
	ask().refused(403, "forbidden")
	changed = read[gen.APIKey](c.patch(path, `{"never_expires":true,"rate":{"per_second":1,"burst":1},"scopes":["read"]}`).is(200))
	if !changed.ExpiresAt.IsZero() || changed.Rate.PerSecond != 1 {
		t.Errorf("%+v", changed)
	}
	ask().is(200)
	ask().refused(429, "rate-limited")
	if revoked := read[gen.APIKey](c.del(path).is(200)); revoked.RevokedAt.IsZero() {
		t.Errorf("%+v", revoked)
	}
	ask().refused(401, "unauthenticated")
	c.patch(path, `{"name":"x"}`).refused(404, "not-found")
	c.del("/v1/admin/keys/0123456789abcdef").refused(404, "not-found")
	list := c.get("/v1/admin/keys").is(200)
	if !strings.Contains(list.body, made.Key.KeyID) || strings.Contains(list.body, made.Token[20:]) {
		t.Error("the list lacks the key or shows its secret")
	}
	for _, body := range []string{
		`{"name":"x","scopes":[]}`, `{"name":"x","scopes":["fly"]}`, `{"name":"x","scopes":["read","read"]}`, `{"name":"","scopes":["read"]}`,
		`{"name":"x","scopes":["read"],"rate":{"per_second":0,"burst":1}}`, `{"name":"x","scopes":["read"],"expires_at":"2020-01-01T00:00:00Z"}`,
		`{"name":"x","scopes":["read"],"rate":{"per_second":1}}`, `{"scopes":["read"]}`,
	} {
		c.post("/v1/admin/keys", body).refused(400, "invalid-request")
	}
	c.patch(path, `{}`).refused(400, "invalid-request")
	c.patch(path, `{"never_expires":true,"expires_at":"2030-01-01T00:00:00Z"}`).
		refused(400, "invalid-request").at("/never_expires")
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	c := newClient(t, sharedRig(t), nil)
	m := read[gen.ShardMap](c.get("/v1/admin/map").is(200))
	if len(m.Shards) != 2 || m.Runs[0].From != 0 || m.Runs[len(m.Runs)-1].To != 16383 {
		t.Errorf("%+v", m)
	}
	shards := read[gen.ShardList](c.get("/v1/admin/shards").is(200)).Shards
	if len(shards) != 2 || shards[0].Phase != "SERVING" || shards[1].Primary != "s2" || shards[0].Epoch != 1 || len(shards[0].Nodes) != 1 {
		t.Errorf("%+v", shards)
	}
	hold := read[struct{ IDs []string }](c.post("/v1/ids", c.ofOwner()).is(200)).IDs[0]
	byOwner := read[gen.Location](c.get("/v1/admin/locate?owner=" + c.owner).is(200))
	byID := read[gen.Location](c.get("/v1/admin/locate?id=" + hold).is(200))
	if byOwner.Bucket != int(shard.BucketOf(c.owner)) || byID.Bucket != byOwner.Bucket || byID.Shard != byOwner.Shard || byID.Kind != "hold" {
		t.Errorf("%+v and %+v", byOwner, byID)
	}
	if time.Since(byID.MintedAt).Abs() > time.Minute || byID.BornOn != byID.Shard {
		t.Errorf("%+v", byID)
	}
	c.get("/v1/admin/locate?id=hold_x").refused(404, "not-found")
	c.get("/v1/admin/locate?id=planet_x").refused(404, "not-found")
}
