package chaos

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
)

// tape sends each attempt of a caller to some instance, and keeps the last reply to a write as it came over the wire.
type tape struct {
	next  http.RoundTripper
	hosts []string

	mu   sync.Mutex
	dice *rand.Rand
	last taped
}

// taped is a reply.
type taped struct {
	status   int
	body     []byte
	replayed bool
}

// sameAs says whether a key has been given the same answer.
func (t taped) sameAs(other taped) bool {
	return t.status == other.status && bytes.Equal(t.body, other.body)
}

// RoundTrip implements http.RoundTripper. The request's id is its key, so that a refusal has the same bytes whenever it comes.
func (t *tape) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	host := t.hosts[t.dice.IntN(len(t.hosts))]
	t.last = taped{}
	t.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	r = r.Clone(r.Context())
	r.URL.Host = host
	if key != "" {
		r.Header.Set("X-Request-Id", key)
	}
	response, err := t.next.RoundTrip(r)
	if err != nil || key == "" {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = taped{response.StatusCode, body, response.Header.Get("Idempotency-Replayed") == "true"}
	return response, nil
}

func (t *tape) heard() taped {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}
