package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
)

// stopped feeds a consumer until it has a row, and leaves it there.
func (r *rig) stopped(m *memory) {
	r.Helper()
	tailer, stop := r.tail(r.config(m))
	r.started(tailer)
	r.write(100, 1)
	r.eventually("the first row has come", func() bool { return m.has(100, 1) })
	stop()
}

// A consumer whose place in the logs was removed starts anew, and then gets what comes after. The tables that it reads then show
// what it has missed.
func TestPurgedLogs(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.Start(t, mariadb.Options{}))
	m := newMemory()
	r.stopped(m)
	r.write(1, 1)
	r.exec("FLUSH BINARY LOGS")
	r.write(1, 2)
	r.exec("FLUSH BINARY LOGS")
	var last, ignored string
	r.must(r.db.QueryRowContext(t.Context(), "SHOW MASTER STATUS").Scan(&last, &ignored, &ignored, &ignored))
	time.Sleep(50 * time.Millisecond) // the server still has the old one open for a moment
	r.exec("PURGE BINARY LOGS TO '" + last + "'")

	seen := 0
	m.reset = func(g Gap) error {
		if g.Reason == ReasonPurged && (g.After == "" || g.Position == "" || g.After == g.Position) {
			t.Errorf("the gap is %+v", g)
		}
		return r.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM log WHERE writer=1").Scan(&seen)
	}
	_, _ = r.tail(r.config(m))
	r.eventually("the consumer has started anew", func() bool { return m.resets() == 2 })
	r.write(1, 3)
	r.eventually("what comes after it is there", func() bool { return m.has(1, 3) })
	if got := m.reasons(); !slices.Equal(got, []Reason{ReasonNew, ReasonPurged}) || seen < 2 || m.has(1, 1) || m.has(1, 2) {
		t.Errorf("started anew for %v, saw %d rows in the table, and had %v", got, seen, m.rows())
	}
	if r.alarms.count(AlarmPurged) == 0 {
		t.Error("nobody was told")
	}
}

// A consumer that cannot start anew stays where it was, and is asked again.
func TestResetIsRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	fails := 2
	m.reset = func(Gap) error {
		if fails--; fails >= 0 {
			return errConsumer
		}
		return nil
	}
	_, _ = r.tail(r.config(m))
	r.eventually("the consumer has started", func() bool { return m.resets() == 1 })
	r.write(1, 1)
	r.eventually("a row has come", func() bool { return m.has(1, 1) })
}

// What is committed while a consumer starts anew is in the tables that it reads, or comes afterwards, or both.
func TestNothingIsLostBesideAReset(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	seen := map[int]int{}
	m.reset = func(Gap) error {
		time.Sleep(20 * time.Millisecond)
		for w := range 4 {
			var n int
			if err := r.db.QueryRowContext(context.Background(), "SELECT COUNT(*) FROM log WHERE writer=?", w).Scan(&n); err != nil {
				return err
			}
			seen[w] = n
		}
		time.Sleep(20 * time.Millisecond)
		return nil
	}
	done := r.writers(r.db, 4, 0)
	time.Sleep(100 * time.Millisecond)
	_, _ = r.tail(r.config(m))
	time.Sleep(300 * time.Millisecond)
	acked := done()
	r.eventually("nothing is missing", func() bool {
		for w, n := range acked {
			next := seen[w] + 1
			for _, row := range m.rows() {
				if int(row[0]) != w || int(row[1]) < next {
					continue
				}
				if int(row[1]) > next {
					t.Fatalf("writer %d: the table had %d rows, and then came row %d", w, seen[w], row[1])
				}
				next++
			}
			if next <= n {
				return false
			}
		}
		return true
	})
	if seen[0] == 0 {
		t.Error("nothing was written before")
	}
}

// Whatever changes a wanted table without showing the rows makes the consumer start anew; what does not, does not.
func TestUnreadableChanges(t *testing.T) {
	t.Parallel()
	for i, one := range []struct {
		statements string
		hides      bool
	}{
		{"SET SESSION tx_isolation='SERIALIZABLE', binlog_format='STATEMENT'; INSERT INTO log VALUES (1,1,'')", true},
		{"SET SESSION tx_isolation='SERIALIZABLE', binlog_format='STATEMENT'; INSERT INTO unwanted VALUES (1)", false},
		{"SET SESSION binlog_row_image='MINIMAL'; UPDATE documents SET ver=ver+1", true},
		{"TRUNCATE TABLE log", true},
		{"/* by hand */ truncate documents", true},
		{"TRUNCATE TABLE unwanted", false},
		{"DROP TABLE log", true},
		{"RENAME TABLE documents TO others", true},
		{"ALTER TABLE documents ADD COLUMN more INT NOT NULL DEFAULT 7 FIRST, DROP COLUMN doc", false},
		{"CREATE INDEX more ON documents (ver)", false},
		{"DROP INDEX `PRIMARY` ON log", false},
		{"SET GLOBAL binlog_row_metadata='NO_LOG'; UPDATE documents SET ver=ver+1; SET GLOBAL binlog_row_metadata='FULL'", true},
		{"XA START 'x'; UPDATE documents SET ver=ver+1; XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'", true},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			server := testdb.MariaDB(t)
			if i == 11 { // it changes what all others see
				server = testdb.Start(t, mariadb.Options{})
			}
			r := newRig(t, server)
			r.exec("INSERT INTO documents VALUES (1,'a',1,'','')")
			m := newMemory()
			r.stopped(m)
			conn, err := r.db.Conn(t.Context())
			r.must(err)
			defer conn.Close()
			_, err = conn.ExecContext(t.Context(), one.statements)
			r.must(err)
			_, _ = r.tail(r.config(m))
			r.exec("CREATE TABLE IF NOT EXISTS log (writer INT, seq BIGINT, pad MEDIUMBLOB)")
			if one.hides {
				r.eventually("the consumer has started anew", func() bool { return m.resets() == 2 })
			}
			r.write(2, 1)
			r.eventually("what comes after it is there", func() bool { return m.has(2, 1) })
			if hidden := m.resets() == 2; hidden != one.hides || hidden != (r.alarms.count(AlarmUnreadable) > 0) {
				t.Errorf("%s: started anew for %v", one.statements, m.reasons())
			}
		})
	}
}

