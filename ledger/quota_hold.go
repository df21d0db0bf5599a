package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/statesvc/statesvc/shard"
)

// count sums up what the items need of each quota.
func (q *quotaSide) count(items []Item) {
	q.needs = nil
	for i := range items {
		if take, ok := quotaOf(&items[i]); ok {
			q.needs = addTake(q.needs, take)
		}
	}
}

// checkQuotas comes last of all checks.
func (p *plan) checkQuotas(s *state, op *holdOp) (shard.Reply, bool) {
	return op.checkNeeds(s, func(quota string) string { return quotaPointer(op, quota) })
}

// checkNeeds finds first what can never be, then what may be after a borrow. A slice that holds have expired on is not dry, whatever a
// round has found before. pointer says where the request asks for a quota.
func (q *quotaSide) checkNeeds(s *state, pointer func(quota string) string) (shard.Reply, bool) {
	q.low = q.low[:0]
	var lacks []lack
	for _, need := range q.needs {
		r := s.slices[need.quota]
		short, lacking := r.lacks(need, s.now)
		switch {
		case !lacking:
		case slices.Contains(q.unknown, need.quota):
			return refuse(refusal(ErrNotFound, pointer(need.quota), "there is no quota "+need.quota)), false
		case !short.due && slices.Contains(q.dry, need.quota):
			return refuse(soldOut(pointer(need.quota), need, r)), false
		default:
			lacks = append(lacks, short)
		}
	}
	if len(lacks) > 0 {
		return shard.Reply{Err: &shortage{lacks}}, false
	}
	return shard.Reply{}, true
}

// lacks is what a slice, which may be missing, has too little of for a need; false if it has enough.
func (r *sliceRow) lacks(need quotaTake, now int64) (short lack, lacking bool) {
	if r != nil && r.Available >= need.amount {
		return short, false
	}
	short = lack{quota: need.quota, need: need.amount, want: ahead(need.amount)}
	if r != nil {
		short.due = r.due(now)
		short.need -= r.Available
		short.want = r.wanted(need.amount, now)
	}
	short.least = short.need
	return short, true
}

// checkQuotaItem checks the currency of a budget. A slice that is not there has none yet; the home tells whether there is one.
func (p *plan) checkQuotaItem(s *state, it *Item) error {
	if it.Kind == StockItem {
		return nil
	}
	r := s.slices[BudgetID(it.CampaignID)]
	if it.Amount.Currency != p.currency || r != nil && r.currency != it.Amount.Currency {
		return ErrCurrencyMismatch
	}
	return nil
}

func soldOut(pointer string, need quotaTake, r *sliceRow) *Refusal {
	refused := refusal(ErrSoldOut, pointer, "there is less of "+need.quota+" everywhere")
	have := int64(0)
	if r != nil {
		have = r.Available
	}
	refused.Asked, refused.Have = &need.amount, &have
	return refused
}

// quotaPointer is the first item that takes of a quota.
func quotaPointer(op *holdOp, quota string) string {
	for i := range op.Items {
		if take, ok := quotaOf(&op.Items[i]); ok && take.quota == quota {
			return strings.TrimSuffix(itemPointer(i, ""), "/")
		}
	}
	return ""
}

// takeQuotas takes what checkNeeds has found, and tells of slices that have become low.
func (s *state) takeQuotas(q *quotaSide) {
	for _, need := range q.needs {
		r := s.slices[need.quota]
		s.changeSlice(r)
		r.Available -= need.amount
		r.Held += need.amount
		r.takenAt = s.now
		r.add(need.amount, s.now)
		if r.low(need.amount, s.now) {
			q.low = append(q.low, lack{quota: r.quota, want: r.wanted(need.amount, s.now)})
		}
	}
}

// checkTaken compares what a hold has of quotas with the slices: they must be loaded, and held at least as much.
func (s *state) checkTaken(h *holdRow, takes []quotaTake) error {
	for _, take := range takes {
		if r := s.slices[take.quota]; r == nil || r.Held < take.amount {
			return fmt.Errorf("I2: hold %s has %d of %s, of which less is held", h.id, take.amount, take.quota)
		}
	}
	return nil
}

// endQuotas moves what a hold has of quotas: used if it is confirmed, or else available again.
func (s *state) endQuotas(b []byte, takes []quotaTake, e Event) []byte {
	for _, take := range takes {
		r := s.slices[take.quota]
		s.changeSlice(r)
		r.Held -= take.amount
		to := quotaAvailable
		if e == EventConfirm {
			to = quotaUsed
			r.Used += take.amount
		} else {
			r.Available += take.amount
		}
		b = appendQuotaChange(b, take.quota, quotaHeld, to, take.amount)
	}
	return b
}

// freeQuotas makes what a hold has of quotas look free while another one is planned, and way -1 makes it look held again.
func (s *state) freeQuotas(takes []quotaTake, way int64) {
	for _, take := range takes {
		r := s.slices[take.quota]
		r.Held -= way * take.amount
		r.Available += way * take.amount
	}
}

// goneUnits lists the needs for which there is too little anywhere, as a round has found, and those for which nobody has looked
// elsewhere yet.
func (q *quotaSide) goneUnits(s *state) (gone []GoneAsset, lacks []lack) {
	q.low = q.low[:0]
	for _, need := range q.needs {
		r := s.slices[need.quota]
		short, lacking := r.lacks(need, s.now)
		switch {
		case !lacking:
		case slices.Contains(q.unknown, need.quota) || !short.due && slices.Contains(q.dry, need.quota):
			gone = append(gone, GoneAsset{QuotaID: need.quota, Asked: need.amount, Have: need.amount - short.need})
		default:
			lacks = append(lacks, short)
		}
	}
	return gone, lacks
}

// appendQuotaItem writes a HoldItem.
func appendQuotaItem(b []byte, it *Item) []byte {
	if it.Kind == StockItem {
		b = append(appendText(append(b, `{"kind":"stock",`...), "sku", it.SKU), ',')
		b = append(appendText(b, "location", it.Location), ',')
		return append(appendInt(b, "quantity", it.Quantity), '}')
	}
	b = append(appendText(append(b, `{"kind":"budget",`...), "campaign_id", it.CampaignID), ',')
	return append(appendMoney(b, "amount", it.Amount.Amount, it.Amount.Currency), '}')
}
