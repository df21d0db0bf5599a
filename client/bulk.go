package client

import (
	"context"
	"net/http"

	"github.com/statesvc/statesvc/client/gen"
)

// Bulk does up to 1000 writes, each with a key and a verdict of its own. It makes one attempt: send what is not done again with the same
// keys. Options.Attempt bounds the whole of it; 30 s are right for large ones.
func (c *Client) Bulk(ctx context.Context, operations []BulkOperation) (BulkReply, error) {
	e := read(func(server string) (*http.Request, error) {
		return gen.NewBulkRequest(server, nil, gen.BulkRequest{Operations: operations})
	})
	e.once = true
	return do[BulkReply](ctx, c, e)
}
