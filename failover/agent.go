package failover

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// The clocks of an agent.
const (
	restartPause      = 500 * time.Millisecond // after a death: a failover goes on meanwhile, and needs what a start takes from the machine
	agentRenewEvery   = time.Second            // the watch tells at once; this bounds what a lost watch costs
	agentCallPatience = time.Second            // of one call of the register or of the database
	agentRetryEvery   = 200 * time.Millisecond // while the register does not answer, or there is no order
	agentPingEvery    = 20 * time.Millisecond  // while the database starts
	isolationEvery    = 500 * time.Millisecond
	isolationLimit    = 3 * time.Second  // without register, after which a primary without a replica is ended
	shutdownPatience  = 20 * time.Second // of a clean end of a replica
	deathPatience     = 2 * time.Second  // to report a death when the agent itself is told to end
	shortLife         = 5 * time.Second  // a database that ends sooner is started again only after a pause
	pauseMax          = 5 * time.Second
	startIDBytes      = 6
	accessDenied      = 1045
)

// Marks in the folder of a database.
const (
	servedFile  = "served"  // it has belonged to a shard that has a record
	relaxedFile = "relaxed" // holds the boot id under which it may have left files unsynced
)

// ErrDeviation says that the database does not have the settings or the grants that a failover relies on.
var ErrDeviation = errors.New("the database is not set up as a failover needs it")

// AgentConfig says what an agent supervises.
type AgentConfig struct {
	Node    string
	Shard   int
	Zone    string
	Address string // host:port at which others reach the database
	Folder  string // holds data, socket and log

	Settings  []string                             // of mariadbd, "name=value"
	Script    string                               // run once, on an empty data directory: schema and accounts
	DSN       string                               // how the agent itself reaches its database
	Verify    func(context.Context, *sql.DB) error // compares settings and grants with what they should be
	FreeFloor uint64                               // bytes of free disk space without which the database is not started

	BackupListen  string        // host:port at which it gives copies to agents of its shard; empty: it neither gives nor takes any
	BackupAddress string        // the same as others reach it
	KeepOld       time.Duration // how long data that a rebuild has replaced are kept after the new ones came in sync

	Register    register.Register
	OpenSession func(context.Context) (Session, error)
	Now         func() time.Time
	Random      io.Reader
	Log         *slog.Logger
}

// Session is a lease in the register: what is put through it goes away with whoever put it.
type Session interface {
	Put(ctx context.Context, key string, value []byte) (rev int64, err error)
	Done() <-chan struct{} // closed when the lease has ended
	Close(ctx context.Context) error
}

// Agent is the only supervisor of one database process. It decides nothing: it starts the database when, and as what, the record
// of its shard says, ends it when the record says that its epoch is over, and reports what it sees.
//
// The database dies with its agent, whatever ends that (on Linux, by PR_SET_PDEATHSIG). So an agent that starts finds no
// database running, and never has to guess which start id another one was given; the price is that a crash of the agent
// of a primary is a failover.
type Agent struct {
	cfg    AgentConfig
	db     *sql.DB
	report *reporter
	mirror *register.Mirror

	changed chan struct{} // holds one: the record may have changed
	giving  sync.Mutex    // held by whoever copies the database

	failedStarts int // in a row; of Run alone

	mu      sync.Mutex
	record  *Record // the newest one seen; nil: the shard has none
	current *life   // nil: the database does not run
}

// life is one run of the database.
type life struct {
	startID   string
	role      Boot
	startedAt time.Time
	process   *scratch.Process
	opened    uint64 // epoch in which the record called this run the primary of a serving shard
	fenced    uint64 // epoch for which it was killed
}

// NewAgent checks the configuration. Run does the work.
func NewAgent(cfg AgentConfig) (*Agent, error) {
	if cfg.Node == "" || cfg.Shard < 1 || cfg.Address == "" || cfg.Folder == "" {
		return nil, errors.New("an agent needs a node, the number of its shard, an address and a folder")
	}
	db, err := openOwn(cfg.DSN)
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, db: db, changed: make(chan struct{}, 1)}
	a.report = &reporter{
		open: cfg.OpenSession, key: hostKey(cfg.Node), log: cfg.Log, now: cfg.Now, folder: cfg.Folder, changed: make(chan struct{}, 1),
		host: Host{Shard: cfg.Shard, Address: cfg.Address, Zone: cfg.Zone, BootID: bootID(), Doing: "starting"},
	}
	return a, nil
}

