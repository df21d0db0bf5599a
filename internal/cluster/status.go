package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/statesvc/statesvc/failover"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

const (
	statusPatience = time.Second // for each question; all are asked side by side
	leaderName     = "controller"
	none           = "–"
)

// Status is what a cluster looks like at one moment. Every process was asked by itself, so it is no consistent picture.
type Status struct {
	Register  string // why it does not answer, or nothing
	Leader    string // of the controllers
	Shards    []ShardStatus
	Processes []ProcessStatus // all but the agents
}

// ShardStatus is a shard with its nodes.
type ShardStatus struct {
	Name   string
	Record *failover.Record // nil: none, or the register does not answer
	Nodes  []NodeStatus
}

// NodeStatus is a database and its agent.
type NodeStatus struct {
	Name, Agent string
	Role        string // primary, replica, or why there is none
	PID         int    // of the database
	StartID     string
	GTID        string
	InSync      string
	Doing       string // as its agent says
}

// ProcessStatus is another process.
type ProcessStatus struct {
	Name, Address, State string
	PID                  int
}

// Look asks everybody.
func (s *State) Look(ctx context.Context) Status {
	status := Status{}
	var hosts map[string]failover.Host
	reg, err := s.OpenRegister(ctx, statusPatience)
	if err == nil {
		defer reg.Close() //nolint:errcheck // nothing is lost
		hosts, err = hostsOf(ctx, reg)
		status.Leader = leader(ctx, reg)
	}
	if err != nil {
		status.Register = err.Error()
	}
	var work sync.WaitGroup
	status.Shards = make([]ShardStatus, s.Shards)
	for i := range status.Shards {
		one := &status.Shards[i]
		one.Name = shardName(i + 1)
		if err == nil {
			one.Record = record(ctx, reg, i+1)
		}
		one.Nodes = make([]NodeStatus, nodes)
		for j, agent := range s.agents(i + 1) {
			work.Go(func() { one.Nodes[j] = s.node(ctx, agent, one.Record, hosts[agent.Node]) })
		}
	}
	for _, p := range s.Processes {
		if p.Kind != KindAgent {
			status.Processes = append(status.Processes, ProcessStatus{Name: p.Name, Address: p.Address, State: processState(p.Running)})
		}
	}
	primaryCache := s.primaryCache(ctx)
	for i := range status.Processes {
		p := s.process(status.Processes[i].Name)
		work.Go(func() { s.complete(ctx, p, &status.Processes[i], status.Leader, primaryCache) })
	}
	work.Wait()
	return status
}

func (s *State) process(name string) *Process {
	return s.Processes[slices.IndexFunc(s.Processes, func(p *Process) bool { return p.Name == name })]
}

func (s *State) complete(ctx context.Context, p *Process, status *ProcessStatus, leader, primaryCache string) {
	if !p.Running.Alive() {
		return
	}
	status.PID = p.Running.PID
	switch {
	case p.Kind == KindInstance && !p.Running.Paused():
		status.State = "ready"
		if why := ready(ctx, p.Address); why != "" {
			status.State = "not ready: " + strings.Join(strings.Fields(why), " ")
		}
	case p.Kind == KindCache && !p.Running.Paused():
		status.State = roleOf(ctx, p, primaryCache)
	case p.Kind == KindController && leader != "" && (strings.Contains(leader, p.Name) || strings.Contains(leader, p.Address)):
		status.State += ", leads"
	}
}

func processState(id Identity) string {
	switch {
	case !id.Alive():
		return "down"
	case id.Paused():
		return "paused"
	}
	return "running"
}

func hostsOf(ctx context.Context, reg register.Register) (map[string]failover.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	return failover.Hosts(ctx, reg)
}

func leader(ctx context.Context, reg *register.Etcd) string {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	entry, err := reg.Leader(ctx, leaderName)
	if err != nil {
		return ""
	}
	return string(entry.Value)
}

// LeadingController is the name of the controller that leads, or nothing.
func (s *State) LeadingController(ctx context.Context, reg *register.Etcd) string {
	address := leader(ctx, reg)
	for _, p := range s.of(KindController) {
		if address != "" && (strings.Contains(address, p.Name) || strings.Contains(address, p.Address)) {
			return p.Name
		}
	}
	return ""
}

