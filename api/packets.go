package api

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard/id"
)

// CreatePacket answers POST /v1/packets.
func (s *server) CreatePacket(ctx context.Context, r gen.CreatePacketRequestObject) (gen.CreatePacketResponseObject, error) {
	b := r.Body
	answer, err := s.cfg.Ledger.CreatePacket(ctx, callOf(ctx).caller(), ledger.CreatePacket{
		Owner: owner(ctx, b.Owner), PacketRef: b.PacketRef, Amount: ledger.Money(b.Amount), Shares: b.Shares,
		Mode: ledger.PacketMode(b.Mode),
	})
	return written(ctx, answer, err)
}

// GetPacket answers GET /v1/packets/{packet_id}.
func (s *server) GetPacket(ctx context.Context, r gen.GetPacketRequestObject) (gen.GetPacketResponseObject, error) {
	packet, err := s.cfg.Codec.Parse(id.Packet, r.PacketID)
	if err != nil {
		return nil, at("packet_id", err)
	}
	body, err := s.cfg.Ledger.Packet(ctx, packet)
	return shown(http.StatusOK, body, err)
}

// ListShares answers GET /v1/packets/{packet_id}/shares.
func (s *server) ListShares(ctx context.Context, r gen.ListSharesRequestObject) (gen.ListSharesResponseObject, error) {
	packet, err := s.cfg.Codec.Parse(id.Packet, r.PacketID)
	if err != nil {
		return nil, at("packet_id", err)
	}
	shares, err := s.cfg.Ledger.PacketShares(ctx, packet)
	return shown(http.StatusOK, shareList{shares}, err)
}

type shareList struct {
	Shares []ledger.ShareBody `json:"shares"`
}

// GrabShare answers POST /v1/packets/{packet_id}/grabs.
func (s *server) GrabShare(ctx context.Context, r gen.GrabShareRequestObject) (gen.GrabShareResponseObject, error) {
	packet, err := s.cfg.Codec.Parse(id.Packet, r.PacketID)
	if err != nil {
		return nil, at("packet_id", err)
	}
	answer, err := s.cfg.Ledger.Grab(ctx, callOf(ctx).caller(), ledger.Grab{Owner: owner(ctx, r.Body.Owner), PacketID: packet})
	return written(ctx, answer, err)
}
