package cluster

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/etcd"
	"github.com/statesvc/statesvc/internal/instance"
	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/redisd"
	"github.com/statesvc/statesvc/internal/scratch"
	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

const (
	pollEvery      = 50 * time.Millisecond
	etcdPatience   = 30 * time.Second
	shardPatience  = 90 * time.Second // six databases are made at once
	readyPatience  = 30 * time.Second
	stopPatience   = 30 * time.Second // an agent waits for the clean end of its database
	configFlagName = "--config"
)

// Options say what Up is to make.
type Options struct {
	Folder            string
	Shards, Instances int // of a new cluster; one that exists keeps its own
	Program           string
	Env               []string
	Install           bool // install what is missing
	Relays            bool // of a new cluster: nodes are reached over a relay, and can be cut off
	Controllers       bool // this program has them
	Say               func(format string, args ...any)
}

// Up makes a cluster, or starts what does not run of the one in the folder. ctx bounds the start; the processes outlive it.
func Up(ctx context.Context, o Options) (*State, error) {
	if err := provide(ctx, o.Install, o.Say); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the cluster: %w", err)
	}
	turn, err := scratch.Lock(filepath.Join(o.Folder, lockFile))
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	u := &up{Options: o}
	if err := u.load(); err != nil {
		return nil, err
	}
	return u.state, u.run(ctx)
}

type up struct {
	Options
	state *State
	reg   *register.Etcd
}

// load reads the state, or plans a new cluster and writes it down before anything is started.
func (u *up) load() (err error) {
	u.state, err = Load(u.Folder)
	if errors.Is(err, ErrNoCluster) {
		folder, failed := filepath.Abs(u.Folder)
		if failed != nil {
			return failed
		}
		u.Say("a new cluster in %s: %d shards of %d databases, %d instances", folder, u.Shards, nodes, u.Instances)
		u.state, err = plan(folder, u.Shards, u.Instances, u.Relays)
	}
	if err != nil {
		return err
	}
	return errors.Join(u.state.configure(), u.state.save())
}

func (u *up) run(ctx context.Context) error {
	for _, kind := range []Kind{KindEtcd, KindCache, KindSentinel, KindCoordination} {
		if err := u.startAll(kind); err != nil {
			return err
		}
	}
	if err := u.openRegister(ctx); err != nil {
		return err
	}
	defer u.reg.Close() //nolint:errcheck // nothing is lost
	for _, kind := range []Kind{KindRelay, KindAgent} {
		if err := u.startAll(kind); err != nil {
			return err
		}
	}
	if err := u.shards(ctx); err != nil {
		return err
	}
	if err := u.publish(ctx); err != nil {
		return err
	}
	if u.Controllers {
		if err := u.startAll(KindController); err != nil {
			return err
		}
	} else {
		u.Say("no controllers: this program has none yet, so nothing fails over")
	}
	if err := u.startAll(KindInstance); err != nil {
		return err
	}
	return u.awaitReady(ctx)
}

// startAll starts the processes of a kind that do not run.
func (u *up) startAll(kind Kind) error {
	started := []string{}
	for _, p := range u.state.of(kind) {
		if p.Running.Alive() {
			continue
		}
		id, err := u.state.launch(p, u.Program, u.Env)
		if err != nil {
			return err
		}
		p.Running = id
		if err := u.state.save(); err != nil { // before the next one: what is not written down cannot be stopped
			return err
		}
		started = append(started, p.Name)
	}
	if len(started) > 0 {
		u.Say("started %s", strings.Join(started, ", "))
	}
	return nil
}

// launch starts a process: this program again, or a Redis.
func (s *State) launch(p *Process, program string, env []string) (Identity, error) {
	switch p.Kind {
	case KindCache, KindSentinel, KindCoordination:
		path, err := redisd.Find()
		if err != nil {
			return Identity{}, err
		}
		program = path
	case KindEtcd, KindRelay, KindAgent, KindController, KindInstance:
	}
	return launch(program, s.arguments(p), env, s.Log(p))
}

