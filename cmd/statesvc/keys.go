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
			"The first key of a cluster is made here; later ones can also be made by an admin key over /v1/admin/keys.",
	}
	cmd.PersistentFlags().String("register", defaults().Register, "file of the register")
	var name string
	var scopes []string
	var ttl time.Duration
	var rate access.Rate
	create := &cobra.Command{
		Use:   "create --name NAME --scopes read,hold",
		Short: "Make a key and print it; the secret is shown once",
		Args:  cobra.NoArgs,
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
				p.printf("key %s (%s) with scopes %s\n%s\n", key.ID, key.Name, key.Scopes, token)
				return nil
			})
		},
	}
	create.Flags().StringVar(&name, "name", "", "whose key it is")
	create.Flags().StringSliceVar(&scopes, "scopes", nil, "of read, hold, issue, state, admin; no scope contains another")
	create.Flags().IntVar(&rate.PerSecond, "rate", 1000, "requests per second that the key may send to an instance")
	create.Flags().IntVar(&rate.Burst, "burst", 2000, "requests that it may send at once")
	create.Flags().DurationVar(&ttl, "ttl", 0, "how long the key is valid; 0: until revoked")
	_ = create.MarkFlagRequired("name")
	_ = create.MarkFlagRequired("scopes")
	list := &cobra.Command{
		Use: "list", Short: "List the keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withKeys(cmd, func(keys *access.Keys) error {
				for _, k := range keys.List() {
					state := "valid"
					if !k.RevokedAt.IsZero() {
						state = "revoked"
					}
					p.printf("%-20s %-8s %-20s %v\n", k.ID, state, k.Name, k.Scopes)
				}
				return nil
			})
		},
	}
	revoke := &cobra.Command{
		Use: "revoke KEY_ID", Short: "Revoke a key at once", Args: cobra.ExactArgs(1),
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

func (p *program) withKeys(cmd *cobra.Command, f func(*access.Keys) error) error {
	path, err := cmd.Flags().GetString("register")
	if err != nil {
		return err
	}
	reg, err := openRegisterFile(path)
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
