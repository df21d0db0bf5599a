package state_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// rig is a cluster of one shard with two instances.
type rig struct {
	t    *testing.T
	a, b *instance.Instance
	docs [2]*state.Documents
}

// engines runs a test on both databases.
func engines(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Run("sqlite", func(t *testing.T) {
		f(t, newRig(t, instance.Shard{Name: "s1", File: filepath.Join(t.TempDir(), "s1.db")}))
	})
	t.Run("mariadb", func(t *testing.T) {
		server := testdb.MariaDB(t)
		f(t, newRig(t, instance.Shard{Name: "s1", DSN: server.DSN(server.Schema(t))}))
	})
}

func newRig(t *testing.T, one instance.Shard) *rig {
	t.Helper()
	reg, err := register.OpenFile(filepath.Join(t.TempDir(), "register"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	shards := []instance.Shard{one}
	if err := instance.Bootstrap(t.Context(), reg, shards, time.Now, func(string) {}); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	for i, in := range []**instance.Instance{&r.a, &r.b} {
		*in, err = instance.Open(t.Context(), instance.Config{
			Name: fmt.Sprint("i", i), Register: reg, Shards: shards, Now: time.Now, Log: slog.New(slog.DiscardHandler), Lanes: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := (*in).Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		r.docs[i] = state.New(state.Config{
			Store: (*in).Store, Kinds: (*in).Kinds, Blocks: func(string, shard.Bucket) error { return nil },
		})
	}
	if _, err := r.a.Kinds.Declare(t.Context(), "product", state.Spec{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.b.Kinds.Declare(t.Context(), "product", state.Spec{}); err != nil {
		t.Fatal(err)
	}
	return r
}

var numbers atomic.Int64

func key(id string) state.Key { return state.Key{Kind: "product", ID: id} }

func request(k state.Key, when state.Precondition) state.Request {
	return state.Request{Key: k, When: when, Idempotency: fmt.Sprintf("k%d", numbers.Add(1))}
}

var (
	absent = state.Precondition{Absent: true}
	exists = state.Precondition{Exists: true}
)

// row is the document as the primary has it.
func (r *rig) row(k state.Key) state.Snapshot {
	r.t.Helper()
	found, err := r.docs[0].Read(r.t.Context(), []state.Key{k})
	if err != nil {
		r.t.Fatal(err)
	}
	return found[0]
}

func TestLifeOfADocument(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, r *rig) {
		k, docs := key("a"), r.docs[0]
		if found := r.row(k); found.Exists() || found.Version != (state.Version{}) || found.Era != 1 {
			t.Errorf("before it is made: %+v", found)
		}
		made := request(k, absent)
		first, err := docs.Put(t.Context(), made, []byte(`{"n":1}`))
		if err != nil || !first.Created || first.Replayed || first.Version.Era != 1 {
			t.Fatalf("%+v %v", first, err)
		}
		again, err := r.docs[1].Put(t.Context(), made, []byte(`{"n":1}`))
		if err != nil || !again.Replayed || !again.Created || string(again.Reply) != string(first.Reply) || again.Wrote != nil {
			t.Errorf("the repeat: %+v %v", again, err)
		}
		_, err = docs.Put(t.Context(), made, []byte(`{"n":2}`))
		if reused, ok := errors.AsType[*state.KeyReused](err); !ok || len(reused.Fields) != 1 || reused.Fields[0] != "document" {
			t.Errorf("another document under the key: %v", err)
		}
		refusedAs := request(k, absent)
		for range 2 { // the refusal belongs to its key
			_, err = docs.Put(t.Context(), refusedAs, []byte(`{"n":2}`))
			if conflict, ok := errors.AsType[*state.Conflict](err); !ok || conflict.Current != first.Version {
				t.Errorf("made twice: %v", err)
			}
		}
		patched, err := docs.Patch(t.Context(), request(k, state.Precondition{Version: first.Version}), []byte(`{"m":{"x":1,"y":null},"n":null}`))
		if err != nil || patched.Version.Number != first.Version.Number+1 || patched.Created {
			t.Fatalf("%+v %v", patched, err)
		}
		if got := string(r.row(k).Body); got != `{"m":{"x":1}}` {
			t.Errorf("after the patch: %s", got)
		}
		if _, err := docs.Delete(t.Context(), request(k, state.Precondition{Version: first.Version})); !errors.Is(err, state.ErrPrecondition) {
			t.Errorf("deleted in an old version: %v", err)
		}
		deleted, err := docs.Delete(t.Context(), request(k, exists))
		if err != nil || deleted.Version.Number != first.Version.Number+2 {
			t.Fatalf("%+v %v", deleted, err)
		}
		if found := r.row(k); found.Exists() || found.Version != deleted.Version {
			t.Errorf("the tombstone: %+v", found)
		}
		if _, err := docs.Patch(t.Context(), request(k, exists), []byte(`{}`)); !errors.Is(err, state.ErrPrecondition) {
			t.Errorf("patched after the end: %v", err)
		}
		back, err := docs.Patch(t.Context(), request(k, absent), []byte(`{"n":3}`))
		if err != nil || !back.Created || back.Version.Number != deleted.Version.Number+1 {
			t.Errorf("made again: %+v %v", back, err)
		}
	})
}

// Operations of the ledger and on documents share batches; each gets its own answer, and what they write does not depend on it.
func TestBatchesOfBoth(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, r *rig) {
		const n = 150
		var all sync.WaitGroup
		for round := range 3 {
			for i := range n {
				all.Go(func() {
					when := absent
					if round > 0 {
						when = exists
					}
					body := fmt.Sprintf(`{"round":%d,"fill":%q}`, round, strings.Repeat("x", i*(round+1)*100))
					if _, err := r.docs[i%2].Put(t.Context(), request(key(fmt.Sprint("d", i)), when), []byte(body)); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
				all.Go(func() {
					_, err := r.a.Ledger.CreditLot(t.Context(), ledger.Caller{Key: fmt.Sprint("credit", round)}, ledger.CreditLot{
						Owner: fmt.Sprint("o", i), IssueRef: fmt.Sprint("r", round), Source: "test", ExpiresAt: time.Now().Add(time.Hour),
						Amount: ledger.Money{Amount: 5, Currency: "CNY"},
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		for i := range n {
			want := fmt.Sprintf(`{"round":2,"fill":%q}`, strings.Repeat("x", i*3*100))
			if got := r.row(key(fmt.Sprint("d", i))); string(got.Body) != want {
				t.Errorf("document %d has %d bytes, want %d", i, len(got.Body), len(want))
			}
			if owner, err := r.a.Ledger.Owner(t.Context(), fmt.Sprint("o", i)); err != nil || owner.Balances[0].Available != 15 {
				t.Errorf("owner %d: %+v %v", i, owner, err)
			}
		}
	})
}

// Many callers at two instances make the same document: one of them does.
func TestMadeOnce(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, r *rig) {
		var made, refused atomic.Int64
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				_, err := r.docs[i%2].Put(t.Context(), request(key("a"), absent), []byte(`{}`))
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, state.ErrPrecondition):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 || refused.Load() != 39 {
			t.Errorf("made %d times, refused %d times", made.Load(), refused.Load())
		}
	})
}

func TestKinds(t *testing.T) {
	t.Parallel()
	r := newRig(t, instance.Shard{Name: "s1", File: filepath.Join(t.TempDir(), "s1.db")})
	ctx := t.Context()
	declare := func(name, schema string, bytes int) error {
		_, err := r.a.Kinds.Declare(ctx, name, state.Spec{Schema: []byte(schema), MaxBytes: bytes})
		return err
	}
	for name, schema := range map[string]string{
		"not-json":    `{`,
		"not-schema":  `{"type":"nonsense"}`,
		"outside":     `{"$ref":"file:///etc/passwd"}`,
		"bad-pattern": `{"pattern":"("}`,
		"no-target":   `{"$ref":"#/$defs/none"}`,
		"Upper":       `{}`,
		"large":       `{"description":"` + strings.Repeat("x", 70_000) + `"}`,
	} {
		if err := declare(name, schema, 0); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	user := `{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"age":{"minimum":0}}}`
	if err := declare("user", user, 40); err != nil {
		t.Fatal(err)
	}
	u := state.Key{Kind: "user", ID: "u1"}
	_, err := r.docs[0].Put(ctx, request(u, absent), []byte(`{"age":-1,"name":7}`))
	if invalid, ok := errors.AsType[*state.Invalid](err); !ok || len(invalid.Problems) != 2 {
		t.Errorf("two things are wrong: %v", err)
	}
	long := `{"name":"` + strings.Repeat("x", 40) + `"}`
	if _, err := r.docs[0].Put(ctx, request(u, absent), []byte(long)); !errors.Is(err, state.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := r.docs[0].Put(ctx, request(u, absent), []byte(`{"name":"Ann"}`)); err != nil {
		t.Fatal(err)
	}
	// What a patch makes is judged too, and a refusal leaves its key unused.
	wrong := request(u, exists)
	if _, err := r.docs[0].Patch(ctx, wrong, []byte(`{"name":null}`)); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("a patch that breaks the schema: %v", err)
	}
	if _, err := r.docs[0].Patch(ctx, wrong, []byte(`{"age":3}`)); err != nil {
		t.Errorf("the key of a refused patch: %v", err)
	}
	if _, err := r.docs[0].Put(ctx, request(state.Key{Kind: "unknown", ID: "x"}, absent), []byte(`{}`)); !errors.Is(err, state.ErrNoKind) {
		t.Errorf("an unknown kind: %v", err)
	}
	for range 1000 {
		if kind, err := r.b.Kinds.Get("user"); err == nil && kind.MaxBytes == 40 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the other instance does not hear of the kind")
}

// Merge follows the examples of RFC 7396 for objects.
func TestMerge(t *testing.T) {
	t.Parallel()
	for _, example := range []struct{ document, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"n":12345678901234567890.5}`, `{"t":"<&>"}`, `{"n":12345678901234567890.5,"t":"<&>"}`},
	} {
		got, err := state.Merge([]byte(example.document), []byte(example.patch))
		if err != nil || string(got) != example.want {
			t.Errorf("%s with %s gives %s (%v), want %s", example.document, example.patch, got, err, example.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"1.7": true, "1.0": false, "0.1": false, "01.7": false, "1.7.2": false, "": false, "a.b": false, "1.9007199254740993": false,
	} {
		if v, ok := state.ParseVersion(text); ok != good || ok && v.String() != text {
			t.Errorf("%q: %s %t", text, v, ok)
		}
	}
	for k, good := range map[state.Key]bool{
		{Kind: "product", ID: "sku-1@berlin"}: true, {Kind: "product", ID: ""}: false, {Kind: "product", ID: "a/b"}: false,
		{Kind: "product", ID: "a\x00b"}: false, {Kind: "Product", ID: "a"}: false, {Kind: "", ID: "a"}: false,
		{Kind: "product", ID: strings.Repeat("x", 56)}: true, {Kind: "product", ID: strings.Repeat("x", 57)}: false,
		{Kind: "product", ID: strings.Repeat("x", 4096)}: false,
	} {
		if err := k.Check(); (err == nil) != good {
			t.Errorf("%.80s: %v", k, err)
		}
	}
}
