package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/statesvc/statesvc/api/gen"
)

// contract is openapi.yaml, ready to check with.
type contract struct {
	document *openapi3.T
	router   routers.Router
}

var load = sync.OnceValues(func() (*contract, error) {
	loader := openapi3.NewLoader()
	document, err := loader.LoadFromData(gen.OpenAPI)
	if err != nil {
		return nil, err
	}
	if err := document.Validate(loader.Context); err != nil {
		return nil, err
	}
	openapi3.SchemaErrorDetailsDisabled = true // a message names the member; its schema can be looked up
	document.Servers = nil                     // requests of tests come from everywhere

	for _, text := range []string{"text/event-stream", "application/jsonl"} {
		openapi3filter.RegisterBodyDecoder(text, openapi3filter.FileBodyDecoder)
	}
	router, err := gorillamux.NewRouter(document)
	return &contract{document, router}, err
})

// Check returns next with a check of everything that goes in and out. What breaks the contract fails t. Requests may break it if
// the reply refuses them for that: most tests of the HTTP side send such requests.
func Check(t testing.TB, next http.Handler) http.Handler {
	t.Helper()
	c, err := load()
	if err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the request: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		e := exchange{r, body, recorder.Code, recorder.Header(), recorder.Body.Bytes()}
		if err := errors.Join(c.checkRequest(&e, e.judgedOtherwise()), c.checkReply(&e)); err != nil {
			t.Error(err)
		}
		maps.Copy(w.Header(), recorder.Header())
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	})
}

// exchange is a request with its reply.
type exchange struct {
	request *http.Request
	body    []byte
	status  int
	header  http.Header
	reply   []byte
}

// judgedOtherwise says that the request was refused for what it is, so that the contract need not allow it.
func (e *exchange) judgedOtherwise() bool {
	return slices.Contains([]int{400, 401, 403, 404, 405, 413, 415, 429}, e.status)
}

// inContract says that the request is for what openapi.yaml is about: not for pages, metrics and the health of the process.
func (e *exchange) inContract() bool { return strings.HasPrefix(e.request.URL.Path, "/v1/") }

// input is the exchange as the library wants it, or nil if openapi.yaml has no such operation.
func (c *contract) input(e *exchange) *openapi3filter.RequestValidationInput {
	route, parameters, err := c.router.FindRoute(e.request)
	if err != nil {
		return nil
	}
	request := e.request.Clone(context.WithoutCancel(e.request.Context()))
	request.Body = io.NopCloser(bytes.NewReader(e.body))
	return &openapi3filter.RequestValidationInput{
		Request: request, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
			IncludeResponseStatus: true,
			ExcludeRequestBody:    strings.HasSuffix(route.Path, "/imports"), // rows are not JSON
		},
	}
}

// checkRequest says what is wrong with a request, unless it may be wrong.
func (c *contract) checkRequest(e *exchange, mayBeWrong bool) error {
	if mayBeWrong || !e.inContract() {
		return nil
	}
	input := c.input(e)
	if input == nil {
		return fmt.Errorf("%s is answered with %d, but openapi.yaml has no such operation", e, e.status)
	}
	if err := openapi3filter.ValidateRequest(input.Request.Context(), input); err != nil {
		return fmt.Errorf("%s is answered with %d, but the contract refuses it: %w\n%.2000s", e, e.status, err, e.body)
	}
	return nil
}

// checkReply says what is wrong with a reply.
func (c *contract) checkReply(e *exchange) error {
	if e.status >= http.StatusBadRequest {
		if err := c.checkProblem(e); err != nil {
			return err
		}
	}
	input := c.input(e)
	if input == nil {
		return nil
	}
	err := openapi3filter.ValidateResponse(input.Request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: e.status, Header: e.header,
		Body: io.NopCloser(bytes.NewReader(e.reply)), Options: input.Options,
	})
	if err != nil {
		return fmt.Errorf("%s: the reply breaks the contract: %w\n%.2000s", e, err, e.reply)
	}
	return e.checkCode(input.Route.Operation)
}

// everywhere are the codes that every operation may answer with: they are about who calls, how, and whether the service can.
var everywhere = []string{
	"method-not-allowed", "invalid-request", "too-large", "unsupported-media-type", "unauthenticated", "forbidden", "rate-limited",
	"overloaded", "blocked", "failover-in-progress", "outcome-unknown", "internal",
}

// checkCode says whether the operation lists the code of a problem.
func (e *exchange) checkCode(operation *openapi3.Operation) error {
	if e.status < http.StatusBadRequest {
		return nil
	}
	var problem struct{ Code string }
	if err := json.Unmarshal(e.reply, &problem); err != nil {
		return err
	}
	listed, _ := operation.Extensions["x-problems"].([]any)
	if !slices.Contains(everywhere, problem.Code) && !slices.Contains(listed, any(problem.Code)) {
		return fmt.Errorf("%s: the x-problems of %s do not list %q", e, operation.OperationID, problem.Code)
	}
	return nil
}

// checkProblem holds for every error, also where openapi.yaml has no operation.
func (c *contract) checkProblem(e *exchange) error {
	if kind := e.header.Get("Content-Type"); kind != "application/problem+json" {
		return fmt.Errorf("%s: %d comes as %q, not as a problem document: %.2000s", e, e.status, kind, e.reply)
	}
	var document map[string]any
	if err := json.Unmarshal(e.reply, &document); err != nil {
		return fmt.Errorf("%s: the problem document is no JSON: %w", e, err)
	}
	if err := c.document.Components.Schemas["Problem"].Value.VisitJSON(document); err != nil {
		return fmt.Errorf("%s: the problem document breaks the contract: %w\n%.2000s", e, err, e.reply)
	}
	if document["status"] != float64(e.status) {
		return fmt.Errorf("%s: the document says status %v, the reply %d", e, document["status"], e.status)
	}
	if retryable := document["retryable"] == true; retryable != (e.header.Get("Retry-After") != "") {
		return fmt.Errorf("%s: retryable is %v, Retry-After %q", e, retryable, e.header.Get("Retry-After"))
	}
	return nil
}

// String names the request.
func (e *exchange) String() string { return fmt.Sprintf("%s %.200s", e.request.Method, e.request.URL) }
