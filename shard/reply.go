package shard

// Quote says which part of a reply is the document of an order, which is stored with the order and only once. The reply is stored
// without it, and gets it back when it is read. Documents never change, so a replay has the bytes of the first answer.
//
// The document of an order is a JSON object; the reply quotes it without its opening brace.
type Quote struct {
	Order   string
	Attempt int
	At, Len int // in the reply; a Len of 0 is no quote
}

// cut returns the reply without what it quotes.
func cut(reply []byte, q Quote) []byte {
	rest := make([]byte, 0, len(reply)-q.Len)
	return append(append(rest, reply[:q.At]...), reply[q.At+q.Len:]...)
}

// Restore puts the document of an order back into a stored reply.
func Restore(reply []byte, at int, doc []byte) []byte {
	if len(doc) == 0 {
		return reply
	}
	whole := make([]byte, 0, len(reply)+len(doc)-1)
	return append(append(append(whole, reply[:at]...), doc[1:]...), reply[at:]...)
}

// operationLookup finds what the keys of owners have decided, with the documents that the replies quote.
var operationLookup = Lookup{
	Columns: "p.bucket, p.owner, p.op_key, p.fingerprint, p.verdict, p.decided_at, p.reply, p.quote_at, o.doc",
	From:    "operations p", Index: "PRIMARY", Keys: "p.bucket, p.owner, p.op_key",
	Joins: " LEFT JOIN orders o ON o.bucket=p.bucket AND o.owner=p.owner AND o.order_id=p.order_id AND o.attempt=p.attempt",
}

func scanOperation(r *Row) *operation {
	o := &operation{stored: true, bucket: Bucket(r.Int()), key: opKey{r.Str(), r.Str()}}
	o.fingerprint, o.verdict, o.decidedAt = r.Bytes(), parseVerdict(r.Str()), r.Int()
	reply, at, doc := r.Bytes(), int(r.Int()), r.Bytes()
	o.reply = Restore(reply, at, doc)
	return o
}
