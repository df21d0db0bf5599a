package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/shard"
)

// row is what an INSERT sets, as SQL.
type row map[string]string

func (r row) with(other row) row {
	all := maps.Clone(r)
	maps.Copy(all, other)
	return all
}

// goodRows are rows that every table takes. What ends in _id, and the keys, is different in each wrong row.
var goodRows = map[string]row{
	"fence":        {"id": "1", "epoch": "1"},
	"bucket_owner": {"bucket": "1", "state": "'SERVING'"},
	"operations": {
		"bucket": "1", "owner": "'a'", "op_key": "'k'", "fingerprint": "x'01'", "verdict": "'DONE'", "epoch": "1", "decided_at": "1",
		"reply": "x''",
	},
	"owners": {
		"bucket": "1", "owner": "'a'", "ver": "1", "entry_seq": "0", "head": zeros(32), "live_holds": "0", "due_at": "0",
	},
	"coupons": {
		"bucket": "1", "owner": "'a'", "coupon_id": zeros(16), "campaign_id": "'c'", "issue_ref": "'r'", "state": "'AVAILABLE'", "ver": "1",
		"discount": "'FIXED'", "currency": "'CNY'", "amount": "5", "basis_points": "0", "cap": "0", "min_spend": "0", "valid_from": "1",
		"expires_at": "2", "issued_at": "1",
	},
	"lots": {
		"bucket": "1", "owner": "'a'", "lot_id": zeros(16), "issue_ref": "'r'", "source": "'s'", "tag": "''", "currency": "'CNY'", "live": "1",
		"issued": "10", "available": "4", "held": "6", "spent": "0", "expired": "0", "revoked": "0", "ver": "1", "expires_at": "2",
		"issued_at": "1",
	},
	"holds": {
		"bucket": "1", "hold_id": zeros(16), "owner": "'a'", "order_id": "'o'", "attempt": "1", "created_at": "1",
		"expires_at": "2",
	},
	"decided_holds": {
		"bucket": "1", "hold_id": zeros(16), "owner": "'a'", "state": "'CONFIRMED'", "created_at": "1",
		"expires_at": "2", "decided_at": "1",
	},
	"orders": {
		"bucket": "1", "owner": "'a'", "order_id": "'o'", "attempt": "1", "hold_id": zeros(16), "request_hash": zeros(16), "doc": "x'7b7d'",
	},
	"entries":     {"bucket": "1", "owner": "'a'", "seq": "1", "kind": "'ISSUED'", "at": "1", "doc": "x'7b7d'", "hash": zeros(32)},
	"clock":       {"source": "'a'", "at": "1"},
	"outbox":      {"first": "1", "events": "1", "at": "1", "doc": "x'5b5d'"},
	"outbox_head": {"id": "1", "last": "2", "trimmed": "1"},
	"deliveries":  {"webhook_id": "'w'", "position": "1"},
	"quotas":      {"bucket": "1", "quota": "'stock:a:b'", "currency": "''", "total": "10", "free": "4", "ver": "1"},
	"grants": {
		"bucket": "1", "quota": "'stock:a:b'", "shard": "1", "granted": "6", "out_seq": "1", "in_seq": "0", "ver": "1",
	},
	"slices": {
		"quota": "'stock:a:b'", "shard": "1", "currency": "''", "granted": "6", "available": "3", "held": "2", "used": "1", "taken": "0",
		"since_at": "1", "taken_at": "1", "out_seq": "0", "in_seq": "1", "ver": "1",
	},
	"transfers": {
		"bucket": "1", "transfer_id": zeros(16), "kind": "'GRANT'", "quota": "'stock:a:b'", "shard": "1", "seq": "1", "amount": "6",
		"currency": "''", "created_at": "1",
	},
	"hold_items": {
		"bucket": "1", "hold_id": zeros(16), "quota": "'stock:a:b'", "owner": "'a'", "amount": "2", "expires_at": "2",
	},
	"state": {
		"bucket": "1", "kind": "'k'", "id": "'a'", "era": "1", "ver": "1", "deleted": "0", "updated_at": "1", "doc": "x'7b7d'",
	},
}

func zeros(n int) string { return "x'" + strings.Repeat("00", n) + "'" }

// other are keys that no good row has, so that only the wrong value can be refused.
var other = map[string]row{
	"operations": {"op_key": "'other'"}, "owners": {"owner": "'b'"}, "entries": {"seq": "2"}, "orders": {"order_id": "'p'"},
	"coupons": {"coupon_id": ones, "issue_ref": "'other'"}, "lots": {"lot_id": ones, "issue_ref": "'other'"},
	"holds": {"hold_id": ones}, "decided_holds": {"hold_id": ones}, "fence": {}, "bucket_owner": {"bucket": "2"},
	"clock": {"source": "'b'"}, "outbox": {"first": "2"}, "outbox_head": {}, "deliveries": {"webhook_id": "'v'"},
	"quotas": {"quota": "'stock:a:c'"}, "grants": {"shard": "2"}, "slices": {"quota": "'stock:a:c'"},
	"transfers": {"transfer_id": ones, "shard": "2"}, "hold_items": {"hold_id": ones},
	"state": {"id": "'b'"},
}

