package tidy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/statesvc/statesvc"

// layer is a part of the service and the parts it may stand on. What it reaches through packages of internal/ counts too.
type layer struct {
	name   string
	may    []string
	reason string
}

// layers say: cmd → api → events → ledger → pending, blacklist → shard → register; api → cache → state, feed → shard; failover →
// pending, blacklist, shard, register. Neighbours meet through interfaces that their user declares.
var layers = []layer{
	{"register", nil, "the register is below everything: shard map and epochs must be readable when all else is down"},
	{"access", []string{"register"}, "who may call does not depend on what he calls for"},
	{"migrations", nil, "the schema is text"},
	{"shard", []string{"register"}, "shard knows batches, lanes and epochs, not what is in them; ledger hands it the rules"},
	{"feed", []string{"shard", "register"}, "the feed knows transactions and rows, not what they mean"},
	{"blacklist", []string{"shard", "register"}, "whether an owner is blocked does not depend on what the owner has"},
	{"state", []string{"shard", "register"}, "state data know nothing of coupons and holds, nor of their copies"},
	{"cache", []string{"state", "feed", "shard", "register"}, "copies know what they are copies of, and nothing else"},
	{"pending", []string{"blacklist", "shard", "register"}, "pending settles what ledger started, and its records are blocks"},
	{
		"ledger",
		[]string{"pending", "feed", "blacklist", "shard", "register"},
		"the rules know nothing of HTTP, nor who fails over when",
	},
	{
		"events",
		[]string{"ledger", "pending", "cache", "feed", "blacklist", "shard", "register"},
		"events are what the ledger has decided; who hears of them decides nothing",
	},
	{
		"failover",
		[]string{"pending", "blacklist", "shard", "register"},
		"a failover moves shards; what is in them is no concern of it",
	},
	{
		"api",
		[]string{"events", "ledger", "pending", "cache", "state", "feed", "blacklist", "access", "shard", "register"},
		"requests are served by instances, and instances do not decide failovers",
	},
	{
		"stock",
		[]string{"ledger", "pending", "cache", "state", "feed", "blacklist", "shard", "register"},
		"display stock is derived from the ledger, and the ledger knows nothing of it",
	},
	{"client", nil, "callers build it into their programs: it must not bring ours along"},
	{"bench", []string{
		"api", "events", "ledger", "pending", "cache", "state", "feed", "blacklist", "access", "shard", "register", "failover", "client",
		"migrations", "stock",
	}, "bench drives what internal/instance has wired, it does not wire"},
}

// scope says which packages may import a module (or a package of ours); tests may import anything.
type scope struct {
	what   string   // import path, and all below it
	only   []string // folders, and all below them
	reason string
}

// wiring are the folders that put the service together: the program, and the embedded mode and cluster behind it.
var wiring = []string{"cmd", "internal"}

var scopes = []scope{
	{"github.com/gin-gonic/gin", []string{"api", "bench"}, "one package speaks HTTP; what it calls can be called by others as well"},
	{"github.com/oapi-codegen/gin-middleware", []string{"api"}, "see gin"},
	{"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic", []string{"api"}, "see gin"},
	{"github.com/getkin/kin-openapi", []string{"api", "client", "cmd"}, "the contract is checked at the door"},
	{"github.com/coreos/go-oidc", []string{"api"}, "who calls is decided at the door"},
	{"gorm.io", []string{"shard", "ledger", "state", "cmd"}, "databases are opened in shard, and mapped in the domains; cmd migrates them"},
	{"github.com/glebarez", []string{"shard", "ledger", "cmd", "migrations"}, "the embedded database is a dialect of shard"},
	{
		"github.com/go-sql-driver/mysql",
		[]string{"shard", "feed", "failover", "migrations", "bench", "cmd", "internal"},
		"driver errors are translated once, in shard",
	},
	{"github.com/redis/go-redis", append([]string{"cache", "bench"}, wiring...), "state data live behind cache"},
	{"github.com/go-redsync", []string{"cache"}, "it has no fencing token: good for efficiency, never for correctness"},
	{"github.com/alicebob/miniredis", wiring, "embedded mode and tests; TTLs and scripts differ from a real Redis"},
	{"go.etcd.io/etcd/client", append([]string{"register"}, wiring...), "the register has two implementations; ask for its interface"},
	{"go.etcd.io/etcd/api", append([]string{"register"}, wiring...), "see its client"},
	{"go.etcd.io/etcd/server", wiring, "20 MB, for the one-machine cluster and tests"},
	{"github.com/go-mysql-org", []string{"feed"}, "the change feed reads binary logs, nobody else"},
	{"github.com/maypok86/otter", []string{"cache"}, "see DESIGN of cache"},
	{"github.com/santhosh-tekuri/jsonschema", []string{"state"}, "what may be in a document is decided where it is written"},
	{"github.com/pressly/goose", append([]string{"migrations"}, wiring...), "schemas change by command, not by request"},
	{"github.com/spf13", []string{"cmd"}, "flags come in through cmd"},
	{"github.com/knadh/koanf", []string{"cmd"}, "configuration comes in through cmd"},
	{"github.com/HdrHistogram", []string{"bench", "cmd", "internal"}, "a measuring tool"},
	{module + "/cmd", nil, "cmd is above everything"},
	{"testing", []string{"internal"}, "helpers of tests live in internal/, conformance suites in a folder named …test"},
	{"github.com/google/go-cmp", nil, "for tests; it may panic"},
	{"pgregory.net/rapid", nil, "for tests"},
	{"github.com/anishathalye/porcupine", append([]string{"bench"}, wiring...), "checks histories: tests, bench and soak"},
	{"github.com/Shopify/toxiproxy", []string{"internal"}, "for tests"},
	{"go.uber.org/goleak", nil, "for tests"},
}

