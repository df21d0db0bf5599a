package api_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
)

// contract is openapi.yaml as far as tests look at it.
type contract struct {
	Paths      map[string]map[string]yaml.Node
	Components struct {
		Parameters map[string]parameter
		Schemas    map[string]schema
	}
}

type parameter struct {
	Name, In string
	Ref      string `yaml:"$ref"`
}

type schema struct {
	Required   []string
	Properties map[string]any
	Enum       []string `yaml:"x-extensible-enum"`
	Pattern    string
}

// contractOperation is an operation of openapi.yaml.
type contractOperation struct {
	method, path string
	parameters   []string // in the query
	Scope        string   `yaml:"x-scope"`
	Problems     []string `yaml:"x-problems"`
	Parameters   []parameter
}

func readContract(t testing.TB) (c contract) {
	t.Helper()
	if err := yaml.Unmarshal(gen.OpenAPI, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// operations returns the operations of openapi.yaml in a fixed order.
func operations(t testing.TB) (all []contractOperation) {
	t.Helper()
	c := readContract(t)
	for _, path := range slices.Sorted(maps.Keys(c.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(c.Paths[path])) {
			if method == "parameters" {
				continue
			}
			o := contractOperation{method: strings.ToUpper(method), path: path}
			node := c.Paths[path][method]
			if err := node.Decode(&o); err != nil {
				t.Fatal(err)
			}
			for _, p := range o.Parameters {
				if p.Ref != "" {
					p = c.Components.Parameters[p.Ref[strings.LastIndex(p.Ref, "/")+1:]]
				}
				if p.In == "query" {
					o.parameters = append(o.parameters, p.Name)
				}
			}
			all = append(all, o)
		}
	}
	return all
}

func TestEmbeddedCopies(t *testing.T) {
	t.Parallel()
	for copied, original := range map[string]string{"gen/openapi.yaml": "../openapi.yaml", "errors.md": "../docs/errors.md"} {
		a, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(original)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is not a copy of %s any more: go generate ./api/...", copied, original)
		}
	}
}

// TestWireFormat compares the structs that the ledger writes with the schemas, member by member.
func TestWireFormat(t *testing.T) {
	t.Parallel()
	schemas := readContract(t).Components.Schemas
	for name, body := range map[string]any{
		"Coupon": ledger.Coupon{}, "Discount": ledger.DiscountBody{}, "Money": ledger.Money{}, "Lot": ledger.Lot{},
		"Balance": ledger.Balance{}, "Hold": ledger.HoldBody{}, "HoldItem": ledger.HoldItem{}, "LineShare": ledger.LineShare{},
		"LotShare": ledger.LotShare{}, "Line": ledger.LineBody{}, "HoldReply": ledger.HoldReply{}, "CouponReply": ledger.CouponReply{},
		"LotReply": ledger.LotReply{}, "Entry": ledger.Entry{}, "EntryChange": ledger.EntryChange{}, "LotCounters": ledger.LotCounters{},
		"Owner": ledger.OwnerBody{}, "Operation": ledger.OperationBody{}, "Verification": ledger.VerifyBody{},
		"Part": ledger.Part{}, "LotPart": ledger.LotPart{}, "Refund": ledger.RefundBody{}, "RefundedCoupon": ledger.RefundedCoupon{},
		"RefundLine": ledger.RefundLine{}, "RefundReply": ledger.RefundReply{}, "FreezeReply": ledger.FreezeReply{},
		"GoneAsset": ledger.GoneAsset{},
	} {
		var members, required []string
		for _, field := range reflect.VisibleFields(reflect.TypeOf(body)) {
			if field.Anonymous { // its fields are visible themselves
				continue
			}
			member, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			members = append(members, member)
			if options == "" {
				required = append(required, member)
			}
		}
		slices.Sort(members)
		slices.Sort(required)
		s := schemas[name]
		slices.Sort(s.Required)
		if diff := cmp.Diff(members, slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("members of %s: %s", name, diff)
		}
		if diff := cmp.Diff(required, s.Required); diff != "" {
			t.Errorf("required in %s: %s", name, diff)
		}
	}
}

// TestAlphabets: names may have the characters that openapi.yaml says, and no others.
func TestAlphabets(t *testing.T) {
	t.Parallel()
	schemas := readContract(t).Components.Schemas
	c := newEdge(t, func(context.Context, *shard.Op) shard.Reply { return shard.Reply{Err: shard.ErrOverloaded} }, nil)
	const issue = `{"owner":"o","issue_ref":"r","discount":{"kind":"FIXED","amount":{"amount":1,"currency":"CNY"}},` +
		`"expires_at":"2030-01-01T00:00:00Z"}`
	send := map[string]func(name string) answer{
		"OwnerName": func(name string) answer { return c.with(name).hold("o", cny(1)) },
		"Reference": func(name string) answer { return c.hold(name, cny(1)) },
		"CampaignId": func(name string) answer {
			return c.post("/v1/campaigns/"+url.PathEscape(name)+"/issues", issue)
		},
		"OperationKey": func(name string) answer { return c.hold("o", cny(1), header{"Idempotency-Key", name}) },
	}
	for schema, try := range send {
		pattern := regexp.MustCompile(schemas[schema].Pattern)
		for b := byte(' '); b <= '~'; b++ {
			if b == '/' && schema == "CampaignId" {
				continue // in a path it makes another address
			}
			name := "a" + string(b) + "z"
			if reply := try(name); (reply.status == http.StatusServiceUnavailable) != pattern.MatchString(name) {
				t.Errorf("%s %q: openapi.yaml has %s, and the service answers %d", schema, name, pattern, reply.status)
			}
		}
	}
}
