package gen

import "github.com/statesvc/statesvc/api/strictjson"

// The bodies of requests, member by member as openapi.yaml has them. Bounds stand here only where a zero that was sent could
// be mistaken for a member that was left out; all other rules belong to whoever knows the reason for them.

const (
	maxAttempt     = 1_000_000
	minTTLMs       = 1_000
	maxTTLMs       = 2_592_000_000
	maxMint        = 1_000
	maxRate        = 1_000_000
	maxBasisPoints = 10_000
	maxValidDays   = 7_300
	maxShares      = 500
	minMaxBytes    = 2
	maxMaxBytes    = 64_000
)

// ReadJSON reads the body of createHold.
func (b *HoldRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "order_id":
			b.OrderID = r.String()
		case "attempt":
			b.Attempt = int(r.Integer(1, maxAttempt))
		case "hold_id":
			b.HoldID = r.String()
		case "ttl_ms":
			b.TTLMs = r.Integer(minTTLMs, maxTTLMs)
		case "lines":
			b.readLines(r)
		case "items":
			b.readItems(r)
		case "max_discount":
			b.MaxDiscount.read(r, 1)
		case "over_capture_limit":
			b.OverCaptureLimit.read(r, 1)
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "order_id", "items")
}

func (b *HoldRequest) readLines(r *strictjson.Reader) {
	for r.Array(); r.Element(); {
		b.Lines = append(b.Lines, LineRequest{})
		b.Lines[len(b.Lines)-1].ReadJSON(r)
	}
	if len(b.Lines) == 0 {
		r.Refuse("is empty; leave it out")
	}
}

func (b *HoldRequest) readItems(r *strictjson.Reader) {
	for r.Array(); r.Element(); {
		b.Items = append(b.Items, HoldItemRequest{})
		b.Items[len(b.Items)-1].ReadJSON(r)
	}
}

// ReadJSON reads a line of an order.
func (b *LineRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "line_id":
			b.LineID = r.String()
		case "amount":
			b.Amount.read(r, 0)
		default:
			r.Unknown()
		}
	}
	r.Require("line_id", "amount")
}

// ReadJSON reads an item of a hold.
func (b *HoldItemRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "kind":
			b.Kind = r.String()
		case "coupon_id":
			b.CouponID = r.String()
		case "amount":
			b.Amount.read(r, 1)
		case "all":
			b.All = r.Bool()
		case "currency":
			b.Currency = r.String()
		case "tag":
			b.Tag = r.String()
		case "sku":
			b.Sku = r.String()
		case "location":
			b.Location = r.String()
		case "quantity":
			b.Quantity = r.Integer(1, strictjson.MaxInteger)
		case "campaign_id":
			b.CampaignID = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("kind")
}

// ReadJSON reads the body of setStock and setQuota.
func (b *QuotaRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "total":
			b.Total = r.Integer(0, strictjson.MaxInteger)
		case "currency":
			b.Currency = r.String()
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("total")
}

// ReadJSON reads the body of adjustStock and adjustQuota.
func (b *QuotaAdjustment) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "delta":
			b.Delta = r.Integer(-strictjson.MaxInteger, strictjson.MaxInteger)
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("delta")
}

// read reads an amount of at least least.
func (m *Money) read(r *strictjson.Reader, least int64) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "amount":
			m.Amount = r.Integer(least, strictjson.MaxInteger)
		case "currency":
			m.Currency = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("amount", "currency")
}

// ReadJSON reads the body of cancelHold.
func (b *OwnerRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner")
}

// ReadJSON reads the body of confirmOrder and cancelOrder.
func (b *OrderRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "order_id":
			b.OrderID = r.String()
		case "attempt":
			b.Attempt = int(r.Integer(1, maxAttempt))
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "order_id")
}

// ReadJSON reads the body of mintIds.
func (b *MintRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "kind":
			b.Kind = r.String()
		case "count":
			b.Count = int(r.Integer(1, maxMint))
		default:
			r.Unknown()
		}
	}
	r.Require("owner")
}

