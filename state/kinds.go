package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/statesvc/statesvc/register"
)

// Limits of kinds.
const (
	kindsPrefix = "kinds/"
	kindsMax    = 1000     // all kinds are in memory, and each change copies the table
	schemaMax   = 64 << 10 // bytes; the register is for small things
	// DocumentMax is the most bytes that a document of any kind may have, and the default: larger ones belong into an object store.
	DocumentMax = 64_000
	problemsMax = 10 // that a refusal lists

	// renewEvery is how often the copy is compared with the register. The watch carries the changes; this is the proof.
	renewEvery = time.Second
)

// Spec says what a kind is. Zero fields take their defaults.
type Spec struct {
	// Schema is a JSON Schema (draft 2020-12 unless it says another) that documents must fulfil when they are written; nil: any object.
	Schema json.RawMessage `json:"schema,omitempty"`
	// MaxBytes is the most bytes of a document, without white space around its parts.
	MaxBytes int `json:"max_bytes,omitempty"`
	// Intent has every write announce itself to Redis before it commits, so that no reader takes the old document from there while the
	// commit is under way. It costs each write a round trip to Redis.
	Intent bool `json:"intent,omitempty"`
}

// Kind is a declared kind.
type Kind struct {
	Name string
	Spec
	schema *jsonschema.Schema // nil: any object
	broken error              // the register has a declaration that cannot be used
}

// Kinds declares kinds and knows them. Its methods may be called concurrently.
type Kinds struct {
	reg    register.Register
	mirror *register.Mirror
	byName atomic.Pointer[map[string]*Kind] // immutable, replaced as a whole
}

// OpenKinds loads the kinds and follows them until Close. ctx bounds the loading only.
func OpenKinds(ctx context.Context, reg register.Register, now func() time.Time) (*Kinds, error) {
	k := &Kinds{reg: reg}
	k.byName.Store(&map[string]*Kind{})
	mirror, err := register.OpenMirror(ctx, reg, register.MirrorOptions{
		Prefix: kindsPrefix, Now: now, RenewEvery: renewEvery, Changed: k.changed,
	})
	if err != nil {
		return nil, fmt.Errorf("open the kinds of state data: %w", err)
	}
	k.mirror = mirror
	return k, nil
}

// Close ends the following and waits for it. The kinds known then stay known.
func (k *Kinds) Close() { k.mirror.Close() }

// changed takes over changes of kinds/. Mirror calls it in order, one at a time.
func (k *Kinds) changed(events []register.Event) {
	next := maps.Clone(*k.byName.Load())
	for _, e := range events {
		name := strings.TrimPrefix(e.Key, kindsPrefix)
		if e.Deleted {
			delete(next, name)
			continue
		}
		next[name] = decodeKind(name, e.Value)
	}
	k.byName.Store(&next)
}

// decodeKind reads what the register has. What it cannot read takes no writes until it is declared anew.
func decodeKind(name string, text []byte) *Kind {
	var spec Spec
	err := json.Unmarshal(text, &spec)
	kind := &Kind{Name: name, broken: err}
	if err == nil {
		kind, err = newKind(name, spec)
	}
	if err != nil {
		return &Kind{Name: name, broken: err}
	}
	return kind
}

func newKind(name string, spec Spec) (*Kind, error) {
	if !ValidKind(name) {
		return nil, invalid("kind", "must be 1 to 32 of a–z 0–9 _ -, and begin with a letter")
	}
	if spec.MaxBytes == 0 {
		spec.MaxBytes = DocumentMax
	}
	if spec.MaxBytes < 2 || spec.MaxBytes > DocumentMax {
		return nil, invalid("/max_bytes", fmt.Sprintf("must be from 2 to %d", DocumentMax))
	}
	kind := &Kind{Name: name, Spec: spec}
	if spec.Schema == nil {
		return kind, nil
	}
	if len(spec.Schema) > schemaMax {
		return nil, invalid("/schema", fmt.Sprintf("has more than %d bytes", schemaMax))
	}
	var err error
	if kind.schema, err = compile(spec.Schema); err != nil {
		return nil, invalid("/schema", "is not a JSON Schema: "+err.Error())
	}
	return kind, nil
}

// schemaName is how a schema is called in its own errors.
const schemaName = "schema.json"

// compile reads a schema. What it refers to must be inside: nothing is loaded from anywhere.
func compile(schema []byte) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nowhere{})
	if err := compiler.AddResource(schemaName, document); err != nil {
		return nil, err
	}
	return compiler.Compile(schemaName)
}

// nowhere is the loader of references that lead out of a schema.
type nowhere struct{}

// Load refuses.
func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema", url)
}

// check says what is wrong with a document of the kind.
func (k *Kind) check(document []byte) error {
	if k.broken != nil {
		return fmt.Errorf("%w: the declaration of %s cannot be read: %w", ErrNoKind, k.Name, k.broken)
	}
	if len(document) > k.MaxBytes {
		return fmt.Errorf("%w: it has %d bytes, at most %d are taken", ErrTooLarge, len(document), k.MaxBytes)
	}
	if k.schema == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return invalid("", "is not JSON")
	}
	err = k.schema.Validate(value)
	if failed, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return &Invalid{leaves(failed, nil)}
	}
	return err
}

// leaves lists the causes of a failed validation that have no causes themselves.
func leaves(e *jsonschema.ValidationError, found []Problem) []Problem {
	if len(found) == problemsMax {
		return found
	}
	if len(e.Causes) == 0 {
		english := message.NewPrinter(language.English)
		return append(found, Problem{pointer(e.InstanceLocation), e.ErrorKind.LocalizedString(english)})
	}
	for _, cause := range e.Causes {
		found = leaves(cause, found)
	}
	return found
}

// pointer is the JSON pointer (RFC 6901) of a path.
func pointer(path []string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, part := range path {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}

// Get returns a declared kind, or ErrNoKind.
func (k *Kinds) Get(name string) (*Kind, error) {
	kind, ok := (*k.byName.Load())[name]
	if !ok {
		return nil, fmt.Errorf("%w: %.40q", ErrNoKind, name)
	}
	return kind, nil
}

// List returns all kinds by name.
func (k *Kinds) List() []*Kind {
	return slices.SortedFunc(maps.Values(*k.byName.Load()), func(a, b *Kind) int { return strings.Compare(a.Name, b.Name) })
}

// Declare makes a kind, or replaces its declaration. Documents that are there already are not looked at. When it returns, this instance
// judges by the new declaration; the others do within milliseconds. Errors are an *Invalid, ErrTooManyKinds, or the register's.
func (k *Kinds) Declare(ctx context.Context, name string, spec Spec) (*Kind, error) {
	kind, err := newKind(name, spec)
	if err != nil {
		return nil, err
	}
	known := *k.byName.Load()
	if known[name] == nil && len(known) >= kindsMax {
		return nil, fmt.Errorf("%w: %d", ErrTooManyKinds, kindsMax)
	}
	text, err := json.Marshal(kind.Spec)
	if err != nil {
		return nil, fmt.Errorf("encode the declaration of %s: %w", name, err)
	}
	ops := []register.Op{{Key: kindsPrefix + name, Value: text}}
	rev, err := k.reg.Txn(ctx, register.Txn{Then: ops})
	if err != nil {
		return nil, fmt.Errorf("declare the kind %s: %w", name, err)
	}
	k.mirror.Wrote(rev, ops)
	return kind, nil
}
