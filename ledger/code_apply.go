package ledger

import (
	"encoding/json"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// The operations on codes. Those without a key are safe to repeat. told is for whoever submitted the operation, who may read it when
// the reply is there.
type (
	makeBatchOp struct { // at the home of the campaign
		MakeCodes
		kind    CodeKind
		codes   int64
		seed    [32]byte
		request [2 * printLen]byte
	}
	makeCodeOp struct { // at the home of the code
		codeFacts
		elsewhere bool // told: another batch has it
	}
	reserveCodeOp struct { // at the home of the code
		code  string
		owner string
		key   string
		told  *codeRow // as it is afterwards; nil: there is no such code
	}
	closeCodeOp struct { // at the home of the code: the owner's shard has decided
		code     string
		attempt  int64
		redeemed bool
	}
	refusedCodeOp struct{ *Refusal } // at the owner: the code's home has refused
)

// makeBatch writes down that codes are to be made. They are made afterwards, each where it lives.
func (s *state) makeBatch(o *ownerRow, op *makeBatchOp) shard.Reply {
	if s.campaigns[op.CampaignID] == nil {
		return refuse(unknownCampaign(op.CampaignID))
	}
	if made := s.batches[batchRef{op.CampaignID, op.BatchRef}]; made != nil {
		if made.request != op.request {
			return reused("batch_ref")
		}
		return made.reply(true)
	}
	made := &codeBatchRow{
		owner: o, campaign: op.CampaignID, ref: op.BatchRef, kind: op.kind, codes: op.codes, seed: op.seed, request: op.request,
		createdAt: s.now,
	}
	s.addBatch(made)
	s.codeRows.changed.batches = append(s.codeRows.changed.batches, made)
	b := append(appendText(append(s.openChanges(), '{'), "campaign_id", op.CampaignID), ',')
	b = append(appendInt(append(appendText(b, "to", codeFree), ','), "quantity", op.codes), "},"...)
	s.addEntry(o, entryCodesMade, id.ID{}, s.closeChanges(b))
	return made.reply(false)
}

func (r *codeBatchRow) reply(exists bool) shard.Reply {
	text, err := json.Marshal(CodesReply{Batch: r.body(), AlreadyExists: exists})
	if err != nil {
		return internal(err)
	}
	return done(text)
}

func (r *codeBatchRow) body() CodeBatch {
	return CodeBatch{CampaignID: r.campaign, BatchRef: r.ref, Kind: r.kind, Count: int(r.codes), CreatedAt: instant(r.createdAt)}
}

// makeCode makes one code, unless it is there.
func (s *state) makeCode(o *ownerRow, op *makeCodeOp) shard.Reply {
	op.elsewhere = false
	if c := s.codes[op.code.Canonical]; c != nil {
		op.elsewhere = c.campaign != op.campaign || c.batchRef != op.batchRef || c.number != op.number
		return unchanged()
	}
	c := &codeRow{bucket: o.bucket, codeFacts: op.codeFacts, state: codeFree}
	s.addCode(c)
	s.changeCode(c)
	return moved()
}

// reserveCode gives a unique code that is free to an owner, for his shard to decide. Another one is only told.
func (s *state) reserveCode(o *ownerRow, op *reserveCodeOp) shard.Reply {
	op.told = nil
	c := s.codes[op.code]
	if c == nil {
		return unchanged()
	}
	if c.kind == SharedCode || c.state != codeFree {
		op.told = c.copied()
		return unchanged()
	}
	s.touch(o) // its row is the lock from now on
	s.changeCode(c)
	c.state, c.owner, c.opKey, c.reservedAt = codeReserved, op.owner, op.key, s.now
	c.attempt++
	op.told = c.copied()
	return moved()
}

// copied is for readers outside the lane: the row may change with the next operation of the batch.
func (c *codeRow) copied() *codeRow {
	told := *c
	return &told
}

// closeCode notes what the owner's shard has decided about a reservation: the code is his for ever, or free again.
func (s *state) closeCode(o *ownerRow, op *closeCodeOp) shard.Reply {
	c := s.codes[op.code]
	if c == nil || c.state != codeReserved || c.attempt != op.attempt {
		return unchanged()
	}
	s.touch(o)
	s.changeCode(c)
	c.reservedAt = 0
	if !op.redeemed {
		c.state, c.owner, c.opKey = codeFree, "", ""
		return moved()
	}
	c.state = codeRedeemed
	b := append(appendText(append(s.openChanges(), '{'), "campaign_id", c.campaign), ',')
	b = append(append(appendText(append(appendText(b, "from", codeFree), ','), "to", codeRedeemed), '}'), ',')
	s.addEntry(o, entryCodeRedeemed, id.ID{}, s.closeChanges(b))
	return moved()
}

// The rows of codes: add makes one known, change is called before every change.

func (s *state) addCode(c *codeRow) {
	if s.codes == nil {
		s.codes = map[string]*codeRow{}
	}
	if s.codes[c.code.Canonical] == nil {
		s.codes[c.code.Canonical] = c
	}
}

func (s *state) changeCode(c *codeRow) {
	if !c.dirty {
		c.dirty = true
		s.codeRows.changed.codes = append(s.codeRows.changed.codes, c)
	}
}

func (s *state) addBatch(r *codeBatchRow) {
	if s.batches == nil {
		s.batches = map[batchRef]*codeBatchRow{}
	}
	ref := batchRef{r.campaign, r.ref}
	if s.batches[ref] == nil {
		s.batches[ref] = r
	}
}
