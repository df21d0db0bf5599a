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
	cmd := &cobra.Command{Use: "id", Short: "Look into document ids and buckets, and mint ids"}
	var key string
	decode := &cobra.Command{
		Use:   "decode ID…",
		Short: "Show what is in ids; with --key also whether their MAC is right",
		Long: "Show what is in ids such as hold_01hf7yat00g40b3c0020a007ws: when and where they were born, and for whom. No database\n" +
			"is asked: that an id is well made does not mean that its document exists. With --key also check the MAC, which tells\n" +
			"typing errors and ids of other clusters.",
		Args: cobra.MinimumNArgs(1),
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
	decode.Flags().StringVar(&key, "key", "", "MAC key of the ids' format, in hex; that of format 1 is secrets/id-mac-1 in the register")
	bucket := &cobra.Command{
		Use:   "bucket OWNER…",
		Short: "Show the bucket of owners, which decides on which shard they live",
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
	cmd.AddCommand(p.mint(), decode, bucket)
	return cmd
}

// formats are the formats of ids that a service may use.
const formats = 7

// codecOf returns a codec with the given key for every format, or with one that fits no MAC.
func codecOf(key string) (*id.Codec, error) {
	secret := make([]byte, 32)
	if key != "" {
		var err error
		if secret, err = hex.DecodeString(strings.TrimSpace(key)); err != nil {
			return nil, fmt.Errorf("--key is not hex: %w", err)
		}
	}
	keys := map[uint8][]byte{}
	for format := uint8(1); format <= formats; format++ {
		keys[format] = secret
	}
	codec, err := id.NewCodec(keys, 1)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return codec, nil
}

func (p *program) decodeID(codec *id.Codec, text string, keyed bool) error {
	f, err := codec.Decode(text)
	if err != nil {
		return fmt.Errorf("%q: %w; an id is a word such as hold or coupon, an underscore, and 26 of 0–9 a–z without i, l, o and u", text, err)
	}
	p.printf("%s\n", text)
	at := f.Time.Format("2006-01-02T15:04:05.000Z07:00")
	p.printf("  kind      %s\n  time      %s\n  format    %d\n  site      %d\n", f.Kind, at, f.Format, f.Site)
	p.printf("  bucket    %d\n  placement %d\n  node      %d\n  seq       %d\n", f.Bucket, f.Placement, f.Node, f.Seq)
	p.printf("  mac       %d, %s\n", f.MAC, judgement(f, keyed))
	return nil
}

// judgement is what is to be said of a MAC.
func judgement(f id.Fields, keyed bool) string {
	switch {
	case f.Format == 0 || f.Format > formats:
		return "but the format is reserved: no service takes the id"
	case !keyed:
		return "not checked; pass --key"
	case f.Genuine:
		return "right"
	}
	return "WRONG: mistyped, forged, or of another cluster"
}
