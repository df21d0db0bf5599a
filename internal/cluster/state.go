package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/internal/scratch"
)

// Sizes of a cluster. Three of each is what a failover needs; more shards and instances than these do not fit on one machine.
const (
	members      = 3 // of etcd
	nodes        = 3 // of a shard
	controllers  = 3
	caches       = 3 // Redis of the cache role: a primary and two replicas
	sentinels    = 3
	shardsMax    = 8
	instancesMax = 8

	relayName        = "relay"
	coordinationName = "coordination"
	stateFile        = "cluster.json"
	lockFile         = "cluster.lock"
	version          = 1
	prefix           = "statesvc" // of all keys in etcd
)

// State is cluster.json. It has passwords and an API key, so only its owner reads it.
type State struct {
	Version   int        `json:"version"`
	Shards    int        `json:"shards"`
	Instances int        `json:"instances"`
	Passwords Passwords  `json:"passwords"`
	APIKey    string     `json:"api_key,omitempty"` // may do everything; made with the cluster
	Processes []*Process `json:"processes"`         // in the order of their start

	folder string
}

// Passwords are made with the cluster.
type Passwords struct {
	App     string `json:"app"`
	HA      string `json:"ha"`
	Repl    string `json:"repl"`
	Migrate string `json:"migrate"`
	Feed    string `json:"feed"`
}

// Kind is what a process is.
type Kind string

// The kinds, in the order in which they start.
const (
	KindEtcd         Kind = "etcd"
	KindCache        Kind = "cache"        // Redis of the cache role
	KindSentinel     Kind = "sentinel"     // of the caches
	KindCoordination Kind = "coordination" // Redis of the coordination role
	KindRelay        Kind = "relay"
	KindAgent        Kind = "agent"
	KindController   Kind = "controller"
	KindInstance     Kind = "instance"
)

// Process is one process of the cluster, whether or not it runs.
type Process struct {
	Name     string          `json:"name"`
	Kind     Kind            `json:"kind"`
	Shard    int             `json:"shard,omitempty"`   // of an agent
	Node     string          `json:"node,omitempty"`    // of an agent: the name of its database
	Address  string          `json:"address"`           // of an agent: at which others reach its database
	Peer     string          `json:"peer,omitempty"`    // of a member of etcd: for the others
	Backup   string          `json:"backup,omitempty"`  // of an agent: at which others fetch copies of its database
	Listen   string          `json:"listen,omitempty"`  // of an agent, with a relay: of its database itself
	Register [members]string `json:"register,omitzero"` // of an agent, with a relay: at which it reaches the members of etcd
	Cut      bool            `json:"cut,omitempty"`     // of an agent: the relay passes nothing from and to its node
	Running  Identity        `json:"running,omitzero"`  // the last one that was started
}

// ErrNoCluster says that the folder holds no cluster.
var ErrNoCluster = errors.New("there is no cluster in this folder; make one with `statesvc cluster up`")

// Load reads the state of a folder.
func Load(folder string) (*State, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(folder, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", folder, ErrNoCluster)
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of the cluster: %w", err)
	}
	s := &State{folder: folder}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(folder, stateFile), err)
	}
	if s.Version != version {
		return nil, fmt.Errorf("%s is of version %d, and this program knows version %d", filepath.Join(folder, stateFile), s.Version, version)
	}
	return s, nil
}

// save replaces the file as a whole: a crash leaves the old one or the new one.
func (s *State) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(s.folder, stateFile)
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the state of the cluster: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the state of the cluster: %w", err)
	}
	return nil
}

