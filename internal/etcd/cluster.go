package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/statesvc/statesvc/internal/scratch"
)

const (
	memberVariable = "STATESVC_ETCD_MEMBER" // holds the Options of the member that this process is to be
	stopPatience   = 5 * time.Second        // a member that hands over its leadership needs milliseconds
	pollInterval   = 10 * time.Millisecond
)

// errNoLeader says that the cluster had no leader when it was asked.
var errNoLeader = errors.New("the etcd cluster has no leader")

// Main turns this process into a member if StartCluster has started it as one, and does not return then. It belongs at the
// beginning of TestMain.
func Main() {
	text := os.Getenv(memberVariable)
	if text == "" {
		return
	}
	var options Options
	err := json.Unmarshal([]byte(text), &options)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = Run(ctx, options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Cluster is some members on this machine. It is stopped by Stop, or by the end of this program.
type Cluster struct {
	Members []*Member

	folder *scratch.Folder
}

// Member is one process of a cluster. Killed or stopped, it keeps its ports and its data for Restart.
type Member struct {
	Options Options

	client, peer *scratch.Port
	process      *scratch.Process
}

// StartCluster starts n members, each this program again (see Main), and returns when all of them answer. ctx bounds the
// start only.
func StartCluster(ctx context.Context, n int) (*Cluster, error) {
	cluster := &Cluster{}
	err := cluster.place(n)
	for _, member := range cluster.Members {
		if err == nil {
			err = member.start()
		}
	}
	for _, member := range cluster.Members {
		if err == nil {
			err = member.await(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return cluster, nil
}

// place finds a folder and the ports.
func (c *Cluster) place(n int) (err error) {
	if c.folder, err = scratch.NewFolder("etcd"); err != nil {
		return err
	}
	peers := make([]string, n)
	for i := range peers {
		member := &Member{}
		c.Members = append(c.Members, member)
		if err := member.place(c.folder.Path, fmt.Sprintf("m%d", i+1)); err != nil {
			return err
		}
		peers[i] = member.Options.Name + "=" + member.Options.PeerURL
	}
	for _, member := range c.Members {
		member.Options.InitialCluster = strings.Join(peers, ",")
	}
	return nil
}

func (m *Member) place(folder, name string) (err error) {
	if m.client, err = scratch.NewPort(); err != nil {
		return err
	}
	if m.peer, err = scratch.NewPort(); err != nil {
		return err
	}
	m.Options = Options{
		Name: name, DataDir: filepath.Join(folder, name), Log: filepath.Join(folder, name+".log"),
		ClientURL: "http://" + m.client.Addr(), PeerURL: "http://" + m.peer.Addr(),
	}
	return nil
}

// Endpoints are the client URLs of all members.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, len(c.Members))
	for i, member := range c.Members {
		endpoints[i] = member.Options.ClientURL
	}
	return endpoints
}

// Leader waits until the cluster has a leader, and returns it.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	for {
		for _, member := range c.Members {
			if member.leads(ctx) {
				return member, nil
			}
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return nil, errors.Join(errNoLeader, ctx.Err())
		}
	}
}

// Others are all members but one.
func (c *Cluster) Others(one *Member) []*Member {
	return slices.DeleteFunc(slices.Clone(c.Members), func(m *Member) bool { return m == one })
}

// Stop ends all members at once and removes their data.
func (c *Cluster) Stop() error {
	var err error
	for _, member := range c.Members {
		err = errors.Join(err, member.release())
	}
	if c.folder != nil {
		err = errors.Join(err, c.folder.Remove())
	}
	return err
}

func (m *Member) release() error {
	var err error
	if m.process != nil {
		err = m.process.Kill()
	}
	for _, port := range []*scratch.Port{m.client, m.peer} {
		if port != nil {
			err = errors.Join(err, port.Close())
		}
	}
	return err
}

func (m *Member) start() error {
	text, err := json.Marshal(m.Options)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(program)
	command.Env = append(os.Environ(), memberVariable+"="+string(text))
	command.Stderr = os.Stderr
	m.process, err = scratch.StartProcess(command)
	return err
}

// await returns when the member serves, which takes a majority of the cluster.
func (m *Member) await(ctx context.Context) error {
	return m.ask(ctx, func(client *clientv3.Client) error {
		for {
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			_, err := client.Get(attempt, "ready")
			cancel()
			switch {
			case err == nil || ctx.Err() != nil:
				return err
			case !m.process.Alive():
				return errors.Join(errStopped, m.process.Err())
			}
		}
	})
}

// leads tells whether the member says that it leads.
func (m *Member) leads(ctx context.Context) bool {
	if m.process == nil || !m.process.Alive() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // a paused member does not answer
	defer cancel()
	leads := false
	err := m.ask(ctx, func(client *clientv3.Client) error {
		status, err := client.Status(ctx, m.Options.ClientURL)
		leads = err == nil && status.Leader == status.Header.MemberId
		return err
	})
	return err == nil && leads
}

// ask lets do talk to this member alone.
func (m *Member) ask(ctx context.Context, do func(client *clientv3.Client) error) error {
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{m.Options.ClientURL}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	err = do(client)
	_ = client.Close() // it had one question
	if err != nil {
		return fmt.Errorf("etcd member %s: %w", m.Options.Name, err)
	}
	return nil
}

// Kill ends the member at once.
func (m *Member) Kill() error { return m.process.Kill() }

// Shutdown ends the member cleanly; a leader hands over first.
func (m *Member) Shutdown() error { return m.process.Stop(stopPatience) }

// Pause stops the member in the middle of whatever it does; its connections stay.
func (m *Member) Pause() error { return m.process.Pause() }

// Resume lets a paused member go on.
func (m *Member) Resume() error { return m.process.Resume() }

// Restart starts a member that has ended, with its data, and returns when it serves.
func (m *Member) Restart(ctx context.Context) error {
	if err := m.start(); err != nil {
		return err
	}
	return m.await(ctx)
}
