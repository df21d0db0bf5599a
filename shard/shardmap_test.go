package shard

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The value in the register, field by field, as the controller and operators see it.
const mapText = `{"version":7,"shards":[{"number":1,"name":"a"},{"number":4,"name":"b-2"}],` +
	`"runs":[{"from":0,"to":99,"shard":4,"era_base":-3},{"from":100,"to":16383,"shard":1,"era_base":0}],` +
	`"overrides":[{"placement":2,"bucket":5,"shard":1}],"births":[{"unit":"u1","placement":4,"from_ms":1700000000000}],` +
	`"moving":[{"buckets":[{"from":3,"to":4},{"from":9,"to":9}],"move":"move_1"}]}`

func TestMapText(t *testing.T) {
	m, err := DecodeMap([]byte(mapText))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bucket  Bucket
		shard   int
		eraBase int64
	}{{0, 4, -3}, {99, 4, -3}, {100, 1, 0}, {Buckets - 1, 1, 0}} {
		if shard, eraBase := m.Lookup(c.bucket); shard != c.shard || eraBase != c.eraBase {
			t.Errorf("Lookup(%d) = %d, %d, want %d, %d", c.bucket, shard, eraBase, c.shard, c.eraBase)
		}
	}
	if text, err := m.Encode(); err != nil || string(text) != mapText {
		t.Errorf("encoded as\n%s, %v, want\n%s", text, err, mapText)
	}
}

// Each row breaks one thing of the map above.
func TestDecodeMapRefuses(t *testing.T) {
	for _, c := range []struct{ name, old, broken, want string }{
		{"no JSON", mapText, "", "EOF"},
		{"unknown field", `"version"`, `"colour":1,"version"`, "unknown field"},
		{"unknown field inside", `"era_base":0`, `"era_base":0,"era":1`, "unknown field"},
		{"trailing data", `"move_1"}]}`, `"move_1"}]}{}`, "something follows"},
		{"no version", `"version":7`, `"version":0`, "no version"},
		{"shard 0", `"number":4`, `"number":0`, "not in 1–4095"},
		{"shard beyond 12 bits", `"number":4`, `"number":4096`, "not in 1–4095"},
		{"shard twice", `"number":4`, `"number":1`, "appears twice"},
		{"name twice", `"b-2"`, `"a"`, "appears twice"},
		{"no name", `"b-2"`, `""`, "no name"},
		{"name for a shell", `"b-2"`, `"b 2"`, "no name"},
		{"long name", `"b-2"`, `"` + strings.Repeat("b", 33) + `"`, "no name"},
		{"bucket missing at the start", `"from":0`, `"from":1`, "begins at bucket 1"},
		{"gap", `"to":99`, `"to":98`, "begins at bucket 100, not at 99"},
		{"overlap", `"to":99`, `"to":100`, "begins at bucket 100, not at 101"},
		{"bucket missing at the end", `16383`, `16382`, "no run has bucket 16383"},
		{"too many buckets", `16383`, `16384`, "ends at 16384"},
		{"run backwards", `"from":100,"to":16383`, `"from":100,"to":99`, "ends at 99"},
		{"run on an unknown shard", `"shard":4,"era`, `"shard":3,"era`, "unknown shard 3"},
		{"override to an unknown shard", `"bucket":5,"shard":1`, `"bucket":5,"shard":2`, "override"},
		{"override of no bucket", `"bucket":5`, `"bucket":16384`, "override"},
		{"override of no placement", `"placement":2`, `"placement":0`, "override"},
		{
			"override twice", `"bucket":5,"shard":1}`, `"bucket":5,"shard":1},{"placement":2,"bucket":5,"shard":4}`,
			"appears twice",
		},
		{"birth without unit", `"u1"`, `""`, "birth"},
		{"birth nowhere", `"u1","placement":4`, `"u1","placement":5`, "birth"},
		{"birth before 1970", `1700000000000`, `-1`, "birth"},
		{"nameless move", `"move_1"`, `""`, `move ""`},
		{"empty move", `[{"from":3,"to":4},{"from":9,"to":9}]`, `[]`, "of 0 ranges"},
		{"move backwards", `"from":3,"to":4`, `"from":4,"to":3`, "no buckets 4–3"},
		{"bucket in two moves", `"from":9,"to":9`, `"from":4,"to":9`, "bucket 4 moves twice"},
	} {
		text := strings.Replace(mapText, c.old, c.broken, 1)
		if text == mapText {
			t.Errorf("%s: nothing is broken", c.name)
		}
		if _, err := DecodeMap([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	m, err := NewUniformMap([]string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	m.Runs = m.Runs[:1]
	if text, err := m.Encode(); err == nil {
		t.Errorf("encoded as %s", text)
	}
}

func TestNewUniformMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(1, 9), rapid.IntRange(1, lastShard)).Draw(t, "shards")
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprint("s", i)
		}
		m, err := NewUniformMap(names)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[int]int{}
		for b := range Buckets {
			shard, eraBase := m.Lookup(Bucket(b))
			if counts[shard]++; eraBase != 0 {
				t.Fatalf("bucket %d has era base %d", b, eraBase)
			}
		}
		for i := range names {
			if c := counts[i+1]; c != Buckets/n && c != Buckets/n+1 {
				t.Fatalf("shard %d of %d has %d buckets", i+1, n, c)
			}
		}
	})
	for name, names := range map[string][]string{
		"no shard":         nil,
		"a name twice":     {"a", "a"},
		"an unusable name": {"A"},
		"too many":         strings.Split(strings.Repeat("s,", lastShard)+"s", ","),
	} {
		if _, err := NewUniformMap(names); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The table must say what a search through the runs says.
func TestLookupAgreesWithTheRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Map{Version: 1, Shards: []NamedShard{{1, "a"}, {2, "b"}, {lastShard, "c"}}}
		for from := 0; from < Buckets; {
			to := min(Buckets, from+rapid.IntRange(1, 6000).Draw(t, "length"))
			shard := rapid.SampledFrom([]int{1, 2, lastShard}).Draw(t, "shard")
			eraBase := rapid.Int64Range(math.MinInt64, math.MaxInt64).Draw(t, "era base")
			m.Runs = append(m.Runs, Run{Bucket(from), Bucket(to - 1), shard, eraBase})
			from = to
		}
		text, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := DecodeMap(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range m.Runs {
			for b := int(run.From); b <= int(run.To); b++ {
				if shard, eraBase := decoded.Lookup(Bucket(b)); shard != run.Shard || eraBase != run.EraBase {
					t.Fatalf("Lookup(%d) = %d, %d, want %+v", b, shard, eraBase, run)
				}
			}
		}
	})
}

