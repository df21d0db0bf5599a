package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// etcdScheme marks a register that is an etcd cluster: etcd://host:port,host:port,host:port/prefix. Anything else is the path of
// a file.
const etcdScheme = "etcd://"

const (
	registerPatience = 5 * time.Second // for a file that another process has locked
	sessionTTL       = 2 * time.Second // after which the register forgets whoever has died without a word
)

const registerAdvice = "make the cluster with `statesvc migrate up --config FILE`, or name its register with --register or in the configuration"

// openedRegister is a register and how to let go of it.
type openedRegister struct {
	register.Register

	etcd  *register.Etcd // nil: a file, which has no sessions and no leadership
	close func() error
}

// Close lets go of it. What was acknowledged is safe already.
func (r *openedRegister) Close() { _ = r.close() }

// sessions are how instances, agents and controllers announce themselves; nil if the register has none. The sessions of a caller are of
// the interface that he declares.
func sessions[S any](r *openedRegister, as func(*register.Session) S) func(context.Context) (S, error) {
	if r.etcd == nil {
		return nil
	}
	return func(ctx context.Context) (S, error) {
		session, err := r.etcd.NewSession(ctx, sessionTTL)
		if err != nil {
			var none S
			return none, err
		}
		return as(session), nil
	}
}

// connectRegister opens a register, whatever is in it. The file of one, and its folder, are made the first time.
func connectRegister(ctx context.Context, where string) (*openedRegister, error) {
	if !strings.HasPrefix(where, etcdScheme) {
		file, err := makeRegisterFile(where)
		if err != nil {
			return nil, err
		}
		return &openedRegister{Register: file, close: file.Close}, nil
	}
	cfg, err := parseEtcd(where)
	if err != nil {
		return nil, err
	}
	etcd, err := register.OpenEtcd(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &openedRegister{Register: etcd, etcd: etcd, close: etcd.Close}, nil
}

// openRegister opens the register of a cluster that has been made. A register at a wrong place must not look like a new one.
func openRegister(ctx context.Context, where string) (*openedRegister, error) {
	if !strings.HasPrefix(where, etcdScheme) {
		if _, err := os.Stat(where); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no register %s; %s", where, registerAdvice)
		}
	}
	reg, err := connectRegister(ctx, where)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	_, err = reg.Get(ctx, shard.MapKey)
	if err == nil {
		return reg, nil
	}
	reg.Close()
	if errors.Is(err, register.ErrNotFound) {
		return nil, fmt.Errorf("the register %s holds no cluster; %s", where, registerAdvice)
	}
	return nil, fmt.Errorf("read the register %s: %w", where, err)
}

// parseEtcd reads etcd://host:port,host:port/prefix. The prefix keeps several clusters apart in one etcd; it is statesvc if none is named.
func parseEtcd(where string) (cfg register.EtcdConfig, err error) {
	hosts, prefix, _ := strings.Cut(strings.TrimPrefix(where, etcdScheme), "/")
	for host := range strings.SplitSeq(hosts, ",") {
		if name, port, found := strings.Cut(host, ":"); !found || name == "" || port == "" {
			return cfg, fmt.Errorf("register %s: %q is no host:port; write etcd://host:port,host:port,host:port/prefix", where, host)
		}
		cfg.Endpoints = append(cfg.Endpoints, "http://"+host)
	}
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		prefix = "statesvc"
	}
	cfg.Prefix = "/" + prefix + "/"
	return cfg, nil
}

// makeRegisterFile opens a register, and makes it and its folder the first time.
func makeRegisterFile(path string) (*register.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of the register: %w", err)
	}
	reg, err := register.OpenFile(path)
	if err != nil {
		return nil, fmt.Errorf("open the register %s: %w", path, err)
	}
	return reg, nil
}
