package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// auditScene has units, money and coupons on two shards; each injection has one of its own.
type auditScene struct {
	quota    string // home on the first shard, slices on both, with units that are held and used
	hung     string // a quota with a transfer that is out and not in
	sender   string // of a packet, on the first shard
	grabber  string // of one share, on the second shard
	claimer  string // of one coupon
	campaign string
}

// shardInjections are drifts of one unit or one letter, as in injections, in what belongs to two shards or to no owner. The name after $
// is that of the scene's.
var shardInjections = []struct{ check, statement string }{
	{"quota", "UPDATE quotas SET total=total+1 WHERE quota=$quota"},
	{"quota", "UPDATE quotas SET free=free+1 WHERE quota=$quota"},
	{"quota", "UPDATE grants SET granted=granted+1 WHERE quota=$quota AND shard=2"},
	{"quota", "UPDATE grants SET granted=granted-1 WHERE quota=$quota AND shard=1"},
	{"quota", "UPDATE grants SET out_seq=out_seq+1 WHERE quota=$quota AND shard=2"},
	{"quota", "UPDATE slices SET available=available+1, granted=granted+1 WHERE quota=$quota AND shard=2"},
	{"quota", "UPDATE slices SET in_seq=in_seq-1 WHERE quota=$quota AND shard=2"},
	{"quota", "UPDATE slices SET currency='CNY' WHERE quota=$quota AND shard=2"},
	{"quota", "DELETE FROM slices WHERE quota=$quota AND shard=2"},
	{"quota", "DELETE FROM quotas WHERE quota=$quota"},
	{"quota", "DELETE FROM transfers WHERE quota=$hung"},
	{"quota", "UPDATE transfers SET amount=amount-1 WHERE quota=$hung"},
	{"quota", "UPDATE transfers SET seq=seq+1 WHERE quota=$hung"},
	{"late", "UPDATE transfers SET created_at=1 WHERE quota=$hung"},
	{"slice", "UPDATE slices SET available=available+1 WHERE quota=$quota AND shard=2"},
	{"slice", "UPDATE slices SET held=held+1, available=available-1 WHERE quota=$quota AND shard=2"},
	{"slice", "UPDATE slices SET used=-1, available=available+used+1 WHERE quota=$quota AND shard=2"},
	{"slice", "DELETE FROM hold_items WHERE quota=$quota"},
	{"units", "DELETE FROM hold_items WHERE quota=$quota"},
	{"units", "UPDATE hold_items SET amount=amount+1 WHERE quota=$quota"},
	{"units", "UPDATE hold_items SET expires_at=expires_at+1 WHERE quota=$quota"},
	{"sold", "UPDATE slices SET used=used+1, available=available-1 WHERE quota=$quota AND shard=2"},
	{"sold", "UPDATE slices SET used=used-1, available=available+1 WHERE quota=$quota AND shard=2"},
	{"sold", "UPDATE slices SET used=used-1, available=available+1 WHERE quota=$coupons AND used>0"},
	{"packet", "UPDATE packets SET total=total+1 WHERE owner=$sender"},
	{"packet", "UPDATE packets SET grabbed=grabbed+1 WHERE owner=$sender"},
	{"packet", "UPDATE packets SET taken=taken+1 WHERE owner=$sender"},
	{"packet", "UPDATE packets SET returned=1 WHERE owner=$sender"},
	{"packet", "UPDATE packets SET state='EMPTY' WHERE owner=$sender"},
	{"packet", "UPDATE packet_shares SET amount=amount+1 WHERE owner IS NULL AND number=4 AND packet_id IN (" + sentBySender + ")"},
	{"packet", "DELETE FROM packet_shares WHERE owner IS NULL AND number=4 AND packet_id IN (" + sentBySender + ")"},
	{"share", "UPDATE packet_shares SET owner='nobody' WHERE owner=$grabber"},
	{"share", "UPDATE lots SET issued=issued+1, available=available+1 WHERE owner=$grabber"},
	{"share", "DELETE FROM lots WHERE owner=$grabber"},
	{"late", "UPDATE packet_shares SET sent_at=1 WHERE owner=$grabber"},
	{"late", "UPDATE packets SET due_at=1 WHERE owner=$sender"},
	{"claims", "UPDATE usages SET used=used+1 WHERE owner=$claimer"},
	{"claims", "DELETE FROM usages WHERE owner=$claimer"},
	{"claims", "UPDATE usages SET coupon_id=(SELECT MIN(lot_id) FROM lots) WHERE owner=$claimer"},
	{"campaign", "UPDATE campaign_marks SET ver=ver+1 WHERE campaign_id=$campaign"},
	{"campaign", "UPDATE campaign_marks SET state='PAUSED' WHERE campaign_id=$campaign"},
	{"campaign", "UPDATE campaigns SET ver=ver+1, untold=0 WHERE campaign_id=$campaign"},
}

