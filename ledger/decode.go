package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/statesvc/statesvc/shard/id"
)

// takes is what a hold has and what was not confirmed before, each coupon and each lot once.
type takes struct {
	currency string // of its money; empty: it has none
	coupons  []id.ID
	lots     []lotTake
	quotas   []quotaTake // in their order
}

type lotTake struct {
	id     id.ID
	amount int64
}

// takesOf reads what a hold has from its document, without what was confirmed before.
func (s *state) takesOf(h *holdRow) (*takes, error) {
	if h.takes != nil {
		return h.takes, nil
	}
	t := new(takes)
	if err := t.read(h.doc); err != nil {
		return nil, fmt.Errorf("document of hold %s: %w", h.id, err)
	}
	if h.inPart() {
		if err := t.withoutParts(h.doc, h.progress.Parts); err != nil {
			return nil, fmt.Errorf("parts of hold %s: %w", h.id, err)
		}
	}
	h.takes = t
	return t, nil
}

// read reads the items of a document, and nothing behind them. Members that it does not know are left to those who do.
func (t *takes) read(doc []byte) error {
	d := decoder{rest: doc}
	d.must('{')
	for d.err == nil {
		member := d.text()
		d.must(':')
		if string(member) == "items" {
			d.array(func() { t.readItem(&d) })
			break
		}
		d.skip()
		d.must(',')
	}
	return d.err
}

// readItem knows the kind of an item first, because that is how items are written.
func (t *takes) readItem(d *decoder) {
	var it Item
	d.object(func(member []byte) {
		switch string(member) {
		case "kind":
			it.Kind = ItemKind(d.text())
		case "coupon_id":
			t.coupons = append(t.coupons, d.id(id.Coupon))
		case "amount":
			it.Amount = d.money()
			if it.Kind == MoneyItem {
				t.currency = it.Amount.Currency
			}
		case "sku":
			it.SKU = string(d.text())
		case "location":
			it.Location = string(d.text())
		case "quantity":
			it.Quantity = d.int()
		case "campaign_id":
			it.CampaignID = string(d.text())
		case "lots":
			d.array(func() { t.readShare(d) })
		default:
			d.skip()
		}
	})
	if take, ok := quotaOf(&it); ok {
		t.quotas = addTake(t.quotas, take)
	}
}

func (d *decoder) money() (m Money) {
	d.object(func(member []byte) {
		if string(member) == "currency" {
			m.Currency = string(d.text())
		} else {
			m.Amount = d.int()
		}
	})
	return m
}

func (t *takes) readShare(d *decoder) {
	var take lotTake
	d.object(func(member []byte) {
		switch string(member) {
		case "lot_id":
			take.id = d.id(id.Lot)
		case "amount":
			take.amount = d.int()
		default:
			d.skip()
		}
	})
	t.addLot(take)
}

// addLot sums up the shares of a lot that several items take from.
func (t *takes) addLot(take lotTake) {
	for i := range t.lots {
		if t.lots[i].id == take.id {
			t.lots[i].amount += take.amount
			return
		}
	}
	t.lots = append(t.lots, take)
}

// decoder reads the JSON that encode.go writes: without blanks, and without escapes in texts. Of every other JSON it says that
// it is not ours. It is here because a confirm must know what its hold has, and encoding/json would cost more than the rest of
// the confirm.
type decoder struct {
	rest []byte
	err  error
}

var errNotOurs = errors.New("it is not a document that this service has written")

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// take reads c if it is next.
func (d *decoder) take(c byte) bool {
	if len(d.rest) == 0 || d.rest[0] != c {
		return false
	}
	d.rest = d.rest[1:]
	return true
}

func (d *decoder) must(c byte) {
	if !d.take(c) {
		d.fail(errNotOurs)
	}
}

// object calls member for each member of an object; it must read or skip the value.
func (d *decoder) object(member func(name []byte)) {
	d.must('{')
	for more := !d.take('}'); more && d.err == nil; more = d.more('}') {
		name := d.text()
		d.must(':')
		member(name)
	}
}

// array calls element for each element of an array; it must read or skip it.
func (d *decoder) array(element func()) {
	d.must('[')
	for more := !d.take(']'); more && d.err == nil; more = d.more(']') {
		element()
	}
}

func (d *decoder) more(end byte) bool {
	if d.take(',') {
		return true
	}
	d.must(end)
	return false
}

func (d *decoder) text() []byte {
	d.must('"')
	end := bytes.IndexByte(d.rest, '"')
	if end < 0 || bytes.IndexByte(d.rest[:end], '\\') >= 0 {
		d.fail(errNotOurs)
		return nil
	}
	text := d.rest[:end]
	d.rest = d.rest[end+1:]
	return text
}

// int reads a number that is not negative, as all of ours are.
func (d *decoder) int() (n int64) {
	digits := 0
	for ; digits < len(d.rest) && '0' <= d.rest[digits] && d.rest[digits] <= '9'; digits++ {
		n = n*10 + int64(d.rest[digits]-'0')
	}
	const mostDigits = 18 // of a number that cannot overflow; MaxAmount has 16
	if digits == 0 || digits > mostDigits {
		d.fail(errNotOurs)
		return 0
	}
	d.rest = d.rest[digits:]
	return n
}

func (d *decoder) id(kind id.Kind) id.ID {
	parsed, err := id.ParseOwn(kind, string(d.text()))
	if err != nil {
		d.fail(err)
	}
	return parsed
}

// skip reads a value of any type. Of objects and arrays it only counts the brackets.
func (d *decoder) skip() {
	for depth := 0; d.err == nil; {
		switch {
		case d.take('{'), d.take('['):
			depth++
		case d.take('}'), d.take(']'):
			depth--
		case d.take(','), d.take(':'):
		case len(d.rest) > 0 && d.rest[0] == '"':
			d.text()
		default:
			d.literal()
		}
		if depth <= 0 {
			return
		}
	}
}

// literal skips a number, true, false or null.
func (d *decoder) literal() {
	end := bytes.IndexAny(d.rest, ",]}")
	if end <= 0 {
		d.fail(errNotOurs)
		return
	}
	d.rest = d.rest[end:]
}
