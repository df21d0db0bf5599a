package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/statesvc/statesvc/internal/cluster"
	"github.com/statesvc/statesvc/register"
)

// ownRegisterPatience is how long the register of a cluster that was just started may take to answer.
const ownRegisterPatience = 10 * time.Second

// onOwnCluster starts a cluster for a benchmark, and takes it down afterwards. Its folder goes with it if that went well and keep is false.
func (p *program) onOwnCluster(ctx context.Context, o cluster.Options, keep bool,
	f func(state *cluster.State, reg register.Register) error,
) (err error) {
	if o.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	o.Env, o.Controllers, o.Say = p.env, true, p.clusterSay(time.Now())
	state, err := cluster.Up(ctx, o)
	defer func() { err = errors.Join(err, cluster.Down(o.Folder, err == nil && !keep, p.clusterSay(time.Now()))) }()
	if err != nil {
		return err
	}
	reg, err := state.OpenRegister(ctx, ownRegisterPatience)
	if err != nil {
		return err
	}
	defer reg.Close() //nolint:errcheck // nothing is lost
	return f(state, reg)
}