// Run supervises until ctx ends, or until it finds a database that must not run. Then the database has ended and its death is
// reported, if the register could be reached.
func (a *Agent) Run(ctx context.Context) error {
	defer a.db.Close()
	if err := a.prepare(ctx); err != nil {
		return err
	}
	if err := a.follow(ctx); err != nil {
		return err
	}
	defer a.mirror.Close()
	var reports sync.WaitGroup
	reporting, stop := context.WithCancel(context.WithoutCancel(ctx))
	reports.Go(func() { a.report.run(reporting) })
	defer reports.Wait()
	defer stop()
	closeBackups, err := a.serveBackups(ctx)
	if err != nil {
		return err
	}
	defer closeBackups()
	pause := time.Duration(0)
	for {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		role, record, err := a.awaitOrder(ctx)
		if err != nil {
			return err
		}
		if role == BootRebuild {
			a.rebuild(ctx, record)
			pause = 0
			continue
		}
		began := a.cfg.Now()
		if err := a.live(ctx, role); err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if pause = min(2*pause+agentRetryEvery, pauseMax); a.cfg.Now().Sub(began) > shortLife {
			pause = restartPause
		}
	}
}

// prepare makes the data directory the first time.
func (a *Agent) prepare(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.Folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of the database: %w", err)
	}
	if err := a.finishSwap(); err != nil {
		return err
	}
	if _, err := os.Stat(a.data()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(a.mark(servedFile)); err == nil {
		return nil // an empty database in its place would be one that has lost everything
	}
	a.cfg.Log.InfoContext(ctx, "making the data directory", "folder", a.data())
	return mariadb.Prepare(ctx, a.data(), a.cfg.Script)
}

func (a *Agent) data() string { return filepath.Join(a.cfg.Folder, "data") }

// follow begins to watch the record, as soon as the register answers.
func (a *Agent) follow(ctx context.Context) error {
	for told := false; ; told = true {
		attempt, cancel := context.WithTimeout(ctx, agentCallPatience)
		mirror, err := register.OpenMirror(attempt, a.cfg.Register, register.MirrorOptions{
			Prefix: shard.RecordKey(a.cfg.Shard), Now: a.cfg.Now, RenewEvery: agentRenewEvery, Changed: a.seen,
		})
		cancel()
		if err == nil {
			a.mirror = mirror
			return nil
		}
		if !told {
			a.cfg.Log.WarnContext(ctx, "waiting for the register", "error", err)
		}
		if err := sleep(ctx, agentRetryEvery); err != nil {
			return err
		}
	}
}

