package ledger_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// TestPackets runs on every engine, with three shards.
func TestPackets(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			f := newFleet(t, e, 3)
			for _, c := range packetSuite {
				t.Run(c.name, func(t *testing.T) {
					c.run(t, f)
					f.auditPackets(t)
				})
			}
		})
	}
}

var packetSuite = []struct {
	name string
	run  func(t *testing.T, f *fleet)
}{
	{"Lifecycle", testPacketLifecycle},
	{"Funding", testPacketFunding},
	{"C53GrabbedAtOnce", testGrabbedAtOnce},
	{"EmptyNeedsNoDatabase", testEmptyPacket},
	{"CutAtEachStep", testGrabCut},
	{"NamesOfShares", testNamesOfShares},
	{"Returns", testPacketReturns}, // the last one: it moves the clock by a day
}

// send makes a packet.
func (a as) send(t testing.TB, amount int64, shares int, mode ledger.PacketMode) (ledger.PacketBody, id.ID) {
	t.Helper()
	answer, err := a.l.CreatePacket(t.Context(), a.key(), ledger.CreatePacket{
		Owner: a.owner, PacketRef: a.key().Key, Amount: cny(amount), Shares: shares, Mode: mode,
	})
	body := decode[ledger.PacketReply](t, answer, err).Packet
	return body, must(a.codec.Parse(id.Packet, body.PacketID))
}

func (a as) grab(t testing.TB, packet id.ID) (ledger.Answer, error) {
	t.Helper()
	return a.l.Grab(t.Context(), a.key(), ledger.Grab{Owner: a.owner, PacketID: packet})
}

func (a as) share(t testing.TB, packet id.ID) ledger.ShareBody {
	t.Helper()
	answer, err := a.grab(t, packet)
	return decode[ledger.GrabReply](t, answer, err).Share
}

// auditPackets compares packets with their shares, and shares with the lots that they have become.
func (f *fleet) auditPackets(t *testing.T) {
	t.Helper()
	if n := f.sum(t, `SELECT COUNT(*) FROM packets p WHERE
		(SELECT SUM(s.amount) FROM packet_shares s WHERE s.bucket=p.bucket AND s.packet_id=p.packet_id)<>p.total OR
		(SELECT COALESCE(SUM(s.amount),0) FROM packet_shares s WHERE s.bucket=p.bucket AND s.packet_id=p.packet_id AND s.owner IS NOT NULL)
		<>p.grabbed`); n != 0 {
		t.Errorf("%d packets are not the sum of their shares", n)
	}
	in := f.sum(t, "SELECT COALESCE(SUM(amount),0) FROM packet_shares WHERE owner IS NOT NULL AND sent_at IS NULL") +
		f.sum(t, "SELECT COALESCE(SUM(returned),0) FROM packets")
	if lots := f.sum(t, "SELECT COALESCE(SUM(issued),0) FROM lots WHERE issue_ref LIKE '%#%'"); lots != in {
		t.Errorf("packets have given %d, lots have got %d", in, lots)
	}
}

func testPacketLifecycle(t *testing.T, f *fleet) {
	sender := f.on(1)
	sender.credit(t, 1000, 48*time.Hour)
	made, packet := sender.send(t, 10, 3, ledger.EqualSplit)
	if made.State != "OPEN" || made.Taken != 0 || made.ExpiresAt.Sub(made.CreatedAt) != ledger.PacketTTL {
		t.Errorf("%+v", made)
	}
	sender.wantMoney(t, 990, 0)
	for i, want := range []int64{4, 3, 3} {
		a := f.on(i + 1)
		key := a.key()
		first, err := a.l.Grab(t.Context(), key, ledger.Grab{Owner: a.owner, PacketID: packet})
		share := decode[ledger.GrabReply](t, first, err).Share
		if share.Amount.Amount != want || first.Pending {
			t.Errorf("share %d: %+v", i, share)
		}
		a.wantMoney(t, want, 0)
		again, err := a.l.Grab(t.Context(), key, ledger.Grab{Owner: a.owner, PacketID: packet})
		if err != nil || !again.Replayed || string(again.Body) != string(first.Body) {
			t.Errorf("the key again: %+v %v", again, err)
		}
		if other := a.share(t, packet); other != share {
			t.Errorf("another key: %+v, first %+v", other, share)
		}
		a.wantMoney(t, want, 0)
	}
	_, err := f.on(2).grab(t, packet)
	wantError(t, err, ledger.ErrSoldOut)
	read, err := sender.l.Packet(t.Context(), packet)
	if err != nil || read.State != "EMPTY" || read.Grabbed != 10 || read.Taken != 3 {
		t.Errorf("%+v %v", read, err)
	}
	shares, err := sender.l.PacketShares(t.Context(), packet)
	if err != nil || len(shares) != 3 || shares[0].State != "DONE" {
		t.Errorf("%+v %v", shares, err)
	}
	sender.wantKinds(t, map[string]int{"CREDITED": 1, "PACKET_MADE": 1, "PACKET_GRABBED": 3})
}

