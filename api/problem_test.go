package api

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestEveryErrorHasACode reads the sources: every exported error of the packages below is in the table.
func TestEveryErrorHasACode(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	ast.Inspect(parse(t, "problem.go"), func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				named[x.Name+"."+s.Sel.Name] = true
			}
		}
		return true
	})
	for _, folder := range []string{"../ledger", "../shard", "../blacklist", "../access", "../shard/id", "strictjson"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", folder, err, len(files))
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, name := range exportedErrors(parse(t, file)) {
				if whole := filepath.Base(folder) + "." + name; !named[whole] {
					t.Errorf("%s is not in problems", whole)
				}
			}
		}
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func exportedErrors(file *ast.File) (names []string) {
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok || general.Tok != token.VAR {
			continue
		}
		for _, spec := range general.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if strings.HasPrefix(name.Name, "Err") {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// TestCodesAgree: this table, docs/errors.md and openapi.yaml have the same codes in the same order, and every operation's
// x-problems are among them.
func TestCodesAgree(t *testing.T) {
	t.Parallel()
	var codes, documented []string
	for i := range problems {
		p := &problems[i]
		codes = append(codes, p.code)
		row := explanations()[p.code]
		yes := map[bool]string{false: "no", true: "yes"}[p.retryable]
		if row.Status != strconv.Itoa(p.status) || row.Retryable != yes || row.Meaning == "" || row.Advice == "" {
			t.Errorf("docs/errors.md says of %s: %+v", p.code, row)
		}
	}
	for line := range strings.Lines(errorsPage[strings.Index(errorsPage, "\n## Codes\n"):]) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			code, _, _ := strings.Cut(rest, "`")
			documented = append(documented, code)
		}
	}
	if diff := cmp.Diff(codes, documented); diff != "" {
		t.Errorf("docs/errors.md: %s", diff)
	}
	var document struct {
		Paths      map[string]map[string]yaml.Node
		Components struct {
			Schemas struct {
				ProblemCode struct {
					Enum []string `yaml:"x-extensible-enum"`
				} `yaml:"ProblemCode"`
			}
		}
	}
	if err := yaml.Unmarshal(gen.OpenAPI, &document); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(codes, document.Components.Schemas.ProblemCode.Enum); diff != "" {
		t.Errorf("openapi.yaml: %s", diff)
	}
	for path, methods := range document.Paths {
		for method, node := range methods {
			var operation struct {
				Problems []string `yaml:"x-problems"`
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&operation); err != nil {
				t.Fatal(err)
			}
			for _, code := range operation.Problems {
				if !slices.Contains(codes, code) {
					t.Errorf("%s %s answers with %q, which is no code", method, path, code)
				}
			}
		}
	}
}

// TestRoutesAgree: the table of routes says the same as openapi.yaml.
func TestRoutesAgree(t *testing.T) {
	t.Parallel()
	c, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for path, methods := range c.Paths {
		for method, node := range methods {
			if method == "parameters" {
				continue
			}
			count++
			compareRoute(t, path, strings.ToUpper(method), &node)
		}
	}
	if count != len(routes) {
		t.Errorf("openapi.yaml has %d operations, the table %d", count, len(routes))
	}
}

func compareRoute(t *testing.T, path, method string, node *yaml.Node) {
	t.Helper()
	i := slices.IndexFunc(routes, func(r route) bool { return r.path == path && r.method == method })
	if i < 0 {
		t.Errorf("%s %s is not in the table", method, path)
		return
	}
	var o struct {
		Scope      string `yaml:"x-scope"`
		Parameters []struct {
			Ref      string `yaml:"$ref"`
			Name, In string
		}
	}
	if err := node.Decode(&o); err != nil {
		t.Fatal(err)
	}
	var keyed bool
	var query string
	for _, p := range o.Parameters {
		switch {
		case strings.HasSuffix(p.Ref, "/IdempotencyKey"):
			keyed = true
		case strings.HasSuffix(p.Ref, "/DryRun"):
			query += "dry_run "
		case strings.HasSuffix(p.Ref, "/PageLimit"):
			query += "limit "
		case strings.HasSuffix(p.Ref, "/PageCursor"):
			query += "cursor "
		case strings.HasSuffix(p.Ref, "/Consistency"):
			query += "consistency "
		case strings.HasSuffix(p.Ref, "/EventsAfter"):
			query += "after "
		case p.In == "query":
			query += p.Name + " "
		}
	}
	if r := routes[i]; r.scope.String() != o.Scope || r.keyed != keyed || r.query != query {
		t.Errorf("%s %s: the table says %s, %v, %q, openapi.yaml %s, %v, %q", method, path, r.scope, r.keyed, r.query, o.Scope, keyed, query)
	}
}

