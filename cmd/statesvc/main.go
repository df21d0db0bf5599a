// Command statesvc is the state service behind a checkout: coupons, red-packet money and the holds over them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // campaigns have days, and exports time zones, also where the system knows none

	"github.com/spf13/cobra"
)

// version is set at link time.
var version = "development"

// gcPercent lets the heap grow to five times what is live before it is collected. What is live is tens of megabytes, and what
// a request leaves behind is garbage at once, so collecting less often saves CPU that batches can use. GOGC overrides it.
const gcPercent = 400

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "statesvc:", err)
		os.Exit(1)
	}
}

// run is the whole program. Tests call it with their own arguments and environment.
func run(ctx context.Context, args, env []string, out io.Writer) error {
	root := &cobra.Command{
		Use:           "statesvc",
		Short:         "The state service behind a checkout: coupons, red packets and holds that are never wrong",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(out)
	root.SetArgs(args)
	root.CompletionOptions.HiddenDefaultCmd = true
	p := &program{env: env, out: out}
	root.AddCommand(p.dev(), p.serve(), p.migrate(), p.keys(), p.ids(), p.shards(), p.feed(), p.check(), p.bench())
	root.AddCommand(p.imports(), p.export(), p.codes(), p.etcd(), p.relay(), p.agent(), p.controller(), p.bootstrap(), p.cluster())
	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil //nolint:nilerr // stopped by a signal, after a clean end
	}
	return err
}

// program is what every command shares.
type program struct {
	env []string
	out io.Writer
}

// variable is the value of an environment variable of ours, empty if it is not set.
func (p *program) variable(name string) string {
	for _, v := range p.env {
		if value, found := strings.CutPrefix(v, envPrefix+name+"="); found {
			return value
		}
	}
	return ""
}

func (p *program) printf(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }
