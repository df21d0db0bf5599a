package failover

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// GTID is a position in the history of a shard: MariaDB's domain-server-sequence. All nodes of a shard write in its own
// domain, so its sequence numbers order everything. The zero value is before everything.
type GTID struct {
	Domain, Server uint32
	Seq            uint64
}

// ParseGTID reads the position of a domain from a list such as "1-101-5,2-7-9"; it is zero if the list has none of it.
func ParseGTID(list string, domain uint32) (GTID, error) {
	for one := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		if one == "" {
			continue
		}
		g, err := parseOne(one)
		if err != nil {
			return GTID{}, err
		}
		if g.Domain == domain {
			return g, nil
		}
	}
	return GTID{}, nil
}

func parseOne(text string) (GTID, error) {
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

// String is the form that MariaDB reads; empty for the zero value.
func (g GTID) String() string {
	if g == (GTID{}) {
		return ""
	}
	return fmt.Sprintf("%d-%d-%d", g.Domain, g.Server, g.Seq)
}

// MarshalText makes a GTID stand in JSON as MariaDB writes it.
func (g GTID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (g *GTID) UnmarshalText(text []byte) (err error) {
	*g = GTID{}
	if len(text) > 0 {
		*g, err = parseOne(string(text))
	}
	return err
}

// Compare orders positions of one domain by their sequence.
func (g GTID) Compare(other GTID) int { return cmp.Compare(g.Seq, other.Seq) }

// diverged says that two positions claim the same place for different transactions: both cannot be prefixes of one history.
func (g GTID) diverged(other GTID) bool {
	return g.Seq == other.Seq && g.Seq > 0 && g.Server != other.Server
}