// Rows are read as the table was when they were written.
func TestTableChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	r.stopped(m)
	r.exec("INSERT INTO documents VALUES (1,'a',1,'','old')")
	r.exec("ALTER TABLE documents ADD COLUMN more INT UNSIGNED NOT NULL DEFAULT 4294967295 FIRST, CHANGE id name VARCHAR(64)")
	r.exec("UPDATE documents SET ver=2")
	r.exec("ALTER TABLE documents DROP COLUMN ver")
	_, _ = r.tail(r.config(m))
	r.write(2, 1)
	r.eventually("all has come", func() bool { return m.has(2, 1) })
	m.mu.Lock()
	defer m.mu.Unlock()
	made, changed := m.taken[m.order[1]][0], m.taken[m.order[2]][0]
	var id, name string
	var ver int64
	var more uint64
	r.must(made.After.Scan(Into{"id": &id, "ver": &ver}))
	r.must(changed.After.Scan(Into{"name": &name, "more": &more}))
	if id != "a" || name != "a" || ver != 1 || more != 4294967295 {
		t.Errorf("rows came as %+v and %+v", made, changed)
	}
}

// A row that somebody has changed by hand comes like any other, and raises an alarm.
func TestChangesByHand(t *testing.T) {
	t.Parallel()
	for statement, broken := range map[string]bool{
		"UPDATE documents SET doc='by hand'":            true,
		"UPDATE documents SET ver=ver-1":                true,
		"UPDATE documents SET ver=ver+1, doc='by hand'": false,
		"DELETE FROM documents":                         false,
		"UPDATE log SET pad='by hand' WHERE writer=100": true,
		"DELETE FROM log WHERE writer=100":              true,
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, testdb.MariaDB(t))
			r.exec("INSERT INTO documents VALUES (1,'a',5,'','')")
			m := newMemory()
			r.stopped(m)
			_, _ = r.tail(r.config(m))
			r.exec(statement)
			r.write(1, 1)
			r.eventually("all has come", func() bool { return m.has(1, 1) })
			r.eventually("the alarm is raised", func() bool { return r.alarms.count(AlarmUnversioned) > 0 == broken })
			m.mu.Lock()
			defer m.mu.Unlock()
			if c := m.taken[m.order[1]][0]; c.Unversioned != broken {
				t.Errorf("the change is %+v", c)
			}
		})
	}
}

// A position that the primary does not know is an alarm, and nothing else happens: neither is anything skipped nor begun anew.
func TestVanishedHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.Start(t, mariadb.Options{}))
	m := newMemory()
	r.stopped(m)
	var of GTID
	all, err := m.position.gtids()
	r.must(err)
	for _, of = range all {
		of.Seq += 1000
		all[of.Domain] = of
	}
	m.position = positionOf(all)
	tailer, stop := r.tail(r.config(m))
	r.eventually("the alarm is raised", func() bool { return r.alarms.count(AlarmVanished) > 0 })
	if m.resets() != 1 || tailer.Status().Err == nil {
		t.Errorf("started anew for %v; %+v", m.reasons(), tailer.Status())
	}
	stop()
	if m.position != positionOf(all) {
		t.Error("the position was moved")
	}
}

// A server whose logs would not show enough is refused, whatever it has logged before.
func TestSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.Start(t, mariadb.Options{Settings: []string{"binlog_row_metadata=NO_LOG"}}))
	tailer, _ := r.tail(r.config(newMemory()))
	r.eventually("the server is refused", func() bool { return errors.Is(tailer.Status().Err, errSettings) })
}

// Whoever has not the lease does nothing, and takes over when he gets it.
func TestLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, testdb.MariaDB(t))
	m := newMemory()
	cfg := r.config(m)
	asked := make(chan bool) // gets the answers
	cfg.Lead = func(ctx context.Context) bool {
		select {
		case answer := <-asked:
			return answer
		case <-ctx.Done():
			return false
		}
	}
	tailer, _ := r.tail(cfg)
	asked <- false
	if status := tailer.Status(); status.Leading || status.Epoch != 0 || m.resets() != 0 {
		t.Errorf("without the lease: %+v", status)
	}
	asked <- true
	r.started(tailer)
	asked <- false
	r.eventually("it has let go", func() bool { return tailer.Status().Epoch == 0 })
}