// ReadJSON reads the body of creditLot.
func (b *CreditRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "issue_ref":
			b.IssueRef = r.String()
		case "source":
			b.Source = r.String()
		case "tag":
			b.Tag = r.String()
		case "amount":
			b.Amount.read(r, 1)
		case "expires_at":
			b.ExpiresAt = r.Time()
		case "refund_grace_ms":
			b.RefundGraceMs = r.Integer(1, maxGraceMs)
		default:
			r.Unknown()
		}
	}
	r.Require("issue_ref", "source", "amount", "expires_at")
}

// ReadJSON reads the body of adjustMoney.
func (b *AdjustmentRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "adjustment_ref":
			b.AdjustmentRef = r.String()
		case "delta":
			b.Delta = r.Integer(-strictjson.MaxInteger, strictjson.MaxInteger)
		case "currency":
			b.Currency = r.String()
		case "expires_at":
			b.ExpiresAt = r.Time()
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("adjustment_ref", "delta", "currency", "reason")
}

// ReadJSON reads the body of approveAdjustment and of rejectAdjustment.
func (b *DecisionRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "reason")
}

// ReadJSON reads the body of issueCoupon, and a row of an import.
func (b *IssueRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "issue_ref":
			b.IssueRef = r.String()
		case "discount":
			b.Discount.ReadJSON(r)
		case "valid_from":
			b.ValidFrom = r.Time()
		case "expires_at":
			b.ExpiresAt = r.Time()
		case "refund_policy":
			b.RefundPolicy = r.String()
		case "stack_group":
			b.StackGroup = r.String()
		case "max_per_group":
			b.MaxPerGroup = int(r.Integer(1, maxGroup))
		case "priority":
			b.Priority = int(r.Integer(-maxPriority, maxPriority))
		case "max_discount":
			b.MaxDiscount.read(r, 1)
		case "return_grace_ms":
			b.ReturnGraceMs = r.Integer(1, maxGraceMs)
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "issue_ref", "discount", "expires_at")
}

// ReadJSON reads what a coupon is worth.
func (b *DiscountRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "kind":
			b.Kind = r.String()
		case "currency":
			b.Currency = r.String()
		case "amount":
			b.Amount.read(r, 1)
		case "basis_points":
			b.BasisPoints = r.Integer(1, maxBasisPoints)
		case "cap":
			b.Cap.read(r, 1)
		case "min_spend":
			b.MinSpend.read(r, 1)
		default:
			r.Unknown()
		}
	}
	r.Require("kind")
}

// ReadJSON reads the body of putBlock.
func (b *BlockRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "reason":
			b.Reason = r.String()
		case "public_reason":
			b.PublicReason = r.String()
		case "expires_at":
			b.ExpiresAt = r.Time()
		case "until_removed":
			b.UntilRemoved = r.Bool()
		default:
			r.Unknown()
		}
	}
	r.Require("reason")
}

// ReadJSON reads the body of an order for a shard.
func (b *ReasonRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("reason")
}

// ReadJSON reads which node is to be rebuilt.
func (b *RebuildRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "node":
			b.Node = r.String()
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("node", "reason")
}

// ReadJSON reads the body of announcePrimary.
func (b *PrimaryAnnouncement) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "epoch":
			b.Epoch = r.Integer(1, strictjson.MaxInteger)
		case "address":
			b.Address = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("epoch", "address")
}

// ReadJSON reads the body of createKey.
func (b *APIKeyRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "name":
			b.Name = r.String()
		case "scopes":
			b.Scopes = readScopes(r)
		case "rate":
			b.Rate.ReadJSON(r)
		case "expires_at":
			b.ExpiresAt = r.Time()
		default:
			r.Unknown()
		}
	}
	r.Require("name", "scopes")
}

