package scratch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	portLowest   = 10240 // below live the well-known services
	portHighest  = 32767 // the usual start of the kernel's own range, if the kernel does not say
	portTriesMax = 200   // far more than a machine has servers; a search without end would hide what is wrong
)

// errNoPort means that every port tried was in use.
var errNoPort = errors.New("no free loopback port found")

// Port is a loopback port that is ours until Close, whether or not a server listens on it at the moment: a server that
// was killed must find its port free when it comes back.
type Port struct {
	Number int

	lock *os.File
}

// NewPort finds a free port of 127.0.0.1 and keeps other users of this package away from it.
func NewPort() (*Port, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(root, "ports")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of port locks: %w", err)
	}
	highest := portCeiling()
	for range portTriesMax {
		port, err := takePort(folder, portLowest+rand.IntN(highest-portLowest+1))
		if err != nil && !errors.Is(err, errTaken) {
			return nil, err
		}
		if err == nil {
			return port, nil
		}
	}
	return nil, errNoPort
}

// takePort locks the number first and then looks whether a stranger listens there.
func takePort(folder string, number int) (*Port, error) {
	lock, err := tryLock(filepath.Join(folder, strconv.Itoa(number)))
	if err != nil {
		return nil, err
	}
	port := &Port{Number: number, lock: lock}
	listener, err := net.Listen("tcp4", port.Addr())
	if err != nil {
		return nil, errors.Join(errTaken, port.Close())
	}
	return port, listener.Close()
}

// Addr is host:port.
func (p *Port) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Number))
}

// Close gives the port back. The lock file stays: removing it would let two programs lock two files of one name.
func (p *Port) Close() error {
	return p.lock.Close()
}

// portCeiling is the highest port that the kernel does not use for outgoing connections.
func portCeiling() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return portHighest
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	low, err := strconv.Atoi(first)
	if err != nil || low <= portLowest+portTriesMax {
		return portHighest
	}
	return low - 1
}
