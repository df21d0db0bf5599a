package blacklist

import (
	"errors"
	"strings"
	"testing"
)

func TestBlockKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		p      place
		holder string
		want   string // empty: refused
	}{
		{place{GrainNode, "db-1.example:3306"}, "admin", "blocks/node/db-1.example:3306/admin"},
		{place{GrainShard, "1"}, "controller", "blocks/shard/1/controller"},
		{place{GrainShard, "4095"}, "admin", "blocks/shard/4095/admin"},
		{place{GrainBucket, "0"}, "move:01", "blocks/bucket/0/move:01"},
		{place{GrainBucket, "16383"}, "admin", "blocks/bucket/16383/admin"},
		{place{GrainOwner, "user-1"}, "admin", "blocks/owner/dXNlci0x/admin"},
		{place{GrainOwner, "product/sku-1"}, "admin", "blocks/owner/cHJvZHVjdC9za3UtMQ/admin"},
		{place{GrainShard, "0"}, "admin", ""},
		{place{GrainShard, "4096"}, "admin", ""},
		{place{GrainShard, "01"}, "admin", ""},
		{place{GrainBucket, "16384"}, "admin", ""},
		{place{GrainBucket, "-1"}, "admin", ""},
		{place{GrainBucket, "+1"}, "admin", ""},
		{place{GrainBucket, "70000"}, "admin", ""},
		{place{GrainNode, ""}, "admin", ""},
		{place{GrainNode, "a/b"}, "admin", ""},
		{place{GrainNode, strings.Repeat("n", 65)}, "admin", ""},
		{place{GrainOwner, ""}, "admin", ""},
		{place{GrainOwner, "a b"}, "admin", ""},
		{place{GrainOwner, strings.Repeat("o", 129)}, "admin", ""},
		{place{"city", "x"}, "admin", ""},
		{place{GrainNode, "n"}, "", ""},
		{place{GrainNode, "n"}, "a/b", ""},
	}
	for _, test := range tests {
		key, err := test.p.key(test.holder)
		if key != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%v by %q: key %q, %v", test.p, test.holder, key, err)
			continue
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v by %q: %v", test.p, test.holder, err)
			}
			continue
		}
		if p, holder, err := parseBlockKey(key); p != test.p || holder != test.holder || err != nil {
			t.Errorf("%q is read as %v by %q, %v", key, p, holder, err)
		}
	}
}

func TestRefusedKeys(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"", "blocks/", "blocks/node/n", "blocks/node/n/admin/x", "block/node/n/admin", "blocks/owner/dXNlci0x==/admin",
		"blocks/owner/dXNlci0y_/admin", "blocks/owner/user-1/admin", "blocks/bucket/007/admin", "blocks/node//admin",
	} {
		if p, holder, err := parseBlockKey(key); err == nil {
			t.Errorf("%q is read as %v by %q", key, p, holder)
		}
	}
	for _, key := range []string{
		"", "undecided/", "undecided/1", "undecided/1/2", "undecided/1/2.YQ", "undecided/0/2.YQ.YQ", "undecided/01/2.YQ.YQ",
		"undecided/1/02.YQ.YQ", "undecided/1/16384.YQ.YQ", "undecided/1/2.YQ.", "undecided/1/2..YQ", "undecided/1/2.YQ.YR",
		"undecided/1/2.YQ.YQ.YQ", "undecided/1/2/YQ.YQ",
	} {
		if k, err := parseRecordKey(key); err == nil {
			t.Errorf("%q is read as %+v", key, k)
		}
	}
	if k, err := parseRecordKey("undecided/1/2.YQ.Yg"); err != nil || k != (recordKey{1, 2, "a", "b"}) {
		t.Errorf("%+v, %v", k, err)
	}
}

// FuzzBlockKey checks both ways: what can be encoded is decoded to the same, and what can be decoded has one encoding.
func FuzzBlockKey(f *testing.F) {
	f.Add("owner", "user-1", "admin", "blocks/owner/dXNlci0x/admin")
	f.Add("bucket", "7", "move:1", "blocks/bucket/7/move:1")
	f.Add("node", "db/1", "", "blocks/node/db/1/admin")
	f.Fuzz(func(t *testing.T, grain, id, holder, arbitrary string) {
		p := place{Grain(grain), id}
		if key, err := p.key(holder); err == nil {
			if gotPlace, gotHolder, err := parseBlockKey(key); err != nil || gotPlace != p || gotHolder != holder {
				t.Fatalf("%v by %q became %v by %q: %v", p, holder, gotPlace, gotHolder, err)
			}
		}
		if p, holder, err := parseBlockKey(arbitrary); err == nil {
			if key, err := p.key(holder); err != nil || key != arbitrary {
				t.Fatalf("%q became %q: %v", arbitrary, key, err)
			}
		}
	})
}

func FuzzRecordKey(f *testing.F) {
	f.Add(uint16(1), uint16(12720), "user-1", "k.1", "undecided/1/2.YQ.Yg")
	f.Fuzz(func(t *testing.T, shard, bucket uint16, owner, operation, arbitrary string) {
		k := recordKey{shard, bucket, owner, operation}
		if k.check() == nil {
			if got, err := parseRecordKey(k.String()); err != nil || got != k {
				t.Fatalf("%+v became %+v: %v", k, got, err)
			}
			if len(k.String()) > 400 {
				t.Fatalf("key of %d bytes", len(k.String()))
			}
		}
		if k, err := parseRecordKey(arbitrary); err == nil && k.String() != arbitrary {
			t.Fatalf("%q became %q", arbitrary, k)
		}
	})
}
