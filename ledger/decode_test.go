package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/shard/id"
)

// document is one with everything in it that a later version may add.
func document(codec *id.Codec, coupon, lot id.ID) string {
	return strings.NewReplacer("COUPON", codec.Text(id.Coupon, coupon), "LOT", codec.Text(id.Lot, lot)).Replace(
		`{"later":[1,-2.5e3,{"x":null}],"items":[{"kind":"coupon","coupon_id":"COUPON","discount":{"amount":1,"currency":"CNY"},` +
			`"lines":[{"line_id":"l1","amount":1}]},{"kind":"money","amount":{"amount":7,"currency":"CNY"},"lots":[],"new":true},` +
			`{"kind":"money","amount":{"amount":7,"currency":"CNY"},"lots":[{"lot_id":"LOT","amount":3},{"amount":4,"lot_id":"LOT"}]}],` +
			`"payable":{"amount":0,"currency":"CNY"}}`)
}

func TestDecoderSkipsWhatItDoesNotKnow(t *testing.T) {
	d := newDesk(t)
	coupon, lot := d.mint(id.Coupon, "u1"), d.mint(id.Lot, "u1")
	got := new(takes)
	if err := got.read([]byte(document(d.codec, coupon, lot))); err != nil {
		t.Fatal(err)
	}
	if len(got.coupons) != 1 || got.coupons[0] != coupon || len(got.lots) != 1 || got.lots[0] != (lotTake{lot, 7}) || got.currency != "CNY" {
		t.Errorf("%+v", got)
	}
}

func TestDecoderRefuses(t *testing.T) {
	d := newDesk(t)
	lot := d.codec.Text(id.Lot, d.mint(id.Lot, "u1"))
	for _, doc := range []string{
		``, `{`, `[]`, `{}x`[:1], `{"items":`, `{"items":[`, `{"items":[{]}`, `{"items":[{"lots":[{"amount":}]}]}`,
		`{"items":[{"lots":[{"amount":-1}]}]}`, `{"items":[{"lots":[{"amount":1.5}]}]}`,
		`{"items":[{"lots":[{"amount":9999999999999999999}]}]}`, `{"items":[{"lots":[{"lot_id":"` + lot[:len(lot)-1] + `"}]}]}`,
		`{"items":[{"coupon_id":"` + lot + `"}]}`, `{"items":[{"kind":"mo\"ney"}]}`, `{"it": []}`, `{"a":1`, `{"a":}`, `{"payable":1}`,
	} {
		if err := new(takes).read([]byte(doc)); err == nil {
			t.Errorf("%s is accepted", doc)
		}
	}
}

// FuzzDecoder: no text makes the decoder panic or hang, and it reads nothing that encoding/json refuses in the items.
func FuzzDecoder(f *testing.F) {
	d := newDesk(f)
	f.Add(document(d.codec, d.mint(id.Coupon, "u1"), d.mint(id.Lot, "u1")))
	f.Add(`{"items":[]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		got := new(takes)
		if err := got.read([]byte(doc)); err != nil || !json.Valid([]byte(doc)) {
			return
		}
		for _, take := range got.lots {
			if take.amount < 0 {
				t.Errorf("%d of a lot in %s", take.amount, doc)
			}
		}
	})
}
