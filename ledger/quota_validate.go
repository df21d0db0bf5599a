package ledger

import (
	"unicode"
	"unicode/utf8"

	"github.com/statesvc/statesvc/shard/id"
)

// maxReason bounds the free text of a change by hand, in bytes.
const maxReason = 200

func validateSetQuota(c Caller, r *SetQuota) error {
	var p problems
	p.quota(c, r.Quota, r.Reason)
	kind, _, _ := ParseQuotaID(r.Quota)
	switch {
	case kind == BudgetQuota && !validCurrency(r.Currency):
		p.add("/currency", wrongCode)
	case kind != BudgetQuota && r.Currency != "":
		p.add("/currency", "is only for budgets")
	}
	p.within("/total", r.Total, 0, MaxAmount)
	p.within("/low_at", r.LowAt, 0, MaxAmount)
	return p.err()
}

func validateAdjustQuota(c Caller, r *AdjustQuota) error {
	var p problems
	p.quota(c, r.Quota, r.Reason)
	if r.Delta == 0 || r.Delta > MaxAmount || r.Delta < -MaxAmount {
		p.add("/delta", wrongDelta)
	}
	return p.err()
}

func (p *problems) quota(c Caller, quota, reason string) {
	if !validKey(c.Key) {
		p.add("Idempotency-Key", wrongKey)
	}
	if _, _, ok := ParseQuotaID(quota); !ok {
		p.add("/quota_id", wrongQuota)
	}
	if !validReason(reason) {
		p.add("/reason", wrongReason)
	}
}

func validReason(reason string) bool {
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return false
	}
	for _, c := range reason {
		if unicode.IsControl(c) {
			return false
		}
	}
	return true
}

func (p *problems) stockItem(it *Item, i int) {
	if !validStock(it.SKU, it.Location) {
		p.at("items", i, "/sku", wrongStock)
	}
	if it.Quantity < 1 || it.Quantity > MaxAmount {
		p.at("items", i, "/quantity", wrongQuantity)
	}
	if it.CouponID != (id.ID{}) || it.Amount != (Money{}) || it.All || it.Tag != "" || it.CampaignID != "" {
		p.at("items", i, "", "stock has a sku, a location and a quantity, and nothing else")
	}
}

func (p *problems) budgetItem(it *Item, i int) {
	if !validBudget(it.CampaignID) {
		p.at("items", i, "/campaign_id", "must be at most 57 of A–Z a–z 0–9 . _ : @ -")
	}
	if it.Amount.Amount < 1 || it.Amount.Amount > MaxAmount {
		p.at("items", i, "/amount/amount", wrongMoney)
	}
	if !validCurrency(it.Amount.Currency) {
		p.at("items", i, "/amount/currency", wrongCode)
	}
	if it.CouponID != (id.ID{}) || it.All || it.Tag != "" || it.SKU != "" || it.Location != "" || it.Quantity != 0 {
		p.at("items", i, "", "a budget has a campaign_id and an amount, and nothing else")
	}
}

// quotaMembers refuses the members of quotas where they do not belong.
func (p *problems) quotaMembers(it *Item, i int) {
	if _, ok := quotaOf(it); !ok && (it.SKU != "" || it.Location != "" || it.Quantity != 0 || it.CampaignID != "") {
		p.at("items", i, "", "sku, location and quantity are for stock, campaign_id is for budgets")
	}
}

// quotaSums refuses items that ask for more of one quota than a number can say.
func (p *problems) quotaSums(items []Item) {
	var sums []quotaTake
	for i := range items {
		take, ok := quotaOf(&items[i])
		if !ok || take.amount > MaxAmount {
			continue
		}
		if sums = addTake(sums, take); sumOf(sums, take.quota) > MaxAmount {
			p.at("items", i, "", wrongTotal)
			return
		}
	}
}

func sumOf(takes []quotaTake, quota string) int64 {
	for i := range takes {
		if takes[i].quota == quota {
			return takes[i].amount
		}
	}
	return 0
}
