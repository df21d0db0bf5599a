package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

// ListBlocks answers GET /v1/admin/blocks.
func (s *server) ListBlocks(_ context.Context, r gen.ListBlocksRequestObject) (gen.ListBlocksResponseObject, error) {
	found := s.cfg.Blacklist.List(blacklist.Filter{Grain: blacklist.Grain(r.Params.Grain), ID: r.Params.ID, Holder: r.Params.Holder})
	body := gen.BlockList{Blocks: make([]gen.Block, len(found))}
	for i := range found {
		body.Blocks[i] = blockBody(&found[i])
	}
	return shown(http.StatusOK, body, nil)
}

func blockBody(b *blacklist.Block) gen.Block {
	return gen.Block{
		Grain: string(b.Grain), ID: b.ID, Holder: b.Holder, Reason: b.Reason, PublicReason: b.PublicReason,
		SetAt: b.At.UTC(), SetBy: b.By, ExpiresAt: b.Until.UTC(), UntilRemoved: b.Until.IsZero(), Local: b.Local,
	}
}

// ListBlockAudit answers GET /v1/admin/blocks/audit.
func (s *server) ListBlockAudit(ctx context.Context, r gen.ListBlockAuditRequestObject) (gen.ListBlockAuditResponseObject, error) {
	list := s.cursors.list("audit")
	before, err := list.afterNumber(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Blacklist.Audit(ctx, limit, before)
	if err != nil {
		return nil, err
	}
	body := gen.BlockAudit{Changes: make([]gen.BlockChange, len(found))}
	for i, row := range found {
		body.Changes[i] = gen.BlockChange{
			Number: row.Number, At: row.At.UTC(), Action: row.Action, Grain: string(row.Grain), ID: row.ID, Holder: row.Holder,
			By: row.By, Reason: row.Reason, ExpiresAt: row.Until.UTC(),
		}
	}
	if len(found) == limit && found[limit-1].Number > 1 {
		body.NextCursor = list.nextNumber(found[limit-1].Number)
	}
	return shown(http.StatusOK, body, nil)
}

// PutBlock answers PUT /v1/admin/blocks/{grain}/{id}.
func (s *server) PutBlock(ctx context.Context, r gen.PutBlockRequestObject) (gen.PutBlockResponseObject, error) {
	if r.Body.ExpiresAt.IsZero() != r.Body.UntilRemoved {
		return nil, invalid("/until_removed", "must be true, or else expires_at be there")
	}
	if r.Grain == string(blacklist.GrainOwner) && !shard.ValidOwner(r.ID) {
		return nil, invalid("id", "is no owner")
	}
	block := blacklist.Block{
		Grain: blacklist.Grain(r.Grain), ID: r.ID, Holder: blacklist.HolderAdmin, Reason: r.Body.Reason,
		PublicReason: r.Body.PublicReason, Until: r.Body.ExpiresAt, By: callOf(ctx).key.ID, At: s.cfg.Now(),
	}
	if err := s.cfg.Blacklist.Block(ctx, block); err != nil {
		return nil, err
	}
	return shown(http.StatusOK, blockBody(&block), nil)
}

// DeleteBlock answers DELETE /v1/admin/blocks/{grain}/{id}.
func (s *server) DeleteBlock(ctx context.Context, r gen.DeleteBlockRequestObject) (gen.DeleteBlockResponseObject, error) {
	by := callOf(ctx).key.ID
	err := s.cfg.Blacklist.Unblock(ctx, blacklist.Grain(r.Grain), r.ID, blacklist.HolderAdmin, by, r.Params.Reason)
	return reply{status: http.StatusNoContent}, err
}

// ListUndecided answers GET /v1/admin/undecided.
func (s *server) ListUndecided(ctx context.Context, _ gen.ListUndecidedRequestObject) (gen.ListUndecidedResponseObject, error) {
	found, err := s.cfg.Blacklist.ListUndecided(ctx, blacklist.AllShards)
	if err != nil {
		return nil, err
	}
	body := gen.UndecidedList{Undecided: make([]gen.Undecided, len(found))}
	for i, u := range found {
		body.Undecided[i] = gen.Undecided{
			Shard: int(u.Shard), Key: recordName(&u), Owner: u.Owner, OperationKey: u.Key, Instance: u.Instance, At: u.At.UTC(),
			Epoch: int64(u.Epoch),
		}
	}
	return shown(http.StatusOK, body, nil)
}

// recordName names an undecided record in an address: owners and keys may have characters that addresses must not.
func recordName(u *blacklist.Undecided) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(u.Owner)) + "." + encode([]byte(u.Key))
}

