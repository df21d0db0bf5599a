package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// BlockFilter narrows a list of blocks; empty fields do not.
type BlockFilter struct{ Grain, ID, Holder string }

// Blocks lists what is blocked.
func (c *Client) Blocks(ctx context.Context, f BlockFilter) ([]Block, error) {
	list, err := do[gen.BlockList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewListBlocksRequest(server, &gen.ListBlocksParams{
			Grain: optional(f.Grain), ID: optional(f.ID), Holder: optional(f.Holder),
		})
	}))
	return list.Blocks, err
}

// BlockAudit goes through the changes of the blacklist, newest first.
func (c *Client) BlockAudit(ctx context.Context) iter.Seq2[BlockChange, error] {
	return pages(func(cursor *string) ([]BlockChange, string, error) {
		page, err := do[gen.BlockAudit](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListBlockAuditRequest(server, &gen.ListBlockAuditParams{Limit: new(pageSize), Cursor: cursor})
		}))
		return page.Changes, page.NextCursor, err
	})
}

// Block blocks a node, a shard, a bucket or an owner.
func (c *Client) Block(ctx context.Context, grain, id string, r BlockRequest) (Block, error) {
	return do[Block](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewPutBlockRequest(server, grain, id, r) }))
}

// Unblock removes what an administrator has blocked.
func (c *Client) Unblock(ctx context.Context, grain, id, reason string) error {
	_, err := do[struct{}](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewDeleteBlockRequest(server, grain, id, &gen.DeleteBlockParams{Reason: reason})
	}))
	return err
}

// ListUndecided lists the operations whose COMMIT got no answer.
func (c *Client) ListUndecided(ctx context.Context) ([]Undecided, error) {
	list, err := do[gen.UndecidedList](ctx, c, read(gen.NewListUndecidedRequest))
	return list.Undecided, err
}

// ResolveUndecided has a shard asked now what became of an operation.
func (c *Client) ResolveUndecided(ctx context.Context, u Undecided) (Operation, error) {
	return do[Operation](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewResolveUndecidedRequest(server, u.Shard, u.Key)
	}))
}

// Keys lists the API keys.
func (c *Client) Keys(ctx context.Context) ([]APIKey, error) {
	list, err := do[gen.APIKeyList](ctx, c, read(gen.NewListKeysRequest))
	return list.Keys, err
}

// CreateKey makes an API key. Its token is in the reply and nowhere else, so it is sent once.
func (c *Client) CreateKey(ctx context.Context, r APIKeyRequest) (NewAPIKey, error) {
	e := read(func(server string) (*http.Request, error) { return gen.NewCreateKeyRequest(server, r) })
	e.once = true
	return do[NewAPIKey](ctx, c, e)
}

// UpdateKey changes what r names.
func (c *Client) UpdateKey(ctx context.Context, keyID string, r APIKeyChange) (APIKey, error) {
	return do[APIKey](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewUpdateKeyRequest(server, keyID, r) }))
}

// RevokeKey ends an API key for ever.
func (c *Client) RevokeKey(ctx context.Context, keyID string) (APIKey, error) {
	return do[APIKey](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewDeleteKeyRequest(server, keyID) }))
}

// Map shows which buckets live on which shard.
func (c *Client) Map(ctx context.Context) (ShardMap, error) {
	return do[ShardMap](ctx, c, read(gen.NewGetMapRequest))
}

// Shards lists the shards.
func (c *Client) Shards(ctx context.Context) ([]Shard, error) {
	list, err := do[gen.ShardList](ctx, c, read(gen.NewListShardsRequest))
	return list.Shards, err
}

// LocateOwner says where an owner lives.
func (c *Client) LocateOwner(ctx context.Context, owner string) (Location, error) {
	return c.locate(ctx, &gen.LocateParams{Owner: &owner})
}

// LocateID says where the document with an id lives.
func (c *Client) LocateID(ctx context.Context, id string) (Location, error) {
	return c.locate(ctx, &gen.LocateParams{ID: &id})
}

func (c *Client) locate(ctx context.Context, p *gen.LocateParams) (Location, error) {
	return do[Location](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewLocateRequest(server, p) }))
}
