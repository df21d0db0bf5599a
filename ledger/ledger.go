package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// Store is where owners live: every operation of an owner is decided there, one after the other.
type Store interface {
	// Submit hands op to the shard of its bucket and waits for the reply; see shard.Committer.
	Submit(ctx context.Context, op *shard.Op) shard.Reply
	// Read runs read on one consistent snapshot of the shard of b. at is the shard's time in that snapshot.
	Read(ctx context.Context, b shard.Bucket, read func(tx *gorm.DB, at time.Time) error) error
	// Placement is the shard on which documents of b are born.
	Placement(b shard.Bucket) uint16
	// Shards lists the shards of the map.
	Shards() []int
	// BucketOn is a bucket that a shard serves, always the same for as long as the map is; false if it serves none.
	BucketOn(shard int) (shard.Bucket, bool)
}

// Config is what a Ledger needs. Store, Codec, Minter and Now are required.
type Config struct {
	Store  Store
	Codec  *id.Codec
	Minter *id.Minter
	Now    func() time.Time // bounds the expiries that may be asked for; decisions use the shard's time

	Approval Approval // which adjustments need a second API key; zero: none

	Random io.Reader // splits packets; nil: crypto/rand

	// Blocks says why an owner must not be written to just now; nil: nobody is blocked. It is asked before an operation is
	// queued, so a refusal has no effect.
	Blocks func(owner string, b shard.Bucket) error
	// Undecided reports whether the outcome of an owner's key is not known yet; nil: it always is.
	Undecided func(owner, key string) bool
}

// Ledger is the entrance to the domain. It is safe for concurrent use.
type Ledger struct {
	cfg       Config
	broker    *broker
	campaigns campaignMemory
	packets   packetMemory
	shared    sharedCodes
	guesses   guesses
}

// New returns a ledger.
func New(cfg Config) *Ledger {
	if cfg.Blocks == nil {
		cfg.Blocks = func(string, shard.Bucket) error { return nil }
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Undecided == nil {
		cfg.Undecided = func(string, string) bool { return false }
	}
	l := &Ledger{cfg: cfg}
	l.broker = newBroker(l)
	return l
}

// Close ends what the ledger does in the background: units that it is moving for quotas are left to others. Nothing is refused after it
// that does not need to wait for units.
func (l *Ledger) Close() { l.broker.close() }

// Answer is the reply to an operation. It also comes with a *Refusal, to say whether the refusal is a replay.
type Answer struct {
	Body     []byte // JSON of a reply in reply.go; byte for byte the same on every replay; nil if the operation was refused
	Replayed bool   // the key was decided before
	Pending  bool   // of a grab: the money is decided and on its way
	Created  bool   // the operation made a hold, a coupon or a lot; false if the reference had made it before
}

// The kinds of operations, as metrics and fingerprints name them.
const (
	kindHold    = "hold"
	kindConfirm = "confirm"
	kindCancel  = "cancel"
	kindIssue   = "issue-coupon"
	kindCredit  = "credit-lot"
	kindSeal    = "seal"
	kindExpire  = "expire"
	kindRefund  = "refund"
	kindExtend  = "extend"
	kindPin     = "pin"
	kindReplace = "replace"
	kindFreeze  = "freeze"
	kindRevoke  = "revoke"

	kindAdjustMoney      = "adjust-money"
	kindDecideAdjustment = "decide-adjustment"
	kindEndAdjustment    = "end-adjustment"

	kindSetQuota    = "set-quota"
	kindAdjustQuota = "adjust-quota"
	kindBorrow      = "borrow"
	kindGiveBack    = "give-back"
	kindLand        = "land"
	kindClose       = "close"

	kindCreateCampaign = "create-campaign"
	kindMoveCampaign   = "move-campaign"
	kindMark           = "mark-campaign"
	kindTold           = "told-campaign"
	kindClaim          = "claim"

	kindCreatePacket = "create-packet"
	kindGrab         = "grab"
	kindLandShare    = "land-share"
	kindCloseShare   = "close-share"
	kindReturnPacket = "return-packet"

	kindMakeCodes   = "make-codes"
	kindMakeCode    = "make-code"
	kindReserveCode = "reserve-code"
	kindCloseCode   = "close-code"
	kindRedeem      = "redeem"
)

// Hold takes coupons, money and units of quotas for an order, all or nothing (R6). The Body is a HoldReply. It may wait for units that
// are on another shard; then, and only then, it takes more than one commit.
//
// The errors of Hold and of the other operations are *Invalid, *KeyReused, *Refusal, or those of package shard.
func (l *Ledger) Hold(ctx context.Context, c Caller, h Hold) (Answer, error) {
	if err := validateHold(c, &h); err != nil {
		return Answer{}, err
	}
	fingerprint := fingerprintHold(&h)
	op := &holdOp{Hold: h, id: h.HoldID, hash: requestHash(fingerprint)}
	if err := l.mint(&op.id, id.Hold, h.Owner); err != nil {
		return Answer{}, err
	}
	return l.submitHold(ctx, c, op, fingerprint, submission{kindHold, op})
}

// submission is an operation that makes a hold: that of a hold, or a larger one.
type submission struct {
	kind string
	body any
}

// submitHold ends Hold and Replace. Units of quotas that are elsewhere are borrowed, for a dry run, too: they come nearer, and nothing is
// taken of them. Where the hold has left little, more is borrowed ahead of need.
func (l *Ledger) submitHold(ctx context.Context, c Caller, op *holdOp, fingerprint []byte, s submission) (Answer, error) {
	if op.count(op.Items); len(op.needs) == 0 {
		return l.submit(ctx, c, op.Owner, s.kind, fingerprint, s.body)
	}
	return l.withSlices(ctx, c, op.Owner, &op.quotaSide, func() (Answer, error) {
		return l.submit(ctx, c, op.Owner, s.kind, fingerprint, s.body)
	})
}

// withSlices runs an operation that takes units from slices on its owner's shard.
func (l *Ledger) withSlices(ctx context.Context, c Caller, owner string, q *quotaSide, submit func() (Answer, error)) (Answer, error) {
	number := int(l.cfg.Store.Placement(shard.BucketOf(owner)))
	answer, err := l.withUnits(ctx, number, submit, q.noted)
	if err == nil && !answer.Replayed && !c.DryRun {
		l.borrowAhead(q, number)
	}
	return answer, err
}

// Confirm spends what a hold has, in full (R9) or in part (R17). The Body is a HoldReply. A late confirm may wait for units that are on
// another shard, as a hold may.
func (l *Ledger) Confirm(ctx context.Context, c Caller, r Confirm) (Answer, error) {
	if err := validateConfirm(c, &r); err != nil {
		return Answer{}, err
	}
	op := &confirmOp{Confirm: r}
	submit := func() (Answer, error) { return l.submit(ctx, c, r.Owner, kindConfirm, fingerprintConfirm(&r), op) }
	if !r.AllowLate {
		return submit()
	}
	if err := l.mint(&op.successor, id.Hold, r.Owner); err != nil {
		return Answer{}, err
	}
	return l.withSlices(ctx, c, r.Owner, &op.quotaSide, submit)
}

// Cancel gives back what a hold has; if there is no such hold, it leaves a tombstone (R10). The Body is a HoldReply.
func (l *Ledger) Cancel(ctx context.Context, c Caller, r Cancel) (Answer, error) {
	if err := validateDecision(c, r.Owner, r.Hold); err != nil {
		return Answer{}, err
	}
	op := &cancelOp{Cancel: r, tombstone: r.Hold.HoldID}
	if err := l.mint(&op.tombstone, id.Hold, r.Owner); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindCancel, fingerprintRef(printCancel, r.Hold), op)
}

