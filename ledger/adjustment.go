package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/shard/id"
)

// ProposalTTL is how long an adjustment that needs a second API key waits for it: long enough for a weekend, and no longer than anybody
// remembers why it was asked for.
const ProposalTTL = 7 * 24 * time.Hour

// AdjustMoney gives an owner money by hand, or takes some away that is available (R31). (Owner, AdjustmentRef) is unique for ever. What
// the policy has approved by a second key is only proposed: nothing moves before.
type AdjustMoney struct {
	Owner         string
	AdjustmentRef string
	Delta         int64 // minor units; more than 0: given, as a lot of its own; less: taken, of the lots that end first
	Currency      string
	ExpiresAt     time.Time // of the lot; zero where money is taken
	Reason        string
}

// DecideAdjustment approves a proposed adjustment, which does it, or rejects it, which ends it. Whoever has proposed it may reject it,
// and may not approve it.
type DecideAdjustment struct {
	Owner        string
	AdjustmentID id.ID
	Approve      bool
	Reason       string
}

// Approval is the policy that says which adjustments need the approval of a second API key. The zero value: none does.
type Approval struct {
	Needed bool
	Above  map[string]int64 // by currency: no more than so many minor units need none. What is not named always needs it.
}

// errPolicy says that the text of a policy cannot be read.
var errPolicy = errors.New("no policy of approval")

// The policies that name no currencies.
const (
	approvalNone = "none"
	approvalAll  = "all"
)

// ParseApproval reads "none", "all", or the largest amounts that need no approval, such as "EUR=5000,JPY=600000": every adjustment in
// another currency needs it then.
func ParseApproval(text string) (Approval, error) {
	switch text {
	case "", approvalNone:
		return Approval{}, nil
	case approvalAll:
		return Approval{Needed: true}, nil
	}
	p := Approval{Needed: true, Above: map[string]int64{}}
	for part := range strings.SplitSeq(text, ",") {
		currency, amount, _ := strings.Cut(part, "=")
		most, err := strconv.ParseInt(amount, 10, 64)
		if _, twice := p.Above[currency]; err != nil || twice || most < 0 || !validCurrency(currency) {
			return Approval{}, fmt.Errorf(`%w: %q is not "none", "all", or CUR=amount,CUR=amount with each currency once`, errPolicy, text)
		}
		p.Above[currency] = most
	}
	return p, nil
}

// String is what ParseApproval reads.
func (p Approval) String() string {
	switch {
	case !p.Needed:
		return approvalNone
	case len(p.Above) == 0:
		return approvalAll
	}
	parts := make([]string, 0, len(p.Above))
	for _, currency := range slices.Sorted(maps.Keys(p.Above)) {
		parts = append(parts, currency+"="+strconv.FormatInt(p.Above[currency], 10))
	}
	return strings.Join(parts, ",")
}

// needs says whether a change needs approval. What is taken counts as much as what is given.
func (p Approval) needs(delta int64, currency string) bool {
	return p.Needed && max(delta, -delta) > p.Above[currency]
}

// The operations on adjustments.
type (
	adjustOp struct {
		AdjustMoney
		id       id.ID
		lotID    id.ID // if money is given
		by       KeyName
		proposed bool // the policy wants a second key
	}
	decideAdjustmentOp struct {
		DecideAdjustment
		lotID id.ID
		by    KeyName
	}
	endAdjustmentOp struct{ id id.ID } // background work: its time is over
)

// AdjustMoney adjusts an owner's money, or proposes to, once per reference. The Body is an AdjustmentReply.
func (l *Ledger) AdjustMoney(ctx context.Context, c Caller, r AdjustMoney) (Answer, error) {
	if err := validateAdjustMoney(c, &r, l.cfg.Now()); err != nil {
		return Answer{}, err
	}
	op := &adjustOp{AdjustMoney: r, by: c.name(), proposed: l.cfg.Approval.needs(r.Delta, r.Currency)}
	if err := errors.Join(l.mint(&op.id, id.Adjustment, r.Owner), l.mint(&op.lotID, id.Lot, r.Owner)); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindAdjustMoney, fingerprintAdjustMoney(&r), op)
}

// DecideAdjustment approves or rejects a proposed adjustment, once. The Body is an AdjustmentReply.
func (l *Ledger) DecideAdjustment(ctx context.Context, c Caller, r DecideAdjustment) (Answer, error) {
	if err := validateAdmin(c, r.Owner, r.Reason); err != nil {
		return Answer{}, err
	}
	op := &decideAdjustmentOp{DecideAdjustment: r, by: c.name()}
	if err := l.mint(&op.lotID, id.Lot, r.Owner); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindDecideAdjustment, fingerprintDecideAdjustment(&r), op)
}

func (c Caller) name() KeyName { return KeyName{c.Client, c.Name} }

func validateAdjustMoney(c Caller, r *AdjustMoney, now time.Time) error {
	var p problems
	p.caller(c, r.Owner)
	if !validRef(r.AdjustmentRef) {
		p.add("/adjustment_ref", wrongRef)
	}
	if r.Delta == 0 || r.Delta < -MaxAmount || r.Delta > MaxAmount {
		p.add("/delta", wrongDelta)
	}
	if !validCurrency(r.Currency) {
		p.add("/currency", wrongCode)
	}
	r.ExpiresAt = r.ExpiresAt.Truncate(time.Microsecond)
	switch {
	case r.Delta > 0 && r.ExpiresAt.IsZero():
		p.add("/expires_at", "is missing: when does the money end?")
	case r.Delta > 0:
		p.expiry(r.ExpiresAt, now)
	case !r.ExpiresAt.IsZero():
		p.add("/expires_at", "is for money that is given")
	}
	p.because(r.Reason)
	return p.err()
}