// ResolveUndecided answers POST /v1/admin/undecided/{shard}/{key}/resolve. The resolver takes all records of the shard, since
// it asks the shard anyway.
func (s *server) ResolveUndecided(ctx context.Context, r gen.ResolveUndecidedRequestObject) (gen.ResolveUndecidedResponseObject, error) {
	if r.Shard < 1 || r.Shard > maxShard {
		return nil, errNotFound
	}
	found, err := s.cfg.Blacklist.ListUndecided(ctx, uint16(r.Shard))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(found, func(u blacklist.Undecided) bool { return recordName(&u) == r.Key })
	if i < 0 {
		return nil, errNotFound
	}
	if _, err := s.cfg.Resolver.Resolve(ctx, uint16(r.Shard)); err != nil {
		return nil, err
	}
	body, err := s.cfg.Ledger.Operation(ctx, found[i].Owner, found[i].Key)
	return shown(http.StatusOK, body, err)
}

const maxShard = 4095 // shard numbers have 12 bits in ids

// The defaults of a key that names no rate.
const (
	keyRate  = 1000 // requests per second
	keyBurst = 2000
)

// ListKeys answers GET /v1/admin/keys.
func (s *server) ListKeys(context.Context, gen.ListKeysRequestObject) (gen.ListKeysResponseObject, error) {
	found := s.cfg.Keys.List()
	body := gen.APIKeyList{Keys: make([]gen.APIKey, len(found))}
	for i := range found {
		body.Keys[i] = keyBody(&found[i])
	}
	return shown(http.StatusOK, body, nil)
}

func keyBody(k *access.Key) gen.APIKey {
	return gen.APIKey{
		KeyID: k.ID, Name: k.Name, Scopes: k.Scopes.Names(),
		Rate:      gen.Rate{PerSecond: k.Rate.PerSecond, Burst: k.Rate.Burst},
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: k.ExpiresAt.UTC(), RevokedAt: k.RevokedAt.UTC(),
	}
}

// CreateKey answers POST /v1/admin/keys.
func (s *server) CreateKey(ctx context.Context, r gen.CreateKeyRequestObject) (gen.CreateKeyResponseObject, error) {
	scopes, err := access.ParseScopes(r.Body.Scopes)
	if err != nil {
		return nil, err
	}
	spec := access.Spec{Name: r.Body.Name, Scopes: scopes, Rate: access.Rate{PerSecond: keyRate, Burst: keyBurst}, ExpiresAt: r.Body.ExpiresAt}
	if r.Body.Rate != (gen.Rate{}) {
		spec.Rate = rateOf(r.Body.Rate)
	}
	key, token, err := s.cfg.Keys.Create(ctx, spec)
	return shown(http.StatusCreated, gen.NewAPIKey{Key: keyBody(&key), Token: token}, err)
}

func rateOf(r gen.Rate) access.Rate { return access.Rate{PerSecond: r.PerSecond, Burst: r.Burst} }

// UpdateKey answers PATCH /v1/admin/keys/{key_id}.
func (s *server) UpdateKey(ctx context.Context, r gen.UpdateKeyRequestObject) (gen.UpdateKeyResponseObject, error) {
	patch, err := patchOf(r.Body)
	if err != nil {
		return nil, err
	}
	key, err := s.cfg.Keys.Update(ctx, r.KeyID, patch)
	if errors.Is(err, access.ErrRevoked) { // as an error of the caller's own key it would mean 401
		err = fmt.Errorf("%w: the key is revoked", errNotFound)
	}
	return shown(http.StatusOK, keyBody(&key), err)
}

func patchOf(b *gen.APIKeyChange) (p access.Patch, err error) {
	if b.Name != "" {
		p.Name = &b.Name
	}
	if len(b.Scopes) > 0 {
		scopes, err := access.ParseScopes(b.Scopes)
		if err != nil {
			return p, err
		}
		p.Scopes = &scopes
	}
	if b.Rate != (gen.Rate{}) {
		rate := rateOf(b.Rate)
		p.Rate = &rate
	}
	switch {
	case b.NeverExpires && !b.ExpiresAt.IsZero():
		return p, invalid("/never_expires", "cannot be together with expires_at")
	case b.NeverExpires:
		p.ExpiresAt = new(time.Time)
	case !b.ExpiresAt.IsZero():
		p.ExpiresAt = &b.ExpiresAt
	}
	return p, nil
}

