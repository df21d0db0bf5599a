package system_test

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard/failpoint"
)

// C23: under load an instance kills itself at one instant of a batch after the other and is started again. On MariaDB another
// instance goes on meanwhile; on SQLite there is nobody else. Then everything is killed once more, for what is on disk is all.
func TestC23KilledAtEveryPoint(t *testing.T) {
	for name, s := range map[string]settings{
		"mariadb": {mariadb: true, instances: 2, sweep: time.Second}, "dev": {dev: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, s)
			l := startLoad(c, 8)
			for i, point := range append(failpoint.All, failpoint.All...) {
				victim := c.instances[0]
				victim.arm(t, point, 20+7*i)
				victim.ended(t)
				if !killed(victim.Err()) {
					t.Errorf("at %s the instance ended with %v\n%s", point, victim.Err(), victim.log)
				}
				victim.confess(t)
				victim.start(t)
				victim.ready(t)
			}
			records := l.stop(t)
			for _, in := range c.instances {
				in.restart(t)
			}
			c.audit(t, records)
		})
	}
}

// One of two instances is stopped in the middle of its work for longer than a server lets a transaction idle, and goes on. The
// other one is not held up, not even for the owners whose rows the stopped one had.
func TestInstancePausedUnderLoad(t *testing.T) {
	c := newCluster(t, settings{mariadb: true, instances: 2})
	l := startLoad(c, 8)
	l.goesOn(t, 50)
	if err := c.instances[0].Pause(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 8 {
		r := newRequest(http.MethodPost, fmt.Sprintf("/v1/owners/o%d/lots", i), "paused", creditBody("paused", 1))
		for r.deadline = time.Second; !c.instances[1].send(r).final(); {
			if time.Since(began) > settledPatience {
				t.Fatalf("owner o%d cannot be written to while another instance is paused", i)
			}
		}
		l.add(&record{request: r, owner: fmt.Sprint("o", i), kind: credit})
	}
	t.Logf("all owners could be written to after %v", time.Since(began))
	time.Sleep(time.Until(began.Add(4 * time.Second)))
	if err := c.instances[0].Resume(); err != nil {
		t.Fatal(err)
	}
	l.goesOn(t, 50)
	c.audit(t, l.stop(t))
}

func killed(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
