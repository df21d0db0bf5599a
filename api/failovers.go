package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/statesvc/statesvc/api/gen"
)

// Failovers is what operators see and order of failovers. Requests decide no failover themselves, so it is given to the handler.
type Failovers interface {
	// Shards describes the shards by number. Names and queues are the handler's to add.
	Shards(ctx context.Context) (map[int]gen.Shard, error)
	// Failovers lists what was done before a position (0: now), newest first, of a shard (0: all), and the position of the next page.
	Failovers(ctx context.Context, shard, limit int, before int64) ([]gen.Failover, int64, error)
	// Order leaves an order: switchover, suspend or resume; or rebuild, of a node.
	Order(ctx context.Context, shard int, kind, node, by, reason string) (gen.ShardOrder, error)
	// Fence and Announce are the two halves of a failover by another tool.
	Fence(ctx context.Context, shard int, by, reason string) (gen.ShardFence, error)
	Announce(ctx context.Context, shard int, epoch uint64, address string) (gen.ShardFence, error)
}

// Errors of Failovers. Their texts are shown to the caller, with what is wrapped around them.
var (
	ErrNoFailover  = errors.New("the shard is not failed over that way")
	ErrStaleEpoch  = errors.New("another failover has overtaken this one")
	ErrOrderStands = errors.New("an earlier order for the shard has not been carried out yet")
	ErrNoShard     = errors.New("there is no such shard")
)

// ofOperators says that an error's text may be shown.
func ofOperators(err error) bool {
	return errors.Is(err, ErrNoFailover) || errors.Is(err, ErrStaleEpoch)
}

// ListFailovers answers GET /v1/admin/failovers.
func (s *server) ListFailovers(ctx context.Context, r gen.ListFailoversRequestObject) (gen.ListFailoversResponseObject, error) {
	if r.Params.Shard < 0 || r.Params.Shard > maxShard {
		return nil, invalid("shard", fmt.Sprintf("must be from 1 to %d", maxShard))
	}
	list := s.cursors.list("failovers", strconv.Itoa(r.Params.Shard))
	before, err := list.afterNumber(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	body := gen.FailoverList{Failovers: []gen.Failover{}}
	if s.cfg.Failovers == nil {
		return shown(http.StatusOK, body, nil)
	}
	found, next, err := s.cfg.Failovers.Failovers(ctx, r.Params.Shard, limit, before)
	if err != nil {
		return nil, err
	}
	body.Failovers, body.NextCursor = found, list.nextNumber(next)
	return shown(http.StatusOK, body, nil)
}

// SwitchoverShard answers POST /v1/admin/shards/{shard}/switchover.
func (s *server) SwitchoverShard(ctx context.Context, r gen.SwitchoverShardRequestObject) (gen.SwitchoverShardResponseObject, error) {
	return s.order(ctx, r.Shard, "switchover", "", r.Body.Reason)
}

// SuspendShard answers POST /v1/admin/shards/{shard}/suspend.
func (s *server) SuspendShard(ctx context.Context, r gen.SuspendShardRequestObject) (gen.SuspendShardResponseObject, error) {
	return s.order(ctx, r.Shard, "suspend", "", r.Body.Reason)
}

// ResumeShard answers POST /v1/admin/shards/{shard}/resume.
func (s *server) ResumeShard(ctx context.Context, r gen.ResumeShardRequestObject) (gen.ResumeShardResponseObject, error) {
	return s.order(ctx, r.Shard, "resume", "", r.Body.Reason)
}

// RebuildNode answers POST /v1/admin/shards/{shard}/rebuild.
func (s *server) RebuildNode(ctx context.Context, r gen.RebuildNodeRequestObject) (gen.RebuildNodeResponseObject, error) {
	if n := utf8.RuneCountInString(r.Body.Node); n < 1 || n > nodeNameMax {
		return nil, invalid("/node", fmt.Sprintf("must have from 1 to %d characters", nodeNameMax))
	}
	return s.order(ctx, r.Shard, "rebuild", r.Body.Node, r.Body.Reason)
}

// nodeNameMax is how many characters the name of a node may have in a request.
const nodeNameMax = 100

func (s *server) order(ctx context.Context, number int, kind, node, reason string) (reply, error) {
	if err := s.forShard(number, reason); err != nil {
		return reply{}, err
	}
	body, err := s.cfg.Failovers.Order(ctx, number, kind, node, caller(ctx), reason)
	s.audit(ctx, kind, number, err, slog.String("node", node), slog.String("reason", reason))
	return shown(http.StatusAccepted, body, err)
}

// FenceShard answers POST /v1/admin/shards/{shard}/fence.
func (s *server) FenceShard(ctx context.Context, r gen.FenceShardRequestObject) (gen.FenceShardResponseObject, error) {
	if err := s.forShard(r.Shard, r.Body.Reason); err != nil {
		return nil, err
	}
	body, err := s.cfg.Failovers.Fence(ctx, r.Shard, caller(ctx), r.Body.Reason)
	s.audit(ctx, "fence", r.Shard, err, slog.Int64("epoch", body.Epoch), slog.String("reason", r.Body.Reason))
	return shown(http.StatusOK, body, err)
}

// address is the pattern of openapi.yaml.
var address = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]{1,255}:[0-9]{1,5}$`)

// AnnouncePrimary answers POST /v1/admin/shards/{shard}/primary.
func (s *server) AnnouncePrimary(ctx context.Context, r gen.AnnouncePrimaryRequestObject) (gen.AnnouncePrimaryResponseObject, error) {
	if !address.MatchString(r.Body.Address) {
		return nil, invalid("/address", "is no host:port")
	}
	if err := s.isShard(r.Shard); err != nil {
		return nil, err
	}
	body, err := s.cfg.Failovers.Announce(ctx, r.Shard, uint64(r.Body.Epoch), r.Body.Address)
	s.audit(ctx, "announce", r.Shard, err, slog.Int64("epoch", r.Body.Epoch), slog.String("address", r.Body.Address))
	return shown(http.StatusOK, body, err)
}

// reasonMax is how many characters a reason may have, as for blocks.
const reasonMax = 500

// forShard says what is wrong with a request about a shard.
func (s *server) forShard(number int, reason string) error {
	if n := utf8.RuneCountInString(reason); n < 1 || n > reasonMax {
		return invalid("/reason", fmt.Sprintf("must have from 1 to %d characters", reasonMax))
	}
	return s.isShard(number)
}

func (s *server) isShard(number int) error {
	switch {
	case number < 1 || number > maxShard:
		return ErrNoShard
	case s.cfg.Failovers == nil:
		return ErrNoFailover
	}
	return nil
}

// caller names the key that a request came with, for the history.
func caller(ctx context.Context) string {
	key := callOf(ctx).key
	return fmt.Sprintf("%s (%s)", key.ID, key.Name)
}

// audit logs what an operator did, or tried: the register forgets an order when it is carried out.
func (s *server) audit(ctx context.Context, action string, number int, err error, more ...slog.Attr) {
	attrs := append([]slog.Attr{slog.String("action", action), slog.Int("shard", number), slog.String("by", caller(ctx))}, more...)
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("refused", err))
	}
	s.cfg.Log.LogAttrs(ctx, level, "an operator's request", attrs...)
}