// seen takes over what the watch says. Killing comes first, and here: nothing that the agent may be waiting for delays it.
func (a *Agent) seen(events []register.Event) {
	for _, event := range events {
		if event.Key != shard.RecordKey(a.cfg.Shard) { // shards/1 is also the beginning of shards/10
			continue
		}
		var record *Record
		if !event.Deleted {
			decoded, err := DecodeRecord(event.Value)
			if err != nil {
				a.cfg.Log.Error("cannot read the record of the shard", "error", err)
				continue
			}
			record = &decoded
		}
		a.fence(record)
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// fence ends the database if the record says that the epoch in which it was the primary is over.
func (a *Agent) fence(record *Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record = record
	if record == nil || a.current == nil {
		return
	}
	a.judge(record)
}

// judge compares the run with the record. The caller holds mu.
func (a *Agent) judge(record *Record) {
	one := a.current
	if record.Primary != a.cfg.Node || record.PrimaryStart != one.startID {
		return
	}
	switch {
	case record.Phase == shard.PhaseServing:
		one.opened = record.Epoch
	case record.Phase == shard.PhaseFencing && !record.Planned && record.Epoch > one.opened && one.fenced == 0:
		one.fenced = record.Epoch
		if err := one.process.Signal(os.Kill); err != nil {
			a.cfg.Log.Error("kill the fenced database", "error", err)
		}
	}
}

// awaitOrder waits until the record, read from the register and not from memory, allows a start.
func (a *Agent) awaitOrder(ctx context.Context) (Boot, *Record, error) {
	for said := ""; ; {
		role, record, why := a.order(ctx)
		if role != BootNone {
			return role, record, nil
		}
		if why != said {
			a.cfg.Log.InfoContext(ctx, "not starting the database", "reason", why)
			said = why
		}
		unfit := a.unfit()
		a.report.set(func(h *Host) { h.StartID, h.Doing, h.Unfit = "", why, unfit })
		select {
		case <-a.changed:
		case <-time.After(agentRetryEvery):
		case <-ctx.Done():
			return BootNone, nil, ctx.Err()
		}
	}
}

// order is the role to start in, or why not to. With BootRebuild comes the record that orders it.
func (a *Agent) order(ctx context.Context) (Boot, *Record, string) {
	record, err := a.readRecord(ctx)
	unfit := a.unfit()
	free := freeBytes(a.cfg.Folder)
	switch {
	case err == nil && record.BootOf(a.cfg.Node) == BootRebuild:
		return BootRebuild, &record, ""
	case unfit != "":
		return BootNone, nil, unfit
	case free < a.cfg.FreeFloor:
		return BootNone, nil, fmt.Sprintf("%d bytes of disk space are free, less than the %d that a start needs", free, a.cfg.FreeFloor)
	case errors.Is(err, register.ErrNotFound):
		role, why := a.orderWithoutRecord()
		return role, nil, why
	case err != nil:
		return BootNone, nil, "waiting for the register"
	}
	if err := a.markServed(); err != nil {
		return BootNone, nil, err.Error()
	}
	if role := record.BootOf(a.cfg.Node); role == BootPrimary || role == BootReplica {
		return role, nil, ""
	}
	return BootNone, nil, fmt.Sprintf("waiting for an order: epoch %d is %s, primary %s", record.Epoch, record.Phase, record.Primary)
}

// orderWithoutRecord: a shard that is being made has no record yet, and needs its databases to get one. They start read-only,
// as replicas of nobody. A database that has seen a record is another matter: who lost the register must not find its
// shards empty-handed, with the ends of their binary logs cut off.
func (a *Agent) orderWithoutRecord() (Boot, string) {
	if _, err := os.Stat(a.mark(servedFile)); !errors.Is(err, os.ErrNotExist) {
		return BootNone, "the register has no record of this shard any more; restore it"
	}
	return BootReplica, ""
}

func (a *Agent) markServed() error {
	if _, err := os.Stat(a.mark(servedFile)); err == nil {
		return nil
	}
	return writeSynced(a.mark(servedFile), "this database belongs to a shard that has a record\n")
}

func (a *Agent) mark(name string) string { return filepath.Join(a.cfg.Folder, name) }

// noteDurability remembers over an end of the machine that the database did not sync everything, as controllers let replicas do. An open
// primary has synced all; so has a database that was shut down.
func (a *Agent) noteDurability(v agentView) error {
	_, err := os.Stat(a.mark(relaxedFile))
	marked := err == nil
	switch {
	case v.relaxed && !marked:
		return writeSynced(a.mark(relaxedFile), bootID())
	case !v.relaxed && !v.readOnly && marked:
		return os.Remove(a.mark(relaxedFile))
	}
	return nil
}

// live is one run of the database from its start to the report of its end. Its error ends the agent.
func (a *Agent) live(ctx context.Context, role Boot) error {
	one, err := a.start(role)
	if err != nil {
		return err
	}
	a.report.set(func(h *Host) { h.StartID, h.Doing = one.startID, "starting as "+string(role) })
	a.cfg.Log.InfoContext(ctx, "started the database", "role", role, "start_id", one.startID, "pid", one.process.PID())
	answered, err := a.supervise(ctx, one)
	<-one.process.Done()
	a.noteStart(one, answered)
	a.mu.Lock()
	a.current = nil
	a.mu.Unlock()
	a.bury(ctx, one)
	return err
}

// start begins a run with an id of its own. The database says it to whoever asks for @@report_user, so that a controller knows
// which run it talks to.
func (a *Agent) start(role Boot) (*life, error) {
	id := make([]byte, startIDBytes)
	if _, err := io.ReadFull(a.cfg.Random, id); err != nil {
		return nil, fmt.Errorf("make a start id: %w", err)
	}
	one := &life{startID: hex.EncodeToString(id), role: role, startedAt: a.cfg.Now()}
	command, err := mariadb.Command(a.arguments(one))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.process, err = scratch.StartProcess(command); err != nil {
		return nil, err
	}
	a.current = one
	return one, nil
}

// arguments: what must not be left to a configuration comes last, where it wins.
func (a *Agent) arguments(one *life) []string {
	return slices.Concat(a.cfg.Settings, StartSettings(one.startID, one.role), []string{
		"datadir=" + a.data(), "tmpdir=" + a.data(), "socket=socket", "pid_file=pid", "log_error=" + filepath.Join(a.cfg.Folder, "error.log"),
		"read_only=1", "skip_slave_start=1",
	})
}

// supervise returns when the run is over, or has been ended.
func (a *Agent) supervise(ctx context.Context, one *life) (answered bool, err error) {
	var checks sync.WaitGroup
	defer checks.Wait()
	checking, stop := context.WithCancel(ctx)
	defer stop()
	answer := make(chan error, 1)
	checks.Go(func() { answer <- a.check(checking) })
	checks.Go(func() { a.forgetOld(checking, one) })
	look := time.NewTicker(isolationEvery)
	defer look.Stop()
	for {
		select {
		case <-one.process.Done():
			return answered, nil
		case <-ctx.Done():
			return answered, a.end(context.WithoutCancel(ctx), one)
		case err := <-answer:
			if errors.Is(err, ErrDeviation) {
				return answered, errors.Join(err, one.process.Kill())
			}
			if err == nil {
				answered = true
				a.report.set(func(h *Host) { h.Doing, h.Unfit = "running, started as "+string(one.role), "" })
				a.cfg.Log.InfoContext(ctx, "the database answers", "start_id", one.startID,
					"took_ms", a.cfg.Now().Sub(one.startedAt).Milliseconds())
			}
		case <-a.changed:
			if err := a.noticeRecord(); err != nil {
				a.cfg.Log.ErrorContext(ctx, "cannot mark the folder", "error", err)
			}
			if a.mustRebuild() {
				return answered, a.end(ctx, one)
			}
			if a.leftOut(one) {
				if err := a.lookAfter(ctx, one); err != nil {
					return answered, err
				}
			}
		case <-look.C:
			if err := a.lookAfter(ctx, one); err != nil {
				return answered, err
			}
		}
	}
}

// check waits until the database answers, however long its recovery takes, and looks at its settings and grants.
func (a *Agent) check(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, agentCallPatience)
		err := a.db.PingContext(attempt)
		if err == nil && a.cfg.Verify != nil {
			err = a.cfg.Verify(attempt, a.db)
		}
		cancel()
		if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && refused.Number == accessDenied {
			return fmt.Errorf("%w: %w", ErrDeviation, err)
		}
		if err == nil || errors.Is(err, ErrDeviation) {
			return err
		}
		if err := sleep(ctx, agentPingEvery); err != nil {
			return err
		}
	}
}