// ReadJSON reads the body of updateKey.
func (b *APIKeyChange) ReadJSON(r *strictjson.Reader) {
	members := 0
	for r.Object(); r.Member(); members++ {
		switch r.Name() {
		case "name":
			b.Name = r.String()
		case "scopes":
			b.Scopes = readScopes(r)
		case "rate":
			b.Rate.ReadJSON(r)
		case "expires_at":
			b.ExpiresAt = r.Time()
		case "never_expires":
			b.NeverExpires = r.Bool()
		default:
			r.Unknown()
		}
	}
	if members == 0 {
		r.Refuse("changes nothing")
	}
}

func readScopes(r *strictjson.Reader) (scopes Scopes) {
	for r.Array(); r.Element(); {
		scopes = append(scopes, r.String())
	}
	if len(scopes) == 0 {
		r.Refuse("is empty")
	}
	return scopes
}

// ReadJSON reads the rate of a key.
func (b *Rate) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "per_second":
			b.PerSecond = int(r.Integer(1, maxRate))
		case "burst":
			b.Burst = int(r.Integer(1, maxRate))
		default:
			r.Unknown()
		}
	}
	r.Require("per_second", "burst")
}

// RawObject is a JSON object with members of its own, without white space around its parts.
type RawObject []byte //nolint:recvcheck // it is read through a pointer, and written as a value of a reply

// ReadJSON reads the body of putDocument, and a JSON Schema.
func (o *RawObject) ReadJSON(r *strictjson.Reader) { *o = r.RawObject() }

// MarshalJSON writes the object as it is.
func (o RawObject) MarshalJSON() ([]byte, error) { return o, nil }

// RawPatch is a RawObject that is a merge patch.
type RawPatch []byte

// ReadJSON reads the body of patchDocument.
func (o *RawPatch) ReadJSON(r *strictjson.Reader) { *o = r.RawObject() }

// MediaType is that of merge patches (RFC 7396).
func (o *RawPatch) MediaType() string { return "application/merge-patch+json" }

// ReadJSON reads the body of putKind.
func (b *KindRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "schema":
			b.Schema.ReadJSON(r)
		case "max_bytes":
			b.MaxBytes = int(r.Integer(minMaxBytes, maxMaxBytes))
		case "intent":
			b.Intent = r.Bool()
		default:
			r.Unknown()
		}
	}
}

// ReadJSON reads the body of createCampaign.
func (b *CampaignRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "campaign_id":
			b.CampaignID = r.String()
		case "discount":
			b.Discount.ReadJSON(r)
		case "time_zone":
			b.TimeZone = r.String()
		case "starts_at":
			b.StartsAt = r.Time()
		case "ends_at":
			b.EndsAt = r.Time()
		case "validity":
			b.Validity.ReadJSON(r)
		case "total_limit":
			b.TotalLimit = r.Integer(1, strictjson.MaxInteger)
		case "owner_limit":
			b.OwnerLimit = r.Integer(1, strictjson.MaxInteger)
		case "owner_day_limit":
			b.OwnerDayLimit = r.Integer(1, strictjson.MaxInteger)
		case "budget":
			b.Budget.read(r, 1)
		case "code_required":
			b.CodeRequired = r.Bool()
		case "refund_policy":
			b.RefundPolicy = r.String()
		case "stack_group":
			b.StackGroup = r.String()
		case "max_per_group":
			b.MaxPerGroup = int(r.Integer(1, maxGroup))
		case "priority":
			b.Priority = int(r.Integer(-maxPriority, maxPriority))
		case "max_discount":
			b.MaxDiscount.read(r, 1)
		case "return_grace_ms":
			b.ReturnGraceMs = r.Integer(1, maxGraceMs)
		default:
			r.Unknown()
		}
	}
	r.Require("campaign_id", "discount", "time_zone", "starts_at", "ends_at", "validity")
}

// ReadJSON reads the validity of a campaign's coupons.
func (b *Validity) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "kind":
			b.Kind = r.String()
		case "from":
			b.From = r.Time()
		case "until":
			b.Until = r.Time()
		case "days":
			b.Days = int(r.Integer(0, maxValidDays))
		default:
			r.Unknown()
		}
	}
	r.Require("kind")
}