// TestDocuments has one golden document per code, of an error that says as much as it can. They are what TestC09EveryCode shows
// to the client.
func TestDocuments(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	two, one := int64(2000), int64(1500)
	rich := map[string]error{
		"invalid-request": &ledger.Invalid{Problems: []ledger.FieldProblem{{Pointer: "/a", Detail: "is bad"}, {Pointer: "/b", Detail: "is bad"}}},
		"blocked": fmt.Errorf("hold: %w", &blacklist.BlockedError{
			Grain: "owner", ID: "alice", Holder: "undecided", Reason: "wait", RetryAt: at,
		}),
		"key-reused": &ledger.KeyReused{Fields: []string{"items", "ttl_ms"}},
		"not-found":  invalidOf(errNotFound, "hold_id", "names nothing"),

		"precondition-failed": &state.Conflict{Current: state.Version{Era: 1, Number: 7}},
		"held-by-other": &ledger.Refusal{
			Reason: ledger.ErrHeldByOther, Code: "held-by-other", Detail: "in another hold", RetryAt: at, HoldID: "hold_x", Pointer: "/items/0",
		},
		"insufficient": &ledger.Refusal{
			Reason: ledger.ErrInsufficient, Code: "insufficient", Detail: "too little", Asked: &two, Have: &one, Pointer: "/items/1",
		},
		"late-unfulfillable": &ledger.Refusal{
			Reason: ledger.ErrLateUnfulfillable, Code: "late-unfulfillable", Detail: "two are gone", HoldID: "hold_x",
			Gone: []ledger.GoneAsset{{CouponID: "coupon_x", State: "USED", Asked: 1}, {LotID: "lot_x", Asked: two, Have: one}},
		},
		"internal":        errors.New("connection to 10.0.0.7 refused"),
		"outcome-unknown": fmt.Errorf("hold of alice: %w", shard.ErrOutcomeUnknown),
	}
	for i := range problems {
		p := &problems[i]
		err, ok := rich[p.code]
		if !ok {
			err = fmt.Errorf("somewhere inside: %w", p.errors[0])
		}
		d := newDocument(err, true)
		d.RequestID = "request-1"
		got, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "problems", p.code+".json")
		if *update {
			if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
			t.Errorf("%s: %s", p.code, diff)
		}
	}
}

func invalidOf(kind error, pointer, detail string) error { return &partError{kind, pointer, detail} }

// TestEveryErrorFindsItsRow: no row hides behind an earlier one.
func TestEveryErrorFindsItsRow(t *testing.T) {
	t.Parallel()
	for i := range problems {
		for _, err := range problems[i].errors {
			if row, _ := problemOf(fmt.Errorf("wrapped: %w", err)); row != &problems[i] {
				t.Errorf("%v is found at %s, not at %s", err, row.code, problems[i].code)
			}
		}
	}
	if row, known := problemOf(errors.New("unheard of")); row.code != "internal" || known != nil {
		t.Errorf("an unknown error is %s", row.code)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for wait, want := range map[time.Duration]int{-time.Hour: 1, 0: 1, time.Millisecond: 1, 1001 * time.Millisecond: 2, time.Minute: 60} {
		if got := (&document{RetryAt: now.Add(wait)}).retryAfter(now); got != want {
			t.Errorf("%s: %d, want %d", wait, got, want)
		}
	}
}

func FuzzCursor(f *testing.F) {
	cursors := newCursors([]byte("key"))
	list := cursors.list("coupons", "owner", "", "spring")
	f.Add(list.nextNumber(7))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		number, err := list.afterNumber(text)
		if err != nil || text == "" {
			return
		}
		if again := list.nextNumber(number); again != text {
			t.Errorf("%q is read as %d, which is written as %q", text, number, again)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("limit=1&cursor=abc", "limit cursor ")
	f.Add("limit=%zz", "limit ")
	f.Fuzz(func(t *testing.T, raw, names string) {
		if err := checkQuery(raw, names); err != nil && !errors.Is(err, errInvalid) {
			t.Error(err)
		}
	})
}
