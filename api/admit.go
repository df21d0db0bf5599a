package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api/strictjson"
	"github.com/statesvc/statesvc/shard"
)

const (
	deadlineDefault = 2 * time.Second
	deadlineMax     = 30 * time.Second
	keyLengthMax    = 64 // of idempotency keys; the column has as many characters
)

// admit decides from the headers whether the request is served, and gives it its deadline.
func (s *server) admit(ctx context.Context, c *gin.Context, call *call) (context.Context, error) {
	if err := s.judge(c, call); err != nil {
		return ctx, err
	}
	if err := checkQuery(c.Request.URL.RawQuery, call.route.query); err != nil {
		return ctx, err
	}
	call.dryRun = call.route.keyed && strings.Contains(c.Request.URL.RawQuery, "dry_run=true")
	var err error
	if call.timeout, err = deadline(c.Request.Header); err != nil {
		return ctx, err
	}
	if c.Request.Method != http.MethodGet {
		ctx = context.WithoutCancel(ctx) // once a write may be in a batch, only its outcome ends it
	}
	if !call.route.stream() {
		ctx, call.cancel = context.WithTimeout(ctx, call.timeout)
	}
	return ctx, nil
}

// judge says who calls, whether he may and how often, and under which key.
func (s *server) judge(c *gin.Context, call *call) (err error) {
	token, ok := bearer(c.Request.Header)
	if !ok {
		return errUnauthenticated
	}
	if call.key, err = s.cfg.Keys.Verify(token, call.start); err != nil {
		return err
	}
	if !call.key.Scopes.Has(call.route.scope) {
		return fmt.Errorf("%w: it needs %s and has %s", errForbidden, call.route.scope, call.key.Scopes)
	}
	if !s.limits.of(call.key).take(call.start, c.Writer.Header()) {
		return errRateLimited
	}
	if call.route.keyed {
		call.idempotency, err = idempotencyKey(c.Request.Header)
	}
	return err
}

// bearer returns the token of the Authorization header.
func bearer(header http.Header) (string, bool) {
	const scheme = "Bearer "
	value := header.Get("Authorization")
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return value[len(scheme):], true
}

// idempotencyKey reads the key, bare or in double quotes as the draft of the header has it.
func idempotencyKey(header http.Header) (string, error) {
	values := header[headerKey]
	if len(values) != 1 {
		return "", invalid(headerKey, "is needed, once")
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if !validKey(key) {
		return "", invalid(headerKey, "must be 1 to 64 of A–Z a–z 0–9 . _ : -")
	}
	return key, nil
}

func validKey(key string) bool {
	if key == "" || len(key) > keyLengthMax {
		return false
	}
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	return true
}

// deadline reads how long the caller waits.
func deadline(header http.Header) (time.Duration, error) {
	values := header[headerDeadline]
	if len(values) == 0 {
		return deadlineDefault, nil
	}
	ms, ok := strictjson.ParseInteger(values[0])
	if !ok || len(values) > 1 || ms < 1 || ms > deadlineMax.Milliseconds() {
		return 0, invalid(headerDeadline, fmt.Sprintf("must be a number of milliseconds from 1 to %d", deadlineMax.Milliseconds()))
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// limits has the bucket of every key that has called. There are as few as there are keys.
type limits struct{ buckets sync.Map } // *access.Key of the newest version → *bucket, by id

// bucket is the token bucket of a key.
type bucket struct {
	key     *access.Key // the version that it was made for
	policy  []string    // value of RateLimit-Policy
	tokens  *rate.Limiter
	perSec  float64
	largest float64
}

// of returns the bucket of a key. A changed rate begins with a full bucket.
func (l *limits) of(key *access.Key) *bucket {
	if found, ok := l.buckets.Load(key.ID); ok && found.(*bucket).key.Rate == key.Rate {
		return found.(*bucket)
	}
	b := newBucket(key)
	l.buckets.Store(key.ID, b)
	return b
}

func newBucket(key *access.Key) *bucket {
	seconds := int(math.Ceil(float64(key.Rate.Burst) / float64(key.Rate.PerSecond)))
	return &bucket{
		key:     key,
		policy:  []string{fmt.Sprintf(`"default";q=%d;w=%d`, key.Rate.Burst, seconds)},
		tokens:  rate.NewLimiter(rate.Limit(key.Rate.PerSecond), key.Rate.Burst),
		perSec:  float64(key.Rate.PerSecond),
		largest: float64(key.Rate.Burst),
	}
}

// take takes a token, if there is one, and says in the reply's header what is left and when the bucket is full again
// (draft-ietf-httpapi-ratelimit-headers).
func (b *bucket) take(now time.Time, header http.Header) bool {
	ok := b.tokens.AllowN(now, 1)
	left := math.Max(0, b.tokens.TokensAt(now))
	value := append(make([]byte, 0, 40), `"default";r=`...)
	value = strconv.AppendInt(value, int64(left), 10)
	value = append(value, ";t="...)
	value = strconv.AppendInt(value, int64(math.Ceil((b.largest-left)/b.perSec)), 10)
	header["Ratelimit-Policy"] = b.policy
	header["Ratelimit"] = []string{string(value)}
	return ok
}

// checkQuery refuses what the generated code would pass over: parameters that do not exist, come twice, are empty, or are not
// encoded well. A filter with a typing error must not show everything.
func checkQuery(raw, names string) error {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return invalid("query", "is not encoded well")
	}
	for name, all := range values {
		switch {
		case strings.Contains(name, " ") || !strings.Contains(" "+names, " "+name+" "):
			return invalid("query", fmt.Sprintf("has no parameter %.32q here", name))
		case len(all) > 1:
			return invalid(name, "appears twice")
		case all[0] == "":
			return invalid(name, "is empty; leave it out")
		case !wellFormed(name, all[0]):
			return invalid(name, "has a character that does not belong there, or too many")
		}
	}
	return nil
}

// wellFormed says whether a parameter looks as openapi.yaml wants it. Values that are read, such as numbers, times and cursors,
// are judged where they are read.
func wellFormed(name, value string) bool {
	switch name {
	case "owner", "campaign_id", "id", "prefix":
		return shard.ValidOwner(value)
	case "dry_run", "pinned", "overdue":
		return value == "true" || value == "false"
	case "order_id":
		return shard.ValidOwner(strings.ReplaceAll(value, "/", "-"))
	case "holder":
		return validKey(value)
	case "ids":
		return len(value) <= idsMax // each is judged where it is read
	case "currency":
		return len(value) == 3 && strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	}
	return len(value) <= valueMax && utf8.ValidString(value) && !strings.ContainsFunc(value, unicode.IsControl)
}

// idsMax is enough for the ids of as many documents as may be read at once.
const idsMax = 13_000

// valueMax is enough for the longest value of a parameter, the reason of an administrator.
const valueMax = 4 * 500

// parameterError turns an error of the generated code into ours. It says which parameter in words only; a test holds it to them.
func parameterError(err error) error {
	_, rest, found := strings.Cut(err.Error(), "Invalid format for parameter ")
	name, _, _ := strings.Cut(rest, ":")
	if !found {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	return invalid(name, "is missing, or not what openapi.yaml asks for")
}
