package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	backlog     = 1024                  // connections that wait to be accepted
	fillers     = 2                     // a queue that is to hold none holds one; the second finds out that it is full
	fillTimeout = 20 * time.Millisecond // a connection on this machine takes no time at all if it is let in
	dialTimeout = 5 * time.Second
	chunk       = 64 << 10
)

// gate is shut while a node is cut.
type gate struct {
	mu   sync.Mutex
	pass chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{pass: make(chan struct{})}
	close(g.pass)
	return g
}

func (g *gate) state() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pass
}

func (g *gate) isOpen() bool {
	select {
	case <-g.state():
		return true
	default:
		return false
	}
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.pass:
		g.pass = make(chan struct{})
	default: // it is
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.pass: // it is
	default:
		close(g.pass)
	}
}

// await waits until the gate is open, and says whether that was before ctx ended.
func (g *gate) await(ctx context.Context) bool {
	select {
	case <-g.state():
		return true
	case <-ctx.Done():
		return false
	}
}

// port accepts the connections of one link.
type port struct {
	link     Link
	listener *net.TCPListener

	accepting sync.Mutex // held while a connection is being accepted

	mu      sync.Mutex
	fillers map[string]net.Conn // by their own address; they keep others out
}

func listen(ctx context.Context, link Link) (*port, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", link.Listen)
	if err != nil {
		return nil, err
	}
	return &port{link: link, listener: listener.(*net.TCPListener), fillers: map[string]net.Conn{}}, nil
}

func (p *port) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.fillers {
		_ = conn.Close()
	}
}

// block makes new connections hang: nobody accepts them, and with the queue of those that wait to be accepted full, the kernel drops
// what asks for another one, and says nothing. Closing the port would refuse them, which is the opposite of silence.
func (p *port) block(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.listener.SetDeadline(time.Unix(1, 0)), p.setBacklog(0)); err != nil {
		return err
	}
	p.accepting.Lock() // whoever has not seen the deadline yet would take a filler away
	defer p.accepting.Unlock()
	for range fillers {
		if conn, err := (&net.Dialer{Timeout: fillTimeout}).DialContext(ctx, "tcp", p.link.Listen); err == nil { // else it is full
			p.fillers[conn.LocalAddr().String()] = conn
		}
	}
	return nil
}

func (p *port) unblock() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.fillers {
		_ = conn.Close()
	}
	return errors.Join(p.setBacklog(backlog), p.listener.SetDeadline(time.Time{}))
}

func (p *port) setBacklog(n int) error {
	raw, err := p.listener.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), n) })
	return errors.Join(err, failed)
}

// isFiller says whether a connection is one of our own, and forgets it.
func (p *port) isFiller(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	address := conn.RemoteAddr().String()
	_, ours := p.fillers[address]
	delete(p.fillers, address)
	return ours
}

func (p *port) accept() (net.Conn, error) {
	p.accepting.Lock()
	defer p.accepting.Unlock()
	return p.listener.Accept()
}

// serve accepts until the port is closed.
func (p *port) serve(ctx context.Context, work *sync.WaitGroup, own *gate, logins map[string]*gate) {
	for own.await(ctx) {
		conn, err := p.accept()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue // the gate is shut
		case err != nil:
			return
		case p.isFiller(conn):
			_ = conn.Close()
			continue
		}
		work.Go(func() { forward(ctx, conn.(*net.TCPConn), p.link.Server, own, logins) })
	}
}

// forward passes a connection on until one of its ends closes it.
func forward(ctx context.Context, client *net.TCPConn, address string, own *gate, logins map[string]*gate) {
	if !own.await(ctx) {
		_ = client.Close()
		return
	}
	server, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = client.SetLinger(0) // a reset is as near to a refusal as we can come
		_ = client.Close()
		return
	}
	c := &connection{gates: []*gate{own}}
	ended, end := context.WithCancel(ctx)
	context.AfterFunc(ended, func() { // each copy ends when the other one has
		_ = client.Close()
		_ = server.Close()
	})
	var both sync.WaitGroup
	both.Go(func() {
		defer end()
		c.copy(ended, server, client, logins)
	})
	both.Go(func() {
		defer end()
		c.copy(ended, client, server, nil)
	})
	both.Wait()
}

// connection knows which gates must be open for it.
type connection struct {
	mu    sync.Mutex
	gates []*gate
}

func (c *connection) add(g *gate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gates = append(c.gates, g)
}

// await waits until all gates are open at once.
func (c *connection) await(ctx context.Context) bool {
	for {
		c.mu.Lock()
		gates := c.gates
		c.mu.Unlock()
		shut := false
		for _, g := range gates {
			if !g.isOpen() {
				shut = true
				if !g.await(ctx) {
					return false
				}
			}
		}
		if !shut {
			return true
		}
	}
}

// copy passes one direction on. The end of the stream waits at the gates like data.
func (c *connection) copy(ctx context.Context, to, from net.Conn, logins map[string]*gate) {
	buffer := make([]byte, chunk)
	var seen login
	for {
		n, err := from.Read(buffer)
		if n > 0 && logins != nil {
			account, done := seen.read(buffer[:n])
			if g := logins[account]; g != nil {
				c.add(g)
			}
			if done {
				logins = nil
			}
		}
		if !c.await(ctx) {
			return
		}
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