const sentBySender = "SELECT packet_id FROM packets WHERE owner=$sender"

// TestAuditorOfShards: while units, shares and coupons travel between shards there is no drift; a drift of one unit is found.
func TestAuditorOfShards(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			f := newFleet(t, e, 2)
			auditor := f.auditor(t)
			f.auditUnderLoad(t, auditor)
			scenes := make([]auditScene, len(shardInjections))
			var making sync.WaitGroup
			for i := range scenes {
				making.Go(func() { scenes[i] = f.scene(t) })
			}
			making.Wait()
			for i := range scenes {
				scenes[i].hung = f.hang(t) // by SQL, past the turns of a file's writers
			}
			pass, drift := auditOnce(t, auditor)
			if len(drift) != 0 || pass.Unread != 0 || min(pass.Quotas, pass.Packets, pass.Campaigns) == 0 {
				t.Fatalf("before any injection: %+v %v", pass, drift)
			}
			for i, in := range shardInjections {
				f.injectShards(t, in.statement, &scenes[i])
			}
			_, drift = auditOnce(t, auditor)
			for i, in := range shardInjections {
				name := scenes[i].named(in.statement)
				of := slices.DeleteFunc(slices.Clone(drift), func(d ledger.Drift) bool {
					return !strings.Contains(fmt.Sprint(d)+" ", name+" ")
				})
				if !slices.ContainsFunc(of, func(d ledger.Drift) bool { return d.Check == in.check }) {
					t.Errorf("%s: no drift of %q in %v", in.statement, in.check, of)
				}
			}
			if _, again := auditOnce(t, auditor); len(again) != len(drift) {
				t.Errorf("the second audit finds %d drifts and not %d: something was repaired", len(again), len(drift))
			}
		})
	}
}

// auditor is an auditor of all shards.
func (f *fleet) auditor(t testing.TB) *ledger.Auditor {
	t.Helper()
	cfg := f.auditorConfig(t)
	cfg.Shards = func() (numbers []int) {
		for i := range f.dbs {
			numbers = append(numbers, i+1)
		}
		return numbers
	}
	cfg.Primary = func(number int) (*shard.DB, error) { return f.dbs[number-1], nil }
	return ledger.NewAuditor(cfg)
}

func (s *auditScene) names() map[string]string {
	return map[string]string{
		"$quota": s.quota, "$hung": s.hung, "$sender": s.sender, "$grabber": s.grabber, "$claimer": s.claimer, "$campaign": s.campaign,
		"$coupons": ledger.CountID(s.campaign),
	}
}

// named is the name in the scene that a statement is about.
func (s *auditScene) named(statement string) string {
	for mark, name := range s.names() {
		if strings.Contains(statement, mark) {
			return name
		}
	}
	return ""
}

// scene makes owners, quotas, packets and campaigns of its own.
func (f *fleet) scene(t *testing.T) (s auditScene) {
	t.Helper()
	near, far := f.on(1), f.on(2)
	near.credit(t, 100, 48*time.Hour)
	sku := f.stock(t, 1, 100)
	s.quota = ledger.StockID(sku, "x")
	near.hold(t, stockOnly(near, pieces(sku, 1)))
	far.hold(t, stockOnly(far, pieces(sku, 3)))
	if err := far.confirm(t.Context(), far.ref(far.hold(t, stockOnly(far, pieces(sku, 2))))); err != nil {
		t.Fatal(err)
	}
	s.sender, s.grabber, s.claimer = near.owner, far.owner, far.owner
	_, packet := near.send(t, 100, 4, ledger.EqualSplit)
	far.share(t, packet)
	c := f.campaign()
	c.TotalLimit = 50
	s.campaign = f.create(t, c).CampaignID
	decodeClaim(t, far, s.campaign, "one")
	f.count(t, s.quota)
	return s
}

