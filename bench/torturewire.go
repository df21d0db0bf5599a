package bench

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// wire forwards connections to a server until it is told to cut them.
type wire struct {
	server   string
	listener net.Listener
	work     sync.WaitGroup
	left     atomic.Int64 // bytes until all connections are cut; negative: no end

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newWire(server string) (*wire, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{server: server, listener: listener, conns: map[net.Conn]bool{}}
	w.left.Store(-1)
	w.work.Go(w.serve)
	return w, nil
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) serve() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.work.Go(func() { w.forward(client) })
	}
}

func (w *wire) forward(client net.Conn) {
	w.note(client, true)
	defer w.note(client, false)
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.server)
	if err != nil {
		return
	}
	w.note(server, true)
	defer w.note(server, false)
	var both sync.WaitGroup
	both.Go(func() { w.copy(server, client) })
	both.Go(func() { w.copy(client, server) })
	both.Wait()
}

// copy passes on what comes, until one end is closed; then it closes the other.
func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !w.pass(to, buf[:n]) || err != nil {
			return
		}
	}
}

// pass sends bytes on, and cuts all connections in the middle of them if it is time.
func (w *wire) pass(to net.Conn, part []byte) bool {
	if w.left.Load() >= 0 {
		if rest := w.left.Add(-int64(len(part))); rest < 0 {
			_, _ = to.Write(part[:max(0, len(part)+int(rest))])
			w.left.Store(-1)
			w.cut()
			return false
		}
	}
	_, err := to.Write(part)
	return err == nil
}

// note adds a connection, or closes and forgets it.
func (w *wire) note(c net.Conn, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if open {
		w.conns[c] = true
		return
	}
	delete(w.conns, c)
	_ = c.Close()
}

// cut closes all connections; new ones are let in.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}

// cutAfter cuts all connections once so many more bytes have passed, wherever that is in a statement or a reply.
func (w *wire) cutAfter(bytes int64) { w.left.Store(bytes) }

func (w *wire) close() error {
	err := w.listener.Close()
	w.cut()
	w.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
