package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

const (
	heartbeatMS     = 50  // on one machine, or within one place, a heartbeat takes a millisecond or two
	electionMS      = 500 // ten heartbeats, as etcd advises; leases cannot be shorter than 1.5 times this
	compactEvery    = "5m"
	defaultLogLevel = "warn"
)

// errStopped says that the member ended without being told to.
var errStopped = errors.New("the etcd member has stopped by itself")

// Options say who a member is and where it lives. All but Log and LogLevel are necessary.
type Options struct {
	Name           string
	DataDir        string
	ClientURL      string
	PeerURL        string
	InitialCluster string // name=peer URL of all members, with commas; without effect once the data folder exists
	Log            string // file; empty: standard error
	LogLevel       string // of etcd; empty: warn
}

// Run is one member, until ctx ends or the member does.
func Run(ctx context.Context, options Options) error {
	cfg, err := options.config()
	if err != nil {
		return err
	}
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd member %s: %w", options.Name, err)
	}
	defer member.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-member.Err():
		return fmt.Errorf("etcd member %s: %w", options.Name, err)
	case <-member.Server.StopNotify():
		return fmt.Errorf("etcd member %s: %w", options.Name, errStopped)
	}
}

func (o Options) config() (*embed.Config, error) {
	client, err := url.Parse(o.ClientURL)
	if err != nil {
		return nil, fmt.Errorf("client URL: %w", err)
	}
	peer, err := url.Parse(o.PeerURL)
	if err != nil {
		return nil, fmt.Errorf("peer URL: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = o.Name, o.DataDir, o.InitialCluster
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.TickMs, cfg.ElectionMs = heartbeatMS, electionMS
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, compactEvery
	cfg.LogLevel = defaultLogLevel
	if o.LogLevel != "" {
		cfg.LogLevel = o.LogLevel
	}
	if o.Log != "" {
		cfg.LogOutputs = []string{o.Log}
	}
	return cfg, cfg.Validate()
}

// Arguments are the flags by which `statesvc etcd` becomes this member.
func (o Options) Arguments() []string {
	return []string{
		"--name", o.Name, "--data-dir", o.DataDir, "--client-url", o.ClientURL, "--peer-url", o.PeerURL,
		"--initial-cluster", o.InitialCluster, "--log", o.Log, "--log-level", o.LogLevel,
	}
}
