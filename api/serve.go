package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/ledger"
)

// The headers of requests and replies, in the spelling of net/http.
const (
	headerRequestID = "X-Request-Id"
	headerReplayed  = "Idempotency-Replayed"
	headerKey       = "Idempotency-Key"
	headerDeadline  = "Deadline-Ms"
)

// call is what is known of a request. It travels in the request's context, and belongs to the goroutine that serves it.
type call struct {
	start     time.Time
	requestID string
	route     *route // nil for what is not in openapi.yaml
	span      trace.Span
	cancel    context.CancelFunc

	key           *access.Key // who calls; nil until that is decided
	idempotency   string
	dryRun        bool // only find out what would happen
	timeout       time.Duration
	contentType   string // for imports, whose handler reads the body itself
	contentLength int64

	header   http.Header // of the reply, also if it is a problem document; nil: none
	owner    string      // whose data; set by handlers, for the log
	replayed bool        // the reply is that of an earlier request
	verdict  string      // in metrics; empty: done, or the problem's code
	problem  string      // code of the document that answered
	err      error
}

func (c *call) caller() ledger.Caller {
	return ledger.Caller{Key: c.idempotency, Client: c.key.ID, Name: c.key.Name, DryRun: c.dryRun}
}

// previewer is the caller of a preview, which has no key: nothing is recorded under it.
func (c *call) previewer() ledger.Caller {
	return ledger.Caller{Key: "preview", Client: c.key.ID, DryRun: true}
}

type callKey struct{}

// callOf returns the call of a request's context. Every request has one, because serve comes first.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// serve names the request, has it judged, runs what follows, and tells metrics, traces and log what became of it.
func (s *server) serve(c *gin.Context) {
	call := &call{
		start: s.cfg.Now(), requestID: s.ids.of(c.Request), route: routeAt[place{c.Request.Method, c.FullPath()}],
		contentType: c.Request.Header.Get("Content-Type"), contentLength: c.Request.ContentLength,
	}
	defer s.finish(c, call)
	c.Writer.Header().Set(headerRequestID, call.requestID)
	ctx := context.WithValue(s.trace(c, call), callKey{}, call)
	var err error
	if call.route != nil {
		ctx, err = s.admit(ctx, c, call)
	}
	if call.route != nil && call.route.long {
		extendDeadlines(c.Writer, call.start.Add(importPatience))
	}
	if call.route != nil && call.route.stream() {
		extendDeadlines(c.Writer, time.Time{})
	}
	c.Request = c.Request.WithContext(ctx)
	if err != nil {
		s.answer(c, call, err)
		return
	}
	c.Next()
}

// extendDeadlines lets the body of a request arrive, and its reply leave, later than the server's timeouts say.
func extendDeadlines(w http.ResponseWriter, until time.Time) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(until) // what has no deadlines, as in tests, needs none
	_ = connection.SetWriteDeadline(until)
}

// traceContext is W3C's traceparent and tracestate.
var traceContext propagation.TraceContext

// trace begins the request's span, if there is a tracer, and names it in the reply.
// otelgin does the same, and measures too, with 22 allocations a request; this and served have 13.
func (s *server) trace(c *gin.Context, call *call) context.Context {
	ctx := c.Request.Context()
	if s.cfg.Tracer == nil || call.route == nil {
		return ctx
	}
	ctx = traceContext.Extract(ctx, propagation.HeaderCarrier(c.Request.Header))
	//nolint:spancheck // finish ends it
	ctx, call.span = s.cfg.Tracer.Start(ctx, call.route.method+" "+call.route.path, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("http.request.method", call.route.method), attribute.String("http.route", call.route.path),
			attribute.String("url.scheme", scheme(c.Request)), attribute.String("statesvc.request_id", call.requestID),
		))
	traceContext.Inject(ctx, propagation.HeaderCarrier(c.Writer.Header()))
	return ctx
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// finish ends a request, also one whose handler panicked.
func (s *server) finish(c *gin.Context, call *call) {
	if fault := recover(); fault != nil {
		s.recovered(c, call, fault)
	}
	if call.cancel != nil {
		call.cancel()
	}
	status := c.Writer.Status()
	s.metrics.served(c.Request.Context(), call, status, s.cfg.Now().Sub(call.start))
	if call.span != nil {
		call.span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			call.span.SetStatus(codes.Error, call.problem)
		}
		call.span.End()
	}
	s.log(c, call, status)
}

// recovered answers for a handler that panicked. A connection that was to be cut off is cut off.
func (s *server) recovered(c *gin.Context, call *call, fault any) {
	err, ok := fault.(error)
	if !ok {
		err = fmt.Errorf("panic: %v", fault)
	}
	if errors.Is(err, http.ErrAbortHandler) {
		panic(fault)
	}
	s.cfg.Log.ErrorContext(c.Request.Context(), "a handler panicked",
		"request_id", call.requestID, "fault", err.Error(), "stack", string(debug.Stack()))
	s.answer(c, call, err)
}

// log writes a line about the request if somebody should know of it: of faults and refused callers always, of others by
// configuration.
func (s *server) log(c *gin.Context, call *call, status int) {
	level := slog.LevelInfo
	switch {
	case call.problem == internal.code:
		level = slog.LevelError
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests:
		if !s.refusedLog.AllowN(call.start, 1) {
			return
		}
		level = slog.LevelWarn
	case !s.cfg.LogRequests:
		return
	}
	s.cfg.Log.LogAttrs(c.Request.Context(), level, "request", s.attributes(c, call, status)...)
}

func (s *server) attributes(c *gin.Context, call *call, status int) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("request_id", call.requestID), slog.String("method", c.Request.Method), slog.Int("status", status),
		slog.Duration("took", s.cfg.Now().Sub(call.start)), slog.String("remote", c.Request.RemoteAddr),
	}
	if call.route != nil {
		attrs = append(attrs, slog.String("route", call.route.path))
	}
	if call.key != nil {
		attrs = append(attrs, slog.String("key_id", call.key.ID), slog.String("key_name", call.key.Name))
	}
	if call.owner != "" {
		attrs = append(attrs, slog.String("owner", s.ownerInLog(call.owner)))
	}
	if call.problem != "" {
		attrs = append(attrs, slog.String("code", call.problem))
	}
	if call.err != nil {
		attrs = append(attrs, slog.String("error", s.textInLog(call)))
	}
	if span := trace.SpanContextFromContext(c.Request.Context()); span.IsValid() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()))
	}
	return attrs
}

// ownerInLog is the owner, or eight bytes of his SHA-256: enough to find his lines, not enough to name him.
func (s *server) ownerInLog(owner string) string {
	if s.cfg.LogOwners {
		return owner
	}
	sum := sha256.Sum256([]byte(owner))
	return hex.EncodeToString(sum[:8])
}

// textInLog is the text of an error without the owner's name.
func (s *server) textInLog(call *call) string {
	if call.owner == "" {
		return call.err.Error()
	}
	return strings.ReplaceAll(call.err.Error(), call.owner, s.ownerInLog(call.owner))
}

// requestIDs names requests: random bytes of this process, and a number.
type requestIDs struct {
	process string
	last    *atomic.Uint64
}

func newRequestIDs() requestIDs {
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails
	return requestIDs{hex.EncodeToString(random) + "-", new(atomic.Uint64)}
}

// of returns the caller's own id if it has the syntax of a key, so that it can be logged and searched as it is.
func (r requestIDs) of(request *http.Request) string {
	if own := request.Header.Get(headerRequestID); validKey(own) {
		return own
	}
	return r.process + strconv.FormatUint(r.last.Add(1), 36)
}
