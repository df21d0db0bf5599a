package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of the nodes

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/internal/linear"
	"github.com/statesvc/statesvc/shard"
)

const (
	emptyPatience = 15 * time.Second // until nothing is undecided
	applyPatience = 30 * time.Second // until a replica has applied what it has received
	pollEvery     = 100 * time.Millisecond
)

// checkRegister looks for what must not be left behind.
func (w *world) checkRegister(ctx context.Context) error {
	for _, prefix := range []string{"undecided/", "blocks/"} {
		left := ""
		err := w.await(ctx, emptyPatience, pollEvery, func(ctx context.Context) bool {
			entries, _, err := w.reg.List(ctx, prefix)
			left = ""
			for _, e := range entries {
				left += " " + e.Key
			}
			return err == nil && left == ""
		})
		if err != nil {
			w.violate("%s is left in the register:%s", prefix, left)
		}
	}
	for _, number := range w.shards() {
		r, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		if r.Suspended != "" || r.Stuck != "" {
			w.violate("shard %d: suspended %q, stuck %q", number, r.Suspended, r.Stuck)
		}
	}
	return nil
}

// checkNodes compares what clients were told with the primaries, and the replicas with them.
func (w *world) checkNodes(ctx context.Context, l *load) error {
	entry, err := w.reg.Get(ctx, shard.MapKey)
	if err != nil {
		return fmt.Errorf("read the shard map: %w", err)
	}
	m, err := shard.DecodeMap(entry.Value)
	if err != nil {
		return err
	}
	for _, number := range w.shards() {
		record, err := w.record(ctx, number)
		if err != nil {
			return err
		}
		if err := w.checkPrimary(ctx, l, record, func(owner string) bool {
			on, _ := m.Lookup(shard.BucketOf(owner))
			return on == number
		}); err != nil {
			return fmt.Errorf("%s: %w", record.Primary, err)
		}
		for _, name := range slices.Sorted(maps.Keys(record.Nodes)) {
			if err := w.checkNode(ctx, record, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (w *world) checkPrimary(ctx context.Context, l *load, record failover.Record, ours func(string) bool) error {
	db, err := sql.Open("mysql", w.state.DSN(record.Primary))
	if err != nil {
		return err
	}
	defer db.Close()
	for _, h := range l.histories {
		if ours(h.owner) {
			if err := w.checkRows(ctx, db, h); err != nil {
				return err
			}
		}
	}
	var wrong int
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM lots WHERE issued<>available+held+spent+expired+revoked").Scan(&wrong)
	if wrong > 0 {
		w.violate("%s has %d lots that do not add up", record.Primary, wrong)
	}
	return err
}

// checkRows compares the operations and lots of an owner with what was sent and acknowledged.
func (w *world) checkRows(ctx context.Context, db *sql.DB, h *history) error {
	verdicts, err := column(ctx, db, "SELECT op_key, verdict FROM operations WHERE bucket=? AND owner=?", h.owner)
	if err != nil {
		return err
	}
	lots, err := column(ctx, db, "SELECT issue_ref, COUNT(*) FROM lots WHERE bucket=? AND owner=? GROUP BY issue_ref", h.owner)
	if err != nil {
		return err
	}
	sent := map[string]bool{}
	for _, d := range h.dones {
		sent[d.Key] = true
		_, credited := lots[d.Key]
		switch {
		case d.acknowledged() && (verdicts[d.Key] != "DONE" || d.Kind == linear.Credit && !credited):
			w.lose("%s of %s under %s was acknowledged; the primary has %q", d.Kind, h.owner, d.Key, verdicts[d.Key])
		case credited && lots[d.Key] != "1":
			w.duplicate("credit of %s under %s has made %s lots", h.owner, d.Key, lots[d.Key])
		case d.outcome.Code != "" && (verdicts[d.Key] == "DONE" || credited):
			w.contradict("%s of %s under %s was refused as %s, and was done", d.Kind, h.owner, d.Key, d.outcome.Code)
		}
	}
	for _, key := range append(slices.Collect(maps.Keys(verdicts)), slices.Collect(maps.Keys(lots))...) {
		if !sent[key] {
			w.soil("%s has %s, which nobody has sent", h.owner, key)
		}
	}
	return nil
}

// column reads pairs of texts of an owner.
func column(ctx context.Context, db *sql.DB, query, owner string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, query, shard.BucketOf(owner), owner)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	pairs := map[string]string{}
	for rows.Next() {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		pairs[key] = value
	}
	return pairs, rows.Err()
}

// checkNode waits for a replica to apply what it has received; then it must have what the primary has.
func (w *world) checkNode(ctx context.Context, record failover.Record, name string) error {
	db, err := sql.Open("mysql", w.state.DSN(name))
	if err != nil {
		return err
	}
	defer db.Close()
	var differing []string
	var epoch uint64
	var readOnly bool
	if w.await(ctx, applyPatience, time.Second, func(ctx context.Context) bool {
		differing, err = cluster.Differing(ctx, w.state.DSN(record.Primary), w.state.DSN(name))
		return err == nil && len(differing) == 0
	}) != nil {
		w.soil("%s does not have what primary %s has: %s; %v", name, record.Primary, strings.Join(differing, ", "), err)
	}
	err = db.QueryRowContext(ctx, "SELECT epoch, @@global.read_only FROM fence WHERE id=1").Scan(&epoch, &readOnly)
	if err == nil && (epoch != record.Epoch || readOnly == (name == record.Primary)) {
		w.violate("%s has epoch %d and read_only %t; the record has epoch %d and primary %s", name, epoch, readOnly, record.Epoch, record.Primary)
	}
	soiled := 0
	soilErr := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM clock WHERE source='chaos'").Scan(&soiled)
	if soiled > 0 {
		w.soil("%s has what was written to a primary of an old epoch", name)
	}
	return errors.Join(err, soilErr)
}

// soilPrimary tries to write to a primary of an old epoch like an instance that has not heard of the new one. It must not be told that
// this was done, and the row must be nowhere when the node is back.
func (w *world) soilPrimary(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, dirtyTime)
	defer cancel()
	db, err := sql.Open("mysql", w.state.DSN(name))
	if err != nil {
		w.violate("%v", err)
		return
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "INSERT INTO clock (source, at) VALUES ('chaos', 1)"); err == nil {
		w.soil("%s, which is a primary no more, has acknowledged a write", name)
	}
}

// tell sends a statement to a database that a person might send. What comes of it does not matter: the database may have gone.
func (w *world) tell(name, statement string) {
	ctx, cancel := context.WithTimeout(context.Background(), tellPatience)
	defer cancel()
	db, err := sql.Open("mysql", w.state.OperatorDSN(name))
	if err != nil {
		w.violate("%v", err)
		return
	}
	defer db.Close()
	_, _ = db.ExecContext(ctx, statement)
}

// lockTables keeps a database from writing anything, as a backup that locks does.
func (w *world) lockTables(name string, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), tellPatience+d)
	defer cancel()
	db, err := sql.Open("mysql", w.state.OperatorDSN(name))
	if err != nil {
		w.violate("%v", err)
		return
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return // it is just being started
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK"); err == nil {
		_ = pause(ctx, d)
		_, _ = conn.ExecContext(ctx, "UNLOCK TABLES")
	}
}

const tellPatience = 5 * time.Second
