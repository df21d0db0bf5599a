package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a relay does.
type Config struct {
	Control string `koanf:"control" json:"control"` // host:port at which cuts are ordered
	Nodes   []Node `koanf:"nodes" json:"nodes"`
}

// Node is what can be cut.
type Node struct {
	Name     string `koanf:"name" json:"name"`
	Account  string `koanf:"account" json:"account"`   // with which it logs in to others as a replica
	Database Link   `koanf:"database" json:"database"` // others reach its database; without an address: it has none
	Register []Link `koanf:"register" json:"register"` // its agent reaches the register
	Cut      bool   `koanf:"cut" json:"cut"`           // at the start
}

// Link forwards from one address to another.
type Link struct {
	Listen string `koanf:"listen" json:"listen"`
	Server string `koanf:"server" json:"server"`
}

// Relay forwards until it is closed.
type Relay struct {
	nodes    map[string]*node
	accounts map[string]*gate // by the account of the node
	life     context.Context
	end      context.CancelFunc
	work     sync.WaitGroup

	orders sync.Mutex // one at a time
}

type node struct {
	gate  *gate
	ports []*port
}

// New opens all ports.
func New(cfg Config) (*Relay, error) {
	r := &Relay{nodes: map[string]*node{}, accounts: map[string]*gate{}}
	r.life, r.end = context.WithCancel(context.Background())
	for _, n := range cfg.Nodes {
		r.nodes[n.Name] = &node{gate: newGate()}
		r.accounts[n.Account] = r.nodes[n.Name].gate
	}
	for _, n := range cfg.Nodes {
		if err := r.open(n); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

func (r *Relay) open(n Node) error {
	one := r.nodes[n.Name]
	for _, link := range n.links() {
		p, err := listen(r.life, link)
		if err != nil {
			return fmt.Errorf("relay of %s: %w", n.Name, err)
		}
		one.ports = append(one.ports, p)
	}
	if n.Cut {
		if err := r.Cut(n.Name); err != nil {
			return err
		}
	}
	for _, p := range one.ports {
		logins := r.accounts
		if p.link != n.Database { // what speaks to the register does not log in
			logins = nil
		}
		r.work.Go(func() { p.serve(r.life, &r.work, one.gate, logins) })
	}
	return nil
}

func (n *Node) links() []Link {
	if n.Database == (Link{}) {
		return n.Register
	}
	return append([]Link{n.Database}, n.Register...)
}

// Close ends all connections and waits for them.
func (r *Relay) Close() {
	r.end()
	for _, n := range r.nodes {
		for _, p := range n.ports {
			p.close()
		}
	}
	r.work.Wait()
}

// ErrUnknown says that there is no such node.
var ErrUnknown = errors.New("there is no such node")

// Cut lets nothing pass from or to a node any more. When it returns that is so.
func (r *Relay) Cut(name string) error {
	return r.order(name, func(n *node) error {
		n.gate.shut()
		var all errgroup.Group
		for _, p := range n.ports {
			all.Go(func() error { return p.block(r.life) })
		}
		return all.Wait()
	})
}

// Heal undoes Cut.
func (r *Relay) Heal(name string) error {
	return r.order(name, func(n *node) error {
		var errs []error
		for _, p := range n.ports {
			errs = append(errs, p.unblock())
		}
		n.gate.open()
		return errors.Join(errs...)
	})
}

func (r *Relay) order(name string, do func(*node) error) error {
	n := r.nodes[name]
	if n == nil {
		return fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	r.orders.Lock()
	defer r.orders.Unlock()
	return do(n)
}

// ServeHTTP takes orders: PUT /cut/NODE and DELETE /cut/NODE.
func (r *Relay) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /cut/{node}", func(w http.ResponseWriter, q *http.Request) { answer(w, r.Cut(q.PathValue("node"))) })
	mux.HandleFunc("DELETE /cut/{node}", func(w http.ResponseWriter, q *http.Request) { answer(w, r.Heal(q.PathValue("node"))) })
	mux.ServeHTTP(w, request)
}

func answer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, ErrUnknown):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

const (
	orderPatience = 10 * time.Second // of one order, and of who sends it
	closePatience = time.Second
)

// Run relays until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	r, err := New(cfg)
	if err != nil {
		return err
	}
	defer r.Close()
	control, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Control)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: r, ReadTimeout: orderPatience, WriteTimeout: orderPatience}
	defer context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
		defer cancel()
		_ = server.Shutdown(ending) // nothing is lost
	})()
	if err := server.Serve(control); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ctx.Err()
}

// Order has a relay cut a node or heal it.
func Order(ctx context.Context, control, node string, cut bool) error {
	ctx, cancel := context.WithTimeout(ctx, orderPatience)
	defer cancel()
	method := http.MethodDelete
	if cut {
		method = http.MethodPut
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+control+"/cut/"+node, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("the relay does not answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the relay answers %s", response.Status)
	}
	return nil
}
