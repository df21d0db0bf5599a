package main

import (
	"crypto/rand"
	"time"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/access"
)

func (p *program) keys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, list and revoke API keys",
		Long: "Make, list and revoke API keys. They are kept in the register, so the instances that share it see a change at once.\n" +
			"The first key of a cluster is made here; later ones can also be made by an admin key over /v1/admin/keys.\n\n" +
			"The register is the one that --register, STATESVC_REGISTER or the configuration names, as for `statesvc serve`.",
	}
	configFlag(cmd.PersistentFlags())
	registerFlag(cmd.PersistentFlags())
	var name string
	var scopes []string
	var ttl time.Duration
	var rate access.Rate
	create := &cobra.Command{
		Use:   "create --name NAME --scopes read,hold",
		Short: "Make a key and print it; the secret is shown once",
		Long: "Make a key and print its token, which callers send as `Authorization: Bearer TOKEN`. The token is shown once and\n" +
			"stored nowhere. No scope contains another:\n\n" +
			"  read    look at owners, coupons, lots, holds and histories\n" +
			"  hold    hold, confirm and cancel; mint ids; seal keys\n" +
			"  issue   give coupons and money\n" +
			"  admin   blocks, undecided outcomes, API keys, the map, webhooks, the auditor, money by hand\n" +
			"  events  follow what is decided, of all owners\n" +
			"  state   nothing yet",
		Example: "  statesvc keys create --config statesvc.yaml --name checkout --scopes read,hold\n" +
			"  statesvc keys create --config statesvc.yaml --name marketing --scopes read,issue --ttl 720h",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withKeys(cmd, func(keys *access.Keys) error {
				set, err := access.ParseScopes(scopes)
				if err != nil {
					return err
				}
				spec := access.Spec{Name: name, Scopes: set, Rate: rate}
				if ttl > 0 {
					spec.ExpiresAt = time.Now().Add(ttl)
				}
				key, token, err := keys.Create(cmd.Context(), spec)
				if err != nil {
					return err
				}
				p.printf("key %s (%s) with scopes %s; its token is shown only now:\n%s\n", key.ID, key.Name, key.Scopes, token)
				return nil
			})
		},
	}
	create.Flags().StringVar(&name, "name", "", "whose key it is")
	create.Flags().StringSliceVar(&scopes, "scopes", nil, "some of read, hold, issue, state, admin, events, separated by commas")
	create.Flags().IntVar(&rate.PerSecond, "rate", 1000, "requests per second that the key may send to an instance")
	create.Flags().IntVar(&rate.Burst, "burst", 2000, "requests that it may send at once")
	create.Flags().DurationVar(&ttl, "ttl", 0, "how long the key is valid; 0: until revoked")
	_ = create.MarkFlagRequired("name")
	_ = create.MarkFlagRequired("scopes")
	list := &cobra.Command{
		Use: "list", Short: "List the keys, also expired and revoked ones; secrets are not stored", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withKeys(cmd, func(keys *access.Keys) error {
				for _, k := range keys.List() {
					p.printf("%-16s %-8s %-20s %v\n", k.ID, keyState(&k, time.Now()), k.Name, k.Scopes)
				}
				return nil
			})
		},
	}
	revoke := &cobra.Command{
		Use: "revoke KEY_ID", Short: "Revoke a key at once; `statesvc keys list` shows the ids", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withKeys(cmd, func(keys *access.Keys) error {
				key, err := keys.Revoke(cmd.Context(), args[0])
				if err == nil {
					p.printf("key %s (%s) is revoked\n", key.ID, key.Name)
				}
				return err
			})
		},
	}
	cmd.AddCommand(create, list, revoke)
	return cmd
}

func keyState(k *access.Key, now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked"
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return "expired"
	}
	return "valid"
}

func (p *program) withKeys(cmd *cobra.Command, f func(*access.Keys) error) error {
	cfg, err := readConfig(cmd.Flags(), p.env)
	if err != nil {
		return err
	}
	reg, err := openRegister(cmd.Context(), cfg.Register)
	if err != nil {
		return err
	}
	defer reg.Close()
	keys, err := access.Open(cmd.Context(), reg, time.Now, rand.Reader)
	if err != nil {
		return err
	}
	defer keys.Close()
	return f(keys)
}
