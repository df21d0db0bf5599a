package apitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Transport returns next with a check of everything that callers send through it and hear. What breaks the contract is
// reported, by testing's Errorf or the like, and goes on. A call without a reply, or with half of one, is not checked; of a stream its
// status and headers are.
//
// Unlike Check it lets no request pass that the contract does not allow, whatever the reply: tests that mean to send one say
// so by Malformed.
func Transport(next http.RoundTripper, report func(format string, args ...any)) http.RoundTripper {
	return &transport{next, report}
}

type transport struct {
	next   http.RoundTripper
	report func(format string, args ...any)
}

type malformedKey struct{}

// Malformed marks requests that break the contract on purpose. They must be refused for that.
func Malformed(ctx context.Context) context.Context {
	return context.WithValue(ctx, malformedKey{}, true)
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.Header.Get("Content-Type") == "text/event-stream" { // it has no end: only its beginning is checked
		t.check(r, response, []byte(": begins"))
		return response, nil
	}
	reply, broken := io.ReadAll(response.Body)
	_ = response.Body.Close()
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(reply), failing{broken}))
	if broken == nil {
		t.check(r, response, reply)
	}
	return response, nil
}

func (t *transport) check(r *http.Request, response *http.Response, reply []byte) {
	if err := breach(r, response, reply); err != nil {
		t.report("%v", err)
	}
}

// breach says what of a call breaks the contract.
func breach(r *http.Request, response *http.Response, reply []byte) error {
	c, err := load()
	if err != nil {
		return fmt.Errorf("openapi.yaml: %w", err)
	}
	body, err := sent(r)
	if err != nil {
		return fmt.Errorf("%s %s: read the request: %w", r.Method, r.URL, err)
	}
	e := exchange{r, body, response.StatusCode, response.Header, reply}
	if !e.inContract() || response.StatusCode == http.StatusRequestHeaderFieldsTooLarge { // the second is Go's, and comes before us
		return nil
	}
	malformed := r.Context().Value(malformedKey{}) != nil && e.judgedOtherwise()
	return errors.Join(c.checkRequest(&e, malformed), c.checkReply(&e))
}

// sent is the body of a request that has gone. All bodies of known length can be read again.
func sent(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.GetBody == nil {
		return nil, errors.New("its body cannot be read again")
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(body)
}

// failing ends a body as the connection did: with err, or well.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}
