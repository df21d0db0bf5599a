package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/state"
)

// A peek answers, or has the copy renewed, exactly where the script get would, of whatever a document has in Redis, whoever asks. Times
// are far enough from every bound that it does not matter when which of the two looks.
func TestPeekIsTheScript(t *testing.T) {
	t.Parallel()
	server := testdb.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	k := state.Key{Kind: "product", ID: "a"}
	codes := map[string]int{}
	for n := range 6000 {
		dice := rand.New(rand.NewPCG(7, uint64(n)))
		now := client.Time(t.Context()).Val().UnixMilli()
		if err := client.Del(t.Context(), redisKey(k)).Err(); err != nil {
			t.Fatal(err)
		}
		fields := anyFields(dice, now)
		if len(fields) > 0 {
			if err := client.HSet(t.Context(), redisKey(k), fields...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		ask := Ask{Mode: []Mode{Bounded, AtLeast, Eventual}[dice.IntN(3)], Version: state.Version{Era: dice.Int64N(3), Number: dice.Int64N(3)}}
		by := terms{&ask, dice.Int64N(3), dice.IntN(2) == 0, []float64{0, 1e9}[dice.IntN(2)]}
		tr := &trip{run: "here", at: now, believed: dice.IntN(4) > 0}

		raw, err := client.DoRaw(t.Context(), peekWords(redisKey(k))...).Result()
		if err != nil {
			t.Fatal(err)
		}
		seen, err := parseSight(k, raw)
		if err != nil {
			t.Fatal(err)
		}
		hit, due := seen.judge(tr, &by)
		code := scriptSays(t, client, k, tr, &by)
		codes[code]++
		want := "neither"
		if code == "hit" || code == "refresh" {
			want = code
		}
		got := "neither"
		if hit {
			got = map[bool]string{false: "hit", true: "refresh"}[due]
		}
		if got == "refresh" && want == "hit" && slices.Contains(fields, any("other")) {
			continue // the script leaves that to who has the lease
		}
		if got != want {
			t.Fatalf("%d: %v, asked by %+v of %+v: the peek says %s, the script %s", n, fields, by, tr, got, code)
		}
	}
	for _, code := range []string{"hit", "refresh", "lease", "wait", "bypass"} {
		if codes[code] < 10 {
			t.Errorf("%d of the cases are %s", codes[code], code)
		}
	}
}

// anyFields are what a document may have in Redis.
func anyFields(dice *rand.Rand, now int64) (fields []any) {
	far := (10 * time.Minute).Milliseconds()
	some := func(name string, values ...any) {
		if v := values[dice.IntN(len(values))]; v != nil {
			fields = append(fields, name, v)
		}
	}
	if dice.IntN(5) > 0 {
		fields = append(fields, "e", dice.IntN(3), "n", dice.IntN(3), "g", 1, "m", 1_000_000)
		some("s", now-100, now-100, now-100, now+far, now-far, 0)
		some("u", "here", "here", "here", "there")
		some("v", nil, "", `{"a":1}`, `{"a":1}`)
	}
	if dice.IntN(3) == 0 {
		fields = append(fields, "fe", dice.IntN(3), "fn", dice.IntN(3))
	}
	some("d", nil, 1, 1)
	if dice.IntN(4) == 0 {
		fields = append(fields, "t", "other", "x", now+far)
	}
	some("w", nil, nil, nil, nil, "A:1 ", fmt.Sprintf("A:1 B:%d ", now+far))
	return fields
}

// scriptSays runs the script as a reader does.
func scriptSays(t *testing.T, client *redis.Client, k state.Key, tr *trip, by *terms) string {
	t.Helper()
	age, vouched := trusted.Milliseconds(), 0
	if !tr.believed {
		age = -1
	}
	if by.vouched {
		vouched = 1
	}
	answer, err := getScript.Run(t.Context(), client, []string{redisKey(k)}, by.ask.Mode.String(), by.era, by.ask.Version.Era,
		by.ask.Version.Number, age, vouched, tr.run, "token", fillTTL.Milliseconds(), by.luck).Slice()
	if err != nil {
		t.Fatal(err)
	}
	return answer[0].(string)
}
