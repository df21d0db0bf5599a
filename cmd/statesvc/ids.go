package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

func (p *program) ids() *cobra.Command {
	cmd := &cobra.Command{Use: "id", Short: "Look into document ids and buckets"}
	var key string
	decode := &cobra.Command{
		Use:   "decode ID…",
		Short: "Show what is in ids; with --key also whether their MAC is right",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			codec, err := codecOf(key)
			if err != nil {
				return err
			}
			var errs []error
			for _, text := range args {
				errs = append(errs, p.decodeID(codec, text, key != ""))
			}
			return errors.Join(errs...)
		},
	}
	decode.Flags().StringVar(&key, "key", "", "MAC key of format 1 in hex (the register's secrets/id-mac-1)")
	bucket := &cobra.Command{
		Use:   "bucket OWNER…",
		Short: "Show the bucket of owners",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, owner := range args {
				if !shard.ValidOwner(owner) {
					return fmt.Errorf("%q is no owner: 1 to 64 of A–Z a–z 0–9 . _ : @ -", owner)
				}
				p.printf("%-32s %d\n", owner, shard.BucketOf(owner))
			}
			return nil
		},
	}
	cmd.AddCommand(decode, bucket)
	return cmd
}

// codecOf returns a codec with the given key, or with one that fits no MAC.
func codecOf(key string) (*id.Codec, error) {
	secret := make([]byte, 32)
	if key != "" {
		var err error
		if secret, err = hex.DecodeString(strings.TrimSpace(key)); err != nil {
			return nil, fmt.Errorf("--key is not hex: %w", err)
		}
	}
	return id.NewCodec(map[uint8][]byte{1: secret}, 1)
}

func (p *program) decodeID(codec *id.Codec, text string, keyed bool) error {
	f, err := codec.Decode(text)
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	p.printf("%s\n", text)
	p.printf("  kind      %s\n  time      %s\n  format    %d\n  site      %d\n", f.Kind, f.Time.Format("2006-01-02T15:04:05.000Z07:00"), f.Format, f.Site)
	p.printf("  bucket    %d\n  placement %d\n  node      %d\n  seq       %d\n", f.Bucket, f.Placement, f.Node, f.Seq)
	switch {
	case !keyed:
		p.printf("  mac       %d (not checked; pass --key)\n", f.MAC)
	case f.Genuine:
		p.printf("  mac       %d, right\n", f.MAC)
	default:
		p.printf("  mac       %d, WRONG: mistyped, forged, or of another cluster\n", f.MAC)
	}
	return nil
}
