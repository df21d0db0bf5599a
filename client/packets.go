package client

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// CreatePacket puts money of an owner into a packet for others to grab, once per reference.
func (c *Client) CreatePacket(ctx context.Context, key string, r PacketRequest) (PacketReply, error) {
	return do[PacketReply](ctx, c, write(r.Owner, key, func(server, key string) (*http.Request, error) {
		return gen.NewCreatePacketRequest(server, &gen.CreatePacketParams{IdempotencyKey: key}, r)
	}))
}

// Packet shows a packet.
func (c *Client) Packet(ctx context.Context, packetID string) (Packet, error) {
	return do[Packet](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewGetPacketRequest(server, packetID, nil) }))
}

// Shares shows who has grabbed what of a packet.
func (c *Client) Shares(ctx context.Context, packetID string) ([]Share, error) {
	list, err := do[gen.ShareList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewListSharesRequest(server, packetID, nil)
	}))
	return list.Shares, err
}

// Grab gives an owner his share of a packet, the same one however often he asks. The money may still be on its way when Grab returns;
// it arrives exactly once. ErrSoldOut says that the packet is empty, and ErrEnded that its time is over.
func (c *Client) Grab(ctx context.Context, key, packetID, owner string) (GrabReply, error) {
	return do[GrabReply](ctx, c, write("", key, func(server, key string) (*http.Request, error) {
		return gen.NewGrabShareRequest(server, packetID, &gen.GrabShareParams{IdempotencyKey: key}, gen.OwnerRequest{Owner: owner})
	}))
}
