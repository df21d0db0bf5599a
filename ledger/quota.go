package ledger

import (
	"slices"
	"strings"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// QuotaKind says what a quota counts. It is the first part of the quota's id.
type QuotaKind string

// The kinds of quotas.
const (
	StockQuota  QuotaKind = "stock"   // stock:{sku}:{location}, in pieces
	BudgetQuota QuotaKind = "budget"  // budget:{campaign_id}, in minor units of one currency
	CountQuota  QuotaKind = "coupons" // coupons:{campaign_id}, in coupons
)

// StockID is the quota of a SKU at a location.
func StockID(sku, location string) string { return string(StockQuota) + ":" + sku + ":" + location }

// BudgetID is the quota of a campaign's money.
func BudgetID(campaignID string) string { return string(BudgetQuota) + ":" + campaignID }

// CountID is the quota of how many coupons a campaign may give away.
func CountID(campaignID string) string { return string(CountQuota) + ":" + campaignID }

// ParseQuotaID returns the kind of a quota and the parts of its name: SKU and location, or the campaign. It is false for what is no
// id of a quota. An id has the alphabet and the length of an owner, and its home is the bucket that an owner of this name has.
func ParseQuotaID(quota string) (kind QuotaKind, parts []string, ok bool) {
	if !shard.ValidOwner(quota) {
		return "", nil, false
	}
	word, rest, _ := strings.Cut(quota, ":")
	switch kind = QuotaKind(word); kind {
	case StockQuota:
		parts = strings.Split(rest, ":")
		ok = len(parts) == 2 && parts[0] != "" && parts[1] != ""
	case BudgetQuota, CountQuota:
		parts, ok = []string{rest}, rest != ""
	}
	return kind, parts, ok
}

// validStock says whether two texts name stock.
func validStock(sku, location string) bool {
	_, parts, ok := ParseQuotaID(StockID(sku, location))
	return ok && parts[0] == sku
}

func validBudget(campaignID string) bool {
	_, _, ok := ParseQuotaID(BudgetID(campaignID))
	return ok
}

// slicesOwner is the owner of operations on slices, which have none: they are locked by their own rows. No caller can have this
// name, and no row in owners has it.
const slicesOwner = "/slices"

// quotaTake is what a hold takes of one quota.
type quotaTake struct {
	quota  string
	amount int64
}

// quotaOf is what an item takes of a quota; false if the item is of another kind.
func quotaOf(it *Item) (take quotaTake, ok bool) {
	switch it.Kind {
	case StockItem:
		return quotaTake{StockID(it.SKU, it.Location), it.Quantity}, true
	case BudgetItem:
		return quotaTake{BudgetID(it.CampaignID), it.Amount.Amount}, true
	case CouponItem, MoneyItem:
	}
	return take, false
}

// addTake sums up what several items take of one quota (R16), in the order of quotas.
func addTake(takes []quotaTake, take quotaTake) []quotaTake {
	at, found := slices.BinarySearchFunc(takes, take.quota, func(t quotaTake, quota string) int {
		return strings.Compare(t.quota, quota)
	})
	if found {
		takes[at].amount += take.amount
		return takes
	}
	return slices.Insert(takes, at, take)
}

// quotaRows are the rows of quotas in memory. The maps are nil until a batch has a quota.
type quotaRows struct {
	homes     map[string]*homeRow
	slices    map[string]*sliceRow
	transfers map[id.ID]*transferRow

	changed struct {
		homes     []*homeRow
		grants    []*grantRow
		slices    []*sliceRow
		transfers []*transferRow
	}
}

// homeRow is a row of quotas, with all its grants.
type homeRow struct {
	owner    *ownerRow // of the quota's id: its row is the lock
	quota    string
	currency string // empty: it counts pieces
	total    int64
	free     int64
	lowAt    int64 // see SetQuota
	ver      int64
	grants   []*grantRow // by shard

	stored, dirty bool
}

// grantRow is a row of grants: what the home has given to one shard and not got back.
type grantRow struct {
	home    *homeRow
	shard   int
	granted int64
	outSeq  int64
	inSeq   int64
	ver     int64
	out     *transferRow // the GRANT that is not closed

	stored, dirty bool
}

// sliceRow is a row of slices.
type sliceRow struct {
	quota    string
	shard    int
	currency string
	granted  int64
	sliceCounters
	demand
	takenAt int64
	outSeq  int64
	inSeq   int64
	ver     int64
	dueAt   int64        // when the first hold expires that has of it, as loaded; 0: there is none
	out     *transferRow // the RETURN that is not closed

	stored, dirty bool
}

// sliceCounters always sum up to what the slice was granted (I2).
type sliceCounters struct{ Available, Held, Used int64 }

// The kinds of transfers.
const (
	transferGrant  = "GRANT"  // from home to a slice
	transferReturn = "RETURN" // from a slice to its home
)

// transfer is units on their way between a home and a slice. (kind, quota, shard, seq) names it for ever.
type transfer struct {
	bucket    shard.Bucket // of its row at the source
	id        id.ID
	kind      string
	quota     string
	shard     int
	seq       int64
	amount    int64
	currency  string
	createdAt int64
}

// transferRow is a row of transfers.
type transferRow struct {
	transfer
	stored, dirty, closed bool
}
