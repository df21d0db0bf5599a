package instance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/netfault"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// sessions is a register's side of sessions: what is put goes with the session.
type sessions struct {
	mu   sync.Mutex
	keys map[string]string
	lost chan struct{} // of the newest session
	n    int
	away bool // nothing can be put
}

type session struct {
	*sessions
	done chan struct{}
}

func (s *sessions) open(context.Context) (instance.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.lost = map[string]string{}, make(chan struct{})
	s.n++
	return &session{s, s.lost}, nil
}

var errAway = errors.New("the register is away")

func (s *session) Put(_ context.Context, key string, value []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return 0, errAway
	}
	s.keys[key] = string(value)
	return 1, nil
}

func (s *session) Done() <-chan struct{} { return s.done }

func (s *session) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = nil
	return nil
}

func (s *sessions) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *sessions) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.lost)
}

func (s *sessions) held() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.keys)
}

// nodes writes the record of shard 1 as a controller does.
func nodes(t *testing.T, reg register.Register, epoch uint64, phase shard.Phase, primary string, of map[string]string) {
	t.Helper()
	record := shard.Record{Epoch: epoch, Phase: phase, Primary: primary, Nodes: map[string]shard.Node{}}
	for name, address := range of {
		record.Nodes[name] = shard.Node{Address: address}
	}
	value, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := register.Put(t.Context(), reg, shard.RecordKey(1), value); err != nil {
		t.Fatal(err)
	}
}

// An instance lives through failovers: it says what it is closed to, goes to where the record says the primary is, and its ledger
// has every credit that it acknowledged, once. Readers see no owner's history shrink, and no lot twice.
func TestInstanceFailsOver(t *testing.T) {
	t.Parallel()
	server := testdb.Start(t, mariadb.Options{})
	schema := server.Schema(t)
	proxies := map[string]*netfault.Proxy{"a": netfault.New(t, server.Addr()), "b": netfault.New(t, server.Addr())}
	where := map[string]string{"a": proxies["a"].Addr(), "b": proxies["b"].Addr()}
	reg := openRegister(t, t.TempDir())
	var said sessions
	in := open(t, reg, instance.Config{
		Shards: []instance.Shard{{Name: "s1", DSN: "app@tcp(" + where["a"] + ")/" + schema}}, ReadLease: shard.ReadLease,
		NewSession: said.open, Address: "here:1",
	})
	eventually(t, "the instance says that it is there", func() bool {
		return strings.Contains(said.held()["instances/test"], `"address":"here:1","started_at":"20`)
	})
	nodes(t, reg, 1, shard.PhaseServing, "a", where)
	eventually(t, "the instance knows the nodes", func() bool { // or the first failover would be the second change for some callers
		route, err := in.Routes.Shard(1)
		return err == nil && route.Node == "a"
	})

	stop := make(chan struct{})
	var callers sync.WaitGroup
	var credits [8]atomic.Int64
	for i := range credits {
		callers.Go(func() { creditUntil(t, in, stop, fmt.Sprint("user-", i), &credits[i]) })
		callers.Go(func() { readUntil(t, in, stop, fmt.Sprint("user-", i), &credits[i]) })
	}
	from, to := "a", "b"
	for epoch := uint64(2); epoch <= 5; epoch++ {
		time.Sleep(100 * time.Millisecond) // under load
		proxies[from].Down()
		nodes(t, reg, epoch, shard.PhaseFencing, from, where)
		eventually(t, "the instance is closed to the old epoch", func() bool {
			return said.held()[fmt.Sprintf("closed/1/%d/test", epoch)] != ""
		})
		nodes(t, reg, epoch, shard.PhasePromoting, to, where)
		server.Exec(t, fmt.Sprintf("UPDATE %s.fence SET epoch=%d", schema, epoch))
		nodes(t, reg, epoch, shard.PhaseServing, to, where)
		proxies[from].Up()
		from, to = to, from
	}
	close(stop)
	callers.Wait()
	for i := range credits {
		owner, err := in.Ledger.Owner(t.Context(), fmt.Sprint("user-", i))
		if n := credits[i].Load(); err != nil || len(owner.Balances) != 1 || owner.Balances[0].Available != n {
			t.Errorf("%s has %+v %v after %d credits", owner.Owner, owner.Balances, err, n)
		}
	}

	said.lose()
	eventually(t, "what is still true is said in the next session", func() bool {
		keys := said.held()
		return len(keys) == 2 && keys["instances/test"] != "" && keys["closed/1/5/test"] != ""
	})
}

