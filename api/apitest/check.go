package apitest

import (
	"bytes"
	"encoding/json"
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
	document.Servers = nil // requests of tests come from everywhere
	router, err := gorillamux.NewRouter(document)
	return &contract{document, router}, err
})

// Check returns next with a check of everything that goes in and out. What breaks the contract fails t.
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
		c.check(t, r, body, recorder)
		maps.Copy(w.Header(), recorder.Header())
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	})
}

// judgedOtherwise are the statuses of requests that the contract need not allow.
var judgedOtherwise = []int{400, 401, 403, 404, 405, 413, 415, 429}

func (c *contract) check(t testing.TB, r *http.Request, body []byte, reply *httptest.ResponseRecorder) {
	t.Helper()
	if reply.Code >= http.StatusBadRequest {
		c.checkProblem(t, r, reply)
	}
	route, parameters, err := c.router.FindRoute(r)
	if err != nil {
		if reply.Code < http.StatusBadRequest && strings.HasPrefix(r.URL.Path, "/v1/") {
			t.Errorf("%s %s is answered with %d, but openapi.yaml has no such operation", r.Method, r.URL.Path, reply.Code)
		}
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
			IncludeResponseStatus: true,
			ExcludeRequestBody:    strings.HasSuffix(route.Path, "/imports"), // rows are not JSON
		},
	}
	if !slices.Contains(judgedOtherwise, reply.Code) {
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			t.Errorf("%s %s is answered with %d, but the contract refuses it: %v\n%.2000s", r.Method, r.URL, reply.Code, err, body)
		}
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: reply.Code, Header: reply.Header(),
		Body: io.NopCloser(bytes.NewReader(reply.Body.Bytes())), Options: input.Options,
	})
	if err != nil {
		t.Errorf("%s %s: the reply breaks the contract: %v\n%s", r.Method, r.URL, err, reply.Body)
	}
}

// checkProblem holds for every error, also where openapi.yaml has no operation.
func (c *contract) checkProblem(t testing.TB, r *http.Request, reply *httptest.ResponseRecorder) {
	t.Helper()
	if kind := reply.Header().Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("%s %s: %d comes as %q, not as a problem document: %s", r.Method, r.URL, reply.Code, kind, reply.Body)
		return
	}
	var document map[string]any
	if err := json.Unmarshal(reply.Body.Bytes(), &document); err != nil {
		t.Errorf("%s %s: %v", r.Method, r.URL, err)
		return
	}
	if err := c.document.Components.Schemas["Problem"].Value.VisitJSON(document); err != nil {
		t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	if document["status"] != float64(reply.Code) {
		t.Errorf("%s %s: the document says status %v, the reply %d", r.Method, r.URL, document["status"], reply.Code)
	}
	if retryable := document["retryable"] == true; retryable != (reply.Header().Get("Retry-After") != "") {
		t.Errorf("%s %s: retryable is %v, Retry-After %q", r.Method, r.URL, retryable, reply.Header().Get("Retry-After"))
	}
}
