// Package client calls the service the way it wants to be called: every write has an idempotency key, a retry uses the same
// key, what is final is not tried again, and an unknown outcome is found out.
//
//	c, err := client.New(client.Options{BaseURL: "http://127.0.0.1:8080", Token: "ss_…"})
//	key := client.NewKey()      // store it with the order, before the first attempt
//	reply, err := c.Hold(ctx, key, client.HoldRequest{Owner: "user-1", OrderID: "order-1", Items: …})
//	if errors.Is(err, client.ErrInsufficient) { … }
//
// # What happens to a call
//
//	2xx                       the reply
//	refused, not retryable    *Problem, after one attempt: the refusal belongs to the key for ever
//	refused, retryable        waits for Retry-After and a little at random, then sends the same key again
//	outcome unknown, or the   asks what became of the key: DONE is the reply, IN_PROGRESS waits, anything else sends
//	connection broke          the same key again
//
// This goes on until the context's deadline, or for Options.Patience if it has none; never for ever. A wait that would end
// after the deadline is not begun. The last problem is the error then.
//
// # Traps
//
//   - A key that was not stored is lost with the process, and with it the only way to repeat the write safely. An empty key
//     is for programs that never repeat anything.
//   - After an error whose Outcome is unknown the write may have happened, and may still happen. Repeat it with its key, or
//     Seal the key before doing otherwise.
//   - Importing, minting ids and the calls of administrators carry no outcome that could be asked for. They are safe to
//     repeat, except CreateKey, which is sent once.
package client