// creditUntil credits one cent after the other. An owner of an undecided credit is blocked for a moment.
func creditUntil(t *testing.T, in *instance.Instance, stop <-chan struct{}, owner string, done *atomic.Int64) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := in.Ledger.CreditLot(ctx, ledger.Caller{Key: fmt.Sprint("k", n)}, ledger.CreditLot{
			Owner: owner, IssueRef: fmt.Sprint("r", n), Source: "test", ExpiresAt: time.Now().Add(time.Hour),
			Amount: ledger.Money{Amount: 1, Currency: "CNY"},
		})
		cancel()
		if err != nil {
			t.Errorf("credit %d of %s: %v", n, owner, err)
			return
		}
		done.Add(1)
	}
}

// readUntil reads what one caller writes: at least what he has heard of.
func readUntil(t *testing.T, in *instance.Instance, stop <-chan struct{}, owner string, done *atomic.Int64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		least := done.Load()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		verified, err := in.Ledger.VerifyHistory(ctx, owner)
		if err != nil || !verified.Intact || verified.Entries < least {
			t.Errorf("%s: %+v %v after %d credits", owner, verified, err, least)
		}
		lots, err := in.Ledger.Lots(ctx, owner, ledger.LotFilter{Limit: ledger.MaxPage})
		cancel()
		seen := map[string]bool{}
		for _, lot := range lots.Items {
			if seen[lot.LotID] {
				t.Errorf("lot %s is there twice", lot.LotID)
			}
			seen[lot.LotID] = true
		}
		if err != nil {
			t.Errorf("lots of %s: %v", owner, err)
		}
	}
}

// A primary that refuses connections is reported, and not at every attempt. What cannot be said now is said later.
func TestInstanceReportsADeadPrimary(t *testing.T) {
	t.Parallel()
	server := testdb.MariaDB(t)
	proxy := netfault.New(t, server.Addr())
	var said sessions
	in := open(t, openRegister(t, t.TempDir()), instance.Config{
		Shards:    []instance.Shard{{Name: "s1", DSN: "app@tcp(" + proxy.Addr() + ")/" + server.Schema(t)}},
		ReadLease: shard.ReadLease, NewSession: said.open,
	})
	eventually(t, "there is a session", func() bool { return said.held()["instances/test"] != "" })
	said.setAway(true)
	proxy.Down()
	if _, err := in.Ledger.Owner(t.Context(), "user-1"); !errors.Is(err, shard.ErrFailover) {
		t.Errorf("a dead primary was read: %v", err)
	}
	said.setAway(false)
	var report struct {
		What string
		At   time.Time
	}
	eventually(t, "it is reported", func() bool {
		return json.Unmarshal([]byte(said.held()["suspects/1/1/test"]), &report) == nil
	})
	if report.What != "refused" || time.Since(report.At) > patience {
		t.Errorf("reported as %+v", report)
	}
}

// The only node of a shard is where the configuration says; of several, the register says where they are.
func TestAddressesOfNodes(t *testing.T) {
	t.Parallel()
	server := testdb.MariaDB(t)
	reg := openRegister(t, t.TempDir())
	proxy := netfault.New(t, server.Addr())
	schema := server.Schema(t)
	shards := func(address string) []instance.Shard {
		return []instance.Shard{{Name: "s1", DSN: "app@tcp(" + address + ")/" + schema}}
	}
	there, away := shards(server.Addr()), shards(proxy.Addr())
	bootstrap := func(shards []instance.Shard) error {
		return instance.Bootstrap(t.Context(), reg, shards, time.Now, func(string) {})
	}
	if err := bootstrap(there); err != nil {
		t.Fatal(err)
	}
	entry, err := reg.Get(t.Context(), shard.RecordKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if record, err := shard.DecodeRecord(entry.Value); err != nil || record.Nodes["s1"].Address != server.Addr() {
		t.Errorf("the record is %+v %v", record, err)
	}
	proxy.Down()
	if err := bootstrap(away); err == nil {
		t.Error("the configuration names an address where nobody is, and it was not used")
	}
	nodes(t, reg, 1, shard.PhaseServing, "n1", map[string]string{"n1": server.Addr(), "n2": proxy.Addr()})
	in := open(t, reg, instance.Config{Shards: away}) // makes the cluster again, and opens it
	if _, err := in.Ledger.Owner(t.Context(), "user-1"); err != nil {
		t.Errorf("the register's address was not used: %v", err)
	}
}
