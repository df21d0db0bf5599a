package access

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/statesvc/statesvc/register"
)

// waitMax is how long a test waits for what must happen. It is no promise of speed.
const waitMax = 10 * time.Second

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// counter is a source of bits that never repeats itself and is the same in every run.
type counter struct {
	mu sync.Mutex
	n  uint64
}

func (c *counter) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range p {
		block := sha256.Sum256(fmt.Append(nil, c.n))
		p[i] = block[0]
		c.n++
	}
	return len(p), nil
}

var bits = &counter{}

func openRegister(t testing.TB, path string) *register.File {
	t.Helper()
	reg, err := register.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

func openKeys(t testing.TB, path string, now func() time.Time) *Keys {
	t.Helper()
	keys, err := Open(t.Context(), openRegister(t, path), now, bits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	return keys
}

func atNoon() time.Time { return noon }

func newKeys(t testing.TB) *Keys {
	t.Helper()
	return openKeys(t, filepath.Join(t.TempDir(), "register"), atNoon)
}

func someSpec() Spec {
	return Spec{Name: "checkout", Scopes: ScopeRead | ScopeHold, Rate: Rate{PerSecond: 100, Burst: 200}}
}

func create(t testing.TB, keys *Keys, spec Spec) (Key, string) {
	t.Helper()
	key, token, err := keys.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return key, token
}

func TestCreateAndVerify(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	spec := someSpec()
	spec.ExpiresAt = noon.Add(time.Hour)
	key, token := create(t, keys, spec)
	if !strings.HasPrefix(token, "ss_"+key.ID+"_") {
		t.Fatalf("token %q of key %q", token, key.ID)
	}
	got, err := keys.Verify(token, noon)
	if err != nil {
		t.Fatal(err)
	}
	want := &Key{ID: key.ID, Spec: spec, CreatedAt: noon}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Error(diff)
	}
	if !got.Scopes.Has(ScopeHold) || got.Scopes.Has(ScopeAdmin) || got.Scopes.Has(ScopeHold|ScopeIssue) {
		t.Errorf("scopes %s", got.Scopes)
	}
	_, other := create(t, keys, someSpec())
	if other == token {
		t.Fatal("two keys have one token")
	}
}

// TestSecretIsNotStored reads the file of the register: neither token nor secret may be in it, in whatever spelling.
func TestSecretIsNotStored(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	key, token := create(t, keys, someSpec())
	entry, err := keys.reg.Get(t.Context(), "keys/"+key.ID)
	if err != nil {
		t.Fatal(err)
	}
	secret := token[len(token)-2*secretBytes:]
	if bytes.Contains(entry.Value, []byte(secret)) || bytes.Contains(entry.Value, []byte(secret[:16])) {
		t.Fatalf("the secret is in the register: %s", entry.Value)
	}
	if key.hash == [sha256.Size]byte{} {
		t.Fatal("no hash")
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	spec := someSpec()
	spec.ExpiresAt = noon.Add(time.Hour)
	key, token := create(t, keys, spec)
	_, other := create(t, keys, spec)
	tests := map[string]string{
		"empty":            "",
		"bearer":           "Bearer " + token,
		"space before":     " " + token,
		"space after":      token + " ",
		"newline":          token + "\n",
		"short":            token[:len(token)-1],
		"prefix":           "sk_" + token[3:],
		"upper case":       strings.ToUpper(token),
		"upper case hex":   token[:len(token)-64] + strings.ToUpper(token[len(token)-64:]),
		"other separator":  strings.Replace(token, key.ID+"_", key.ID+"-", 1),
		"unknown id":       "ss_0000000000000000_" + token[len(token)-64:],
		"other's secret":   token[:len(token)-64] + other[len(other)-64:],
		"no secret":        token[:len(token)-64] + strings.Repeat("0", 64),
		"not hexadecimal":  token[:len(token)-1] + "g",
		"id not a number":  "ss_" + strings.Repeat("z", 16) + token[19:],
		"three byte runes": strings.Repeat("€", len(token)/3),
	}
	for name, bad := range tests {
		if key, err := keys.Verify(bad, noon); !errors.Is(err, ErrUnauthenticated) || key != nil {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
	if _, err := keys.Verify(token, noon.Add(time.Hour-1)); err != nil {
		t.Errorf("a nanosecond before the end: %v", err)
	}
	if _, err := keys.Verify(token, noon.Add(time.Hour)); !errors.Is(err, ErrExpired) || !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("at the end: %v", err)
	}
}

// TestEveryCharacter changes each character of a token: none of the results may open anything.
func TestEveryCharacter(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	_, token := create(t, keys, someSpec())
	for i := range token {
		for _, c := range []byte("0f_A \x00\xff") {
			if token[i] == c {
				continue
			}
			bad := token[:i] + string([]byte{c}) + token[i+1:]
			if _, err := keys.Verify(bad, noon); !errors.Is(err, ErrUnauthenticated) {
				t.Fatalf("%q instead of %q: %v", bad, token, err)
			}
		}
	}
}

func TestInvalidSpecs(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	tests := map[string]func(*Spec){
		"name":       func(s *Spec) { s.Name = "" },
		"long name":  func(s *Spec) { s.Name = strings.Repeat("n", 101) },
		"no scope":   func(s *Spec) { s.Scopes = 0 },
		"scope":      func(s *Spec) { s.Scopes = 1 << 7 },
		"no rate":    func(s *Spec) { s.Rate.PerSecond = 0 },
		"rate":       func(s *Spec) { s.Rate.PerSecond = rateMax + 1 },
		"no burst":   func(s *Spec) { s.Rate.Burst = 0 },
		"burst":      func(s *Spec) { s.Rate.Burst = burstMax + 1 },
		"ends now":   func(s *Spec) { s.ExpiresAt = noon },
		"ended once": func(s *Spec) { s.ExpiresAt = noon.Add(-time.Hour) },
	}
	for name, spoil := range tests {
		spec := someSpec()
		spoil(&spec)
		if _, _, err := keys.Create(t.Context(), spec); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list := keys.List(); len(list) != 0 {
		t.Errorf("left behind: %+v", list)
	}
}

func TestScopeNames(t *testing.T) {
	t.Parallel()
	for set := range scopesAll + 1 {
		again, err := ParseScopes(set.Names())
		if err != nil || again != set {
			t.Errorf("%s became %s: %v", set, again, err)
		}
	}
	if got := scopesAll.String(); got != "read,hold,issue,state,admin,events" {
		t.Errorf("all scopes: %s", got)
	}
	for _, bad := range [][]string{{"write"}, {"Read"}, {""}, {"read", "read"}} {
		if set, err := ParseScopes(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %s, %v", bad, set, err)
		}
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	key, token := create(t, keys, someSpec())
	name, scopes, rate, end := "renamed", ScopeAdmin, Rate{PerSecond: 1, Burst: 2}, noon.Add(time.Minute)
	got, err := keys.Update(t.Context(), key.ID, Patch{Name: &name, Scopes: &scopes, Rate: &rate, ExpiresAt: &end})
	if err != nil {
		t.Fatal(err)
	}
	want := Key{ID: key.ID, Spec: Spec{name, scopes, rate, end}, CreatedAt: noon}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Error(diff)
	}
	verified, err := keys.Verify(token, noon)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, *verified, cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Error(diff)
	}
	never := time.Time{}
	if got, err := keys.Update(t.Context(), key.ID, Patch{ExpiresAt: &never}); err != nil || !got.ExpiresAt.IsZero() || got.Name != name {
		t.Errorf("%+v, %v", got, err)
	}
	past, nothing := noon, ""
	for what, patch := range map[string]Patch{"expiry": {ExpiresAt: &past}, "name": {Name: &nothing}} {
		if _, err := keys.Update(t.Context(), key.ID, patch); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range []string{"0123456789abcdef", "", "../map", key.ID + "/x"} {
		if _, err := keys.Update(t.Context(), id, Patch{Name: &name}); !errors.Is(err, ErrNotFound) {
			t.Errorf("update %q: %v", id, err)
		}
	}
}

// TestExpiredLivesAgain renames an expired key, which must not fail for its expiry, and then prolongs it.
func TestExpiredLivesAgain(t *testing.T) {
	t.Parallel()
	now := noon
	keys := openKeys(t, filepath.Join(t.TempDir(), "register"), func() time.Time { return noon })
	keys.now = func() time.Time { return now }
	spec := someSpec()
	spec.ExpiresAt = noon.Add(time.Minute)
	key, token := create(t, keys, spec)
	now = noon.Add(time.Hour)
	name, later := "renamed", now.Add(time.Hour)
	if _, err := keys.Update(t.Context(), key.ID, Patch{Name: &name}); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(token, now); !errors.Is(err, ErrExpired) {
		t.Fatalf("renamed only: %v", err)
	}
	if _, err := keys.Update(t.Context(), key.ID, Patch{ExpiresAt: &later}); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(token, now); err != nil {
		t.Fatalf("prolonged: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	key, token := create(t, keys, someSpec())
	for range 2 {
		revoked, err := keys.Revoke(t.Context(), key.ID)
		if err != nil || !revoked.RevokedAt.Equal(noon) {
			t.Fatalf("%+v, %v", revoked, err)
		}
		if _, err := keys.Verify(token, noon); !errors.Is(err, ErrRevoked) || !errors.Is(err, ErrUnauthenticated) {
			t.Fatalf("verify: %v", err)
		}
	}
	name := "again"
	if _, err := keys.Update(t.Context(), key.ID, Patch{Name: &name}); !errors.Is(err, ErrRevoked) {
		t.Errorf("update: %v", err)
	}
	if got, err := keys.Get(key.ID); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := keys.Revoke(t.Context(), "0123456789abcdef"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := keys.Get("0123456789abcdef"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestOtherInstances(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "register")
	a, b := openKeys(t, path, atNoon), openKeys(t, path, atNoon)
	key, token := create(t, a, someSpec())
	eventually(t, func() bool { _, err := b.Verify(token, noon); return err == nil })
	if _, err := a.Revoke(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := b.Verify(token, noon); return errors.Is(err, ErrRevoked) })
	late := openKeys(t, path, atNoon)
	if _, err := late.Verify(token, noon); !errors.Is(err, ErrRevoked) {
		t.Errorf("opened later: %v", err)
	}
	if diff := cmp.Diff(a.List(), late.List(), cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Error(diff)
	}
}

// TestUnreadableEntry damages a key's entry: it opens nothing any more, but it can be seen and revoked.
func TestUnreadableEntry(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"empty":         "",
		"short hash":    `{"name":"n","sha256":"YQ==","scopes":["read"],"rate":{"per_second":1,"burst":1},"created_at":"2026-11-27T12:00:00Z"}`,
		"unknown scope": `{"name":"n","scopes":["everything"]}`,
		"unknown field": `{"name":"n","only_from":"10.0.0.0/8"}`,
	} {
		keys := newKeys(t)
		key, token := create(t, keys, someSpec())
		if _, err := register.Put(t.Context(), keys.reg, "keys/"+key.ID, []byte(value)); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { _, err := keys.Verify(token, noon); return errors.Is(err, ErrUnauthenticated) })
		if list := keys.List(); len(list) != 1 || list[0].ID != key.ID || list[0].Scopes != 0 {
			t.Errorf("%s: %+v", name, list)
		}
		if revoked, err := keys.Revoke(t.Context(), key.ID); err != nil || revoked.RevokedAt.IsZero() {
			t.Errorf("%s: %+v, %v", name, revoked, err)
		}
	}
}

// TestRegisterLost closes the register: known keys go on working, and the age of what is known grows.
func TestRegisterLost(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "register")
	reg := openRegister(t, path)
	keys, err := Open(t.Context(), reg, atNoon, bits)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	_, token := create(t, keys, someSpec())
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(token, noon); err != nil {
		t.Error(err)
	}
	if _, _, err := keys.Create(t.Context(), someSpec()); !errors.Is(err, register.ErrClosed) {
		t.Errorf("create: %v", err)
	}
	if age := keys.Age(noon.Add(time.Minute)); age != time.Minute {
		t.Errorf("age %s", age)
	}
	if _, err := Open(t.Context(), reg, atNoon, bits); !errors.Is(err, register.ErrClosed) {
		t.Errorf("open: %v", err)
	}
}

// TestCollision draws the id of a key that exists: the old key keeps its entry, and the new one gets another id.
func TestCollision(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	first := bytes.Repeat([]byte{1}, idBytes+secretBytes)
	second := slices.Concat(bytes.Repeat([]byte{1}, idBytes), bytes.Repeat([]byte{2}, secretBytes))
	third := bytes.Repeat([]byte{3}, idBytes+secretBytes)
	keys.random = bytes.NewReader(slices.Concat(first, second, third))
	a, tokenA := create(t, keys, someSpec())
	b, tokenB := create(t, keys, someSpec())
	if a.ID != "0101010101010101" || b.ID != "0303030303030303" {
		t.Fatalf("ids %s and %s", a.ID, b.ID)
	}
	for _, token := range []string{tokenA, tokenB} {
		if _, err := keys.Verify(token, noon); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := keys.Create(t.Context(), someSpec()); !errors.Is(err, io.EOF) {
		t.Errorf("no bits left: %v", err)
	}
	keys.random = bytes.NewReader(bytes.Repeat(first, idAttempts))
	if _, _, err := keys.Create(t.Context(), someSpec()); !errors.Is(err, register.ErrConflict) {
		t.Errorf("always the same bits: %v", err)
	}
}

func TestTooMany(t *testing.T) {
	t.Parallel()
	keys := newKeys(t)
	full := make(map[string]*Key, keysMax)
	for i := range keysMax {
		full[fmt.Sprintf("%016x", i)] = &Key{}
	}
	keys.byID.Store(&full)
	if _, _, err := keys.Create(t.Context(), someSpec()); !errors.Is(err, ErrTooMany) {
		t.Fatal(err)
	}
}

// TestConcurrent verifies while keys are made, changed and revoked. A key that is not touched must always open.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "register")
	instances := []*Keys{openKeys(t, path, atNoon), openKeys(t, path, atNoon)}
	_, token := create(t, instances[0], someSpec())
	eventually(t, func() bool { _, err := instances[1].Verify(token, noon); return err == nil })
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for _, keys := range instances {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := keys.Verify(token, noon); err != nil {
					t.Error(err)
					return
				}
			}
		})
		writers.Go(func() {
			for i := range 15 {
				key, mine, err := keys.Create(t.Context(), someSpec())
				if err != nil {
					t.Error(err)
					return
				}
				name := fmt.Sprint("n", i)
				if _, err := keys.Update(t.Context(), key.ID, Patch{Name: &name}); err != nil {
					t.Error(err)
				}
				if got, err := keys.Verify(mine, noon); err != nil || got.Name != name {
					t.Errorf("own change: %+v, %v", got, err)
				}
				if _, err := keys.Revoke(t.Context(), key.ID); err != nil {
					t.Error(err)
				}
				if _, err := keys.Verify(mine, noon); !errors.Is(err, ErrRevoked) {
					t.Errorf("own revocation: %v", err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func TestVerifyAllocatesNothing(t *testing.T) {
	keys := newKeys(t)
	_, token := create(t, keys, someSpec())
	if n := testing.AllocsPerRun(1000, func() { _, _ = keys.Verify(token, noon) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzToken checks that a token that is accepted has no other spelling, and that every token made is accepted.
func FuzzToken(f *testing.F) {
	f.Add("ss_0101010101010101_"+strings.Repeat("02", 32), []byte{1, 2, 3})
	f.Add("ss_0101010101010101-"+strings.Repeat("02", 32), []byte{})
	f.Add("Bearer ss_", []byte(nil))
	f.Fuzz(func(t *testing.T, token string, seed []byte) {
		if id, hash, ok := parseToken(token); ok {
			if len(token) != tokenLen || !validID(id) {
				t.Fatalf("accepted %q as %q", token, id)
			}
			secret := make([]byte, 0, secretBytes)
			for i := tokenLen - 2*secretBytes; i < tokenLen; i += 2 {
				high, _ := hexValue(token[i])
				low, _ := hexValue(token[i+1])
				secret = append(secret, high<<4|low)
			}
			if formatToken(id, secret) != token || sha256.Sum256(secret) != hash {
				t.Fatalf("%q has another spelling", token)
			}
		}
		secret := sha256.Sum256(seed)
		id, hash, ok := parseToken(formatToken(formatHex(secret[:idBytes]), secret[:]))
		if !ok || id != formatHex(secret[:idBytes]) || hash != sha256.Sum256(secret[:]) {
			t.Fatalf("a token of our own is refused: %x", secret)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	keys := newKeys(b)
	_, token := create(b, keys, someSpec())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Verify(token, noon); err != nil {
			b.Fatal(err)
		}
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(waitMax); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatal("not reached")
}