// IssueCoupon gives an owner a coupon, once per reference (R1). The Body is a CouponReply.
func (l *Ledger) IssueCoupon(ctx context.Context, c Caller, r IssueCoupon) (Answer, error) {
	if err := validateIssue(c, &r, l.cfg.Now()); err != nil {
		return Answer{}, err
	}
	op := &issueOp{IssueCoupon: r}
	if err := l.mint(&op.id, id.Coupon, r.Owner); err != nil {
		return Answer{}, err
	}
	return l.issue(ctx, c, op)
}

// CreditLot gives an owner money, once per reference. The Body is a LotReply.
func (l *Ledger) CreditLot(ctx context.Context, c Caller, r CreditLot) (Answer, error) {
	if err := validateCredit(c, &r, l.cfg.Now()); err != nil {
		return Answer{}, err
	}
	op := &creditOp{CreditLot: r}
	if err := l.mint(&op.id, id.Lot, r.Owner); err != nil {
		return Answer{}, err
	}
	return l.submit(ctx, c, r.Owner, kindCredit, fingerprintCredit(&r), op)
}

// Seal burns the caller's key for ever if nothing has used it yet; otherwise it says what did (R25). After SEALED the caller
// may act otherwise: no request under the key will ever run.
func (l *Ledger) Seal(ctx context.Context, c Caller, owner string) (OperationBody, error) {
	if err := validateCaller(c, owner); err != nil {
		return OperationBody{}, err
	}
	bucket := shard.BucketOf(owner)
	if err := l.cfg.Blocks(owner, bucket); err != nil {
		return OperationBody{}, err
	}
	r := l.cfg.Store.Submit(ctx, &shard.Op{
		Owner: owner, Bucket: bucket, Key: c.Key, Client: c.Client,
		Kind: kindSeal, Fingerprint: []byte{printSeal}, Body: shard.SealOp{},
	})
	if r.Err != nil {
		return OperationBody{}, submitError(kindSeal, owner, r.Err)
	}
	return operationBody(owner, c.Key, r.Verdict.String(), r.Body), nil
}

