package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MapKey is where the register keeps the map. It is changed by compare-and-set only.
const MapKey = "map"

const (
	firstShard = 1     // 0 is nobody's number, so that a forgotten field is noticed
	lastShard  = 4_095 // document ids have 12 bits for it
)

// maxShardName bounds the name of a shard, which becomes part of schema names, metrics and paths.
const maxShardName = 32

// Map says which shard has which buckets. It is a hint: the shard itself knows what it owns, and every batch asks it. A
// Map that came from DecodeMap or NewUniformMap is valid and is never changed; a new one has a higher version.
type Map struct {
	Version   uint64       `json:"version"`
	Shards    []NamedShard `json:"shards"`
	Runs      []Run        `json:"runs"` // in order, without gaps, from bucket 0 to the last
	Overrides []Override   `json:"overrides,omitempty"`
	Births    []Birth      `json:"births,omitempty"`
	Moving    []Moving     `json:"moving,omitempty"`

	runOf *[Buckets]uint16 // index into Runs
}

// NamedShard is a shard of the cluster. Its number is part of document ids and is never used again for another shard; its
// name is for people.
type NamedShard struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
}

// Run is a range of buckets, both ends included, on one shard. EraBase plus the shard's epoch is the era of its buckets,
// which never falls; a move may make EraBase negative.
type Run struct {
	From    Bucket `json:"from"`
	To      Bucket `json:"to"`
	Shard   int    `json:"shard"`
	EraBase int64  `json:"era_base"`
}

// Override says where the free documents of a bucket live that were born on Placement, if not there any more. The shard
// that Placement names may be long gone.
type Override struct {
	Placement int    `json:"placement"`
	Bucket    Bucket `json:"bucket"`
	Shard     int    `json:"shard"`
}

// Birth says where new free documents of a unit have been born since FromMS. Without any, they are born at home.
type Birth struct {
	Unit      string `json:"unit"`
	Placement int    `json:"placement"`
	FromMS    int64  `json:"from_ms"`
}

// Moving lists the buckets that a move is about to take elsewhere. They are served where Runs says until the move has
// switched.
type Moving struct {
	Buckets []BucketRange `json:"buckets"`
	Move    string        `json:"move"`
}

// BucketRange is a range of buckets, both ends included.
type BucketRange struct {
	From Bucket `json:"from"`
	To   Bucket `json:"to"`
}

// NewUniformMap returns the first map of a cluster: shards are numbered from 1 in the order of their names, and each gets
// the same share of the buckets, one more or less.
func NewUniformMap(names []string) (Map, error) {
	m := Map{Version: 1}
	for i, name := range names {
		m.Shards = append(m.Shards, NamedShard{Number: firstShard + i, Name: name})
		m.Runs = append(m.Runs, Run{
			From:  Bucket(i * Buckets / len(names)),
			To:    Bucket((i+1)*Buckets/len(names) - 1),
			Shard: firstShard + i,
		})
	}
	if err := m.Validate(); err != nil {
		return Map{}, err
	}
	m.index()
	return m, nil
}

// DecodeMap reads a map as the register holds it. It refuses what it does not know: an instance that is older than the map
// must not route by the half of it that it understands.
func DecodeMap(data []byte) (Map, error) {
	var m Map
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return Map{}, fmt.Errorf("shard map: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Map{}, errors.New("shard map: something follows it")
	}
	if err := m.Validate(); err != nil {
		return Map{}, err
	}
	m.index()
	return m, nil
}

// Encode returns the map as the register holds it, or an error if it is not valid.
func (m *Map) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// Lookup returns the shard of a bucket and the bucket's era base. b must be below Buckets, and the map must come from
// DecodeMap or NewUniformMap.
func (m *Map) Lookup(b Bucket) (shard int, eraBase int64) {
	run := &m.Runs[m.runOf[b]]
	return run.Shard, run.EraBase
}

// index prepares Lookup. The map must be valid.
func (m *Map) index() {
	m.runOf = new([Buckets]uint16)
	for i, run := range m.Runs {
		for b := int(run.From); b <= int(run.To); b++ {
			m.runOf[b] = uint16(i)
		}
	}
}

