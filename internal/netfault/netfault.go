// Package netfault puts a TCP proxy in front of a server, so that a test can cut the network at a chosen byte or instant.
package netfault

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Direction is that of a stream through the proxy.
type Direction string

// The directions.
const (
	ToServer Direction = "upstream"
	ToClient Direction = "downstream"
)

// Proxy forwards connections to one server until it is told to misbehave.
type Proxy struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// New starts a proxy to server on a free loopback port. It stops with the test.
func New(t testing.TB, server string) *Proxy {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{t: t, proxy: toxiproxy.NewProxy(api, "faults", "127.0.0.1:0", server)}
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("start a proxy to %s: %v", server, err)
	}
	t.Cleanup(p.proxy.Stop)
	return p
}

// Addr is where clients connect instead of the server.
func (p *Proxy) Addr() string { return p.proxy.Listen }

// CutAfter lets n more bytes of each connection pass in the direction, then closes the connection.
func (p *Proxy) CutAfter(d Direction, n int) {
	p.add("limit_data", d, fmt.Sprintf(`{"bytes":%d}`, n))
}

// Swallow lets nothing pass in the direction any more; the connections stay open, as with a dead router.
func (p *Proxy) Swallow(d Direction) { p.add("timeout", d, `{"timeout":0}`) }

// Delay lets everything pass in the direction, that much later.
func (p *Proxy) Delay(d Direction, by time.Duration) {
	p.add("latency", d, fmt.Sprintf(`{"latency":%d}`, by.Milliseconds()))
}

// Reset closes connections as soon as data moves in the direction, and swallows that data.
func (p *Proxy) Reset(d Direction) { p.add("reset_peer", d, `{"timeout":0}`) }

func (p *Proxy) add(kind string, d Direction, attributes string) {
	p.t.Helper()
	toxic := fmt.Sprintf(`{"name":"%s-%s","type":"%s","stream":"%s","attributes":%s}`, kind, d, kind, d, attributes)
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		p.t.Errorf("add %s: %v", kind, err)
	}
}

// Heal lets everything pass again.
func (p *Proxy) Heal() { p.proxy.Toxics.ResetToxics(context.Background()) }

// Down closes every connection and refuses new ones.
func (p *Proxy) Down() { p.proxy.Stop() }

// Up accepts connections again after Down, on the same address.
func (p *Proxy) Up() {
	p.t.Helper()
	if err := p.proxy.Start(); err != nil {
		p.t.Fatalf("start the proxy again: %v", err)
	}
}
