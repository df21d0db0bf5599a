package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/internal/relay"
	"github.com/statesvc/statesvc/internal/scratch"
)

const silence = 150 * time.Millisecond

// echo is a server that greets, and then says what it hears.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Write([]byte("hello"))
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := scratch.NewPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	return port.Addr()
}

// peer is a connection over a relay.
type peer struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, address string) peer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return peer{t, conn}
}

func (p peer) says(text string) {
	p.t.Helper()
	if _, err := p.Write([]byte(text)); err != nil {
		p.t.Error(err)
	}
}

func (p peer) hears(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	_ = p.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(p, got); err != nil || string(got) != want {
		p.t.Errorf("heard %q, %v instead of %q", got, err, want)
	}
}

func (p peer) hearsNothing() {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(silence))
	n, err := p.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); n > 0 || !ok || !timeout.Timeout() {
		p.t.Errorf("heard %d bytes, %v", n, err)
	}
}

type fixture struct {
	relay     *relay.Relay
	databases []string // over the relay
	register  string   // of the first node's agent
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	f := fixture{databases: []string{freeAddress(t), freeAddress(t)}, register: freeAddress(t)}
	var err error
	f.relay, err = relay.New(relay.Config{Nodes: []relay.Node{
		{
			Name: "n1", Account: "repl_n1", Database: relay.Link{Listen: f.databases[0], Server: echo(t)},
			Register: []relay.Link{{Listen: f.register, Server: echo(t)}},
		},
		{Name: "n2", Account: "repl_n2", Database: relay.Link{Listen: f.databases[1], Server: echo(t)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.relay.Close)
	return f
}

// packet is how a client of MariaDB logs in.
func packet(account string) string { return strings.Repeat("x", 36) + account + "\x00secret" }

// TestCut: in both directions, and also what the node itself has begun, nothing passes until it is healed, and then all does.
func TestCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	toDatabase, toRegister := dial(t, f.databases[0]), dial(t, f.register)
	fromReplica, other := dial(t, f.databases[1]), dial(t, f.databases[1])
	own, foreign := packet("repl_n1"), packet("app")
	for _, p := range []peer{toDatabase, toRegister, fromReplica, other} {
		p.hears("hello")
	}
	fromReplica.says(own)
	fromReplica.hears(own)
	other.says(foreign)
	other.hears(foreign)
	if err := f.relay.Cut("n1"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []peer{toDatabase, toRegister, fromReplica} {
		p.says("later")
		p.hearsNothing()
	}
	other.says("now")
	other.hears("now")
	if err := f.relay.Heal("n1"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []peer{toDatabase, toRegister, fromReplica} {
		p.hears("later")
	}
}

// TestCutNewConnections: they hang, until the node is healed; that of a replica that is cut after its login.
func TestCutNewConnections(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 2 {
		if err := f.relay.Cut("n1"); err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{f.databases[0], f.register} {
			_, err := net.DialTimeout("tcp", address, silence)
			if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
				t.Errorf("a connection to %s: %v", address, err)
			}
		}
		replica := dial(t, f.databases[1])
		replica.hears("hello")
		replica.says(packet("repl_n1"))
		replica.hearsNothing()
		if err := f.relay.Heal("n1"); err != nil {
			t.Fatal(err)
		}
		replica.hears(packet("repl_n1"))
		dial(t, f.databases[0]).hears("hello")
	}
}

// TestClosedWhileCut: the end of a connection does not pass either.
func TestClosedWhileCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := dial(t, f.databases[0])
	p.hears("hello")
	if err := f.relay.Cut("n1"); err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	if err := f.relay.Heal("n1"); err != nil {
		t.Fatal(err)
	}
	dial(t, f.databases[0]).hears("hello")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	r, err := relay.New(relay.Config{Nodes: []relay.Node{{Name: "n1", Database: relay.Link{Listen: address, Server: freeAddress(t)}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return // it was reset that quickly
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("somebody answers")
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	control := httptest.NewServer(f.relay)
	t.Cleanup(control.Close)
	address := control.Listener.Addr().String()
	p := dial(t, f.databases[0])
	p.hears("hello")
	if err := relay.Order(context.Background(), address, "n1", true); err != nil {
		t.Fatal(err)
	}
	p.says("later")
	p.hearsNothing()
	if err := relay.Order(context.Background(), address, "n1", false); err != nil {
		t.Fatal(err)
	}
	p.hears("later")
	if err := relay.Order(context.Background(), address, "n9", true); err == nil {
		t.Error("an unknown node was cut")
	}
}
