package ledger

import (
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// seeded throws the same numbers for the same seed.
func seeded(seed uint64) dice {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return dice{mathrand.NewChaCha8(key)}
}

// Whatever is split, the shares sum up exactly, and each has at least one minor unit.
func TestSplits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxShares).Draw(t, "shares")
		total := rapid.OneOf(rapid.Int64Range(int64(n), int64(n)+10), rapid.Int64Range(int64(n), MaxAmount)).Draw(t, "total")
		random, err := splitRandom(total, n, seeded(rapid.Uint64().Draw(t, "seed")))
		if err != nil {
			t.Fatal(err)
		}
		equal := splitEqual(total, n)
		for name, shares := range map[string][]int64{"random": random, "equal": equal} {
			var sum int64
			for _, share := range shares {
				sum += share
			}
			if len(shares) != n || sum != total || slices.Min(shares) < 1 {
				t.Fatalf("%s: %d shares of %d: sum %d, least %d", name, len(shares), total, sum, slices.Min(shares))
			}
		}
		if slices.Max(equal)-slices.Min(equal) > 1 {
			t.Fatalf("equal shares of %d: %v", total, equal)
		}
	})
}

// A random split is random, and no place is better than another.
func TestRandomSplitIsFair(t *testing.T) {
	t.Parallel()
	const rounds, n, total = 4000, 5, 1000
	var sums [n]int64
	different := map[int64]bool{}
	for seed := range uint64(rounds) {
		shares, err := splitRandom(total, n, seeded(seed))
		if err != nil {
			t.Fatal(err)
		}
		for i, share := range shares {
			sums[i] += share
		}
		different[shares[0]] = true
	}
	for i, sum := range sums {
		if average := sum / rounds; average < 185 || average > 215 {
			t.Errorf("place %d gets %d on average, of %d", i, average, total/n)
		}
	}
	if len(different) < 100 {
		t.Errorf("the first share has %d values in %d packets", len(different), rounds)
	}
}

func TestDice(t *testing.T) {
	t.Parallel()
	var seen [7]int
	d := seeded(1)
	for range 7000 {
		n, err := d.below(7)
		if err != nil {
			t.Fatal(err)
		}
		seen[n]++
	}
	for n, times := range seen {
		if times < 850 || times > 1150 {
			t.Errorf("%d was thrown %d times of 7000", n, times)
		}
	}
}

func TestInvalidPackets(t *testing.T) {
	t.Parallel()
	for pointer, change := range map[string]func(*CreatePacket){
		"/shares":          func(r *CreatePacket) { r.Shares = 11 },
		"/amount/amount":   func(r *CreatePacket) { r.Amount.Amount = 0 },
		"/amount/currency": func(r *CreatePacket) { r.Amount.Currency = "ABC" },
		"/mode":            func(r *CreatePacket) { r.Mode = "LUCKY" },
		"/packet_ref":      func(r *CreatePacket) { r.PacketRef = "" },
		"/owner":           func(r *CreatePacket) { r.Owner = "a b" },
	} {
		r := CreatePacket{Owner: "u1", PacketRef: "p", Amount: cny(10), Shares: 10, Mode: RandomSplit}
		change(&r)
		err := validatePacket(Caller{Key: "k"}, &r)
		wrong, ok := errors.AsType[*Invalid](err)
		if !ok || wrong.Problems[0].Pointer != pointer {
			t.Errorf("%s: %v", pointer, err)
		}
	}
	for _, shares := range []int{0, -1, MaxShares + 1} {
		r := CreatePacket{Owner: "u1", PacketRef: "p", Amount: cny(100_000), Shares: shares, Mode: EqualSplit}
		if err := validatePacket(Caller{Key: "k"}, &r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d shares: %v", shares, err)
		}
	}
}