func (a *Agent) noticeRecord() error {
	a.mu.Lock()
	known := a.record != nil
	a.mu.Unlock()
	if !known {
		return nil
	}
	return a.markServed()
}

// leftOut says that the record names another primary, and not this run among those who may acknowledge.
func (a *Agent) leftOut(one *life) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.record == nil || a.record.Primary == a.cfg.Node {
		return false
	}
	_, startID := a.record.RoleOf(a.cfg.Node)
	return startID != one.startID
}

// lookAfter kills a primary that has no business to be one any more: because another one has taken its place while this agent could
// not hear of it, or because neither the register nor a replica has been heard, so that this may have happened. Such a primary can
// acknowledge nothing; dead, it cannot answer reads with what is old, and started again it throws away what nobody has acknowledged. A
// database that does not answer is left alone: killing needs evidence.
func (a *Agent) lookAfter(ctx context.Context, one *life) error {
	state, err := a.look(ctx)
	if err != nil {
		return nil //nolint:nilerr // no evidence
	}
	if err := a.noteDurability(state); err != nil {
		a.cfg.Log.ErrorContext(ctx, "cannot remember that the database leaves files unsynced", "error", err)
	}
	age := a.cfg.Now().Sub(a.mirror.FreshAt())
	switch {
	case state.unsettled() && a.leftOut(one):
		a.cfg.Log.ErrorContext(ctx, "killing a primary in whose place there is another one", "start_id", one.startID)
	case age >= isolationLimit && !state.readOnly && state.clients == 0:
		a.cfg.Log.ErrorContext(ctx, "killing a primary without register and replicas", "start_id", one.startID,
			"register_age_ms", age.Milliseconds())
	default:
		return nil
	}
	return one.process.Kill()
}

