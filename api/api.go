package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/statesvc/statesvc/access"
	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/blacklist"
	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/events"
	"github.com/statesvc/statesvc/ledger"
	"github.com/statesvc/statesvc/pending"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
	"github.com/statesvc/statesvc/state"
)

// Config is what the handler needs. What is not marked as optional is required.
type Config struct {
	Ledger    *ledger.Ledger
	State     *cache.Cache
	Kinds     *state.Kinds
	Blacklist *blacklist.Blacklist
	Keys      *access.Keys
	Routes    *shard.Routes
	Resolver  *pending.Resolver
	Auditor   *ledger.Auditor
	Feed      *events.Feed
	Webhooks  *events.Webhooks
	Codec     *id.Codec
	CursorKey []byte // signs the cursors of lists; the same on all instances
	Now       func() time.Time
	Log       *slog.Logger
	Meter     metric.Meter

	Ending    <-chan struct{} // optional: closed when streams must end
	Heartbeat time.Duration   // optional: the longest silence of a stream

	Tracer  trace.Tracer         // optional: without it requests leave no spans
	Metrics http.Handler         // optional: what /metrics shows
	Depth   func() map[int][]int // optional: waiting operations per lane, by shard

	// Failovers is optional: without it no shard is failed over.
	Failovers Failovers

	// Ready is optional: which shards take writes, and why the instance cannot serve, if it cannot.
	Ready func(ctx context.Context) ([]shard.Condition, error)

	LogRequests bool // a line for every request; without it only refused callers and faults are logged
	LogOwners   bool // owners in clear, not hashed
}

// server carries what handlers share.
type server struct {
	cfg        Config
	metrics    *instruments
	limits     limits
	cursors    cursors
	ids        requestIDs
	refusedLog *rate.Limiter // lines about refused callers per second: they must not be able to fill the disk
	started    started
	streams    atomic.Int64 // that are open
}

// refusedLogRate is enough to see who is refused and why; the counter of problems sees all of them.
const refusedLogRate = 100

// New returns the handler of all requests.
func New(cfg Config) (http.Handler, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = streamHeartbeat
	}
	metrics, err := newInstruments(cfg.Meter)
	if err != nil {
		return nil, err
	}
	s := &server{
		cfg: cfg, metrics: metrics, cursors: newCursors(cfg.CursorKey), ids: newRequestIDs(),
		refusedLog: rate.NewLimiter(refusedLogRate, refusedLogRate),
	}
	return s.engine()
}

func (s *server) engine() (*gin.Engine, error) {
	gin.SetMode(gin.ReleaseMode) // gin's only switch for its printing of routes, and it is global
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false // an address is right or wrong; a redirected write loses its body in some clients
	engine.Use(s.serve)
	engine.NoRoute(func(c *gin.Context) { s.refuse(c, errNoRoute) })
	engine.NoMethod(func(c *gin.Context) { s.refuse(c, errMethodNotAllowed) })
	strict := gen.NewStrictHandlerWithOptions(s, gen.StrictGinServerOptions{
		RequestErrorHandlerFunc:  s.refuse,
		HandlerErrorFunc:         s.refuse,
		ResponseErrorHandlerFunc: s.refuse,
	})
	gen.RegisterHandlersWithOptions(engine, strict, gen.GinServerOptions{
		ErrorHandler: func(c *gin.Context, err error, _ int) { s.refuse(c, parameterError(err)) },
	})
	for _, registered := range engine.Routes() {
		if routeAt[place{registered.Method, registered.Path}] == nil {
			return nil, fmt.Errorf("%s %s has no scope, so everybody could call it", registered.Method, registered.Path)
		}
	}
	s.registerProcess(engine)
	return engine, nil
}
