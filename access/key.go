package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	nameLenMax = 100
	rateMax    = 1_000_000 // requests per second; more than any cluster serves
	burstMax   = 1_000_000
)

// Scopes is a set of scopes. No scope contains another.
type Scopes uint8

// The scopes; openapi.yaml says which operation needs which.
const (
	ScopeRead Scopes = 1 << iota
	ScopeHold
	ScopeIssue
	ScopeState
	ScopeAdmin
	ScopeEvents

	scopesAll = ScopeRead | ScopeHold | ScopeIssue | ScopeState | ScopeAdmin | ScopeEvents
)

// scopeNames are in the order of the bits.
var scopeNames = []string{"read", "hold", "issue", "state", "admin", "events"}

// ParseScopes makes a set of names. It refuses unknown and repeated names.
func ParseScopes(names []string) (Scopes, error) {
	var set Scopes
	for _, name := range names {
		scope, err := parseScope(name)
		if err != nil {
			return 0, err
		}
		if set.Has(scope) {
			return 0, fmt.Errorf("%w: scope %q appears twice", ErrInvalid, name)
		}
		set |= scope
	}
	return set, nil
}

func parseScope(name string) (Scopes, error) {
	for i, known := range scopeNames {
		if name == known {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("%w: scope %q; there are %s", ErrInvalid, name, strings.Join(scopeNames, ", "))
}

// Has tells whether all of wanted are in the set.
func (s Scopes) Has(wanted Scopes) bool { return s&wanted == wanted }

// Names returns the names in a fixed order.
func (s Scopes) Names() []string {
	names := []string{}
	for i, name := range scopeNames {
		if s.Has(1 << i) {
			names = append(names, name)
		}
	}
	return names
}

// String is the names with commas.
func (s Scopes) String() string { return strings.Join(s.Names(), ",") }

// MarshalJSON writes the names, so that the meaning of a stored key does not hang on the order of constants.
func (s Scopes) MarshalJSON() ([]byte, error) { return json.Marshal(s.Names()) }

// UnmarshalJSON reads names.
func (s *Scopes) UnmarshalJSON(text []byte) error {
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return err
	}
	set, err := ParseScopes(names)
	*s = set
	return err
}

// Rate is what a key may ask of the whole cluster: a token bucket.
type Rate struct {
	PerSecond int `json:"per_second"`
	Burst     int `json:"burst"` // the size of the bucket: so many at once
}

// Spec is what the maker of a key decides.
type Spec struct {
	Name      string // for people
	Scopes    Scopes
	Rate      Rate
	ExpiresAt time.Time // from this instant the key is refused; zero: never
}

func (s Spec) check(now time.Time) error {
	switch {
	case s.Name == "" || len(s.Name) > nameLenMax:
		return fmt.Errorf("%w: a name of 1 to %d bytes is needed", ErrInvalid, nameLenMax)
	case s.Scopes == 0 || !scopesAll.Has(s.Scopes):
		return fmt.Errorf("%w: scopes %08b", ErrInvalid, s.Scopes)
	case s.Rate.PerSecond < 1 || s.Rate.PerSecond > rateMax:
		return fmt.Errorf("%w: a rate of 1 to %d requests per second is needed", ErrInvalid, rateMax)
	case s.Rate.Burst < 1 || s.Rate.Burst > burstMax:
		return fmt.Errorf("%w: a burst of 1 to %d requests is needed", ErrInvalid, burstMax)
	case !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now):
		return fmt.Errorf("%w: it would expire at %s, before it is used", ErrInvalid, s.ExpiresAt.Format(time.RFC3339Nano))
	}
	return nil
}

// Patch changes what is not nil. An ExpiresAt that points to the zero time removes the expiry.
type Patch struct {
	Name      *string
	Scopes    *Scopes
	Rate      *Rate
	ExpiresAt *time.Time
}

func (p Patch) apply(s Spec) Spec {
	if p.Name != nil {
		s.Name = *p.Name
	}
	if p.Scopes != nil {
		s.Scopes = *p.Scopes
	}
	if p.Rate != nil {
		s.Rate = *p.Rate
	}
	if p.ExpiresAt != nil {
		s.ExpiresAt = *p.ExpiresAt
	}
	return s
}

// Key is an API key without its secret.
type Key struct {
	ID string
	Spec
	CreatedAt time.Time
	RevokedAt time.Time // zero: not revoked

	hash [sha256.Size]byte // of the secret
}

// refusal says why the key may not be used at now.
func (k *Key) refusal(now time.Time) error {
	switch {
	case !k.RevokedAt.IsZero():
		return ErrRevoked
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return ErrExpired
	default:
		return nil
	}
}

// stored is the value of a key's entry.
type stored struct {
	Name      string    `json:"name"`
	SHA256    []byte    `json:"sha256"`
	Scopes    Scopes    `json:"scopes"`
	Rate      Rate      `json:"rate"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

func (k *Key) encode() ([]byte, error) {
	return json.Marshal(stored{
		Name: k.Name, SHA256: k.hash[:], Scopes: k.Scopes, Rate: k.Rate,
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: k.ExpiresAt.UTC(), RevokedAt: k.RevokedAt.UTC(),
	})
}

var errHashLength = errors.New("the hash has a wrong length")

// decodeKey refuses what it does not know, since a key that is half understood might be allowed too much.
func decodeKey(id string, value []byte) (*Key, error) {
	var s stored
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	if len(s.SHA256) != sha256.Size {
		return nil, fmt.Errorf("key %s: %w", id, errHashLength)
	}
	return &Key{
		ID: id, Spec: Spec{Name: s.Name, Scopes: s.Scopes, Rate: s.Rate, ExpiresAt: s.ExpiresAt},
		CreatedAt: s.CreatedAt, RevokedAt: s.RevokedAt, hash: [sha256.Size]byte(s.SHA256),
	}, nil
}
