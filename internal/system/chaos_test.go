package system_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/chaos"
	"github.com/statesvc/statesvc/internal/testdb"
)

// breakCluster plays rounds of chaos on a cluster of its own, and fails if a promise was not kept. A shell takes the cluster down when the
// test is killed.
func breakCluster(t *testing.T, o chaos.Options) chaos.Result {
	t.Helper()
	testdb.NeedMariaDB(t)
	path, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	o.Program, o.Folder, o.Env, o.Print = path, filepath.Join(t.TempDir(), "cluster"), os.Environ(), t.Logf
	o.Shards, o.Instances, o.Owners = 2, 2, 12
	testdb.TakeDown(t, path, o.Env, o.Folder)
	result, err := chaos.Run(t.Context(), o)
	if err != nil {
		showLogs(t, o.Folder)
		t.Fatal(err)
	}
	t.Logf("%d faults, %d failovers, %d writes, the longest answer took %s; whole again after %s at most",
		result.Faults, result.Failovers, result.Writes, result.MaxGap, result.Longest())
	return result
}

const shortTail = 1500 // bytes of each of many logs

// showLogs shows the ends of the logs, because the folder goes with the test.
func showLogs(t *testing.T, folder string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "logs", "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, path := range append(paths, filepath.Join(folder, "status.txt")) {
		if strings.HasPrefix(filepath.Base(path), "etcd-") {
			continue // they have nothing to say that a fault from outside does not explain
		}
		text, err := os.ReadFile(path)
		if err == nil && len(text) > 0 {
			t.Logf("end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-shortTail):])
		}
	}
}

// Faults at random, always the same ones.
func TestChaos(t *testing.T) {
	breakCluster(t, chaos.Options{Seed: 1, Duration: 15 * time.Second})
}

// Each of these is a failover with a history. After each round, keys that were sent before, during and after the failover are sent
// again and are given the first reply, byte by byte.
func TestC22AnswersSurviveFailovers(t *testing.T) {
	result := breakCluster(t, chaos.Options{Seed: 22, Faults: []string{
		"kill-primary", "kill-primary", "kill-primary", // under load, at whatever instant
		"pause-primary",                  // it hangs, and its agent kills it
		"pause-primary-and-agent",        // it hangs, nobody can kill it, and it wakes up as a primary of an old epoch (C47)
		"pause-primary-wake-in-failover", // it wakes up before it is known who comes next
		"kill-shard",                     // nothing is left but what is on disk
		"kill-controller-in-fencing",     // the next one goes on in the middle
		"switchover",                     // ordered, so nobody is killed
		"kill-sibling",                   // the first commit of the new primary waits for a replica that has yet to be let in
	}})
	if result.Longest() > recoveryMax {
		t.Errorf("a recovery took %s", result.Longest())
	}
	if result.Failovers < result.Faults {
		t.Errorf("%d failovers in %d rounds", result.Failovers, result.Faults)
	}
}

// recoveryMax is far more than a busy machine needs, and less than what a step that waits for its own patience takes.
const recoveryMax = 40 * time.Second

// A name that is not one of a fault is refused before anything is started.
func TestChaosKnowsItsFaults(t *testing.T) {
	t.Parallel()
	_, err := chaos.Run(t.Context(), chaos.Options{Faults: []string{"kill-primary", "kill-pirmary"}})
	if err == nil || !strings.Contains(err.Error(), `"kill-pirmary"`) {
		t.Errorf("it is taken: %v", err)
	}
}