func (s *State) arguments(p *Process) []string {
	switch p.Kind {
	case KindCache, KindCoordination:
		return s.redis(p).Arguments()
	case KindSentinel:
		return s.redis(p).SentinelArguments()
	case KindRelay:
		return []string{"relay", configFlagName, s.config(p)}
	case KindAgent:
		return []string{"agent", configFlagName, s.config(p)}
	case KindController:
		return []string{"controller", configFlagName, s.config(p)}
	case KindInstance:
		return []string{"serve", configFlagName, s.config(p)}
	case KindEtcd:
	}
	peers := []string{}
	for _, member := range s.of(KindEtcd) {
		peers = append(peers, member.Name+"=http://"+member.Peer)
	}
	return append([]string{"etcd"}, etcd.Options{
		Name: p.Name, DataDir: s.path(p.Name), ClientURL: "http://" + p.Address, PeerURL: "http://" + p.Peer,
		InitialCluster: strings.Join(peers, ","),
	}.Arguments()...)
}

// OpenRegister connects to the register of the cluster.
func (s *State) OpenRegister(ctx context.Context, patience time.Duration) (*register.Etcd, error) {
	endpoints := []string{}
	for _, address := range s.endpoints() {
		endpoints = append(endpoints, "http://"+address)
	}
	return register.OpenEtcd(ctx, register.EtcdConfig{Endpoints: endpoints, Prefix: "/" + prefix + "/", DialTimeout: patience})
}

func (u *up) openRegister(ctx context.Context) (err error) {
	if u.reg, err = u.state.OpenRegister(ctx, etcdPatience); err != nil {
		return fmt.Errorf("%w; see %s", err, u.state.path("logs"))
	}
	u.Say("the register answers at %s", u.state.Register())
	return nil
}

// shards makes the shards that have no record yet, side by side.
func (u *up) shards(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, shardPatience, errors.New("the databases take too long"))
	defer cancel()
	uniform, err := u.uniform()
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	made, stop := context.WithCancel(ctx)
	defer stop()
	all.Go(func() error { return u.watchAgents(made) })
	var making errgroup.Group
	for i, run := range uniform.Runs {
		making.Go(func() error {
			if err := u.shard(ctx, i+1, run); err != nil {
				return fmt.Errorf("%w; see the logs of agents in %s", err, u.state.path("logs"))
			}
			u.Say("shard %s has its record; owners of buckets %d to %d are served there", shardName(i+1), run.From, run.To)
			return nil
		})
	}
	all.Go(func() error {
		defer stop()
		return making.Wait()
	})
	return all.Wait()
}

// watchAgents returns an error if one of them ends before ctx does: nobody would wait for its database then.
func (u *up) watchAgents(ctx context.Context) error {
	for ctx.Err() == nil {
		for _, p := range u.state.of(KindAgent) {
			if !p.Running.Alive() && ctx.Err() == nil {
				return fmt.Errorf("%s has ended; see %s", p.Name, u.state.Log(p))
			}
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
		}
	}
	return nil
}

func (u *up) uniform() (shard.Map, error) {
	names := []string{}
	for number := 1; number <= u.state.Shards; number++ {
		names = append(names, shardName(number))
	}
	return shard.NewUniformMap(names)
}

func (u *up) shard(ctx context.Context, number int, run shard.Run) error {
	list := []failover.BootstrapNode{}
	for _, agent := range u.state.agents(number) {
		list = append(list, failover.BootstrapNode{
			Name: agent.Node, Address: agent.Address, Password: u.state.Passwords.HA, ReplPassword: u.state.Passwords.Repl,
		})
	}
	return MakeShard(ctx, u.reg, number, run, list, dsn(MigrateUser, u.state.Passwords.Migrate, list[0].Address))
}

// MakeShard makes a shard of databases that have nothing but their accounts, with its schema and its buckets; the first node becomes the
// primary. A shard that has a record is left alone.
func MakeShard(ctx context.Context, reg register.Register, number int, run shard.Run, list []failover.BootstrapNode, migrateDSN string,
) error {
	return failover.Bootstrap(ctx, reg, number, list, func(ctx context.Context) error {
		db, err := shard.OpenMariaDB(migrateDSN, time.Now)
		if err != nil {
			return err
		}
		defer db.Close()
		if _, err := migrations.Up(ctx, db.SQL(), db.Dialect.String()); err != nil {
			return err
		}
		if err := db.TakeBuckets(ctx, run.From, run.To); err != nil {
			return err
		}
		_, err = db.SQL().ExecContext(ctx, "UPDATE fence SET primary_id=@@server_id WHERE id=1")
		return err
	})
}

