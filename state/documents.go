package state

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/statesvc/statesvc/shard"
)

// Store is where documents live.
type Store interface {
	// Submit hands op to the shard of its bucket and waits for the reply; see shard.Committer.
	Submit(ctx context.Context, op *shard.Op) shard.Reply
	// ReadTogether runs read on one consistent snapshot of the shard that has all of the buckets; see shard.Store.
	ReadTogether(ctx context.Context, buckets []shard.Bucket, read func(tx *gorm.DB, at time.Time) error) error
}

// Config is what Documents need. All of it is required.
type Config struct {
	Store Store
	Kinds *Kinds
	// Blocks says why a document must not be written to just now. It is asked before an operation is queued, so a refusal has no
	// effect.
	Blocks func(owner string, b shard.Bucket) error
}

// Documents writes documents, and reads them from their primaries. It is safe for concurrent use.
type Documents struct{ cfg Config }

// New returns the documents of a store.
func New(cfg Config) *Documents { return &Documents{cfg} }

// Request is what is common to all writes.
type Request struct {
	Key         Key
	When        Precondition
	Idempotency string // the caller's key for this write; its scope is the document
	Client      string // whose request it is, for fairness between clients
}

// Answer is the reply to a write.
type Answer struct {
	Reply    []byte // JSON of a Written; byte for byte the same on every replay
	Version  Version
	Created  bool
	Replayed bool // the key was decided before

	// Wrote is the document as this call has written it; nil if another attempt under the key has.
	Wrote *Document
}

// Put writes a document as a whole: it is made or replaced, as the precondition says. body must be a JSON object.
//
// The errors of Put and of the other writes are *Invalid, ErrTooLarge, ErrNoKind, *Conflict, *KeyReused, or those of package shard.
// A *Conflict comes with an Answer that says whether it is a replay.
func (d *Documents) Put(ctx context.Context, r Request, body []byte) (Answer, error) {
	kind, err := d.kind(r)
	if err == nil {
		err = kind.check(body)
	}
	if err != nil {
		return Answer{}, err
	}
	return d.submit(ctx, r, &change{verb: put, key: r.Key, when: r.When, body: body, kind: kind})
}

// Patch applies a merge patch (RFC 7396), a JSON object, to a document. If the document must be absent, it is made of the patch.
func (d *Documents) Patch(ctx context.Context, r Request, changes []byte) (Answer, error) {
	kind, err := d.kind(r)
	if err != nil {
		return Answer{}, err
	}
	return d.submit(ctx, r, &change{verb: patch, key: r.Key, when: r.When, body: changes, kind: kind})
}

// Delete removes a document and leaves a tombstone.
func (d *Documents) Delete(ctx context.Context, r Request) (Answer, error) {
	kind, err := d.kind(r)
	if err == nil && r.When.Absent {
		err = invalid("If-None-Match", "makes no sense here: what is absent cannot be deleted")
	}
	if err != nil {
		return Answer{}, err
	}
	return d.submit(ctx, r, &change{verb: remove, key: r.Key, when: r.When, kind: kind})
}

// Kind returns the kind of a document that can be written, or an error of Put.
func (d *Documents) Kind(k Key) (*Kind, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	return d.cfg.Kinds.Get(k.Kind)
}

func (d *Documents) kind(r Request) (*Kind, error) {
	kind, err := d.Kind(r.Key)
	if err != nil {
		return nil, err
	}
	return kind, d.cfg.Blocks(r.Key.String(), r.Key.Bucket())
}

// operations of documents, as metrics name them.
var names = map[verb]string{put: "put-document", patch: "patch-document", remove: "delete-document"}

func (d *Documents) submit(ctx context.Context, r Request, c *change) (Answer, error) {
	reply := d.cfg.Store.Submit(ctx, &shard.Op{
		Owner: r.Key.String(), Bucket: r.Key.Bucket(), Key: r.Idempotency, Client: r.Client, Kind: names[c.verb],
		Fingerprint: fingerprint(c), Body: c,
	})
	if reply.Err != nil {
		return Answer{}, submitError(c, reply.Err)
	}
	switch reply.Verdict {
	case shard.Done:
		return answer(&reply, c)
	case shard.Refused:
		var body refused
		if err := json.Unmarshal(reply.Body, &body); err != nil {
			return Answer{}, submitError(c, errors.Join(err, shard.ErrInternal))
		}
		current, _ := ParseVersion(body.Version)
		return Answer{Replayed: reply.Replayed}, &Conflict{current}
	default:
		return Answer{}, submitError(c, fmt.Errorf("verdict %s: %w", reply.Verdict, shard.ErrInternal))
	}
}

// answer reads a recorded reply. What the operation's last attempt has written is handed on only if it is what was recorded: the reply
// may be that of an earlier attempt, or of another instance.
func answer(reply *shard.Reply, c *change) (Answer, error) {
	var written Written
	if err := json.Unmarshal(reply.Body, &written); err != nil {
		return Answer{}, submitError(c, errors.Join(err, shard.ErrInternal))
	}
	version, ok := ParseVersion(written.Version)
	if !ok {
		return Answer{}, submitError(c, fmt.Errorf("recorded version %q: %w", written.Version, shard.ErrInternal))
	}
	a := Answer{Reply: reply.Body, Version: version, Created: written.Created, Replayed: reply.Replayed}
	if !reply.Replayed && c.wrote.Version == version {
		a.Wrote = &c.wrote
	}
	return a, nil
}

// submitError gives the errors of a reply their public form.
func submitError(c *change, err error) error {
	if reused, ok := errors.AsType[*shard.KeyReusedError](err); ok {
		return &KeyReused{differing(reused.Stored, reused.Sent)}
	}
	return fmt.Errorf("%s %s: %w", names[c.verb], c.key, err)
}

// The parts of a fingerprint: what is done, hashes of the precondition and of the document.
const (
	printHash = 16
	printSize = 1 + 2*printHash
)

func fingerprint(c *change) []byte {
	sum := make([]byte, 0, printSize)
	sum = append(sum, byte(c.verb))
	when := sha256.Sum256(fmt.Appendf(nil, "%s %t %t", c.when.Version, c.when.Exists, c.when.Absent))
	body := sha256.Sum256(c.body)
	return append(append(sum, when[:printHash]...), body[:printHash]...)
}

// differing names the parts in which two fingerprints differ. One of another make differs in what is done.
func differing(stored, sent []byte) (fields []string) {
	if len(stored) != printSize || len(sent) != printSize {
		return []string{"method"}
	}
	for _, part := range []struct {
		name     string
		from, to int
	}{{"method", 0, 1}, {"if_match", 1, 1 + printHash}, {"document", 1 + printHash, printSize}} {
		if string(stored[part.from:part.to]) != string(sent[part.from:part.to]) {
			fields = append(fields, part.name)
		}
	}
	return fields
}