// plan decides on names, ports and passwords of a new cluster. The ports are free now, and are kept from then on: whoever takes one
// while the cluster is down keeps it from starting.
func plan(folder string, shards, instances int, relayed bool) (*State, error) {
	if shards < 1 || shards > shardsMax || instances < 1 || instances > instancesMax {
		return nil, fmt.Errorf("a cluster on one machine has 1 to %d shards and 1 to %d instances", shardsMax, instancesMax)
	}
	s := &State{Version: version, Shards: shards, Instances: instances, folder: folder}
	s.Passwords = Passwords{App: secret(), HA: secret(), Repl: secret(), Migrate: secret(), Feed: secret()}
	for i := range members {
		s.add(Process{Name: fmt.Sprintf("etcd-%d", i+1), Kind: KindEtcd})
	}
	for i := range caches {
		s.add(Process{Name: fmt.Sprintf("cache-%d", i+1), Kind: KindCache})
	}
	for i := range sentinels {
		s.add(Process{Name: fmt.Sprintf("sentinel-%d", i+1), Kind: KindSentinel})
	}
	s.add(Process{Name: coordinationName, Kind: KindCoordination})
	if relayed {
		s.add(Process{Name: relayName, Kind: KindRelay})
	}
	for number := 1; number <= shards; number++ {
		for i := range nodes {
			node := fmt.Sprintf("s%dn%d", number, i+1)
			s.add(Process{Name: AgentName(node), Kind: KindAgent, Shard: number, Node: node})
		}
	}
	for i := range controllers {
		s.add(Process{Name: fmt.Sprintf("controller-%d", i+1), Kind: KindController})
	}
	for i := range instances {
		s.add(Process{Name: fmt.Sprintf("instance-%d", i+1), Kind: KindInstance})
	}
	return s, s.takePorts()
}

// AgentName is the name of the agent of a node.
func AgentName(node string) string { return "agent-" + node }

func (s *State) add(p Process) { s.Processes = append(s.Processes, &p) }

// takePorts holds all ports until the last one is chosen, so that they differ.
func (s *State) takePorts() error {
	for _, p := range s.Processes {
		for _, address := range s.addresses(p) {
			port, err := scratch.NewPort()
			if err != nil {
				return err
			}
			defer func() { _ = port.Close() }()
			*address = port.Addr()
		}
	}
	return nil
}

// addresses are those that a process needs.
func (s *State) addresses(p *Process) []*string {
	list := []*string{&p.Address}
	if p.Kind == KindEtcd {
		list = append(list, &p.Peer)
	}
	if p.Kind == KindAgent {
		list = append(list, &p.Backup)
	}
	if p.Kind == KindAgent && s.relay() != nil {
		list = append(list, &p.Listen)
		for i := range p.Register {
			list = append(list, &p.Register[i])
		}
	}
	return list
}

const secretBytes = 12

func secret() string {
	text := make([]byte, secretBytes)
	_, _ = rand.Read(text) // never fails
	return hex.EncodeToString(text)
}

// of lists the processes of a kind.
func (s *State) of(kind Kind) (list []*Process) {
	for _, p := range s.Processes {
		if p.Kind == kind {
			list = append(list, p)
		}
	}
	return list
}

// agents are those of a shard, in the order of its nodes.
func (s *State) agents(number int) (list []*Process) {
	for _, p := range s.of(KindAgent) {
		if p.Shard == number {
			list = append(list, p)
		}
	}
	return list
}

// Register is the URL of the register.
func (s *State) Register() string { return registerAt(s.endpoints()) }

// registerOf is the URL at which an agent reaches the register.
func (s *State) registerOf(p *Process) string {
	if s.relay() == nil {
		return s.Register()
	}
	return registerAt(p.Register[:])
}

func registerAt(endpoints []string) string {
	return "etcd://" + strings.Join(endpoints, ",") + "/" + prefix
}

func (s *State) endpoints() []string { return s.addressesOf(KindEtcd) }

func (s *State) addressesOf(kind Kind) (list []string) {
	for _, p := range s.of(kind) {
		list = append(list, p.Address)
	}
	return list
}

func shardName(number int) string { return fmt.Sprintf("s%d", number) }

func (s *State) path(parts ...string) string {
	return filepath.Join(append([]string{s.folder}, parts...)...)
}

// Log is the file that a process writes its log to.
func (s *State) Log(p *Process) string { return s.path("logs", p.Name+".log") }

func (s *State) config(p *Process) string { return s.path("config", p.Name+".yaml") }

// smallSettings let six databases live on a small machine. What they acknowledge is as safe as anywhere.
var smallSettings = []string{
	"innodb_buffer_pool_size=64M", "innodb_log_file_size=32M", "innodb_buffer_pool_dump_at_shutdown=OFF",
	"innodb_buffer_pool_load_at_startup=OFF", "performance_schema=OFF", "skip_name_resolve=1", "max_connections=500",
	"binlog_annotate_row_events=OFF", "binlog_cache_size=8M", "max_allowed_packet=64M", "character_set_server=utf8mb4",
	"max_binlog_size=64M", "expire_logs_days=7",
}

