package system_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/api/apitest"
)

// connections are enough for all callers of a test. A POST is repeated by itself if its connection broke before the reply,
// because it has an Idempotency-Key: exactly what the service allows.
var connections = &http.Transport{MaxIdleConnsPerHost: 256}

// watch checks every call of a test against openapi.yaml. Some callers outlive their test: what they hear is nobody's concern.
func watch(t *testing.T) http.RoundTripper {
	var mu sync.Mutex
	reports := wrongMax // that are left
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		reports = 0
	})
	return apitest.Transport(connections, func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if reports > 0 {
			reports--
			t.Errorf(format, args...)
		}
	})
}

// hearingTime is how much longer than its deadline a caller waits for an answer.
const hearingTime = 8 * time.Second

type object = map[string]any

// request is a call that can be sent again and again.
type request struct {
	method, path string
	key          string // idempotency key; empty: none
	body         []byte
	deadline     time.Duration // 0: the service's default
	malformed    bool          // openapi.yaml does not allow it, on purpose
}

func newRequest(method, path, key string, body any) request {
	r := request{method: method, path: path, key: key}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		r.body = text
	}
	return r
}

// reply is what came back. err means that nothing did.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// problem is what a caller needs of a problem document.
type problem struct {
	Code      string    `json:"code"`
	Retryable bool      `json:"retryable"`
	RetryAt   time.Time `json:"retry_at"`
	Outcome   string    `json:"outcome"`
	Errors    []struct {
		Pointer string `json:"pointer"`
	} `json:"errors"`
}

// send sends the request to an instance. The request's id is its key, so that a refusal has the same bytes whenever it comes.
func (in *instance) send(r request) reply {
	ctx := context.Background()
	if r.malformed {
		ctx = apitest.Malformed(ctx)
	}
	call, err := http.NewRequestWithContext(ctx, r.method, "http://"+in.port.Addr()+r.path, bytes.NewReader(r.body))
	if err != nil {
		return reply{err: err}
	}
	call.Header.Set("Authorization", "Bearer "+in.cluster.token)
	if r.body != nil {
		call.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		call.Header.Set("Idempotency-Key", r.key)
		call.Header.Set("X-Request-Id", r.key)
	}
	wait := 2 * time.Second
	if r.deadline != 0 {
		wait = r.deadline
		call.Header.Set("Deadline-Ms", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	client := http.Client{Transport: in.cluster.transport, Timeout: wait + hearingTime}
	response, err := client.Do(call)
	if err != nil {
		return reply{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, body, err}
}

func (r reply) problem() (p problem) {
	if r.err == nil && r.status >= http.StatusBadRequest {
		_ = json.Unmarshal(r.body, &p)
	}
	return p
}

// code is that of the problem; empty if the call was done, "no reply" if nothing came back.
func (r reply) code() string {
	if r.err != nil {
		return "no reply"
	}
	return r.problem().Code
}

// final reports whether the reply is the key's answer for ever.
func (r reply) final() bool {
	return r.err == nil && (r.status < http.StatusBadRequest || !r.problem().Retryable && r.problem().Code != "")
}

func (r reply) String() string {
	if r.err != nil {
		return r.err.Error()
	}
	return fmt.Sprintf("%d %s", r.status, r.body)
}

func (r reply) decode(t *testing.T, into any) {
	t.Helper()
	if r.err != nil || r.status >= http.StatusBadRequest {
		t.Fatalf("%v", r)
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		t.Fatalf("%v: %v", r, err)
	}
}

// sameAs reports whether two replies are the same byte by byte.
func (r reply) sameAs(other reply) bool {
	return r.status == other.status && bytes.Equal(r.body, other.body)
}

// get reads, again while the service says that it cannot now.
func (c *cluster) get(t *testing.T, into any, path string, args ...any) {
	t.Helper()
	c.settled(t, newRequest(http.MethodGet, fmt.Sprintf(path, args...), "", nil)).decode(t, into)
}

// settled sends a request until its answer is final.
func (c *cluster) settled(t *testing.T, r request) reply {
	t.Helper()
	last, err := c.settle(r)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// settledPatience is how long a key may take to resolve when all faults are over.
const settledPatience = 20 * time.Second

// settle sends a request until its answer is final, to one instance after the other. That another hold has the asset is
// an answer too: it stays for as long as nobody does anything.
func (c *cluster) settle(r request) (last reply, err error) {
	for end, i := time.Now().Add(settledPatience), 0; time.Now().Before(end); i++ {
		last = c.instances[i%len(c.instances)].send(r)
		if last.final() || last.code() == "held-by-other" {
			return last, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return last, fmt.Errorf("%s %s under %q has no final answer after %v: %v", r.method, r.path, r.key, settledPatience, last)
}
