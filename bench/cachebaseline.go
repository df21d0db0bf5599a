package bench

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
)

// CacheBaselineTask is what a baseline of reads answers: always the same reply, or its header with what Redis has.
type CacheBaselineTask struct {
	Reply RecordedReply `json:"reply"`
	Redis string        `json:"redis"` // host:port, where the body is under every name of the load; empty: do without
}

// baselineKey is where the baseline has a document in Redis.
func baselineKey(id string) string { return "baseline:" + id }

// CacheBaseline serves documents as a handler does that keeps no promise: from a constant, or by one GET to Redis for each request. It
// ends with ctx.
func CacheBaseline(ctx context.Context, listen string, task CacheBaselineTask) error {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	body := []byte(task.Reply.Body)
	answer := func(c *gin.Context, body []byte) {
		maps.Copy(c.Writer.Header(), task.Reply.Header)
		c.Status(task.Reply.Status)
		_, _ = c.Writer.Write(body) // a client that has gone needs no reply
	}
	handler := func(c *gin.Context) { answer(c, body) }
	if task.Redis != "" {
		client := redis.NewClient(&redis.Options{Addr: task.Redis})
		defer client.Close() //nolint:errcheck // it ends anyway
		handler = func(c *gin.Context) {
			found, err := client.Get(c.Request.Context(), baselineKey(c.Param("id"))).Bytes()
			if err != nil {
				c.String(http.StatusInternalServerError, err.Error())
				return
			}
			answer(c, found)
		}
	}
	engine.GET(cachePath+":id", handler)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: engine, ReadHeaderTimeout: requestTime}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