const ones = "x'01010101010101010101010101010101'"

// wrongRows break one constraint each; see docs/invariants.md.
var wrongRows = []struct {
	name, table string
	wrong       row
}{
	{"I1 available", "lots", row{"available": "-1", "held": "11"}},
	{"I1 held", "lots", row{"held": "-1", "available": "11"}},
	{"I1 spent", "lots", row{"spent": "-1", "held": "7"}},
	{"I1 expired", "lots", row{"expired": "-1", "held": "7"}},
	{"I1 revoked", "lots", row{"revoked": "-1", "held": "7"}},
	{"I1 nothing issued", "lots", row{"issued": "0", "available": "0", "held": "0", "live": "0"}},
	{"I1 live holds", "owners", row{"live_holds": "-1"}},
	{"I1 version", "owners", row{"ver": "0"}},
	{"I1 sequence", "owners", row{"entry_seq": "-1"}},
	{"I2 too much", "lots", row{"spent": "1"}},
	{"I2 too little", "lots", row{"available": "3"}},
	{"a dead lot with money", "lots", row{"live": "0"}},
	{"a live lot without", "lots", row{"available": "0", "held": "0", "spent": "10"}},
	{"a held coupon without a hold", "coupons", row{"state": "'HELD'", "held_until": "2"}},
	{"a held coupon without an end", "coupons", row{"state": "'HELD'", "hold_id": ones}},
	{"a free coupon with a hold", "coupons", row{"hold_id": ones}},
	{"a used coupon without a hold", "coupons", row{"state": "'USED'"}},
	{"a used coupon with an end", "coupons", row{"state": "'USED'", "hold_id": ones, "held_until": "2"}},
	{"an unknown state of a coupon", "coupons", row{"state": "'LOST'"}},
	{"more than all", "coupons", row{"discount": "'PERCENT'", "basis_points": "10001"}},
	{"a hold that ends before it begins", "holds", row{"expires_at": "1"}},
	{"attempt 0", "holds", row{"attempt": "0"}},
	{"a decided hold that is live", "decided_holds", row{"state": "'HELD'"}},
	{"a quote of nothing", "operations", row{"quote_at": "1"}},
	{"an unknown verdict", "operations", row{"verdict": "'MAYBE'"}},
	{"entry 0", "entries", row{"seq": "0"}},
	{"a second fence", "fence", row{"id": "2"}},
	{"a bucket too many", "bucket_owner", row{"bucket": "16384"}},
	{"an unknown state of a bucket", "bucket_owner", row{"state": "'MINE'"}},

	{"a batch without events", "outbox", row{"events": "0"}},
	{"event 0", "outbox", row{"first": "0"}},
	{"a second head of the events", "outbox_head", row{"id": "2"}},
	{"a delivery before the first event", "deliveries", row{"position": "-1"}},
	{"failures below zero", "deliveries", row{"failures": "-1"}},

	{"two events of one sequence", "outbox", row{"first": "1"}},
	{"two deliveries of one webhook", "deliveries", row{"webhook_id": "'w'"}},
	{"I1 total", "quotas", row{"total": "-1", "free": "-1"}},
	{"I1 free", "quotas", row{"free": "-1"}},
	{"more free than there are", "quotas", row{"free": "11"}},
	{"I1 granted", "grants", row{"granted": "-1"}},
	{"no shard", "grants", row{"shard": "0"}},
	{"I1 available on a slice", "slices", row{"available": "-1", "held": "6"}},
	{"I1 held on a slice", "slices", row{"held": "-1", "available": "6"}},
	{"I1 used on a slice", "slices", row{"used": "-1", "available": "5"}},
	{"I2 too much on a slice", "slices", row{"available": "4"}},
	{"I2 too little on a slice", "slices", row{"held": "1"}},
	{"I1 nothing in transit", "transfers", row{"amount": "0"}},
	{"an unknown kind of transfer", "transfers", row{"kind": "'GIFT'"}},
	{"transfer 0", "transfers", row{"seq": "0"}},
	{"two transfers between two ends at once", "transfers", row{"shard": "1", "seq": "2"}},
	{"a slice twice", "slices", row{"quota": "'stock:a:b'"}},
	{"a hold of nothing", "hold_items", row{"amount": "0"}},

	{"I3 decided twice", "decided_holds", row{"hold_id": zeros(16), "state": "'CANCELLED'"}},
	{"a hold twice", "holds", row{"hold_id": zeros(16)}},
	{"I4 a key twice", "operations", row{"op_key": "'k'"}},
	{"I4 a coupon's reference twice", "coupons", row{"issue_ref": "'r'"}},
	{"I4 a lot's reference twice", "lots", row{"issue_ref": "'r'"}},
	{"I4 an order twice", "orders", row{"order_id": "'o'", "hold_id": ones}},
	{"a coupon's id with another owner", "coupons", row{"coupon_id": zeros(16), "owner": "'b'"}},
	{"a lot's id with another owner", "lots", row{"lot_id": zeros(16), "owner": "'b'"}},
	{"a second row of a writer's heartbeat", "clock", row{"source": "'a'"}},
	{"I8 an entry twice", "entries", row{"seq": "1"}},
	{"a document twice", "state", row{"id": "'a'"}},
	{"a document of no era", "state", row{"id": "'c'", "era": "0"}},
	{"a document of no version", "state", row{"id": "'c'", "ver": "0"}},
	{"a deleted document with a body", "state", row{"id": "'c'", "deleted": "1"}},
	{"a document without a body", "state", row{"id": "'c'", "doc": "x''"}},
	{"a document that is half deleted", "state", row{"id": "'c'", "deleted": "2", "doc": "x''"}},
}

