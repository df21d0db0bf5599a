package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// apply decides op at now. It has no IO, no clock and no randomness: the same rows, operation and time give the same reply.
//
// First it settles what is expired at now, which is true whatever becomes of op; then it checks op, without changing anything;
// then it carries op out.
func (s *state) apply(op *shard.Op, now time.Time) shard.Reply {
	o := s.owner(op.Bucket, op.Owner)
	s.begin(o, now)
	if err := s.settle(o); err != nil {
		return internal(err)
	}
	switch body := op.Body.(type) {
	case *holdOp:
		return s.hold(o, body)
	case *confirmOp:
		return s.confirm(o, body)
	case *cancelOp:
		return s.cancel(o, body)
	case *refundOp:
		return s.refund(o, body)
	case *extendOp:
		return s.extend(o, body)
	case *pinOp:
		return s.pin(o, body)
	case *replaceOp:
		return s.replace(o, body)
	case *freezeOp:
		return s.freeze(o, body)
	case *revokeOp:
		return s.revoke(o, body)
	case *adjustOp:
		return s.adjust(o, body)
	case *decideAdjustmentOp:
		return s.decideAdjustment(o, body)
	case *endAdjustmentOp:
		return s.endAdjustment(body)
	case *issueOp:
		return s.issue(o, body)
	case *creditOp:
		return s.credit(o, body)
	case expireOp:
		return shard.Reply{Verdict: shard.Done}
	case *setQuotaOp:
		return s.setQuota(o, body)
	case *adjustQuotaOp:
		return s.adjustQuota(body)
	case *borrowOp:
		return s.borrow(body)
	case *giveBackOp:
		return s.giveBack(body)
	case *landOp:
		return s.land(body)
	case *closeOp:
		return s.close(body)
	case *createCampaignOp:
		return s.createCampaign(o, body)
	case *moveCampaignOp:
		return s.moveCampaign(o, body)
	case *markOp:
		return s.mark(body)
	case *toldOp:
		return s.told(body)
	case *claimOp:
		return s.claim(o, body)
	case *makeBatchOp:
		return s.makeBatch(o, body)
	case *makeCodeOp:
		return s.makeCode(o, body)
	case *reserveCodeOp:
		return s.reserveCode(o, body)
	case *closeCodeOp:
		return s.closeCode(o, body)
	case *refusedCodeOp:
		return refuse(body.Refusal)
	case *createPacketOp:
		return s.createPacket(o, body)
	case *grabOp:
		return s.grab(o, body)
	case *landShareOp:
		return s.landShare(o, body)
	case *closeShareOp:
		return s.closeShare(body)
	case *returnPacketOp:
		return s.returnPacket(o, body)
	}
	return internal(fmt.Errorf("the ledger has no operation %T", op.Body))
}

func done(body []byte) shard.Reply { return shard.Reply{Verdict: shard.Done, Body: body} }

// refuse pins a refusal to the key of its operation, unless it may be tried again with the same key (R24).
func refuse(r *Refusal) shard.Reply {
	if retryable(r.Reason) {
		return shard.Reply{Err: r}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return internal(err)
	}
	return shard.Reply{Verdict: shard.Refused, Body: body}
}

func refusal(reason error, pointer, detail string) *Refusal {
	return &Refusal{Reason: reason, Code: reason.Error(), Detail: detail, Pointer: pointer}
}

// reused refuses a reference that belongs to another request. Its key stays unused.
func reused(fields ...string) shard.Reply { return shard.Reply{Err: &KeyReused{Fields: fields}} }

// internal stops an operation that has met an impossible state, because going on would write it down.
func internal(err error) shard.Reply {
	return shard.Reply{Err: fmt.Errorf("%w: %w", shard.ErrInternal, err)}
}

// stateRefusal says why a hold that is not live takes no event.
func (s *state) stateRefusal(h *holdRow) *Refusal {
	if successor := h.successor(); successor != "" {
		r := refusal(ErrSuperseded, "", "the hold is "+string(h.state)+", and another one has taken its place")
		r.HoldID = successor
		return r
	}
	r := refusal(refusalIn(h.state), "", "the hold is "+string(h.state)+" since "+instant(h.decidedAt).Format(time.RFC3339Nano))
	r.HoldID = s.codec.Text(id.Hold, h.id)
	return r
}

func unknownHold() *Refusal { return refusal(ErrNotFound, "", "the owner has no such hold") }