// publish writes secrets and map, and makes the first key.
func (u *up) publish(ctx context.Context) error {
	uniform, err := u.uniform()
	if err != nil {
		return err
	}
	if err := instance.Publish(ctx, u.reg, uniform); err != nil || u.state.APIKey != "" {
		return err
	}
	keys, err := access.Open(ctx, u.reg, time.Now, rand.Reader)
	if err != nil {
		return err
	}
	defer keys.Close()
	all, err := access.ParseScopes([]string{"read", "hold", "issue", "state", "admin"})
	if err != nil {
		return err
	}
	_, token, err := keys.Create(ctx, access.Spec{Name: "cluster", Scopes: all, Rate: access.Rate{PerSecond: 100_000, Burst: 200_000}})
	if err != nil {
		return fmt.Errorf("make the first key: %w", err)
	}
	u.state.APIKey = token
	return u.state.save()
}

// awaitReady waits until every instance is ready. One that is not is no reason to stop the others: it is said, with the reason.
func (u *up) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for _, p := range u.state.of(KindInstance) {
		for {
			why := ready(ctx, p.Address)
			if why == "" {
				break
			}
			if !p.Running.Alive() {
				return fmt.Errorf("%s has ended; see %s", p.Name, u.state.Log(p))
			}
			select {
			case <-time.After(pollEvery):
			case <-ctx.Done():
				return fmt.Errorf("%s runs and is not ready: %s; `statesvc cluster status` shows more", p.Name, why)
			}
		}
	}
	u.Say("all instances are ready")
	return nil
}

// ready returns why an instance takes no requests, or nothing.
func ready(ctx context.Context, address string) string {
	text, err := fetch(ctx, "http://"+address+"/readyz")
	switch {
	case errors.Is(err, errStatus):
		return strings.TrimSpace(text)
	case err != nil:
		return "it does not answer"
	}
	return ""
}

var errStatus = errors.New("the status is not 200")

const pageMax = 4 << 20

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, pageMax))
	if err == nil && response.StatusCode != http.StatusOK {
		err = errStatus
	}
	return string(text), err
}

// target is a process that can be named: those of the state, and each agent's database.
func (s *State) target(name string) (Identity, error) {
	for _, p := range s.Processes {
		switch name {
		case p.Name:
			return p.Running, nil
		case p.Node:
			return s.database(p)
		}
	}
	names := []string{}
	for _, p := range s.Processes {
		names = append(names, p.Name)
		if p.Node != "" {
			names = append(names, p.Node)
		}
	}
	return Identity{}, fmt.Errorf("there is no process %q; there are %s", name, strings.Join(names, ", "))
}

// database is the server of an agent: who stands in its pid file, if that is a child of the agent. It has ended with any other one.
func (s *State) database(p *Process) (Identity, error) {
	text, err := os.ReadFile(s.path(p.Node, "data", "pid"))
	if err != nil {
		return Identity{}, nil //nolint:nilerr // it was never started, or shut down
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return Identity{}, fmt.Errorf("read the pid file of %s: %w", p.Node, err)
	}
	id, parent, err := identify(pid)
	if err != nil || parent != p.Running.PID || !p.Running.Alive() {
		return Identity{}, nil //nolint:nilerr // it has ended
	}
	return id, nil
}

// Kill ends a process at once (SIGKILL). A database is started again by its agent; everything else by Up.
func (s *State) Kill(name string) error { return s.send(name, syscall.SIGKILL) }

// Pause stops a process (SIGSTOP): its connections stay, and nothing answers.
func (s *State) Pause(name string) error { return s.send(name, syscall.SIGSTOP) }

// Resume lets a paused process go on (SIGCONT).
func (s *State) Resume(name string) error { return s.send(name, syscall.SIGCONT) }

// Start starts a process again that has ended, as Up would. It does nothing if the process runs.
func (s *State) Start(name, program string, env []string) error {
	for _, p := range s.Processes {
		if p.Name != name || p.Running.Alive() {
			continue
		}
		id, err := s.launch(p, program, env)
		if err != nil {
			return err
		}
		p.Running = id
		return s.save()
	}
	return nil
}