// TestSchemaRefuses: what the rules never do, the schema does not take, on both engines.
func TestSchemaRefuses(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*shard.DB, error){
		"mariadb": func(t *testing.T) (*shard.DB, error) {
			server := testdb.MariaDB(t)
			return shard.OpenMariaDB(server.DSN(server.Schema(t)), time.Now)
		},
		"sqlite": func(t *testing.T) (*shard.DB, error) {
			return shard.OpenSQLite(filepath.Join(t.TempDir(), "shard.db"), time.Now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := migrations.Up(t.Context(), db.SQL(), db.Dialect.String()); err != nil {
				t.Fatal(err)
			}
			for table, good := range goodRows {
				if table == "fence" || table == "outbox_head" {
					continue // the migration has written its only row
				}
				if err := insert(t, db, table, good); err != nil {
					t.Fatalf("a good row of %s: %v", table, err)
				}
				if err := insert(t, db, table, good.with(other[table])); err != nil {
					t.Fatalf("another good row of %s: %v", table, err)
				}
				remove(t, db, table, other[table])
			}
			for _, c := range wrongRows {
				if err := insert(t, db, c.table, goodRows[c.table].with(other[c.table]).with(c.wrong)); err == nil {
					t.Errorf("%s: %s takes %v", c.name, c.table, c.wrong)
					remove(t, db, c.table, other[c.table])
				}
			}
		})
	}
}

func insert(t testing.TB, db *shard.DB, table string, r row) error {
	t.Helper()
	columns := slices.Sorted(maps.Keys(r))
	values := make([]string, len(columns))
	for i, column := range columns {
		values[i] = r[column]
	}
	_, err := db.SQL().ExecContext(t.Context(), fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table,
		strings.Join(columns, ", "), strings.Join(values, ", ")))
	return err
}

func remove(t testing.TB, db *shard.DB, table string, where row) {
	t.Helper()
	var conditions []string
	for column, value := range where {
		conditions = append(conditions, column+"="+value)
	}
	if _, err := db.SQL().ExecContext(t.Context(), "DELETE FROM "+table+" WHERE "+strings.Join(conditions, " AND ")); err != nil {
		t.Fatal(err)
	}
}

// TestCouponsChangeInPlace: pages that are full of coupons still have room when all of these are held, used and free again. A row that
// grows would split them, which costs a hold more than all else that the server does for its coupon.
func TestCouponsChangeInPlace(t *testing.T) {
	server := testdb.MariaDB(t)
	db, err := shard.OpenMariaDB(server.DSN(server.Schema(t)), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Up(t.Context(), db.SQL(), db.Dialect.String()); err != nil {
		t.Fatal(err)
	}
	good := goodRows["coupons"].with(row{"coupon_id": "UNHEX(LPAD(seq, 32, '0'))", "issue_ref": "seq"})
	columns := slices.Sorted(maps.Keys(good))
	values := make([]string, len(columns))
	for i, column := range columns {
		values[i] = good[column]
	}
	run := func(statement string) {
		t.Helper()
		if _, err := db.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	size := func() (bytes int64) {
		t.Helper()
		run("ANALYZE TABLE coupons")
		row := db.SQL().QueryRowContext(t.Context(),
			"SELECT data_length FROM information_schema.tables WHERE table_schema=DATABASE() AND table_name='coupons'")
		if err := row.Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	run(fmt.Sprintf("INSERT INTO coupons (%s) SELECT %s FROM seq_1_to_5000 ORDER BY seq",
		strings.Join(columns, ", "), strings.Join(values, ", ")))
	full := size()
	for _, change := range []string{
		"state='HELD', hold_id=" + ones + ", held_until=2", "state='USED', held_until=0", "state='AVAILABLE', hold_id=" + zeros(16),
	} {
		run("UPDATE coupons SET " + change)
		if got := size(); got != full {
			t.Errorf("%s: the table has %d bytes, before %d", change, got, full)
		}
	}
}