// The sender pays at once, with money that outlives the packet.
func testPacketFunding(t *testing.T, f *fleet) {
	a := f.on(2)
	a.credit(t, 100, time.Hour) // ends before the packet would
	a.credit(t, 50, 48*time.Hour)
	long := a.credit(t, 50, 72*time.Hour)
	request := ledger.CreatePacket{Owner: a.owner, PacketRef: "one", Amount: cny(101), Shares: 2, Mode: ledger.RandomSplit}
	_, err := a.l.CreatePacket(t.Context(), a.key(), request)
	wantError(t, err, ledger.ErrInsufficient)
	request.Amount = cny(60)
	key := a.key()
	first, err := a.l.CreatePacket(t.Context(), key, request)
	made := decode[ledger.PacketReply](t, first, err)
	if !first.Created || made.Balances[0].Available != 140 {
		t.Errorf("%+v", made)
	}
	if !made.Packet.LotsUntil.Before(long.Lot.ExpiresAt) {
		t.Errorf("the packet's money lives until %s", made.Packet.LotsUntil)
	}
	again, err := a.l.CreatePacket(t.Context(), a.key(), request)
	reply := decode[ledger.PacketReply](t, again, err)
	if !reply.AlreadyExists || again.Created || reply.Packet.PacketID != made.Packet.PacketID {
		t.Errorf("%+v", reply)
	}
	request.Shares = 3
	_, err = a.l.CreatePacket(t.Context(), a.key(), request)
	wantError(t, err, ledger.ErrKeyReused)
	a.wantMoney(t, 140, 0)
}

// Many owners of all shards grab at once on all instances, each several times.
func testGrabbedAtOnce(t *testing.T, f *fleet) {
	const shares, owners = 30, 90
	sender := f.on(3)
	sender.credit(t, 5000, 48*time.Hour)
	_, packet := sender.send(t, 5000, shares, ledger.RandomSplit)
	var mu sync.Mutex
	got := map[string]ledger.ShareBody{}
	lost := 0
	var all sync.WaitGroup
	for i := range owners {
		grabber := f.on(i%3 + 1)
		for range 2 {
			all.Go(func() {
				answer, err := grabber.grab(t, packet)
				mu.Lock()
				defer mu.Unlock()
				if code(err) == "sold-out" {
					lost++
					return
				}
				share := decode[ledger.GrabReply](t, answer, err).Share
				if before, again := got[grabber.owner]; again && before != share {
					t.Errorf("%s got %+v and %+v", grabber.owner, before, share)
				}
				got[grabber.owner] = share
			})
		}
	}
	all.Wait()
	var sum int64
	for owner, share := range got {
		sum += share.Amount.Amount
		as{&f.world, f.ledgers[0], owner}.wantMoney(t, share.Amount.Amount, 0)
	}
	if len(got) != shares || lost != 2*(owners-shares) || sum != 5000 {
		t.Errorf("%d winners of %d in all, %d refused", len(got), sum, lost)
	}
}

// counting counts the operations and reads that reach a store.
type counting struct {
	ledger.Store
	calls atomic.Int64
}

func (c *counting) Submit(ctx context.Context, op *shard.Op) shard.Reply {
	c.calls.Add(1)
	return c.Store.Submit(ctx, op)
}

func testEmptyPacket(t *testing.T, f *fleet) {
	sender := f.on(1)
	sender.credit(t, 10, 48*time.Hour)
	_, packet := sender.send(t, 10, 1, ledger.EqualSplit)
	winner := f.on(2)
	won := winner.share(t, packet)
	store := &counting{}
	l := f.wrapped(t, func(s ledger.Store) ledger.Store { store.Store = s; return store })
	grab := func(owner string) (ledger.Answer, error) {
		return l.Grab(t.Context(), f.key(), ledger.Grab{Owner: owner, PacketID: packet})
	}
	_, err := grab(f.owner())
	wantError(t, err, ledger.ErrSoldOut)
	before, recorded := store.calls.Load(), f.sum(t, "SELECT COUNT(*) FROM operations")
	for range 100 {
		_, err := grab(f.owner())
		wantError(t, err, ledger.ErrSoldOut)
	}
	if n := store.calls.Load() - before; n != 0 {
		t.Errorf("%d operations for 100 grabs of an empty packet", n)
	}
	if n := f.sum(t, "SELECT COUNT(*) FROM operations"); n != recorded {
		t.Errorf("%d records for grabs of an empty packet", n-recorded)
	}
	answer, err := grab(winner.owner)
	if share := decode[ledger.GrabReply](t, answer, err).Share; share != won {
		t.Errorf("the winner gets %+v, first %+v", share, won)
	}
}

// cutting ends the operations of one kind without an answer, before or after they are done.
type cutting struct {
	ledger.Store
	kind  string
	after bool
}

func (c *cutting) Submit(ctx context.Context, op *shard.Op) shard.Reply {
	if op.Kind != c.kind {
		return c.Store.Submit(ctx, op)
	}
	if c.after {
		c.Store.Submit(ctx, op)
	}
	return shard.Reply{Err: shard.ErrFailover}
}

