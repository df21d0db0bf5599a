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
		if r != nil && r.Available >= need.amount {
			continue
		}
		if slices.Contains(q.unknown, need.quota) {
			return refuse(refusal(ErrNotFound, pointer(need.quota), "there is no quota "+need.quota)), false
		}
		short := lack{quota: need.quota, need: need.amount, want: ahead(need.amount)}
		if r != nil {
			short.due = r.due(s.now)
			short.need -= r.Available
			short.want = r.wanted(need.amount, s.now)
		}
		short.least = short.need
		if !short.due && slices.Contains(q.dry, need.quota) {
			return refuse(soldOut(pointer(need.quota), need, r)), false
		}
		lacks = append(lacks, short)
	}
	if len(lacks) > 0 {
		return shard.Reply{Err: &shortage{lacks}}, false
	}
	return shard.Reply{}, true
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

// spendUnits uses units that no hold has: a late confirm has found them free.
func (s *state) spendUnits(b []byte, takes []quotaTake) []byte {
	for _, take := range takes {
		r := s.slices[take.quota]
		s.changeSlice(r)
		r.Available -= take.amount
		r.Used += take.amount
		r.takenAt = s.now
		r.add(take.amount, s.now)
		b = appendQuotaChange(b, take.quota, quotaAvailable, quotaUsed, take.amount)
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

// goneUnits lists the quotas of which the shard has too little to take as much again. A late confirm does not borrow: the units were
// given back where they were held, and what others have taken since is theirs.
func (s *state) goneUnits(takes []quotaTake) (gone []GoneAsset) {
	for _, take := range takes {
		var have int64
		if r := s.slices[take.quota]; r != nil {
			have = r.Available
		}
		if have < take.amount {
			gone = append(gone, GoneAsset{QuotaID: take.quota, Asked: take.amount, Have: have})
		}
	}
	return gone
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
