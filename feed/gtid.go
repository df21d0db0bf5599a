package feed

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// GTID names a transaction: MariaDB's domain-server-sequence. Within a domain, which is the shard's, the sequence rises with every
// commit, across failovers too.
type GTID struct {
	Domain, Server uint32
	Seq            uint64
}

// String is the form that MariaDB reads; empty for the zero value.
func (g GTID) String() string {
	if g == (GTID{}) {
		return ""
	}
	return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Seq)
}

// MarshalText makes a GTID stand in JSON as MariaDB writes it.
func (g GTID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// covers says that g is the other transaction, or a later one of its domain.
func (g GTID) covers(other GTID) bool { return g.Domain == other.Domain && g.Seq >= other.Seq }

// Position is a place in a shard's history: the newest transaction of each domain that was read, as MariaDB writes it ("1-101-5").
// It means the same on every node of the shard. Empty: nothing was read.
type Position string

// gtids are those of the position, by domain.
func (p Position) gtids() (map[uint32]GTID, error) {
	all := map[uint32]GTID{}
	for one := range strings.SplitSeq(string(p), ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		g, err := parseGTID(one)
		if err != nil {
			return nil, err
		}
		all[g.Domain] = g
	}
	return all, nil
}

func parseGTID(text string) (GTID, error) {
	parts := strings.Split(text, "-")
	if len(parts) != 3 {
		return GTID{}, fmt.Errorf("gtid %q: want domain-server-sequence", text)
	}
	domain, err1 := strconv.ParseUint(parts[0], 10, 32)
	server, err2 := strconv.ParseUint(parts[1], 10, 32)
	seq, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return GTID{}, fmt.Errorf("gtid %q: %w", text, err)
	}
	return GTID{uint32(domain), uint32(server), seq}, nil
}

// positionOf is the inverse of gtids.
func positionOf(all map[uint32]GTID) Position {
	list := make([]string, 0, len(all))
	for _, domain := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[domain].String())
	}
	return Position(strings.Join(list, ","))
}
