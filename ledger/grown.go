package ledger

import (
	"context"

	"github.com/statesvc/statesvc/shard/id"
)

// Refund gives back what was confirmed, once per reference (R18, R19). The Body is a RefundReply.
func (l *Ledger) Refund(ctx context.Context, c Caller, r Refund) (Answer, error) {
	if err := validateRefund(c, &r); err != nil {
		return Answer{}, err
	}
	fingerprint := fingerprintRefund(&r)
	op := &refundOp{Refund: r, hash: refundHash(fingerprint)}
	if err := l.mint(&op.id, id.Refund, r.Owner); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindRefund, fingerprint, op)
}

// Extend gives a live hold a later expiry (R12). The Body is a HoldReply.
func (l *Ledger) Extend(ctx context.Context, c Caller, r Extend) (Answer, error) {
	if err := validateLater(c, r.Owner, r.Hold, &r.TTL, MaxHoldTTL); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindExtend, fingerprintLater(printExtend, r.Hold, r.TTL.Microseconds()), &extendOp{r})
}

// Pin keeps a hold from expiring while the outcome of its payment is unknown (R12). The Body is a HoldReply.
func (l *Ledger) Pin(ctx context.Context, c Caller, r Pin) (Answer, error) {
	if err := validateLater(c, r.Owner, r.Hold, &r.TTL, MaxPin); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindPin, fingerprintLater(printPin, r.Hold, r.TTL.Microseconds()), &pinOp{r})
}

// Replace makes a hold in the place of an older one of the same order (R14). The Body is a HoldReply with the new hold.
func (l *Ledger) Replace(ctx context.Context, c Caller, r Replace) (Answer, error) {
	if err := validateHold(c, &r.New); err != nil {
		return Answer{}, err
	}
	if err := validateDecision(c, r.New.Owner, r.Old); err != nil {
		return Answer{}, err
	}
	op := &replaceOp{holdOp: holdOp{Hold: r.New, id: r.New.HoldID, hash: requestHash(fingerprintHold(&r.New))}, old: r.Old}
	if err := l.mint(&op.id, id.Hold, r.New.Owner); err != nil {
		return Answer{}, err
	}
	return l.submitHold(ctx, c, &op.holdOp, fingerprintReplace(&r), submission{kindReplace, op})
}

// Freeze lets an owner make no new holds, or ends that (R31). The Body is a FreezeReply.
func (l *Ledger) Freeze(ctx context.Context, c Caller, r Freeze) (Answer, error) {
	if err := validateAdmin(c, r.Owner, r.Reason); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindFreeze, fingerprintFreeze(&r), &freezeOp{r})
}

// Revoke takes a coupon, or what is available of a lot, away for ever (R31). The Body is a CouponReply or a LotReply.
func (l *Ledger) Revoke(ctx context.Context, c Caller, r Revoke) (Answer, error) {
	if err := validateAdmin(c, r.Owner, r.Reason); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindRevoke, fingerprintRevoke(&r), &revokeOp{r})
}