func FuzzDecodeMap(f *testing.F) {
	f.Add([]byte(mapText))
	f.Add([]byte(`{"version":1,"shards":[{"number":1,"name":"a"}],"runs":[{"from":0,"to":16383,"shard":1,"era_base":0}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := DecodeMap(text)
		if err != nil {
			return
		}
		encoded, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeMap(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(encoded, twice) {
			t.Fatalf("%s becomes %s, %v", encoded, twice, err)
		}
	})
}

func TestDecodeRecord(t *testing.T) {
	const good = `{"epoch":3,"phase":"SERVING","primary":"n1",` +
		`"nodes":{"n1":{"address":"db1:3306"},"n2":{"address":"db2:3306"}}}`
	r, err := DecodeRecord([]byte(good))
	if err != nil || r.Epoch != 3 || r.Nodes[r.Primary].Address != "db1:3306" {
		t.Fatalf("%+v, %v", r, err)
	}
	if text, err := r.Encode(); err != nil || string(text) != good {
		t.Errorf("encoded as %s, %v, want %s", text, err, good)
	}
	more := strings.Replace(good, `"epoch"`, `"isr":["n2"],"run":"x","epoch"`, 1)
	if _, err := DecodeRecord([]byte(more)); err != nil {
		t.Errorf("the controller's fields: %v", err)
	}
	for _, c := range []struct{ name, old, broken string }{
		{"no JSON", good, ""},
		{"no epoch", `"epoch":3`, `"epoch":0`},
		{"unknown phase", `SERVING`, `SERVE`},
		{"unknown primary", `"primary":"n1"`, `"primary":"n3"`},
		{"no address", `db2:3306`, ``},
		{"no node name", `"n2"`, `""`},
	} {
		if r, err := DecodeRecord([]byte(strings.Replace(good, c.old, c.broken, 1))); err == nil {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	m, err := NewUniformMap([]string{"a", "b", "c", "d"})
	if err != nil {
		b.Fatal(err)
	}
	bucket := Bucket(0)
	for b.Loop() {
		m.Lookup(bucket)
		bucket = (bucket + 4099) % Buckets
	}
}
