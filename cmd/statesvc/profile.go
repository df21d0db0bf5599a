package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"golang.org/x/sync/errgroup"
)

// profiler serves net/http/pprof on an address of this machine only: there is no key in front of it, and every profile costs
// the service time. The package also registers itself with http.DefaultServeMux, which nothing here serves.
type profiler struct {
	http    *http.Server
	serving errgroup.Group
}

func startProfiler(ctx context.Context, address string) (*profiler, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("pprof %q: use an address of this machine only, such as 127.0.0.1:6060", address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for profiles: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	p := &profiler{http: &http.Server{Handler: mux, ReadHeaderTimeout: headerPatience}}
	p.serving.Go(func() error { return p.http.Serve(listener) })
	return p, nil
}

// close ends at once: whoever reads a profile of a process that stops gets a part of it.
func (p *profiler) close() {
	_ = p.http.Close()
	_ = p.serving.Wait() // http.ErrServerClosed
}
