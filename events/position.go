package events

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Position is how far a reader has come: the sequence of the last event seen, by shard. A shard that is missing begins with its oldest
// event. As text it is "1-553.2-120".
type Position map[int]int64

func (p Position) String() string {
	parts := make([]string, 0, len(p))
	for _, shard := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, fmt.Sprintf("%d-%d", shard, p[shard]))
	}
	return strings.Join(parts, ".")
}

// maxShard is the largest number of a shard; ids have 12 bits for it.
const maxShard = 4095

// ParsePosition reads what String writes, in any order. The empty text is the beginning. It fails with ErrInvalid.
func ParsePosition(text string) (Position, error) {
	p := Position{}
	if text == "" {
		return p, nil
	}
	for part := range strings.SplitSeq(text, ".") {
		left, right, _ := strings.Cut(part, "-")
		number, wrong := strconv.ParseUint(left, 10, 16)
		sequence, wrongToo := strconv.ParseUint(right, 10, 63)
		if _, twice := p[int(number)]; wrong != nil || wrongToo != nil || number < 1 || number > maxShard || twice {
			return nil, fmt.Errorf("%w: %.40q is no position in the events", ErrInvalid, part)
		}
		p[int(number)] = int64(sequence)
	}
	return p, nil
}