// DeleteKey answers DELETE /v1/admin/keys/{key_id}.
func (s *server) DeleteKey(ctx context.Context, r gen.DeleteKeyRequestObject) (gen.DeleteKeyResponseObject, error) {
	key, err := s.cfg.Keys.Revoke(ctx, r.KeyID)
	return shown(http.StatusOK, keyBody(&key), err)
}

// GetMap answers GET /v1/admin/map.
func (s *server) GetMap(context.Context, gen.GetMapRequestObject) (gen.GetMapResponseObject, error) {
	m, ok := s.cfg.Routes.Map()
	if !ok {
		return nil, fmt.Errorf("%w: there is no shard map", shard.ErrFailover)
	}
	body := gen.ShardMap{Version: int64(m.Version)}
	for _, one := range m.Shards {
		body.Shards = append(body.Shards, gen.ShardName{Number: one.Number, Name: one.Name})
	}
	for _, run := range m.Runs {
		body.Runs = append(body.Runs, gen.BucketRun{From: int(run.From), To: int(run.To), Shard: run.Shard, EraBase: run.EraBase})
	}
	return shown(http.StatusOK, body, nil)
}

// ListShards answers GET /v1/admin/shards.
func (s *server) ListShards(ctx context.Context, _ gen.ListShardsRequestObject) (gen.ListShardsResponseObject, error) {
	m, ok := s.cfg.Routes.Map()
	if !ok {
		return nil, fmt.Errorf("%w: there is no shard map", shard.ErrFailover)
	}
	depth := map[int][]int{}
	if s.cfg.Depth != nil {
		depth = s.cfg.Depth()
	}
	described := s.describeShards(ctx)
	body := gen.ShardList{Shards: make([]gen.Shard, len(m.Shards))}
	for i, one := range m.Shards {
		found, ok := described[one.Number]
		if !ok {
			found = s.routedShard(one.Number)
		}
		found.Number, found.Name = one.Number, one.Name
		for _, n := range depth[one.Number] {
			found.Queued += int64(n)
		}
		body.Shards[i] = found
	}
	return shown(http.StatusOK, body, nil)
}

// describeShards is what the register says of the shards; nothing if it does not answer: then the routes have to do.
func (s *server) describeShards(ctx context.Context) map[int]gen.Shard {
	if s.cfg.Failovers == nil {
		return nil
	}
	found, err := s.cfg.Failovers.Shards(ctx)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "the register does not say how the shards are", "error", err)
	}
	return found
}

// routedShard is what this instance knows of a shard by itself.
func (s *server) routedShard(number int) gen.Shard {
	record, ok := s.cfg.Routes.Record(number)
	if !ok {
		return gen.Shard{Phase: "UNKNOWN"}
	}
	body := gen.Shard{Phase: string(record.Phase), Primary: record.Primary, Epoch: int64(record.Epoch)}
	for _, name := range slices.Sorted(maps.Keys(record.Nodes)) {
		body.Nodes = append(body.Nodes, gen.Node{Name: name, Address: record.Nodes[name].Address})
	}
	return body
}

// Locate answers GET /v1/admin/locate.
func (s *server) Locate(ctx context.Context, r gen.LocateRequestObject) (gen.LocateResponseObject, error) {
	var body gen.Location
	var bucket shard.Bucket
	switch {
	case (r.Params.Owner == "") == (r.Params.ID == ""):
		return nil, invalid("owner", "or id must be there, and not both")
	case r.Params.ID != "":
		word, _, _ := strings.Cut(r.Params.ID, "_")
		kind, _ := id.KindOf(word)
		parsed, err := s.cfg.Codec.Parse(kind, r.Params.ID)
		if err != nil {
			return nil, at("id", err)
		}
		body = gen.Location{
			ID: r.Params.ID, Kind: word, MintedAt: parsed.Time().UTC(), BornOn: int(parsed.Placement()),
		}
		bucket = shard.Bucket(parsed.Bucket())
	default:
		body = gen.Location{Owner: owner(ctx, r.Params.Owner)}
		bucket = shard.BucketOf(r.Params.Owner)
	}
	number, ok := s.cfg.Routes.Lookup(bucket)
	if !ok {
		return nil, fmt.Errorf("%w: there is no shard map", shard.ErrFailover)
	}
	body.Bucket, body.Shard = int(bucket), number
	return shown(http.StatusOK, body, nil)
}