// imported is what go list tells about a package. Imports are direct and without those of tests; Deps are transitive.
type imported struct {
	ImportPath   string
	Name         string
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Error        *struct{ Err string }
}

// folder is the package's place in the module; the module's root is ".".
func (p imported) folder() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

// imports lists all packages. It goes on past packages that cannot be loaded: the build says that better.
func imports(t *testing.T) []imported {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Imports,Deps,TestImports,XTestImports,"+
		"GoFiles,TestGoFiles,XTestGoFiles,Error", "./...")
	command.Dir = root
	output, err := command.Output()
	if err != nil {
		t.Fatalf("list the packages: %v", err)
	}
	var packages []imported
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var one imported
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("read the list of packages: %v", err)
		}
		packages = append(packages, one)
	}
}

// below says whether path is folder or in it.
func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func layerOf(folder string) (layer, bool) {
	first, _, _ := strings.Cut(folder, "/")
	i := slices.IndexFunc(layers, func(l layer) bool { return l.name == first })
	if i < 0 {
		return layer{}, false
	}
	return layers[i], true
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, one := range imports(t) {
		if isSuite(one.folder()) {
			continue
		}
		from, known := layerOf(one.folder())
		if !known && !below(one.folder(), "cmd") && !below(one.folder(), "internal") {
			t.Errorf("%s: a new part of the service needs a row in layers, with the reason", one.folder())
		}
		if !known {
			continue
		}
		for _, dependency := range one.Deps {
			if !below(dependency, module) {
				continue
			}
			to, known := layerOf(imported{ImportPath: dependency}.folder())
			if known && to.name != from.name && !slices.Contains(from.may, to.name) {
				t.Errorf("%s depends on %s: %s", one.ImportPath, dependency, from.reason)
			}
		}
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, one := range imports(t) {
		if isSuite(one.folder()) {
			continue
		}
		for _, dependency := range one.Imports {
			for _, scope := range scopes {
				allowed := slices.ContainsFunc(scope.only, func(folder string) bool { return below(one.folder(), folder) })
				own := below(one.ImportPath, scope.what)
				if below(dependency, scope.what) && !allowed && !own {
					t.Errorf("%s imports %s: %s", one.ImportPath, dependency, scope.reason)
				}
			}
		}
	}
}

// isSuite recognises conformance suites by their name, as in register/registertest.
func isSuite(folder string) bool {
	base := folder[strings.LastIndex(folder, "/")+1:]
	return strings.HasSuffix(base, "test") && base != "test"
}

// TestHelpersStayInTests: what imports testing, or is a suite, reaches no package that may be part of the program.
func TestHelpersStayInTests(t *testing.T) {
	t.Parallel()
	packages := imports(t)
	helper := make(map[string]bool)
	for _, one := range packages {
		helper[one.ImportPath] = isSuite(one.folder()) || slices.Contains(one.Imports, "testing")
	}
	for _, one := range packages {
		for _, dependency := range one.Imports {
			if helper[dependency] && !helper[one.ImportPath] {
				t.Errorf("%s imports %s outside of its tests", one.ImportPath, dependency)
			}
		}
	}
}

// published are packages that others import, so that nobody here has to.
var published = []string{"client"}

// TestDeadPackages finds packages that nothing uses: not the program, not a test, not their users.
func TestDeadPackages(t *testing.T) {
	t.Parallel()
	packages := imports(t)
	used := make(map[string]bool)
	for _, one := range packages {
		for _, dependency := range slices.Concat(one.Imports, one.TestImports, one.XTestImports) {
			if dependency != one.ImportPath {
				used[dependency] = true
			}
		}
	}
	for _, one := range packages {
		onlyTests := len(one.GoFiles) <= 1 && len(one.TestGoFiles)+len(one.XTestGoFiles) > 0 // with at most a doc.go
		isPublished := slices.ContainsFunc(published, func(folder string) bool { return below(one.folder(), folder) })
		if one.Name != "main" && !used[one.ImportPath] && !onlyTests && !isPublished && one.Error == nil {
			t.Errorf("%s: nobody imports it", one.ImportPath)
		}
	}
}
