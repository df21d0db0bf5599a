package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/client"
	"github.com/statesvc/statesvc/shard/id"
)

// mintPatience is how long `id mint` goes on when the service cannot answer: somebody waits for it.
const mintPatience = 3 * time.Second

// mintOptions say what to mint, and where.
type mintOptions struct {
	address, key, kind string
	count              int
}

func (p *program) mint() *cobra.Command {
	var o mintOptions
	cmd := &cobra.Command{
		Use:   "mint OWNER",
		Short: "Have a running service mint ids for an owner's next holds",
		Long: "Have a running service mint ids that an owner's next holds may use, and print them, one on each line, ascending. Who\n" +
			"knows the id of a hold before the first attempt can cancel that hold whatever happened to the attempt.\n\n" +
			"It calls POST /v1/ids with an API key that has the scope hold. Nothing is minted here: ids are unique because each\n" +
			"instance mints under a node number that it leases from the register. Minting writes nothing, and an id that is never\n" +
			"used costs nothing. Only ids of holds can be had in advance; coupons and lots get theirs when they are issued.\n\n" +
			"Without --address and --key, STATESVC_ADDRESS and STATESVC_KEY count. A key in the environment is not shown in the list of\n" +
			"processes.",
		Example: "  statesvc id mint user-1 --key ss_…\n" +
			"  STATESVC_KEY=ss_… statesvc id mint user-1 --count 10 --address https://statesvc.example.com",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.runMint(cmd, o, args[0]) },
	}
	cmd.Flags().StringVar(&o.address, "address", "http://"+defaults().Listen, "URL of the service, or STATESVC_ADDRESS")
	cmd.Flags().StringVar(&o.key, "key", "", "API key with the scope hold, or STATESVC_KEY")
	cmd.Flags().StringVar(&o.kind, "kind", id.Hold.String(), "what the ids are for; only hold")
	cmd.Flags().IntVar(&o.count, "count", 1, "how many, at most 1000")
	return cmd
}

func (p *program) runMint(cmd *cobra.Command, o mintOptions, owner string) error {
	if value := p.variable("ADDRESS"); value != "" && !cmd.Flags().Changed("address") {
		o.address = value
	}
	if o.key == "" {
		o.key = p.variable("KEY")
	}
	if err := o.validate(); err != nil {
		return err
	}
	c, err := client.New(client.Options{BaseURL: o.address, Token: o.key, Patience: mintPatience})
	if err != nil {
		return err
	}
	ids, err := c.MintIDs(cmd.Context(), owner, o.count)
	if err != nil {
		return fmt.Errorf("mint ids at %s: %w%s", o.address, err, advice(err))
	}
	for _, minted := range ids {
		p.printf("%s\n", minted)
	}
	return nil
}

// validate refuses what the service would not hear of, or could not say.
func (o mintOptions) validate() error {
	address, err := url.Parse(o.address)
	switch {
	case err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https":
		return fmt.Errorf("--address: %q is no URL of a service; it begins with http:// or https://", o.address)
	case o.key == "":
		return errors.New("an API key is needed: --key or STATESVC_KEY; `statesvc dev` prints one, `statesvc keys create` makes others")
	case o.kind != id.Hold.String():
		return fmt.Errorf("--kind: there are no ids of kind %q in advance, only of %s", o.kind, id.Hold)
	case o.count < 1:
		return fmt.Errorf("--count: %d is less than 1", o.count)
	}
	return nil
}

// advice says which flag may be wrong.
func advice(err error) string {
	_, answered := errors.AsType[*client.Problem](err)
	switch {
	case errors.Is(err, client.ErrUnauthenticated), errors.Is(err, client.ErrForbidden):
		return "; is --key a key of this cluster, and does it have the scope hold?"
	case !answered:
		return "; does the service run there? --address names it"
	}
	return ""
}
