package cache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// sentinelScheme begins a setting that names sentinels.
const sentinelScheme = "sentinel://"

// Server says where a Redis is: at an address, or where its sentinels say.
type Server struct {
	Address   string   // host:port; empty if there are sentinels
	Sentinels []string // host:port of each
	Name      string   // under which the sentinels know it
}

// ParseServer reads host:port, or sentinel://host:port,host:port,host:port/name.
func ParseServer(text string) (Server, error) {
	rest, watched := strings.CutPrefix(text, sentinelScheme)
	if !watched {
		return Server{Address: text}, checkAddress(text)
	}
	list, name, _ := strings.Cut(rest, "/")
	s := Server{Sentinels: strings.Split(list, ","), Name: name}
	if name == "" || strings.Contains(name, "/") {
		return s, fmt.Errorf("%s does not end in the name under which sentinels know the server: %shost:port,host:port/name",
			text, sentinelScheme)
	}
	for _, address := range s.Sentinels {
		if err := checkAddress(address); err != nil {
			return s, fmt.Errorf("%s: %w", text, err)
		}
	}
	return s, nil
}

func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is not host:port", text)
	}
	return nil
}

// errNoAnswer says that no sentinel knows where a server is.
var errNoAnswer = errors.New("no sentinel says where Redis is")

// sentinels know which of several servers is the primary.
//
// The failover client of go-redis is not used. Its OnConnect is called for connections to sentinels as well, which have a run_id like
// any server; the time that it has for a connection includes its question, so that it never leaves a sentinel that hangs; and it
// believes the first that answers.
type sentinels struct {
	name    string
	timeout time.Duration
	clients []*redis.SentinelClient
}

func newSentinels(s Server, timeout time.Duration) *sentinels {
	quiet()
	all := &sentinels{name: s.Name, timeout: timeout}
	for _, address := range s.Sentinels {
		o := options(timeout)
		o.Addr, o.PoolSize = address, 1
		all.clients = append(all.clients, redis.NewSentinelClient(o))
	}
	return all
}

// primary returns the address that most of the sentinels name which answer in time; was, if others are named by as many.
func (s *sentinels) primary(ctx context.Context, was string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	answers := make([]string, len(s.clients))
	var asking sync.WaitGroup
	for i, client := range s.clients {
		asking.Go(func() {
			if at, err := client.GetMasterAddrByName(ctx, s.name).Result(); err == nil && len(at) == 2 { // host and port
				answers[i] = net.JoinHostPort(at[0], at[1])
			}
		})
	}
	asking.Wait()
	if address := mostNamed(answers, was); address != "" {
		return address, nil
	}
	return "", errNoAnswer
}

// mostNamed is the answer that most have given; of several, was if it is one of them, else the first. Empty ones are none.
func mostNamed(answers []string, was string) (most string) {
	votes := map[string]int{}
	for _, a := range answers {
		votes[a]++
	}
	for _, a := range answers {
		if a != "" && (votes[a] > votes[most] || most == "" || votes[a] == votes[most] && a == was) {
			most = a
		}
	}
	return most
}

func (s *sentinels) close() error {
	var errs []error
	for _, client := range s.clients {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}
