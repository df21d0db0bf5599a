package client

import "github.com/statesvc/statesvc/client/gen"

// The types of openapi.yaml, by the names that callers use.
type (
	DocumentItem    = gen.DocumentItem
	Kind            = gen.Kind
	KindRequest     = gen.KindRequest
	Money           = gen.Money
	Balance         = gen.Balance
	Hold            = gen.Hold
	HoldReply       = gen.HoldReply
	HoldRequest     = gen.HoldRequest
	HoldItem        = gen.HoldItem
	HoldItemRequest = gen.HoldItemRequest
	LineRequest     = gen.LineRequest
	OrderRequest    = gen.OrderRequest
	ConfirmRequest  = gen.ConfirmRequest
	PartRequest     = gen.PartRequest
	Part            = gen.Part
	Refund          = gen.Refund
	RefundRequest   = gen.RefundRequest
	RefundReply     = gen.RefundReply
	Coupon          = gen.Coupon
	CouponReply     = gen.CouponReply
	IssueRequest    = gen.IssueRequest
	DiscountRequest = gen.DiscountRequest
	ImportResult    = gen.ImportResult
	MoneyAsOf       = gen.MoneyAsOf
	Lot             = gen.Lot
	LotReply        = gen.LotReply
	CreditRequest   = gen.CreditRequest

	Adjustment        = gen.Adjustment
	AdjustmentReply   = gen.AdjustmentReply
	AdjustmentRequest = gen.AdjustmentRequest
	DecisionRequest   = gen.DecisionRequest

	Quota           = gen.Quota
	QuotaSlice      = gen.QuotaSlice
	QuotaReply      = gen.QuotaReply
	QuotaRequest    = gen.QuotaRequest
	QuotaAdjustment = gen.QuotaAdjustment
	Campaign        = gen.Campaign
	CampaignReply   = gen.CampaignReply
	CampaignRequest = gen.CampaignRequest
	Validity        = gen.Validity
	ClaimRequest    = gen.ClaimRequest
	CodesRequest    = gen.CodesRequest
	CodesReply      = gen.CodesReply
	CampaignCode    = gen.CampaignCode
	Packet          = gen.Packet
	PacketReply     = gen.PacketReply
	PacketRequest   = gen.PacketRequest
	Share           = gen.Share
	GrabReply       = gen.GrabReply
	Entry           = gen.Entry
	Owner           = gen.Owner
	Operation       = gen.Operation
	Verification    = gen.Verification
	Block           = gen.Block
	BlockRequest    = gen.BlockRequest
	BlockChange     = gen.BlockChange
	Undecided       = gen.Undecided
	APIKey          = gen.APIKey
	APIKeyRequest   = gen.APIKeyRequest
	APIKeyChange    = gen.APIKeyChange
	NewAPIKey       = gen.NewAPIKey
	Rate            = gen.Rate
	ShardMap        = gen.ShardMap
	Shard           = gen.Shard
	Node            = gen.Node
	Host            = gen.Host
	Location        = gen.Location
	ShardOrder      = gen.ShardOrder
	ShardFence      = gen.ShardFence
	Failover        = gen.Failover
	FailoverStep    = gen.FailoverStep
	AuditReport     = gen.AuditReport
	BulkOperation   = gen.BulkOperation
	BulkDecision    = gen.BulkDecision
	BulkIssue       = gen.BulkIssue
	BulkCredit      = gen.BulkCredit
	BulkReply       = gen.BulkReply
	BulkResult      = gen.BulkResult
	Event           = gen.Event
	EventList       = gen.EventList
	Webhook         = gen.Webhook
	WebhookRequest  = gen.WebhookRequest
	NewWebhook      = gen.NewWebhook
	Delivery        = gen.Delivery
)

// The kinds of items and discounts.
const (
	CouponItem = "coupon"
	MoneyItem  = "money"
	StockItem  = "stock"
	BudgetItem = "budget"
	Fixed      = "FIXED"
	Percent    = "PERCENT"

	EqualSplit  = "EQUAL" // modes of packets
	RandomSplit = "RANDOM"

	Window   = "WINDOW" // validities of the coupons of a campaign
	Days     = "DAYS"
	EndOfDay = "END_OF_DAY"
)

// What can have become of a key.
const (
	StatusDone       = "DONE"
	StatusRefused    = "REFUSED"
	StatusSealed     = "SEALED"
	StatusAborted    = "ABORTED"
	StatusInProgress = "IN_PROGRESS"
	StatusNotSeen    = "NOT_SEEN"
)
