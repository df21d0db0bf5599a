//go:build failpoints

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/statesvc/statesvc/shard/failpoint"
)

// failPoints kills the process at the n-th passing of a point named in FAILPOINT, e.g. "before-commit:7". Only tests build
// this file. The name has no STATESVC_ in front, which would make it a setting.
func failPoints() failpoint.Points {
	name, count, ok := strings.Cut(os.Getenv("FAILPOINT"), ":")
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		panic("FAILPOINT is not point:number")
	}
	var passed atomic.Int64
	return func(at string) {
		if at == name && passed.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	}
}