// ExpireDue settles the expired holds of an owner. It changes nothing that the owner's next operation would not do first;
// it makes the decided ledger complete, and lets the pending one stay small. A blocked owner is refused (I6); his holds are
// settled later.
func (l *Ledger) ExpireDue(ctx context.Context, owner string) error {
	bucket := shard.BucketOf(owner)
	if err := l.cfg.Blocks(owner, bucket); err != nil {
		return err
	}
	r := l.cfg.Store.Submit(ctx, &shard.Op{Owner: owner, Bucket: bucket, Kind: kindExpire, Body: expireOp{}})
	if r.Err != nil {
		return submitError(kindExpire, owner, r.Err)
	}
	return nil
}

// MaxMint is how many ids one call mints: no caller needs more at once, and the sequence of a millisecond has 16 384.
const MaxMint = 1000

// MintIDs makes n ids of holds for an owner, for callers who must know an id before the first attempt. No other kind can be
// named by a caller.
func (l *Ledger) MintIDs(_ context.Context, owner string, kind id.Kind, n int) ([]string, error) {
	if err := validateMint(owner, kind, n); err != nil {
		return nil, err
	}
	texts := make([]string, n)
	for i := range texts {
		var minted id.ID
		if err := l.mint(&minted, kind, owner); err != nil {
			return nil, err
		}
		texts[i] = l.cfg.Codec.Text(kind, minted)
	}
	return texts, nil
}

// mint sets *to unless the caller has brought an id.
func (l *Ledger) mint(to *id.ID, kind id.Kind, owner string) error {
	if *to != (id.ID{}) {
		return nil
	}
	bucket := shard.BucketOf(owner)
	minted, err := l.cfg.Minter.Mint(kind, uint16(bucket), l.cfg.Store.Placement(bucket))
	if err != nil {
		return fmt.Errorf("for owner %s: %w", owner, err)
	}
	*to = minted
	return nil
}

func (l *Ledger) submit(ctx context.Context, c Caller, owner, kind string, fingerprint []byte, body any) (Answer, error) {
	bucket := shard.BucketOf(owner)
	if err := l.cfg.Blocks(owner, bucket); err != nil {
		return Answer{}, err
	}
	r := l.cfg.Store.Submit(ctx, &shard.Op{
		Owner: owner, Bucket: bucket, Key: c.Key, Client: c.Client, Kind: kind, Fingerprint: fingerprint, Body: body, Dry: c.DryRun,
	})
	if r.Err != nil {
		return Answer{}, submitError(kind, owner, r.Err)
	}
	switch r.Verdict {
	case shard.Done:
		return Answer{Body: r.Body, Replayed: r.Replayed, Created: !c.DryRun && created(kind, r.Body)}, nil
	case shard.Refused:
		refusal, err := decodeRefusal(r.Body)
		if err != nil {
			return Answer{}, submitError(kind, owner, err)
		}
		return Answer{Replayed: r.Replayed}, refusal
	case shard.Sealed: // while the outcome was unknown, another request sealed the key
		return Answer{}, &KeyReused{Sealed: true}
	default:
		return Answer{}, submitError(kind, owner, fmt.Errorf("verdict %s: %w", r.Verdict, shard.ErrInternal))
	}
}

// submitError gives the errors of a reply their public form.
func submitError(kind, owner string, err error) error {
	if reused, ok := errors.AsType[*shard.KeyReusedError](err); ok {
		return &KeyReused{Sealed: reused.Sealed, Fields: differingFields(reused.Stored, reused.Sent)}
	}
	if errors.Is(err, ErrHeldByOther) || errors.Is(err, ErrKeyReused) {
		return err
	}
	return fmt.Errorf("%s of %s: %w", kind, owner, err)
}

// alreadyExists ends the JSON of every reply that found what its reference had made before. A replay must be told apart from
// the same bytes as the first reply was, so there is nothing else to look at.
var alreadyExists = []byte(`,"already_exists":true}`)

func created(kind string, body []byte) bool {
	switch kind {
	case kindHold, kindIssue, kindCredit, kindRefund, kindReplace, kindCreateCampaign, kindClaim, kindCreatePacket,
		kindMakeCodes, kindRedeem, kindAdjustMoney:
		return !bytes.HasSuffix(body, alreadyExists)
	}
	return false
}

func decodeRefusal(body []byte) (*Refusal, error) {
	r := new(Refusal)
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("decode the recorded refusal: %w", errors.Join(err, shard.ErrInternal))
	}
	r.Reason = reasonOf(r.Code)
	return r, nil
}

// operationBody shows a row of operations. A reply is shown as it was recorded.
func operationBody(owner, key, status string, reply []byte) OperationBody {
	body := OperationBody{Owner: owner, Key: key, Status: status}
	if len(reply) > 0 {
		body.Reply = json.RawMessage(reply)
	}
	return body
}
