package api

import (
	"net/http"
	"strings"

	"github.com/statesvc/statesvc/access"
)

// route says of an operation what the generated code does not know. openapi.yaml says the same; a test compares them.
type route struct {
	method string
	path   string // as in openapi.yaml; it is the http.route of metrics and traces
	op     string // name in metrics; empty for what does not change an owner's data
	scope  access.Scopes
	keyed  bool   // whether the write needs an Idempotency-Key
	query  string // names of the parameters in the query, with a space after each
	long   bool   // the body may take as long as importPatience to arrive
}

var routes = []route{
	{http.MethodPost, "/v1/ids", "", access.ScopeHold, false, "", false},
	{http.MethodPost, "/v1/holds", "hold", access.ScopeHold, true, "dry_run ", false},
	{http.MethodGet, "/v1/holds", "", access.ScopeRead, false, "owner order_id ", false},
	{http.MethodPost, "/v1/holds/confirm", "confirm", access.ScopeHold, true, "dry_run ", false},
	{http.MethodPost, "/v1/holds/cancel", "cancel", access.ScopeHold, true, "dry_run ", false},
	{http.MethodGet, "/v1/holds/{hold_id}", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/holds/{hold_id}/confirm", "confirm", access.ScopeHold, true, "dry_run ", false},
	{http.MethodPost, "/v1/holds/{hold_id}/cancel", "cancel", access.ScopeHold, true, "dry_run ", false},
	{http.MethodPost, "/v1/holds/{hold_id}/extend", "extend", access.ScopeHold, true, "dry_run ", false},
	{http.MethodPost, "/v1/holds/{hold_id}/pin", "pin", access.ScopeHold, true, "dry_run ", false},
	{http.MethodPost, "/v1/holds/{hold_id}/replace", "replace", access.ScopeHold, true, "dry_run ", false},
	{http.MethodPost, "/v1/holds/{hold_id}/refunds", "refund", access.ScopeHold, true, "dry_run ", false},
	{http.MethodGet, "/v1/holds/{hold_id}/refunds", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/holds/{hold_id}/refunds/preview", "", access.ScopeRead, false, "", false},
	{http.MethodGet, "/v1/refunds/{refund_id}", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/preview", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/owners/{owner}/freeze", "freeze", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodPost, "/v1/owners/{owner}/unfreeze", "freeze", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodGet, "/v1/owners/{owner}", "", access.ScopeRead, false, "", false},
	{http.MethodGet, "/v1/owners/{owner}/operations/{key}", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/owners/{owner}/operations/{key}/seal", "seal", access.ScopeHold, false, "", false},
	{http.MethodGet, "/v1/owners/{owner}/coupons", "", access.ScopeRead, false, "state campaign_id limit cursor ", false},
	{http.MethodGet, "/v1/owners/{owner}/lots", "", access.ScopeRead, false, "state currency limit cursor ", false},
	{http.MethodPost, "/v1/owners/{owner}/lots", "credit-lot", access.ScopeIssue, true, "dry_run ", false},
	{http.MethodGet, "/v1/owners/{owner}/entries", "", access.ScopeRead, false, "from to hold_id limit cursor ", false},
	{http.MethodGet, "/v1/owners/{owner}/entries/verify", "", access.ScopeRead, false, "", false},
	{http.MethodGet, "/v1/coupons/{coupon_id}", "", access.ScopeRead, false, "", false},
	{http.MethodGet, "/v1/lots/{lot_id}", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/owners/{owner}/adjustments", "adjust-money", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodGet, "/v1/owners/{owner}/adjustments", "", access.ScopeAdmin, false, "limit cursor ", false},
	{http.MethodGet, "/v1/adjustments/{adjustment_id}", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/adjustments/{adjustment_id}/approve", "decide-adjustment", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodPost, "/v1/adjustments/{adjustment_id}/reject", "decide-adjustment", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodGet, "/v1/admin/adjustments", "", access.ScopeAdmin, false, "limit cursor ", false},
	{http.MethodPost, "/v1/campaigns", "create-campaign", access.ScopeIssue, true, "", false},
	{http.MethodGet, "/v1/campaigns", "", access.ScopeRead, false, "limit cursor ", false},
	{http.MethodGet, "/v1/campaigns/{campaign_id}", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/pause", "move-campaign", access.ScopeIssue, true, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/resume", "move-campaign", access.ScopeIssue, true, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/end", "move-campaign", access.ScopeAdmin, true, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/freeze", "move-campaign", access.ScopeAdmin, true, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/unfreeze", "move-campaign", access.ScopeAdmin, true, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/claims", "claim", access.ScopeHold, true, "", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/codes", "make-codes", access.ScopeIssue, true, "", false},
	{http.MethodGet, "/v1/campaigns/{campaign_id}/codes", "", access.ScopeIssue, false, "batch_ref limit cursor ", false},
	{http.MethodPost, "/v1/redemptions", "redeem", access.ScopeHold, true, "", false},
	{http.MethodPost, "/v1/packets", "create-packet", access.ScopeHold, true, "", false},
	{http.MethodGet, "/v1/packets/{packet_id}", "", access.ScopeRead, false, "", false},
	{http.MethodGet, "/v1/packets/{packet_id}/shares", "", access.ScopeRead, false, "", false},
	{http.MethodPost, "/v1/packets/{packet_id}/grabs", "grab", access.ScopeHold, true, "", false},
	{http.MethodPost, "/v1/coupons/{coupon_id}/revoke", "revoke", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodPost, "/v1/lots/{lot_id}/revoke", "revoke", access.ScopeAdmin, true, "dry_run ", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/issues", "issue-coupon", access.ScopeIssue, true, "dry_run ", false},
	{http.MethodPost, "/v1/campaigns/{campaign_id}/imports", "", access.ScopeIssue, true, "dry_run ", true}, // each row counts as issue-coupon
	{http.MethodGet, "/v1/admin/holds", "", access.ScopeAdmin, false, "pinned overdue limit ", false},
	{http.MethodGet, "/v1/stock/{sku}/{location}", "", access.ScopeRead, false, "", false},
	{http.MethodPut, "/v1/stock/{sku}/{location}", "set-quota", access.ScopeIssue, true, "", false},
	{http.MethodPost, "/v1/stock/{sku}/{location}/adjustments", "adjust-quota", access.ScopeIssue, true, "", false},
	{http.MethodGet, "/v1/quotas", "", access.ScopeRead, false, "prefix limit cursor ", false},
	{http.MethodGet, "/v1/quotas/{quota_id}", "", access.ScopeRead, false, "", false},
	{http.MethodPut, "/v1/quotas/{quota_id}", "set-quota", access.ScopeIssue, true, "", false},
	{http.MethodPost, "/v1/quotas/{quota_id}/adjustments", "adjust-quota", access.ScopeIssue, true, "", false},
	{http.MethodGet, "/v1/state/{kind}", "", access.ScopeRead, false, "ids consistency limit cursor ", false},
	{http.MethodGet, "/v1/state/{kind}/{id}", "", access.ScopeRead, false, "consistency ", false},
	{http.MethodPut, "/v1/state/{kind}/{id}", "put-document", access.ScopeState, true, "", false},
	{http.MethodPatch, "/v1/state/{kind}/{id}", "patch-document", access.ScopeState, true, "", false},
	{http.MethodDelete, "/v1/state/{kind}/{id}", "delete-document", access.ScopeState, true, "", false},
	{http.MethodGet, "/v1/admin/kinds", "", access.ScopeAdmin, false, "", false},
	{http.MethodPut, "/v1/admin/kinds/{kind}", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/owners/{owner}/money", "", access.ScopeRead, false, "as_of ", false},
	{http.MethodGet, "/v1/exports/entries", "", access.ScopeEvents, false, "format from to time_zone ", false},
	{http.MethodPost, "/v1/bulk", "", 0, false, "", true},
	{http.MethodGet, "/v1/events", "", access.ScopeEvents, false, "after limit ", false},
	{http.MethodGet, "/v1/events/stream", "", access.ScopeEvents, false, "after ", false},
	{http.MethodGet, "/v1/webhooks", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/webhooks", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/webhooks/{webhook_id}", "", access.ScopeAdmin, false, "", false},
	{http.MethodDelete, "/v1/webhooks/{webhook_id}", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/webhooks/{webhook_id}/replay", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/admin/audit", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/admin/blocks", "", access.ScopeAdmin, false, "grain id holder ", false},
	{http.MethodGet, "/v1/admin/blocks/audit", "", access.ScopeAdmin, false, "limit cursor ", false},
	{http.MethodPut, "/v1/admin/blocks/{grain}/{id}", "", access.ScopeAdmin, false, "", false},
	{http.MethodDelete, "/v1/admin/blocks/{grain}/{id}", "", access.ScopeAdmin, false, "reason ", false},
	{http.MethodGet, "/v1/admin/undecided", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/undecided/{shard}/{key}/resolve", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/admin/keys", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/keys", "", access.ScopeAdmin, false, "", false},
	{http.MethodPatch, "/v1/admin/keys/{key_id}", "", access.ScopeAdmin, false, "", false},
	{http.MethodDelete, "/v1/admin/keys/{key_id}", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/admin/map", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/admin/shards", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/shards/{shard}/rebuild", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/shards/{shard}/switchover", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/shards/{shard}/suspend", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/shards/{shard}/resume", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/shards/{shard}/fence", "", access.ScopeAdmin, false, "", false},
	{http.MethodPost, "/v1/admin/shards/{shard}/primary", "", access.ScopeAdmin, false, "", false},
	{http.MethodGet, "/v1/admin/failovers", "", access.ScopeAdmin, false, "shard limit cursor ", false},
	{http.MethodGet, "/v1/admin/locate", "", access.ScopeAdmin, false, "owner id ", false},
}

// streams are the paths whose replies have no end, or take long, and so have no deadline.
var streams = map[string]bool{"/v1/events/stream": true, "/v1/exports/entries": true}

func (r *route) stream() bool { return streams[r.path] }

// place is where gin has found a request: the method, and the path in gin's spelling.
type place struct{ method, path string }

// routeAt has the routes by place.
var routeAt = placeRoutes()

func placeRoutes() map[place]*route {
	spelling := strings.NewReplacer("{", ":", "}", "")
	found := make(map[place]*route, len(routes))
	for i := range routes {
		found[place{routes[i].method, spelling.Replace(routes[i].path)}] = &routes[i]
	}
	return found
}
