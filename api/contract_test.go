package api_test

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/ledger"
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
	} {
		var members, required []string
		for field := range reflect.TypeOf(body).Fields() {
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
