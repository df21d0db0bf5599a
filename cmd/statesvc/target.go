package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/client"
)

// askPatience is how long a command goes on when the service cannot answer: somebody waits for it.
const askPatience = 3 * time.Second

// target is a running service that a command asks.
type target struct{ address, key string }

// complete takes from the environment what no flag says, and refuses what is no service.
func (p *program) complete(cmd *cobra.Command, t *target) error {
	if value := p.variable("ADDRESS"); value != "" && !cmd.Flags().Changed("address") {
		t.address = value
	}
	return p.completeKey(t)
}

// completeKey is complete for a command that has read the address itself.
func (p *program) completeKey(t *target) error {
	if t.key == "" {
		t.key = p.variable("KEY")
	}
	address, err := url.Parse(t.address)
	switch {
	case err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https":
		return fmt.Errorf("--address: %q is no URL of a service; it begins with http:// or https://", t.address)
	case t.key == "":
		return errors.New("an API key is needed: --key or STATESVC_KEY; `statesvc dev` prints one, `statesvc keys create` makes others")
	}
	return nil
}

// connect returns a client of the service that a command asks.
func (p *program) connect(cmd *cobra.Command, t *target) (*client.Client, error) {
	if err := p.complete(cmd, t); err != nil {
		return nil, err
	}
	return client.New(client.Options{BaseURL: t.address, Token: t.key, Patience: askPatience})
}

// advice says which flag may be wrong, for a command that needs a scope.
func advice(err error, scope string) string {
	_, answered := errors.AsType[*client.Problem](err)
	switch {
	case errors.Is(err, client.ErrUnauthenticated), errors.Is(err, client.ErrForbidden):
		return "; is --key a key of this cluster, and does it have the scope " + scope + "?"
	case !answered:
		return "; does the service run there? --address names it"
	}
	return ""
}