// hang returns a quota with a transfer to the second shard that is out and not in.
func (f *fleet) hang(t testing.TB) string {
	t.Helper()
	quota := ledger.StockID(f.stock(t, 1, 10), "x")
	minter := id.NewMinter(f.codec, time.Now)
	minter.Use(id.Grant{Node: 1000, Mark: time.Now().Add(time.Hour)})
	transfer := must(minter.Mint(id.Transfer, uint16(shard.BucketOf(quota)), 1))
	f.exec(t, "UPDATE quotas SET free=free-4, ver=ver+1 WHERE quota=?", quota)
	bucket := shard.BucketOf(quota)
	must(f.dbs[0].SQL().ExecContext(t.Context(),
		"INSERT INTO grants (bucket, quota, shard, granted, out_seq, in_seq, ver) VALUES (?, ?, 2, 4, 1, 0, 1)", bucket, quota))
	must(f.dbs[0].SQL().ExecContext(t.Context(), "INSERT INTO transfers (bucket, transfer_id, kind, quota, shard, seq, amount, currency, "+
		"created_at) VALUES (?, ?, 'GRANT', ?, 2, 1, 4, '', ?)", bucket, transfer[:], quota, time.Now().UnixMicro()))
	return quota
}

// injectShards runs a statement on all shards with the CHECKs of the schema switched off.
func (f *fleet) injectShards(t *testing.T, statement string, s *auditScene) {
	t.Helper()
	for mark, name := range s.names() {
		statement = strings.ReplaceAll(statement, mark, "'"+name+"'")
	}
	changed := int64(0)
	for _, db := range f.dbs {
		changed += unchecked(t, db, statement)
	}
	if changed == 0 {
		t.Fatalf("%s: it changes nothing", statement)
	}
}

// auditUnderLoad audits again and again while units, shares and coupons travel.
func (f *fleet) auditUnderLoad(t *testing.T, auditor *ledger.Auditor) {
	t.Helper()
	sku := f.stock(t, 1, 40)
	c := f.campaign()
	c.TotalLimit = 1_000_000
	campaign := f.create(t, c).CampaignID
	stopped := make(chan struct{})
	var writing sync.WaitGroup
	for i := range 6 {
		writing.Go(func() { f.travel(t, i, sku, campaign, stopped) })
	}
	for range 4 {
		if pass, drift := auditOnce(t, auditor); pass.Drift != 0 {
			t.Fatalf("drift while the service runs: %v", drift)
		}
	}
	close(stopped)
	writing.Wait()
}

// travelsMax ends the load on a machine that makes rows faster than it audits them.
const travelsMax = 25

// travel holds what is scarce, on one shard and then on the other, so that units always travel; grabs what it has sent itself; claims.
func (f *fleet) travel(t *testing.T, i int, sku, campaign string, stopped chan struct{}) {
	for n := range travelsMax {
		select {
		case <-stopped:
			return
		default:
		}
		a, b := f.on(1+(i+n)%2), f.on(2-(i+n)%2)
		if h, err := a.l.Hold(t.Context(), a.key(), stockOnly(a, pieces(sku, 7))); err == nil {
			ref := a.ref(decode[ledger.HoldReply](t, h, nil))
			if n%8 == 0 {
				_ = a.confirm(t.Context(), ref)
				_, _ = a.l.AdjustQuota(t.Context(), a.key(), ledger.AdjustQuota{Quota: ledger.StockID(sku, "x"), Delta: 7, Reason: "more"})
			} else {
				_ = a.cancel(t.Context(), ref)
			}
		}
		a.credit(t, 5, 48*time.Hour)
		_, packet := a.send(t, 5, 2, ledger.RandomSplit)
		b.share(t, packet)
		decodeClaim(t, b, campaign, "one")
	}
}
