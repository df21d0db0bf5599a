package failover

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/statesvc/statesvc/register"
)

const (
	hostEvery        = 5 * time.Second // the report is written again, with the free disk space of now
	ownConnections   = 2               // of an agent to its database: one that looks while another one waits
	ownSettings      = "?timeout=1s&readTimeout=2s&writeTimeout=1s"
	sessionPatience  = 2 * time.Second
	farewellPatience = time.Second
)

// reporter keeps hosts/<node> as the agent wants it, for as long as the register can be reached.
type reporter struct {
	open func(context.Context) (Session, error)
	key  string
	log  *slog.Logger
	now  func() time.Time

	changed chan struct{} // holds one
	mu      sync.Mutex
	host    Host
	folder  string
}

// set changes the report. It does not wait for the register.
func (r *reporter) set(change func(*Host)) {
	r.mu.Lock()
	before := r.host
	change(&r.host)
	same := before == r.host
	r.mu.Unlock()
	if same {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, then gives the session back, so that the report goes at once.
func (r *reporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		opening, cancel := context.WithTimeout(ctx, sessionPatience)
		session, err := r.open(opening)
		cancel()
		if err == nil {
			err = r.write(ctx, session)
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellPatience)
			_ = session.Close(ending) // else it ends by itself
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot report to the register", "error", err)
			_ = sleep(ctx, agentRetryEvery)
		}
	}
}

// write puts every change through one session, until that or ctx ends.
func (r *reporter) write(ctx context.Context, session Session) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, agentCallPatience)
		_, err := session.Put(attempt, r.key, encode(r.current()))
		cancel()
		if err != nil {
			return fmt.Errorf("write %s: %w", r.key, err)
		}
		select {
		case <-r.changed:
		case <-time.After(hostEvery):
		case <-session.Done():
			return fmt.Errorf("the session of %s has ended", r.key)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *reporter) current() Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	host := r.host
	host.At, host.Free = r.now(), freeBytes(r.folder)
	return host
}

// openOwn makes the pool over which an agent looks at its own database. Idle connections are few and die with the database.
func openOwn(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn + ownSettings)
	if err != nil {
		return nil, fmt.Errorf("parse the agent's DSN: %w", err)
	}
	cfg.Logger = &mysql.NopLogger{} // a database that is still starting is no news
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure the agent's pool: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(ownConnections)
	return db, nil
}

// bootID tells runs of the operating system apart; empty where there is none.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// freeBytes is what a file in the folder may still take; 0 if nobody knows.
func freeBytes(folder string) uint64 {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0
	}
	return s.Bavail * uint64(s.Bsize)
}

// encode writes what has no value that JSON could refuse.
func encode(value any) []byte {
	text, _ := json.Marshal(value)
	return text
}

// sleep ends with an error if ctx does first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hosts are what the agents say of their nodes, by the nodes' names.
func Hosts(ctx context.Context, reg register.Register) (map[string]Host, error) {
	entries, _, err := reg.List(ctx, hostsPrefix)
	if err != nil {
		return nil, fmt.Errorf("list the hosts: %w", err)
	}
	hosts := make(map[string]Host, len(entries))
	for _, entry := range entries {
		var host Host
		if err := json.Unmarshal(entry.Value, &host); err != nil {
			return nil, fmt.Errorf("read %s: %w", entry.Key, err)
		}
		hosts[lastPart(entry.Key)] = host
	}
	return hosts, nil
}
