//go:build !race

package id

import (
	"testing"
	"time"
)

// The race detector empties pools at random, so only an ordinary run can count.
func TestAllocations(t *testing.T) {
	codec := testCodec(t)
	minter := NewMinter(codec, time.Now)
	minter.Use(Grant{Mark: time.Now().Add(time.Hour)})
	id, err := minter.Mint(Hold, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	text := codec.Text(Hold, id)
	buf := make([]byte, 0, longestText)
	for name, c := range map[string]struct {
		want float64
		f    func()
	}{
		"Mint":       {0, func() { _, _ = minter.Mint(Hold, 1, 1) }},
		"Text":       {1, func() { _ = codec.Text(Hold, id) }},
		"AppendText": {0, func() { _ = codec.AppendText(buf, Hold, id) }},
		"Parse":      {0, func() { _, _ = codec.Parse(Hold, text) }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.want {
			t.Errorf("%s: %v allocations, want %v", name, got, c.want)
		}
	}
}