// configure writes the configurations of all processes. They are JSON, which is YAML.
func (s *State) configure() error {
	for _, folder := range []string{"logs", "config"} {
		if err := os.MkdirAll(s.path(folder), 0o700); err != nil {
			return fmt.Errorf("make the folders of the cluster: %w", err)
		}
	}
	for _, p := range s.Processes {
		var content any
		switch p.Kind {
		case KindEtcd: // has flags only
			continue
		case KindCache, KindSentinel, KindCoordination:
			if err := s.configureRedis(p); err != nil {
				return err
			}
			continue
		case KindRelay:
			content = s.relayConfig(p)
		case KindAgent:
			content = s.agentConfig(p)
		case KindController:
			content = s.controllerConfig(p)
		case KindInstance:
			content = s.instanceConfig(p)
		}
		text, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.config(p), append(text, '\n'), 0o600); err != nil {
			return fmt.Errorf("write the configuration of %s: %w", p.Name, err)
		}
	}
	return nil
}

func (s *State) agentConfig(p *Process) map[string]any {
	number, names := 0, []string{}
	for i, agent := range s.agents(p.Shard) {
		names = append(names, agent.Node)
		if agent == p {
			number = i + 1
		}
	}
	return map[string]any{
		"node": p.Node, "shard": p.Shard, "zone": fmt.Sprintf("zone-%d", number), "address": p.Address, "server_id": 100*p.Shard + number,
		"nodes": names, "folder": s.path(p.Node), "register": s.registerOf(p), "settings": smallSettings, "listen": p.Listen,
		"backup_address": p.Backup,
		"database": map[string]any{
			"schema": failover.DefaultSchema, "password": s.Passwords.HA, "app_password": s.Passwords.App,
			"repl_password": s.Passwords.Repl, "migrate_password": s.Passwords.Migrate, "feed_password": s.Passwords.Feed,
		},
	}
}

func (s *State) controllerConfig(p *Process) map[string]any {
	endpoints := []string{}
	for _, address := range s.endpoints() {
		endpoints = append(endpoints, "http://"+address)
	}
	return map[string]any{
		"name": p.Name, "listen": p.Address, "register": map[string]any{"endpoints": endpoints, "prefix": "/" + prefix + "/"},
		"database": map[string]any{
			"user": failover.HAUser, "password": s.Passwords.HA, "repl_password": s.Passwords.Repl, "schema": failover.DefaultSchema,
		},
	}
}

func (s *State) instanceConfig(p *Process) map[string]any {
	shards := []map[string]any{}
	for number := 1; number <= s.Shards; number++ {
		shards = append(shards, map[string]any{
			"name": shardName(number), "dsn": dsn(failover.AppUser, s.Passwords.App, s.agents(number)[0].Address),
			"feed": dsn(failover.FeedUser, s.Passwords.Feed, s.agents(number)[0].Address),
		})
	}
	config := map[string]any{"instance": p.Name, "listen": p.Address, "register": s.Register(), "shards": shards, "drain_delay": "0s"}
	s.addRedis(config)
	return config
}

// DSN is a data source name of a database for reading its tables, as the account of the instances.
func (s *State) DSN(node string) string { return s.dsn(node, failover.AppUser, s.Passwords.App) }

// OperatorDSN is one for what a person might do to a database by mistake, as the account of controllers and agents.
func (s *State) OperatorDSN(node string) string { return s.dsn(node, failover.HAUser, s.Passwords.HA) }

func (s *State) dsn(node, user, password string) string {
	for _, p := range s.of(KindAgent) {
		if p.Node == node {
			return dsn(user, password, p.Address)
		}
	}
	return ""
}

// URLs are those of the instances.
func (s *State) URLs() (list []string) {
	for _, p := range s.of(KindInstance) {
		list = append(list, "http://"+p.Address)
	}
	return list
}

func dsn(user, password, address string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", user, password, address, failover.DefaultSchema)
}
