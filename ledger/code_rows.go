package ledger

import (
	"cmp"
	"slices"
	"strings"

	"github.com/statesvc/statesvc/shard"
)

// Codes are locked by the row in owners of code:{code}, which is there from the first reservation on: two instances that race for that
// one both insert it, and one of them runs again. Batches without codes have none of these statements.
var (
	codeLookup = shard.Lookup{
		Columns: "bucket, code, shown, campaign_id, batch_ref, number, kind, state, owner, op_key, attempt, reserved_at",
		From:    "codes", Index: "PRIMARY", Keys: "bucket, code",
	}
	codeBatchLookup = shard.Lookup{
		Columns: "campaign_id, batch_ref, kind, codes, seed, request, created_at", From: "code_batches", Index: "PRIMARY",
		Keys: "bucket, campaign_id, batch_ref",
	}
)

func (b *batch) loadCodes(p *shard.Packet) {
	batches := keys(p, codeBatchLookup, b.scanCodeBatch)
	for _, op := range b.ops {
		if body, ok := op.Body.(*makeBatchOp); ok {
			batches.row(op.Bucket).ASCII(body.CampaignID).ASCII(body.BatchRef)
		}
	}
	codes := keys(p, codeLookup, b.scanCode)
	for _, op := range b.ops {
		if code := codeOf(op); code != "" {
			codes.row(op.Bucket).ASCII(code)
		}
	}
}

// codeOf is the code whose home an operation is about.
func codeOf(op *shard.Op) string {
	switch body := op.Body.(type) {
	case *makeCodeOp:
		return body.code.Canonical
	case *reserveCodeOp:
		return body.code
	case *closeCodeOp:
		return body.code
	}
	return ""
}

func (b *batch) scanCodeBatch(r *shard.Row) error {
	made := &codeBatchRow{campaign: r.Str(), ref: r.Str(), kind: CodeKind(r.Str()), codes: r.Int(), stored: true}
	copy(made.seed[:], r.Bytes())
	made.request, made.createdAt = r.Array16(), r.Int()
	made.owner = b.owners[campaignOwner(made.campaign)]
	b.addBatch(made)
	return nil
}

func (b *batch) scanCode(r *shard.Row) error {
	c := &codeRow{bucket: bucketIn(r), stored: true}
	c.code = CodeText{Canonical: r.Str(), Shown: r.Str()}
	c.campaign, c.batchRef, c.number, c.kind = r.Str(), r.Str(), r.Int(), CodeKind(r.Str())
	c.state, c.owner, c.opKey, c.attempt, c.reservedAt = r.Str(), r.Str(), r.Str(), r.Int(), r.Int()
	b.addCode(c)
	return nil
}

// writeCodes adds the changed rows. Batches without codes have none.
func (b *batch) writeCodes(p *shard.Packet) {
	b.writeCodeBatches(p)
	changed := b.codeRows.changed.codes
	slices.SortFunc(changed, func(x, y *codeRow) int {
		return cmp.Or(cmp.Compare(x.bucket, y.bucket), strings.Compare(x.code.Canonical, y.code.Canonical))
	})
	const moving = "state, owner, op_key, attempt, reserved_at"
	added := rows{open: func() shard.Values {
		return p.Insert("codes", "bucket, code, shown, campaign_id, batch_ref, number, kind, "+moving)
	}}
	for _, c := range changed {
		if !c.stored {
			v := c.key(added.row()).ASCII(c.code.Shown).ASCII(c.campaign).ASCII(c.batchRef).Int(c.number).ASCII(string(c.kind))
			c.moving(v)
		}
	}
	updated := rows{open: func() shard.Values { return p.Update("codes", "bucket, code", moving) }}
	for _, c := range changed {
		if c.stored {
			c.moving(c.key(updated.row()))
		}
	}
}

func (c *codeRow) key(v shard.Values) shard.Values { return v.Bucket(c.bucket).ASCII(c.code.Canonical) }

// moving adds state, owner, op_key, attempt and reserved_at.
func (c *codeRow) moving(v shard.Values) {
	v.ASCII(c.state)
	if c.state == codeFree {
		v.Null().Null().Int(c.attempt).Null()
		return
	}
	v.ASCII(c.owner).ASCII(c.opKey).Int(c.attempt)
	if c.state == codeReserved {
		v.Int(c.reservedAt)
		return
	}
	v.Null()
}

func (b *batch) writeCodeBatches(p *shard.Packet) {
	changed := b.codeRows.changed.batches
	slices.SortFunc(changed, func(x, y *codeBatchRow) int { return cmp.Or(x.owner.compare(y.owner), strings.Compare(x.ref, y.ref)) })
	added := rows{open: func() shard.Values {
		return p.Insert("code_batches", "bucket, campaign_id, batch_ref, kind, codes, seed, request, created_at")
	}}
	for _, r := range changed {
		v := added.row().Bucket(r.owner.bucket).ASCII(r.campaign).ASCII(r.ref).ASCII(string(r.kind))
		v.Int(r.codes).Binary(r.seed[:]).Binary(r.request[:]).Int(r.createdAt)
	}
}