// AwaitEnd waits until a process or a database that was killed is gone.
func (s *State) AwaitEnd(name string, patience time.Duration) error {
	id, err := s.target(name)
	if err == nil && !id.awaitEnd(patience) {
		err = fmt.Errorf("%s did not end in %s", name, patience)
	}
	return err
}

func (s *State) send(name string, signal syscall.Signal) error {
	id, err := s.target(name)
	if err == nil {
		err = id.signal(signal)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Down stops everything that Up has started, in reverse order, and waits for it. What does not end in time is killed; a paused process
// is woken first. With purge the folder goes as well.
func Down(folder string, purge bool, say func(format string, args ...any)) error {
	s, err := Load(folder)
	if err != nil {
		return err
	}
	turn, err := scratch.Lock(s.path(lockFile))
	if err != nil {
		return err
	}
	defer turn.Close()
	if s, err = Load(folder); err != nil { // what another Up has started meanwhile
		return err
	}
	var errs []error
	for _, kind := range []Kind{
		KindInstance, KindController, KindAgent, KindRelay, KindSentinel, KindCache, KindCoordination, KindEtcd,
	} {
		errs = append(errs, s.stop(kind, say))
	}
	if err := errors.Join(append(errs, s.save())...); err != nil || !purge {
		return err
	}
	say("removing %s", s.folder)
	return os.RemoveAll(s.folder)
}

// stop ends all processes of a kind side by side.
func (s *State) stop(kind Kind, say func(format string, args ...any)) error {
	var errs []error
	stopped := []string{}
	for _, p := range s.of(kind) {
		if !p.Running.Alive() {
			continue
		}
		stopped = append(stopped, p.Name)
		if database, err := s.database(p); p.Node != "" && err == nil && database.Paused() {
			errs = append(errs, ignoreEnd(database.signal(syscall.SIGKILL))) // it would not hear that it is to shut down
		}
		errs = append(errs, ignoreEnd(p.Running.signal(syscall.SIGTERM)), ignoreEnd(p.Running.signal(syscall.SIGCONT)))
	}
	if len(stopped) == 0 {
		return nil
	}
	say("stopping %s", strings.Join(stopped, ", "))
	deadline := time.Now().Add(stopPatience)
	for _, p := range s.of(kind) {
		if p.Running.awaitEnd(time.Until(deadline)) {
			p.Running = Identity{}
			continue
		}
		say("%s does not end and is killed; its log is %s", p.Name, s.Log(p))
		errs = append(errs, ignoreEnd(p.Running.signal(syscall.SIGKILL)))
		if !p.Running.awaitEnd(time.Second) {
			errs = append(errs, fmt.Errorf("%s, process %d, cannot be stopped", p.Name, p.Running.PID))
		}
	}
	return errors.Join(errs...)
}

func ignoreEnd(err error) error {
	if errors.Is(err, errNoProcess) {
		return nil
	}
	return err
}

// openNode makes a pool to a database as the account of controllers.
func (s *State) openNode(p *Process) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = failover.HAUser, s.Passwords.HA, "tcp", p.Address
	cfg.Timeout, cfg.ReadTimeout, cfg.Logger = statusPatience, statusPatience, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// provide looks for the servers, and installs them if that is wanted.
func provide(ctx context.Context, install bool, say func(format string, args ...any)) error {
	noRedis := redisd.Installed()
	lacksServer, lacksBackup := mariadb.Installed() != nil || noRedis != nil, mariadb.BackupInstalled() != nil
	if !lacksServer && (!lacksBackup || !install) {
		if lacksBackup {
			say("mariadb-backup is not installed, so no node is rebuilt; install the package, or say --install")
		}
		return nil
	}
	const packages = "mariadb-server (10.11 or later), mariadb-backup and " + redisd.Package
	if !install && os.Getuid() != 0 {
		return errors.New("this machine lacks some of the packages " + packages + "; install them, or say --install")
	}
	say("this machine lacks some of the packages %s; installing them with apt, without starting a service", packages)
	return installServers(ctx)
}
