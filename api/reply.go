package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/statesvc/statesvc/ledger"
)

// reply is the answer of every operation: a status, and a body that is JSON already. What the ledger has recorded goes out as
// it was recorded. Each operation has its own method to write it, because the generated code tells operations apart by types.
type reply struct {
	status   int
	body     []byte
	replayed bool
}

func (r reply) write(w http.ResponseWriter) error {
	header := w.Header()
	if r.replayed {
		header[headerReplayed] = []string{"true"}
	}
	if r.body == nil {
		w.WriteHeader(r.status)
		return nil
	}
	header["Content-Type"] = []string{"application/json"}
	if len(r.body) >= buffered {
		header["Content-Length"] = []string{strconv.Itoa(len(r.body))}
	}
	w.WriteHeader(r.status)
	_, err := w.Write(r.body)
	return err
}

// buffered is what net/http keeps of a reply, and counts by itself. A ninth header would make it build a larger map.
const buffered = 2 << 10

// written answers a write with what the ledger says. The status is that of the first reply also for a replay: Created follows
// from the operation and the recorded bytes.
func written(ctx context.Context, answer ledger.Answer, err error) (reply, error) {
	call := callOf(ctx)
	call.replayed = answer.Replayed
	if err != nil {
		return reply{}, err
	}
	r := reply{http.StatusOK, answer.Body, answer.Replayed}
	if answer.Created {
		r.status = http.StatusCreated
	}
	if answer.Pending {
		r.status = http.StatusAccepted
	}
	call.verdict = "done"
	return r, nil
}

// shown answers with a body that is not JSON yet.
func shown(status int, body any, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, fmt.Errorf("encode the reply: %w", err)
	}
	return reply{status, text, false}, nil
}

// The replies of the operations, in the order of openapi.yaml.
func (r reply) VisitMintIdsResponse(w http.ResponseWriter) error           { return r.write(w) }
func (r reply) VisitCreateHoldResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitListHoldsResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitConfirmOrderResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitCancelOrderResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitGetHoldResponse(w http.ResponseWriter) error           { return r.write(w) }
func (r reply) VisitConfirmHoldResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitCancelHoldResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitExtendHoldResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitPinHoldResponse(w http.ResponseWriter) error           { return r.write(w) }
func (r reply) VisitReplaceHoldResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitCreateRefundResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitListRefundsResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitPreviewRefundResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitGetRefundResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitPreviewHoldResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitFreezeOwnerResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitUnfreezeOwnerResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitGetOwnerResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitGetOperationResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitSealOperationResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitListCouponsResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitListLotsResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitCreditLotResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitGetMoneyResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitListEntriesResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitVerifyEntriesResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitGetCouponResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitGetLotResponse(w http.ResponseWriter) error            { return r.write(w) }
func (r reply) VisitRevokeCouponResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitRevokeLotResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitAdjustMoneyResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitListAdjustmentsResponse(w http.ResponseWriter) error   { return r.write(w) }
func (r reply) VisitGetAdjustmentResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitApproveAdjustmentResponse(w http.ResponseWriter) error { return r.write(w) }
func (r reply) VisitRejectAdjustmentResponse(w http.ResponseWriter) error  { return r.write(w) }
func (r reply) VisitListProposalsResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitIssueCouponResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitImportCouponsResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitReportHoldsResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitCreateCampaignResponse(w http.ResponseWriter) error    { return r.write(w) }
func (r reply) VisitListCampaignsResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitGetCampaignResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitPauseCampaignResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitResumeCampaignResponse(w http.ResponseWriter) error    { return r.write(w) }
func (r reply) VisitEndCampaignResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitFreezeCampaignResponse(w http.ResponseWriter) error    { return r.write(w) }
func (r reply) VisitUnfreezeCampaignResponse(w http.ResponseWriter) error  { return r.write(w) }
func (r reply) VisitClaimCouponResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitMakeCodesResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitListCodesResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitRedeemCodeResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitBulkResponse(w http.ResponseWriter) error              { return r.write(w) }
func (r reply) VisitListEventsResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitListWebhooksResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitCreateWebhookResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitGetWebhookResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitDeleteWebhookResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitReplayWebhookResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitCreatePacketResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitGetPacketResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitListSharesResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitGrabShareResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitGetStockResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitSetStockResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitAdjustStockResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitListQuotasResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitGetQuotaResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitSetQuotaResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitAdjustQuotaResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitListDocumentsResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitListKindsResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitPutKindResponse(w http.ResponseWriter) error           { return r.write(w) }
func (r reply) VisitListBlocksResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitListBlockAuditResponse(w http.ResponseWriter) error    { return r.write(w) }
func (r reply) VisitPutBlockResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitDeleteBlockResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitListUndecidedResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitResolveUndecidedResponse(w http.ResponseWriter) error  { return r.write(w) }
func (r reply) VisitListKeysResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitCreateKeyResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitUpdateKeyResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitDeleteKeyResponse(w http.ResponseWriter) error         { return r.write(w) }
func (r reply) VisitGetMapResponse(w http.ResponseWriter) error            { return r.write(w) }
func (r reply) VisitListShardsResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitRebuildNodeResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitSwitchoverShardResponse(w http.ResponseWriter) error   { return r.write(w) }
func (r reply) VisitSuspendShardResponse(w http.ResponseWriter) error      { return r.write(w) }
func (r reply) VisitResumeShardResponse(w http.ResponseWriter) error       { return r.write(w) }
func (r reply) VisitFenceShardResponse(w http.ResponseWriter) error        { return r.write(w) }
func (r reply) VisitAnnouncePrimaryResponse(w http.ResponseWriter) error   { return r.write(w) }
func (r reply) VisitListFailoversResponse(w http.ResponseWriter) error     { return r.write(w) }
func (r reply) VisitGetAuditResponse(w http.ResponseWriter) error          { return r.write(w) }
func (r reply) VisitLocateResponse(w http.ResponseWriter) error            { return r.write(w) }
