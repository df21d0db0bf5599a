package register

import (
	"context"
	"errors"
	"testing"
	"time"
)

// shortTTL is as short as a session can be with the members' election timeout.
const shortTTL = time.Second

func beginSession(t *testing.T, e *Etcd, ttl time.Duration) *Session {
	t.Helper()
	s, err := e.NewSession(t.Context(), ttl)
	noError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) }) // it may have ended long ago
	return s
}

func campaign(t *testing.T, s *Session, value string) *Leadership {
	t.Helper()
	l, err := s.Campaign(t.Context(), "test", value)
	noError(t, err)
	return l
}

// campaigning campaigns in the background; the result comes once.
func campaigning(t *testing.T, s *Session, value string) <-chan *Leadership {
	t.Helper()
	elected := make(chan *Leadership, 1)
	go func() {
		defer close(elected)
		l, err := s.Campaign(t.Context(), "test", value)
		if err != nil {
			t.Error(err)
			return
		}
		elected <- l
	}()
	return elected
}

func awaitElected(t *testing.T, elected <-chan *Leadership) *Leadership {
	t.Helper()
	select {
	case l := <-elected:
		if l == nil {
			t.FailNow()
		}
		return l
	case <-time.After(etcdPatience):
		t.Fatal("nobody was elected")
		return nil
	}
}

// awaitGone waits until key is deleted.
func awaitGone(t *testing.T, e *Etcd, key string, rev int64) {
	t.Helper()
	if batch := nextBatch(t, e.Watch(t.Context(), key, rev)); len(batch) != 1 || !batch[0].Deleted {
		t.Fatalf("%s: %v", key, batch)
	}
}

// testSessionExpires lets the holder die: what he put goes, also over an older key, and the rest stays.
func testSessionExpires(t *testing.T, open func() *Etcd) {
	e, dying := open(), open()
	_, err := Put(t.Context(), e, "replaced", nil)
	noError(t, err)
	s := beginSession(t, dying, shortTTL)
	_, err = s.Put(t.Context(), "own", []byte("1"))
	noError(t, err)
	rev, err := s.Put(t.Context(), "replaced", []byte("1"))
	noError(t, err)
	_, err = Put(t.Context(), dying, "stays", nil)
	noError(t, err)
	time.Sleep(shortTTL + shortTTL/2) // it is renewed meanwhile
	list, _, err := e.List(t.Context(), "")
	noError(t, err)
	if len(list) != 3 {
		t.Fatalf("a session that lives has lost keys: %v", list)
	}
	noError(t, dying.Close())
	awaitGone(t, e, "replaced", rev)
	list, _, err = e.List(t.Context(), "")
	noError(t, err)
	if len(list) != 1 || list[0].Key != "stays" {
		t.Fatalf("after the session: %v", list)
	}
}

func testSessionCloses(t *testing.T, open func() *Etcd) {
	e := open()
	s := beginSession(t, e, time.Minute)
	_, err := s.Put(t.Context(), "k", nil)
	noError(t, err)
	_, err = s.Txn(t.Context(), Txn{If: []Cond{{Key: "k"}}, Then: []Op{{Key: "k"}}})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a condition that does not hold: %v", err)
	}
	noError(t, s.Close(t.Context()))
	noError(t, s.Close(t.Context()))
	ended(t, "a closed session", s.Done())
	if _, err := e.Get(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the session was closed: %v", err)
	}
	_, err = s.Put(t.Context(), "k", nil)
	if !errors.Is(err, ErrSessionLost) {
		t.Errorf("put with a session that is over: %v", err)
	}
	if _, err := s.Campaign(t.Context(), "test", ""); !errors.Is(err, ErrSessionLost) {
		t.Errorf("campaign with a session that is over: %v", err)
	}
	if _, err := e.NewSession(t.Context(), 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("a session of no time: %v", err)
	}
}

// testSessionRevoked takes the lease away behind its holder's back, as an operator may.
func testSessionRevoked(t *testing.T, open func() *Etcd) {
	e := open()
	s := beginSession(t, e, shortTTL)
	l := campaign(t, s, "a")
	_, err := e.client.Revoke(t.Context(), s.lease)
	noError(t, err)
	ended(t, "a leadership without session", l.Done())
	ended(t, "a revoked session", s.Done())
	_, err = s.Put(t.Context(), "k", nil)
	if !errors.Is(err, ErrSessionLost) {
		t.Errorf("put: %v", err)
	}
}

