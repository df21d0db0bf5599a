package bench

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// BaselineTask is what the baseline server answers.
type BaselineTask struct {
	Hold    RecordedReply `json:"hold"`
	Confirm RecordedReply `json:"confirm"`
}

// RecordedReply is a reply of the real service, which the baseline repeats.
type RecordedReply struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
}

// The bodies of requests, as somebody would declare them who trusts encoding/json.
type (
	baselineMoney struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	}
	baselineLine struct {
		LineID string        `json:"line_id"`
		Amount baselineMoney `json:"amount"`
	}
	baselineItem struct {
		Kind     string        `json:"kind"`
		CouponID string        `json:"coupon_id"`
		Amount   baselineMoney `json:"amount"`
		All      bool          `json:"all"`
		Currency string        `json:"currency"`
		Tag      string        `json:"tag"`
	}
	baselineHold struct {
		Owner   string         `json:"owner"`
		OrderID string         `json:"order_id"`
		Attempt int            `json:"attempt"`
		HoldID  string         `json:"hold_id"`
		TTLMs   int64          `json:"ttl_ms"`
		Lines   []baselineLine `json:"lines"`
		Items   []baselineItem `json:"items"`
	}
	baselineConfirm struct {
		Owner string `json:"owner"`
	}
)

// Baseline serves the routes of a pair the way nothing can be faster that is made of the same parts: gin, encoding/json, and
// a reply that is there already. It checks nothing, and keeps nothing. It ends with ctx.
func Baseline(ctx context.Context, listen string, task BaselineTask) error {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.POST("/v1/holds", func(c *gin.Context) { answerBaseline(c, &baselineHold{}, &task.Hold) })
	engine.POST("/v1/holds/:hold_id/confirm", func(c *gin.Context) { answerBaseline(c, &baselineConfirm{}, &task.Confirm) })
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: engine, ReadHeaderTimeout: requestTime}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		stopped <- server.Shutdown(patience)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func answerBaseline(c *gin.Context, body any, reply *RecordedReply) {
	if err := json.NewDecoder(c.Request.Body).Decode(body); err != nil {
		c.String(http.StatusBadRequest, err.Error())
		return
	}
	header := c.Writer.Header()
	maps.Copy(header, reply.Header)
	c.Status(reply.Status)
	_, _ = c.Writer.WriteString(reply.Body) // a client that has gone needs no reply
}
