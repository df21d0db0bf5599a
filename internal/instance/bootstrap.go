package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/statesvc/statesvc/migrations"
	"github.com/statesvc/statesvc/register"
	"github.com/statesvc/statesvc/shard"
)

// The secrets of a cluster, in the register, made at bootstrap.
const (
	idKeyKey     = "secrets/id-mac-1" // MAC key of document ids, format 1
	cursorKeyKey = "secrets/cursor"   // signs cursors of lists
	secretBytes  = 32
)

// ErrNotBootstrapped says that the register holds no cluster yet.
var ErrNotBootstrapped = errors.New("the register holds no cluster yet; run `statesvc migrate up` once")

// ErrOtherShards says that the register holds a cluster of other shards; nothing has happened.
var ErrOtherShards = errors.New("shards can be neither added, removed, renamed nor reordered yet; correct the configuration, " +
	"or name another register")

// Shard is a shard of the cluster, as the configuration names it. Exactly one of DSN and File is set.
type Shard struct {
	Name string // also that of its only node, until it gets others
	DSN  string // MariaDB: user:password@tcp(host:port)/schema
	File string // SQLite
	Feed string // MariaDB: a DSN of the account that may read the binary log; empty: the shard has no change feed
}

// Open connects to the shard. It does not wait for it.
func (s Shard) Open(now func() time.Time) (*shard.DB, error) {
	if s.File != "" {
		return shard.OpenSQLite(s.File, now)
	}
	return shard.OpenMariaDB(s.DSN, now)
}

// openAt connects to a node of the shard at its address. A file is where the configuration says.
func (s Shard) openAt(address string, now func() time.Time) (*shard.DB, error) {
	if s.File != "" {
		return shard.OpenSQLite(s.File, now)
	}
	return shard.OpenMariaDBAt(s.DSN, address, now)
}

// address is what the register says of the only node of a shard; it never has a password.
func (s Shard) address() string {
	if s.File != "" {
		return s.File
	}
	return shard.Address(s.DSN)
}

// Bootstrap makes the shards' schemas, gives them their buckets, and publishes secrets, records and map. It is idempotent:
// what is there stays, and a crash half-way is finished by the next call. step is told what is being done. Once there is a map,
// other shards than it has are refused with ErrOtherShards before anything is touched.
func Bootstrap(ctx context.Context, reg register.Register, shards []Shard, now func() time.Time, step func(string)) error {
	names := make([]string, len(shards))
	for i, s := range shards {
		names[i] = s.Name
	}
	if err := sameShards(ctx, reg, names); err != nil {
		return err
	}
	uniform, err := shard.NewUniformMap(names)
	if err != nil {
		return err
	}
	for i, s := range shards {
		step(fmt.Sprintf("shard %d %s (%s): schema and buckets %d to %d", uniform.Shards[i].Number, s.Name, s.address(),
			uniform.Runs[i].From, uniform.Runs[i].To))
		if err := prepareShard(ctx, reg, s, uniform.Runs[i], now); err != nil {
			return fmt.Errorf("shard %s: %w", s.Name, err)
		}
	}
	step("register: secrets and shard map")
	return Publish(ctx, reg, uniform)
}

// Publish writes the secrets and the map of a cluster whose shards are ready, unless they are there. Instances start from then on.
func Publish(ctx context.Context, reg register.Register, m shard.Map) error {
	for _, key := range []string{idKeyKey, cursorKeyKey} {
		secret := make([]byte, secretBytes)
		_, _ = rand.Read(secret) // never fails
		if err := createOnce(ctx, reg, key, []byte(hex.EncodeToString(secret))); err != nil {
			return err
		}
	}
	encoded, err := m.Encode()
	if err != nil {
		return err
	}
	return createOnce(ctx, reg, shard.MapKey, encoded)
}

// sameShards refuses other shards than the map has, or in another order: they would take buckets that others serve.
func sameShards(ctx context.Context, reg register.Register, names []string) error {
	entry, err := reg.Get(ctx, shard.MapKey)
	if errors.Is(err, register.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the shard map: %w", err)
	}
	mapped, err := shard.DecodeMap(entry.Value)
	if err != nil {
		return err
	}
	there := make([]string, len(mapped.Shards))
	for i, s := range mapped.Shards {
		there[i] = s.Name
	}
	if !slices.Equal(there, names) {
		return fmt.Errorf("the cluster in the register has the shards %v and the configuration has %v: %w", there, names, ErrOtherShards)
	}
	return nil
}

func prepareShard(ctx context.Context, reg register.Register, s Shard, run shard.Run, now func() time.Time) error {
	address, err := addressOf(ctx, reg, s, run.Shard)
	if err != nil {
		return err
	}
	db, err := s.openAt(address, now)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := migrations.Up(ctx, db.SQL(), db.Dialect.String()); err != nil {
		return err
	}
	if err := db.TakeBuckets(ctx, run.From, run.To); err != nil {
		return err
	}
	epoch, err := db.Epoch(ctx)
	if err != nil {
		return err
	}
	record := shard.Record{
		Epoch: epoch, Phase: shard.PhaseServing, Primary: s.Name,
		Nodes: map[string]shard.Node{s.Name: {Address: address}},
	}
	value, err := record.Encode()
	if err != nil {
		return err
	}
	return createOnce(ctx, reg, shard.RecordKey(run.Shard), value)
}

// addressOf says where the primary of a shard is: the register knows it, unless the shard is new or has only the node that it was made
// with, which is where the configuration says.
func addressOf(ctx context.Context, reg register.Register, s Shard, number int) (string, error) {
	entry, err := reg.Get(ctx, shard.RecordKey(number))
	if errors.Is(err, register.ErrNotFound) {
		return s.address(), nil
	}
	if err != nil {
		return "", fmt.Errorf("read the record of the shard: %w", err)
	}
	record, err := shard.DecodeRecord(entry.Value)
	if err != nil || isOnly(record, s.Name) {
		return s.address(), err
	}
	return record.Nodes[record.Primary].Address, nil
}

// isOnly reports whether a shard has no other node than the one that it was made with. Its address in the record is for people then:
// whoever made the cluster may have reached it by another one, and may have moved it since, which only configurations say.
func isOnly(record shard.Record, name string) bool {
	_, ok := record.Nodes[name]
	return ok && len(record.Nodes) == 1
}

func createOnce(ctx context.Context, reg register.Register, key string, value []byte) error {
	if _, err := register.Create(ctx, reg, key, value); err != nil && !errors.Is(err, register.ErrConflict) {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func secret(ctx context.Context, reg register.Register, key string) ([]byte, error) {
	entry, err := reg.Get(ctx, key)
	if errors.Is(err, register.ErrNotFound) {
		return nil, ErrNotBootstrapped
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return hex.DecodeString(string(entry.Value))
}
