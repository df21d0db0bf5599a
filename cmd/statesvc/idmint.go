package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/shard/id"
)

// mintOptions say what to mint, and where.
type mintOptions struct {
	target

	kind  string
	count int
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
	c, err := p.connect(cmd, &o.target)
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	ids, err := c.MintIDs(cmd.Context(), owner, o.count)
	if err != nil {
		return fmt.Errorf("mint ids at %s: %w%s", o.address, err, advice(err, "hold"))
	}
	for _, minted := range ids {
		p.printf("%s\n", minted)
	}
	return nil
}

// validate refuses what the service would not hear of, or could not say.
func (o mintOptions) validate() error {
	switch {
	case o.kind != id.Hold.String():
		return fmt.Errorf("--kind: there are no ids of kind %q in advance, only of %s", o.kind, id.Hold)
	case o.count < 1:
		return fmt.Errorf("--count: %d is less than 1", o.count)
	}
	return nil
}