// wrapped is one more instance, whose store is changed.
func (f *fleet) wrapped(t testing.TB, wrap func(ledger.Store) ledger.Store) *ledger.Ledger {
	t.Helper()
	f.started++
	open := func(r shard.Route) (*shard.DB, error) { return f.opens[r.Shard-1]() }
	cfg := f.world.instance(t, f.route, nil, uint16(f.started), nil, func(cfg *shard.StoreConfig) { cfg.Open = open })
	cfg.Store = wrap(cfg.Store)
	l := ledger.New(cfg)
	t.Cleanup(l.Close)
	return l
}

// An instance dies at each step of a grab's transfer: what it left, others finish, once.
func testGrabCut(t *testing.T, f *fleet) {
	for _, kind := range []string{"grab", "land-share", "close-share"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s-%t", kind, after), func(t *testing.T) {
				l := f.wrapped(t, func(s ledger.Store) ledger.Store { return &cutting{s, kind, after} })
				f.grabThrough(t, l, kind)
			})
		}
	}
}

// grabThrough grabs on an instance that dies under it.
func (f *fleet) grabThrough(t *testing.T, l *ledger.Ledger, kind string) {
	t.Helper()
	sender, grabber := f.on(1), f.on(2)
	sender.credit(t, 7, 48*time.Hour)
	_, packet := sender.send(t, 7, 1, ledger.EqualSplit)
	key := f.key()
	answer, err := l.Grab(t.Context(), key, ledger.Grab{Owner: grabber.owner, PacketID: packet})
	if kind == "grab" {
		wantError(t, err, shard.ErrFailover)
	} else if err != nil || !answer.Pending {
		t.Errorf("%+v %v", answer, err)
	}
	f.exec(t, "UPDATE packet_shares SET sent_at=1 WHERE sent_at IS NOT NULL") // long ago
	for range 2 {
		for number := range 3 {
			if err := f.ledgers[0].TendPackets(t.Context(), number+1); err != nil {
				t.Error(err)
			}
		}
	}
	again, err := grabber.l.Grab(t.Context(), key, ledger.Grab{Owner: grabber.owner, PacketID: packet})
	share := decode[ledger.GrabReply](t, again, err).Share
	if again.Pending || share.Amount.Amount != 7 || kind != "grab" && string(again.Body) != string(answer.Body) {
		t.Errorf("%+v, first %s", again, answer.Body)
	}
	grabber.wantMoney(t, 7, 0)
	if n := f.sum(t, "SELECT COUNT(*) FROM packet_shares WHERE sent_at IS NOT NULL"); n != 0 {
		t.Errorf("%d shares are on their way for ever", n)
	}
}

// Whatever a caller has credited, and under whichever reference: a share arrives.
func testNamesOfShares(t *testing.T, f *fleet) {
	sender, grabber := f.on(1), f.on(2)
	sender.credit(t, 7, 48*time.Hour)
	sent, packet := sender.send(t, 7, 1, ledger.EqualSplit)
	credit := func(ref string) error {
		_, err := grabber.l.CreditLot(t.Context(), grabber.key(), ledger.CreditLot{
			Owner: grabber.owner, IssueRef: ref, Source: "packet", Amount: cny(1), ExpiresAt: f.now(t).Add(time.Hour),
		})
		return err
	}
	if err := credit(sent.PacketID + "/1"); err != nil {
		t.Error(err)
	}
	if err := credit(sent.PacketID + "#1"); code(err) == "" {
		t.Error("a caller can take the name of a share")
	}
	grabber.share(t, packet)
	grabber.wantMoney(t, 8, 0)
}

// What nobody has grabbed within a day goes back to the sender, once.
func testPacketReturns(t *testing.T, f *fleet) {
	sender := f.on(1)
	sender.credit(t, 100, 48*time.Hour)
	_, packet := sender.send(t, 100, 4, ledger.RandomSplit)
	got := f.on(2).share(t, packet).Amount.Amount
	tend := func() {
		for range 3 {
			for _, l := range f.ledgers {
				if err := l.TendPackets(t.Context(), 1); err != nil {
					t.Error(err)
				}
			}
		}
	}
	f.advance(t, ledger.PacketTTL-time.Minute)
	tend()
	sender.wantMoney(t, 0, 0)
	f.advance(t, 2*time.Minute)
	_, err := f.on(3).grab(t, packet)
	wantError(t, err, ledger.ErrEnded)
	var all sync.WaitGroup
	for range 4 {
		all.Go(tend)
	}
	all.Wait()
	sender.wantMoney(t, 100-got, 0)
	read, err := sender.l.Packet(t.Context(), packet)
	if err != nil || read.State != "RETURNED" || read.Returned != 100-got {
		t.Errorf("%+v %v", read, err)
	}
	sender.wantKinds(t, map[string]int{"CREDITED": 1, "PACKET_MADE": 1, "PACKET_GRABBED": 1, "PACKET_RETURNED": 1})
}
