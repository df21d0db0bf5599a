package redisd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Watched are two caches, of which one is the primary and the other its replica, and three sentinels that watch them.
type Watched struct {
	Caches    []*Server // the first is the primary at first
	Sentinels []*Server
}

// The sizes.
const (
	watchedCaches = 2
	watchers      = 3
)

// StartWatched starts them all. ctx bounds the start only.
func StartWatched(ctx context.Context) (*Watched, error) {
	w := &Watched{}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, w.Stop())
	}
	return w, nil
}

func (w *Watched) start(ctx context.Context) error {
	for i := range watchedCaches + watchers {
		s, err := newServer()
		if i < watchedCaches {
			w.Caches = append(w.Caches, s)
		} else {
			w.Sentinels = append(w.Sentinels, s)
		}
		if err != nil {
			return err
		}
	}
	caches := addresses(w.Caches)
	for i, s := range w.Caches {
		of := ""
		if i > 0 {
			of = caches[0]
		}
		s.args = s.process().Arguments()
		if err := errors.Join(s.process().Cache(of), s.Restart(ctx)); err != nil {
			return err
		}
	}
	for _, s := range w.Sentinels {
		s.args = s.process().SentinelArguments()
		if err := errors.Join(s.process().Sentinel(caches[0], caches[1:], addresses(w.Sentinels)), s.Restart(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func addresses(servers []*Server) (list []string) {
	for _, s := range servers {
		list = append(list, s.Addr())
	}
	return list
}

// Setting is what an instance has as the address of the cache role.
func (w *Watched) Setting() string { return Setting(addresses(w.Sentinels)) }

// Setting is what an instance has as the address of the cache role, for these sentinels.
func Setting(sentinels []string) string {
	return "sentinel://" + strings.Join(sentinels, ",") + "/" + Name
}

// Primary is the cache that a sentinel says is the primary.
func (w *Watched) Primary(ctx context.Context) (*Server, error) {
	address, err := Primary(ctx, w.Sentinels[0].Addr())
	if err != nil {
		return nil, err
	}
	for _, s := range w.Caches {
		if s.Addr() == address {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the sentinels know a primary at %s", address)
}

// FailOver has the sentinels promote the replica, as soon as they think it fit for that.
func (w *Watched) FailOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := FailOver(ctx, w.Sentinels[0].Addr())
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return err
		}
	}
}

// Stop ends all of them.
func (w *Watched) Stop() error {
	var errs []error
	for _, s := range append(w.Sentinels, w.Caches...) {
		errs = append(errs, s.Stop())
	}
	return errors.Join(errs...)
}
