package shard

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

// errCut: the connections of the database were cut for ever, because its epoch is over.
var errCut = errors.New("the connections to this primary were cut")

// wires are the sockets of a database, kept so that all of them can be closed from outside: closing a pool of database/sql leaves
// alone who is using a connection, and a lane that waits for the answer to COMMIT would wait on. No statement is ever killed by
// another one: a killed wait for an acknowledgement is answered as if there had been one.
type wires struct {
	over   context.Context // ends with the cut
	cancel context.CancelFunc

	mu   sync.Mutex
	open map[*wire]bool
}

func newWires() *wires {
	w := &wires{open: map[*wire]bool{}}
	w.over, w.cancel = context.WithCancel(context.Background())
	return w
}

// dial is how the driver connects.
func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.over, cancel)()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return w.keep(conn)
}

// keep refuses a connection that was made while the others were being cut.
func (w *wires) keep(conn net.Conn) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over.Err() != nil {
		return nil, errors.Join(errCut, conn.Close())
	}
	kept := &wire{Conn: conn, of: w}
	w.open[kept] = true
	return kept, nil
}

// cut closes every connection and lets no new one be made. When it returns, not a byte is sent any more, for what waits in a
// socket is thrown away. What a server has received before, it may still carry out.
func (w *wires) cut() {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Conn.Close()
	}
	clear(w.open)
}

type wire struct {
	net.Conn
	of *wires
}

// Close is called by the driver.
func (c *wire) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn is what the driver looks at to see whether a connection that lay idle is still open.
func (c *wire) SyscallConn() (syscall.RawConn, error) {
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return raw.SyscallConn()
}
