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

// Switchover has another node become the primary of a shard. Asked again after it was done it does it again, so it is sent once.
func (c *Client) Switchover(ctx context.Context, shard int, reason string) (ShardOrder, error) {
	e := read(func(server string) (*http.Request, error) {
		return gen.NewSwitchoverShardRequest(server, shard, gen.ReasonRequest{Reason: reason})
	})
	e.once = true
	return do[ShardOrder](ctx, c, e)
}

// Rebuild has the data of a node replaced by a copy of another one's. Asked again after it has begun it does it again, so it is sent once.
func (c *Client) Rebuild(ctx context.Context, shard int, node, reason string) (ShardOrder, error) {
	e := read(func(server string) (*http.Request, error) {
		return gen.NewRebuildNodeRequest(server, shard, gen.RebuildRequest{Node: node, Reason: reason})
	})
	e.once = true
	return do[ShardOrder](ctx, c, e)
}

// Suspend switches off the automatic failover of a shard.
func (c *Client) Suspend(ctx context.Context, shard int, reason string) (ShardOrder, error) {
	return do[ShardOrder](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewSuspendShardRequest(server, shard, gen.ReasonRequest{Reason: reason})
	}))
}

// Resume switches the automatic failover of a shard on again.
func (c *Client) Resume(ctx context.Context, shard int, reason string) (ShardOrder, error) {
	return do[ShardOrder](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewResumeShardRequest(server, shard, gen.ReasonRequest{Reason: reason})
	}))
}

// Fence stops the writes of a shard that another tool fails over, before that tool promotes a server.
func (c *Client) Fence(ctx context.Context, shard int, reason string) (ShardFence, error) {
	return do[ShardFence](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewFenceShardRequest(server, shard, gen.ReasonRequest{Reason: reason})
	}))
}

// AnnouncePrimary lets the writes of a fenced shard go on at an address, under the epoch that Fence has returned.
func (c *Client) AnnouncePrimary(ctx context.Context, shard int, epoch int64, address string) (ShardFence, error) {
	return do[ShardFence](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewAnnouncePrimaryRequest(server, shard, gen.PrimaryAnnouncement{Epoch: epoch, Address: address})
	}))
}

// Failovers goes through what failovers have done, newest first, of a shard or, with 0, of all.
func (c *Client) Failovers(ctx context.Context, shard int) iter.Seq2[Failover, error] {
	return pages(func(cursor *string) ([]Failover, string, error) {
		params := &gen.ListFailoversParams{Limit: new(pageSize), Cursor: cursor}
		if shard != 0 {
			params.Shard = &shard
		}
		page, err := do[gen.FailoverList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListFailoversRequest(server, params)
		}))
		return page.Failovers, page.NextCursor, err
	})
}