// ReadJSON reads the body of what changes a campaign.
func (b *CampaignChange) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "reason":
			b.Reason = r.String()
		default:
			r.Unknown()
		}
	}
}

// ReadJSON reads the body of claimCoupon.
func (b *ClaimRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "claim_ref":
			b.ClaimRef = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "claim_ref")
}

// ReadJSON reads the body of makeCodes.
func (b *CodesRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "batch_ref":
			b.BatchRef = r.String()
		case "count":
			b.Count = int(r.Integer(1, 1000))
		case "codes":
			for r.Array(); r.Element(); {
				b.Codes = append(b.Codes, r.String())
			}
		case "shared_code":
			b.SharedCode = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("batch_ref")
}

// ReadJSON reads the body of redeemCode.
func (b *RedemptionRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "code":
			b.Code = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "code")
}

// ReadJSON reads the body of createPacket.
func (b *PacketRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "packet_ref":
			b.PacketRef = r.String()
		case "amount":
			b.Amount.read(r, 1)
		case "shares":
			b.Shares = int(r.Integer(1, maxShares))
		case "mode":
			b.Mode = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "packet_ref", "amount", "shares", "mode")
}

// ReadJSON reads the body of createWebhook.
func (b *WebhookRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "url":
			b.URL = r.String()
		case "after":
			b.After = r.String()
		default:
			r.Unknown()
		}
	}
	r.Require("url")
}

// ReadJSON reads the body of replayWebhook.
func (b *ReplayRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "after":
			b.After = r.String()
		default:
			r.Unknown()
		}
	}
}

// MaxBody is enough for a thousand operations that are as large as usual ones get.
func (*BulkRequest) MaxBody() int { return 16 << 20 }

// ReadJSON reads the body of bulk.
func (b *BulkRequest) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "operations":
			for r.Array(); r.Element(); {
				b.Operations = append(b.Operations, BulkOperation{})
				b.Operations[len(b.Operations)-1].ReadJSON(r)
			}
		default:
			r.Unknown()
		}
	}
	r.Require("operations")
}

// ReadJSON reads an operation of a bulk.
func (b *BulkOperation) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "idempotency_key":
			b.IdempotencyKey = r.String()
		case "hold":
			b.Hold = new(HoldRequest)
			b.Hold.ReadJSON(r)
		case "confirm":
			b.Confirm = new(BulkDecision)
			b.Confirm.ReadJSON(r)
		case "cancel":
			b.Cancel = new(BulkDecision)
			b.Cancel.ReadJSON(r)
		case "issue":
			b.Issue = new(BulkIssue)
			b.Issue.ReadJSON(r)
		case "credit":
			b.Credit = new(BulkCredit)
			b.Credit.ReadJSON(r)
		default:
			r.Unknown()
		}
	}
	r.Require("idempotency_key")
}

// ReadJSON reads which hold a bulk confirms or cancels.
func (b *BulkDecision) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "hold_id":
			b.HoldID = r.String()
		case "order_id":
			b.OrderID = r.String()
		case "attempt":
			b.Attempt = int(r.Integer(1, maxAttempt))
		default:
			r.Unknown()
		}
	}
	r.Require("owner")
}

// ReadJSON reads an issue of a bulk.
func (b *BulkIssue) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "campaign_id":
			b.CampaignID = r.String()
		case "issue":
			b.Issue.ReadJSON(r)
		default:
			r.Unknown()
		}
	}
	r.Require("campaign_id", "issue")
}

// ReadJSON reads a credit of a bulk.
func (b *BulkCredit) ReadJSON(r *strictjson.Reader) {
	for r.Object(); r.Member(); {
		switch r.Name() {
		case "owner":
			b.Owner = r.String()
		case "lot":
			b.Lot.ReadJSON(r)
		default:
			r.Unknown()
		}
	}
	r.Require("owner", "lot")
}
