package cluster

import (
	"context"
	"errors"
	"time"
)

// machinery are the kinds of processes that serve no data: what a cluster has for failing over.
var machinery = []Kind{KindController, KindInstance, KindEtcd}

// SleepMachinery pauses register, controllers and the instances that use them; the databases and their agents go on.
func (s *State) SleepMachinery() (err error) {
	for _, kind := range machinery {
		for _, p := range s.of(kind) {
			err = errors.Join(err, s.Pause(p.Name))
		}
	}
	return err
}

// WakeMachinery resumes what SleepMachinery has paused, and waits until the instances are ready.
func (s *State) WakeMachinery(ctx context.Context) (err error) {
	for i := range machinery {
		for _, p := range s.of(machinery[len(machinery)-1-i]) {
			err = errors.Join(err, s.Resume(p.Name))
		}
	}
	u := &up{Options: Options{Say: func(string, ...any) {}}, state: s}
	select {
	case <-time.After(wakePause):
	case <-ctx.Done():
	}
	return errors.Join(err, u.awaitReady(ctx))
}

// wakePause is how long sessions and leases need after a sleep to be what they were.
const wakePause = 5 * time.Second

// PIDs are those of all processes and databases that run, by name.
func (s *State) PIDs() map[string]int {
	pids := map[string]int{}
	for _, p := range s.Processes {
		if p.Running.Alive() {
			pids[p.Name] = p.Running.PID
		}
		if id, err := s.target(p.Node); p.Kind == KindAgent && err == nil {
			pids[p.Node] = id.PID
		}
	}
	return pids
}

// MigrateDSN is a data source name of a database for changing its schema.
func (s *State) MigrateDSN(node string) string { return s.dsn(node, MigrateUser, s.Passwords.Migrate) }

// MigrateUser is the account that changes schemas.
const MigrateUser = "statesvc_migrate"