// LeadingMember is the name of the member of etcd that says that it leads, or nothing.
func (s *State) LeadingMember(ctx context.Context) string {
	for _, p := range s.of(KindEtcd) {
		if text, err := fetch(ctx, "http://"+p.Address+"/metrics"); err == nil && strings.Contains(text, "\netcd_server_is_leader 1\n") {
			return p.Name
		}
	}
	return ""
}

func record(ctx context.Context, reg register.Register, number int) *failover.Record {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	entry, err := reg.Get(ctx, shard.RecordKey(number))
	if err != nil {
		return nil
	}
	r, err := failover.DecodeRecord(entry.Value)
	if err != nil {
		return nil
	}
	return &r
}

// node asks the database itself, and compares its start with the record's.
func (s *State) node(ctx context.Context, agent *Process, record *failover.Record, host failover.Host) NodeStatus {
	status := NodeStatus{Name: agent.Node, Agent: processState(agent.Running), Role: none, StartID: none, GTID: none, InSync: none}
	status.Doing = host.Doing
	if agent.Cut {
		status.Agent += ", CUT"
	}
	database, err := s.database(agent)
	if err != nil || !database.Alive() {
		status.Role = "down"
		return status
	}
	status.PID = database.PID
	if database.Paused() {
		status.Role = "paused"
		return status
	}
	if agent.Cut {
		status.Role = "CUT"
		return status
	}
	readOnly, err := s.ask(ctx, agent, &status)
	switch {
	case err != nil:
		status.Role = "does not answer"
		return status
	case readOnly:
		status.Role = "replica"
	default:
		status.Role = "primary"
	}
	if record == nil {
		return status
	}
	switch status.StartID {
	case record.PrimaryStart:
		status.InSync = "primary"
	case record.InSync[agent.Node]:
		status.InSync = "yes"
	case record.Joining[agent.Node]:
		status.InSync = "joining"
	default:
		status.InSync = "no"
	}
	return status
}

func (s *State) ask(ctx context.Context, agent *Process, status *NodeStatus) (readOnly bool, err error) {
	db, err := s.openNode(agent)
	if err != nil {
		return false, err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	err = db.QueryRowContext(ctx, "SELECT @@global.read_only, @@global.report_user, @@global.gtid_binlog_pos").
		Scan(&readOnly, &status.StartID, &status.GTID)
	return readOnly, err
}

// Write prints the status as tables.
func (st Status) Write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) //nolint:mnd // a gap that is seen
	if st.Register != "" {
		fmt.Fprintf(w, "the register does not answer: %s\n\n", st.Register)
	}
	for _, one := range st.Shards {
		st.writeShard(w, one)
	}
	fmt.Fprintln(w, "PROCESS\tPID\tADDRESS\tSTATE")
	for _, p := range st.Processes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Name, number(p.PID), p.Address, p.State)
	}
	return errors.Join(w.Flush())
}

func (st Status) writeShard(w io.Writer, one ShardStatus) {
	switch r := one.Record; {
	case r == nil && st.Register != "":
		fmt.Fprintf(w, "shard %s: its record is not known\n", one.Name)
	case r == nil:
		fmt.Fprintf(w, "shard %s: no record\n", one.Name)
	default:
		fmt.Fprintf(w, "shard %s: epoch %d, %s, primary %s\n", one.Name, r.Epoch, r.Phase, r.Primary)
		for what, why := range map[string]string{"stuck": r.Stuck, "suspended": r.Suspended} {
			if why != "" {
				fmt.Fprintf(w, "  %s: %s\n", what, why)
			}
		}
		for _, node := range r.NodeNames() {
			if rebuild, ok := r.Rebuilds[node]; ok {
				fmt.Fprintf(w, "  rebuild of %s from %s, %s: %s\n", node, rebuild.Donor, rebuild.State(), rebuild.Why)
			}
		}
	}
	fmt.Fprintln(w, "NODE\tROLE\tPID\tSTART\tGTID\tIN SYNC\tAGENT\tDOING")
	for _, n := range one.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.Role, number(n.PID), n.StartID, n.GTID, n.InSync, n.Agent, n.Doing)
	}
	fmt.Fprintln(w)
}

func number(pid int) string {
	if pid == 0 {
		return none
	}
	return fmt.Sprint(pid)
}