// Validate reports the first thing that makes the map useless: a bucket with no shard or with two, or a name or number
// that means nothing. It does not know whether the shards agree.
func (m *Map) Validate() error {
	if m.Version == 0 {
		return errors.New("shard map: it has no version")
	}
	known, err := m.shardNumbers()
	if err != nil {
		return err
	}
	return errors.Join(m.checkRuns(known), m.checkOverrides(known), m.checkBirths(known), m.checkMoving())
}

// shardNumbers checks the list of shards and returns the set of their numbers.
func (m *Map) shardNumbers() (known map[int]bool, err error) {
	known = make(map[int]bool, len(m.Shards))
	names := make(map[string]bool, len(m.Shards))
	for _, s := range m.Shards {
		switch {
		case !validShard(s.Number):
			return nil, fmt.Errorf("shard map: shard number %d is not in %d–%d", s.Number, firstShard, lastShard)
		case !validShardName(s.Name):
			return nil, fmt.Errorf("shard map: %q is no name: 1 to %d of a–z 0–9 -", s.Name, maxShardName)
		case known[s.Number], names[s.Name]:
			return nil, fmt.Errorf("shard map: shard %d %q appears twice", s.Number, s.Name)
		}
		known[s.Number], names[s.Name] = true, true
	}
	return known, nil
}

func (m *Map) checkRuns(known map[int]bool) error {
	next := 0
	for _, run := range m.Runs {
		switch {
		case int(run.From) != next:
			return fmt.Errorf("shard map: a run begins at bucket %d, not at %d", run.From, next)
		case run.To < run.From || run.To >= Buckets:
			return fmt.Errorf("shard map: the run from bucket %d ends at %d", run.From, run.To)
		case !known[run.Shard]:
			return fmt.Errorf("shard map: buckets %d–%d are on the unknown shard %d", run.From, run.To, run.Shard)
		}
		next = int(run.To) + 1
	}
	if next != Buckets {
		return fmt.Errorf("shard map: no run has bucket %d", next)
	}
	return nil
}

func (m *Map) checkOverrides(known map[int]bool) error {
	type place struct {
		placement int
		bucket    Bucket
	}
	seen := make(map[place]bool, len(m.Overrides))
	for _, o := range m.Overrides {
		if !validShard(o.Placement) || o.Bucket >= Buckets || !known[o.Shard] {
			return fmt.Errorf("shard map: override %+v: no such placement, bucket or shard", o)
		}
		if seen[place{o.Placement, o.Bucket}] {
			return fmt.Errorf("shard map: override %+v appears twice", o)
		}
		seen[place{o.Placement, o.Bucket}] = true
	}
	return nil
}

func (m *Map) checkBirths(known map[int]bool) error {
	for _, b := range m.Births {
		if b.Unit == "" || !known[b.Placement] || b.FromMS < 0 {
			return fmt.Errorf("shard map: birth %+v: no unit, unknown placement or no time", b)
		}
	}
	return nil
}

// checkMoving refuses a bucket that is in two moves, since both would freeze and copy it.
func (m *Map) checkMoving() error {
	var taken [Buckets]bool
	for _, moving := range m.Moving {
		if moving.Move == "" || len(moving.Buckets) == 0 {
			return fmt.Errorf("shard map: move %q of %d ranges", moving.Move, len(moving.Buckets))
		}
		for _, r := range moving.Buckets {
			if r.To < r.From || r.To >= Buckets {
				return fmt.Errorf("shard map: move %q: there are no buckets %d–%d", moving.Move, r.From, r.To)
			}
			for b := int(r.From); b <= int(r.To); b++ {
				if taken[b] {
					return fmt.Errorf("shard map: bucket %d moves twice", b)
				}
				taken[b] = true
			}
		}
	}
	return nil
}

func validShard(number int) bool { return number >= firstShard && number <= lastShard }

func validShardName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxShardName
}