// testCampaigners lets three stand: one closes his session, one dies, the last one leads.
func testCampaigners(t *testing.T, open func() *Etcd) {
	e, dying := open(), open()
	first := beginSession(t, e, time.Minute)
	one := campaign(t, first, "one")
	elected := campaigning(t, beginSession(t, dying, shortTTL), "two")
	for { // the order of the others must be known
		list, _, err := e.List(t.Context(), leadersPrefix)
		noError(t, err)
		if len(list) == 2 {
			break
		}
	}
	last := campaigning(t, beginSession(t, e, time.Minute), "three")
	leader, err := e.Leader(t.Context(), "test")
	noError(t, err)
	if string(leader.Value) != "one" || leader.Key != one.Key() || leader.Rev != one.Rev() {
		t.Errorf("leader %+v, want %s at %d", leader, one.Key(), one.Rev())
	}
	select {
	case <-elected:
		t.Fatal("two lead")
	case <-last:
		t.Fatal("two lead")
	case <-one.Done():
		t.Fatal("deposed by nobody")
	case <-time.After(100 * time.Millisecond):
	}
	noError(t, first.Close(t.Context()))
	two := awaitElected(t, elected)
	noError(t, dying.Close())
	ended(t, "the leadership of the dead", two.Done())
	three := awaitElected(t, last)
	if three.Rev() <= two.Rev() {
		t.Errorf("revision %d after %d", three.Rev(), two.Rev())
	}
	noError(t, three.Resign(t.Context()))
	noError(t, three.Resign(t.Context()))
	if _, err := e.Leader(t.Context(), "test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the last has resigned: %v", err)
	}
}

// testDeposed deposes a leader whose session lives: the next one leads at once, and the guard stops the first.
func testDeposed(t *testing.T, open func() *Etcd) {
	e := open()
	old := campaign(t, beginSession(t, e, time.Minute), "old")
	elected := campaigning(t, beginSession(t, open(), time.Minute), "new")
	guarded := old.Guarded()
	rev, err := Put(t.Context(), guarded, "k", []byte("old"))
	noError(t, err)
	if _, err := Create(t.Context(), guarded, "k", nil); !errors.Is(err, ErrConflict) {
		t.Errorf("a condition that does not hold, of a leader: %v", err)
	}
	noError(t, e.Depose(t.Context(), "test"))
	ended(t, "a deposed leadership", old.Done())
	for name, txn := range map[string]Txn{
		"put":               {Then: []Op{{Key: "k", Value: []byte("late")}}},
		"condition holds":   {If: []Cond{{Key: "k", Rev: rev}}, Then: []Op{{Key: "k", Value: []byte("late")}}},
		"condition and all": {If: []Cond{{Key: "k"}}, Then: []Op{{Key: "k", Value: []byte("late")}}},
		"nothing to do":     {},
	} {
		if _, err := guarded.Txn(t.Context(), txn); !errors.Is(err, ErrDeposed) || errors.Is(err, ErrConflict) {
			t.Errorf("%s, by a deposed leader: %v", name, err)
		}
	}
	if entry, err := guarded.Get(t.Context(), "k"); err != nil || string(entry.Value) != "old" || entry.Rev != rev {
		t.Errorf("a deposed leader has written: %+v, %v", entry, err)
	}
	next := awaitElected(t, elected)
	_, err = next.Guarded().Txn(t.Context(), Txn{If: []Cond{{Key: "k", Rev: rev}}, Then: []Op{{Key: "k", Value: []byte("new")}}})
	noError(t, err)
	if _, err := next.Guarded().Txn(t.Context(), Txn{If: make([]Cond, MaxOps)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("as many conditions as without guard: %v", err)
	}
}

// testCampaignGivenUp ends the context of a candidate: he must not be elected when his turn comes.
func testCampaignGivenUp(t *testing.T, open func() *Etcd) {
	e := open()
	leader := beginSession(t, e, time.Minute)
	l := campaign(t, leader, "leader")
	s := beginSession(t, e, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Campaign(ctx, "test", "impatient"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	noError(t, l.Resign(t.Context()))
	if entry, err := e.Leader(t.Context(), "test"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("%+v leads and does not know it: %v", entry, err)
	}
	again := campaign(t, s, "patient")
	if _, err := s.Campaign(t.Context(), "test", "other"); !errors.Is(err, ErrConflict) {
		t.Errorf("a second candidacy of one session: %v", err)
	}
	if same := campaign(t, s, "patient"); same.Rev() != again.Rev() {
		t.Errorf("the same candidacy again has revision %d, not %d", same.Rev(), again.Rev())
	}
}

func testLeaderless(t *testing.T, open func() *Etcd) {
	e := open()
	if err := e.Depose(t.Context(), "test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("depose nobody: %v", err)
	}
	for _, name := range []string{"", "a/b", "a b"} {
		if err := e.Depose(t.Context(), name); !errors.Is(err, ErrInvalid) {
			t.Errorf("depose %q: %v", name, err)
		}
		if _, err := beginSession(t, e, time.Minute).Campaign(t.Context(), name, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("campaign for %q: %v", name, err)
		}
	}
}