// end stops the database because the agent is told to stop. A replica shuts down; a primary is killed, because a shutdown would
// answer commits with OK that wait for an acknowledgement which nobody has given. Who does not say that it is a replica is
// treated as a primary.
func (a *Agent) end(ctx context.Context, one *life) error {
	state, err := a.look(ctx)
	if err != nil || !state.readOnly || state.acknowledged {
		a.cfg.Log.InfoContext(ctx, "killing the database: it is, or may be, a primary", "start_id", one.startID)
		return one.process.Kill()
	}
	a.cfg.Log.InfoContext(ctx, "shutting the database down", "start_id", one.startID)
	return one.process.Stop(shutdownPatience)
}

// agentView is what an agent asks its database.
type agentView struct {
	readOnly     bool
	relaxed      bool // it does not sync every commit
	acknowledged bool // it waits for acknowledgements, as a primary
	clients      int  // replicas that may acknowledge
	waiting      int  // commits that wait for one
}

// unsettled says that it takes writes as a primary, or has some left that nobody has acknowledged. A primary that was
// replaced by order has neither.
func (v agentView) unsettled() bool { return !v.readOnly || v.acknowledged && v.waiting > 0 }

func (a *Agent) look(ctx context.Context) (v agentView, err error) {
	ctx, cancel := context.WithTimeout(ctx, agentCallPatience)
	defer cancel()
	err = a.db.QueryRowContext(ctx, `SELECT @@global.read_only,
		@@global.sync_binlog<>1 OR @@global.innodb_flush_log_at_trx_commit<>1, @@global.rpl_semi_sync_master_enabled,
		(SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_CLIENTS'),
		(SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS')`).
		Scan(&v.readOnly, &v.relaxed, &v.acknowledged, &v.clients, &v.waiting)
	if err != nil {
		return agentView{}, fmt.Errorf("look at the database: %w", err)
	}
	return v, nil
}

// bury reports the end of a run, until the register has it. Nothing else can be done meanwhile: the next start needs the
// register as well.
func (a *Agent) bury(ctx context.Context, one *life) {
	if one.process.Err() == nil { // shut down, so all is synced
		_ = os.Remove(a.mark(relaxedFile)) // else it is believed to be relaxed, which is safe
	}
	death := Death{Node: a.cfg.Node, How: how(one), At: a.cfg.Now()}
	a.cfg.Log.WarnContext(ctx, "the database has ended", "start_id", one.startID, "how", death.How)
	patience := context.WithoutCancel(ctx)
	for {
		attempt, cancel := context.WithTimeout(patience, agentCallPatience)
		_, err := register.Create(attempt, a.cfg.Register, deadKey(a.cfg.Shard, one.startID), encode(death))
		cancel()
		if err == nil || errors.Is(err, register.ErrConflict) { // conflict: an attempt whose answer was lost
			break
		}
		if ctx.Err() != nil && a.cfg.Now().Sub(death.At) > deathPatience {
			a.cfg.Log.ErrorContext(ctx, "could not report the death", "error", err)
			return
		}
		_ = sleep(patience, agentRetryEvery)
	}
	a.report.set(func(h *Host) { h.StartID, h.Doing = "", "ended: "+death.How })
}

// how is the end of a run in words.
func how(one *life) string {
	text := "exit status 0"
	if err := one.process.Err(); err != nil {
		text = err.Error()
	}
	if one.fenced > 0 {
		text += fmt.Sprintf(", fenced by epoch %d", one.fenced)
	}
	return text
}
