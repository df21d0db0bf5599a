package api

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/shard"
)

// registerProcess adds what is about the process and not about its data. It is open to everybody.
func (s *server) registerProcess(engine *gin.Engine) {
	engine.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	engine.GET("/startupz", s.startup)
	engine.GET("/readyz", s.readiness)
	engine.GET("/openapi.yaml", func(c *gin.Context) { c.Data(http.StatusOK, "application/yaml; charset=utf-8", gen.OpenAPI) })
	engine.GET("/docs", s.docs)
	engine.GET("/problems", s.problemIndex)
	engine.GET("/problems/:code", s.problemPage)
	if s.cfg.Metrics != nil {
		engine.GET("/metrics", gin.WrapH(s.cfg.Metrics))
	}
}

// started remembers that the instance was ready once: after that it is not starting any more, whatever happens.
type started struct{ atomic.Bool }

// ready asks whether the instance can serve. It is ready without a Ready to ask.
func (s *server) ready(c *gin.Context) ([]shard.Condition, error) {
	if s.cfg.Ready == nil {
		return nil, nil
	}
	return s.cfg.Ready(c.Request.Context())
}

// readinessBody is what /readyz?verbose shows. It is for people, and no part of the contract.
type readinessBody struct {
	Ready   bool        `json:"ready"`
	Missing string      `json:"missing,omitempty"`
	Shards  []shardBody `json:"shards,omitempty"`
}

type shardBody struct {
	Shard    int    `json:"shard"`
	Name     string `json:"name"`
	Writable bool   `json:"writable"`
	Error    string `json:"error,omitempty"`
}

// readiness answers /readyz: 200 or 503. With ?verbose the body says as JSON what is missing, and how each shard is.
func (s *server) readiness(c *gin.Context) {
	shards, err := s.ready(c)
	status, word := http.StatusOK, "ok\n"
	if err != nil {
		status, word = http.StatusServiceUnavailable, "not ready\n"
	}
	if _, verbose := c.GetQuery("verbose"); !verbose {
		c.String(status, word)
		return
	}
	body := readinessBody{Ready: err == nil}
	if err != nil {
		body.Missing = err.Error()
	}
	for _, one := range shards {
		row := shardBody{Shard: one.Shard, Name: one.Name, Writable: one.Err == nil}
		if one.Err != nil {
			row.Error = one.Err.Error()
		}
		body.Shards = append(body.Shards, row)
	}
	text, _ := json.Marshal(body) // texts, numbers and bools
	c.Data(status, "application/json", text)
}

// startup answers /startupz: 200 as soon as the instance was ready once.
func (s *server) startup(c *gin.Context) {
	if !s.started.Load() {
		if _, err := s.ready(c); err != nil {
			c.String(http.StatusServiceUnavailable, "starting\n")
			return
		}
	}
	s.started.Store(true)
	c.String(http.StatusOK, "ok\n")
}
