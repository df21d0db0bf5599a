package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statesvc/statesvc/api/gen"
	"github.com/statesvc/statesvc/cache"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/state"
)

// The headers of state data, in the spelling of net/http.
const (
	headerETag        = "Etag"
	headerToken       = "Consistency-Token"
	headerCacheStatus = "Cache-Status"
	headerAge         = "Age"
)

// GetDocument answers GET /v1/state/{kind}/{id}.
func (s *server) GetDocument(ctx context.Context, r gen.GetDocumentRequestObject) (gen.GetDocumentResponseObject, error) {
	k := documentKey(ctx, r.Kind, r.ID)
	ask, err := askOf(k, r.Params.Consistency, r.Params.ConsistencyToken)
	if err != nil {
		return nil, err
	}
	same, err := parseETags(r.Params.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.State.Read(ctx, k, ask)
	if err != nil {
		return nil, err
	}
	header := headerOf(&found)
	if !found.Document.Exists() {
		call := callOf(ctx)
		call.header = http.Header{}
		header.enter(call.header)
		return nil, errNotFound
	}
	if same(found.Document.Version) {
		return documentReply{reply{status: http.StatusNotModified}, header}, nil
	}
	return documentReply{reply{status: http.StatusOK, body: found.Document.Body}, header}, nil
}

// documentKey is the name of a document, for the log too.
func documentKey(ctx context.Context, kind, id string) state.Key {
	k := state.Key{Kind: kind, ID: id}
	owner(ctx, k.String())
	return k
}

// askOf is what a read asks for.
func askOf(k state.Key, consistency, token string) (ask cache.Ask, err error) {
	if token != "" {
		version, own, wellFormed := cache.ParseToken(token, k)
		switch {
		case !wellFormed:
			return ask, invalid(headerToken, "is not a token of an earlier reply")
		case consistency != "":
			return ask, invalid("consistency", "cannot be together with a "+headerToken)
		case !own:
			return cache.Ask{Mode: cache.Strong}, nil
		}
		return cache.Ask{Mode: cache.AtLeast, Version: version}, nil
	}
	switch consistency {
	case "", cache.Bounded.String():
	case cache.Strong.String():
		ask.Mode = cache.Strong
	case cache.Eventual.String():
		ask.Mode = cache.Eventual
	default:
		return ask, invalid("consistency", "must be bounded, strong or eventual")
	}
	return ask, nil
}

// documentHeader is what the headers say of a document; what is empty is left out.
type documentHeader struct{ token, status, etag, age string }

// headerOf is what the headers say of a read.
func headerOf(found *cache.Result) documentHeader {
	h := documentHeader{token: cache.FormatToken(found.Document.Key, found.Seen), status: found.Status.String()}
	if found.Document.Exists() {
		h.etag = formatETag(found.Document.Version)
	}
	if found.Age >= 0 {
		h.age = strconv.FormatInt(int64(found.Age/time.Second), 10)
	}
	return h
}

// enter sets the headers. Their values share one array, because this is on the way of every read.
func (h *documentHeader) enter(header http.Header) {
	values := []string{h.token, h.status, h.etag, h.age}
	for i, name := range [...]string{headerToken, headerCacheStatus, headerETag, headerAge} {
		if values[i] != "" {
			header[name] = values[i : i+1 : i+1]
		}
	}
}

func formatETag(v state.Version) string { return `"` + v.String() + `"` }

// parseETags reads If-None-Match of a read, and returns whether a version is in it. Its comparison is the weak one of RFC 9110: proxies
// that compress what goes through make ETags weak.
func parseETags(header string) (in func(state.Version) bool, err error) {
	var versions []state.Version
	switch header {
	case "":
		return func(state.Version) bool { return false }, nil
	case "*":
		return func(state.Version) bool { return true }, nil
	}
	for tag := range strings.SplitSeq(header, ",") {
		version, ok := parseETag(strings.TrimPrefix(strings.TrimSpace(tag), "W/"))
		if !ok {
			return nil, invalid("If-None-Match", "must be *, or ETags of earlier replies")
		}
		versions = append(versions, version)
	}
	return func(v state.Version) bool { return slices.Contains(versions, v) }, nil
}

func parseETag(text string) (v state.Version, ok bool) {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return v, false
	}
	return state.ParseVersion(text[1 : len(text)-1])
}

// precondition reads what must be true of a document for it to be written.
func precondition(match, noneMatch string) (p state.Precondition, err error) {
	switch {
	case match == "" && noneMatch == "":
		return p, errPreconditionRequired
	case match != "" && noneMatch != "":
		return p, invalid("If-None-Match", "cannot be together with If-Match")
	case noneMatch == "*":
		return state.Precondition{Absent: true}, nil
	case noneMatch != "":
		return p, invalid("If-None-Match", "must be * for a write")
	case match == "*":
		return state.Precondition{Exists: true}, nil
	}
	version, ok := parseETag(match)
	if !ok {
		return p, invalid("If-Match", "must be * or the ETag of an earlier reply")
	}
	return state.Precondition{Version: version}, nil
}

// PutDocument answers PUT /v1/state/{kind}/{id}.
func (s *server) PutDocument(ctx context.Context, r gen.PutDocumentRequestObject) (gen.PutDocumentResponseObject, error) {
	request, err := writeOf(ctx, r.Kind, r.ID, r.Params.IfMatch, r.Params.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	answer, err := s.cfg.State.Put(ctx, request, *r.Body)
	return documentWritten(ctx, request.Key, &answer, err)
}

// PatchDocument answers PATCH /v1/state/{kind}/{id}.
func (s *server) PatchDocument(ctx context.Context, r gen.PatchDocumentRequestObject) (gen.PatchDocumentResponseObject, error) {
	request, err := writeOf(ctx, r.Kind, r.ID, r.Params.IfMatch, r.Params.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	answer, err := s.cfg.State.Patch(ctx, request, *r.Body)
	return documentWritten(ctx, request.Key, &answer, err)
}

// DeleteDocument answers DELETE /v1/state/{kind}/{id}.
func (s *server) DeleteDocument(ctx context.Context, r gen.DeleteDocumentRequestObject) (gen.DeleteDocumentResponseObject, error) {
	request, err := writeOf(ctx, r.Kind, r.ID, r.Params.IfMatch, "")
	if err != nil {
		return nil, err
	}
	answer, err := s.cfg.State.Delete(ctx, request)
	return documentWritten(ctx, request.Key, &answer, err)
}

func writeOf(ctx context.Context, kind, id, match, noneMatch string) (r state.Request, err error) {
	call := callOf(ctx)
	r = state.Request{Key: documentKey(ctx, kind, id), Idempotency: call.idempotency, Client: call.key.ID}
	r.When, err = precondition(match, noneMatch)
	return r, err
}

// documentWritten answers a write. The status is that of the first reply also for a replay.
func documentWritten(ctx context.Context, k state.Key, answer *state.Answer, err error) (documentReply, error) {
	call := callOf(ctx)
	call.replayed = answer.Replayed
	if err != nil {
		return documentReply{}, err
	}
	call.verdict = "done"
	r := documentReply{reply{http.StatusOK, answer.Reply, answer.Replayed}, documentHeader{
		token: cache.FormatToken(k, answer.Version), etag: formatETag(answer.Version),
	}}
	if answer.Created {
		r.status = http.StatusCreated
	}
	return r, nil
}

// documentReply is a reply with the headers of state data.
type documentReply struct {
	reply
	header documentHeader
}

func (r documentReply) write(w http.ResponseWriter) error {
	r.header.enter(w.Header())
	return r.reply.write(w)
}

func (r documentReply) VisitGetDocumentResponse(w http.ResponseWriter) error { return r.write(w) }

func (r documentReply) VisitPutDocumentResponse(w http.ResponseWriter) error { return r.write(w) }

func (r documentReply) VisitPatchDocumentResponse(w http.ResponseWriter) error { return r.write(w) }

func (r documentReply) VisitDeleteDocumentResponse(w http.ResponseWriter) error { return r.write(w) }

// documentItem is a document among others.
type documentItem struct {
	ID        string          `json:"id"`
	Version   string          `json:"version"`
	UpdatedAt time.Time       `json:"updated_at"`
	Document  json.RawMessage `json:"document"`
}

type documentList struct {
	Documents  []documentItem `json:"documents"`
	Missing    []string       `json:"missing,omitempty"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

func (l *documentList) add(d *state.Document) {
	l.Documents = append(l.Documents, documentItem{d.Key.ID, d.Version.String(), d.UpdatedAt, d.Body})
}

// ListDocuments answers GET /v1/state/{kind}.
func (s *server) ListDocuments(ctx context.Context, r gen.ListDocumentsRequestObject) (gen.ListDocumentsResponseObject, error) {
	p := &r.Params
	if !state.ValidKind(r.Kind) {
		return nil, invalid("kind", "is not the name of a kind")
	}
	if p.Ids != "" {
		if p.Limit != nil || p.Cursor != "" {
			return nil, invalid("ids", "cannot be together with limit or cursor")
		}
		return s.readDocuments(ctx, r.Kind, p.Ids, p.Consistency)
	}
	if p.Consistency != "" {
		return nil, invalid("consistency", "belongs to ids; lists come from the primaries")
	}
	list := s.cursors.list("documents", r.Kind)
	after, err := list.afterPosition(p.Cursor)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(p.Limit)
	if err != nil {
		return nil, err
	}
	page, next, err := s.cfg.State.List(ctx, r.Kind, after, limit)
	if err != nil {
		return nil, err
	}
	body := documentList{Documents: []documentItem{}, NextCursor: list.nextPosition(next)}
	for i := range page {
		body.add(&page[i])
	}
	return shown(http.StatusOK, body, nil)
}

// readDocuments reads the documents of a kind that are named.
func (s *server) readDocuments(ctx context.Context, kind, ids, consistency string) (reply, error) {
	ask, err := askOf(state.Key{}, consistency, "")
	if err != nil {
		return reply{}, err
	}
	names := strings.Split(ids, ",")
	if len(names) > cache.MaxKeys {
		return reply{}, invalid("ids", fmt.Sprintf("has %d ids, at most %d are read at once", len(names), cache.MaxKeys))
	}
	keys := make([]state.Key, len(names))
	for i, name := range names {
		keys[i] = state.Key{Kind: kind, ID: name}
		if err := keys[i].Check(); err != nil {
			return reply{}, invalid("ids", fmt.Sprintf("has %.32q, which is no id of a document", name))
		}
	}
	found, err := s.cfg.State.ReadMany(ctx, keys, ask)
	if err != nil {
		return reply{}, err
	}
	body := documentList{Documents: []documentItem{}}
	for i := range found {
		if d := &found[i].Document; d.Exists() {
			body.add(d)
		} else {
			body.Missing = append(body.Missing, names[i])
		}
	}
	return shown(http.StatusOK, body, nil)
}

// afterPosition is after for the lists of documents.
func (l list) afterPosition(cursor string) (after state.Position, err error) {
	if cursor == "" {
		return after, nil
	}
	position, err := l.openAny(cursor)
	if err != nil || len(position) < 2 {
		return after, errors.Join(err, invalid("cursor", "is not a cursor of this list"))
	}
	after.Bucket = shard.Bucket(position[0])<<8 | shard.Bucket(position[1])
	after.ID = string(position[2:])
	return after, nil
}

// nextPosition is next for the lists of documents.
func (l list) nextPosition(next state.Position) string {
	if next == (state.Position{}) {
		return ""
	}
	return l.seal(append([]byte{byte(next.Bucket >> 8), byte(next.Bucket)}, next.ID...))
}

// kindBody is a kind as callers see it.
type kindBody struct {
	Kind     string          `json:"kind"`
	Schema   json.RawMessage `json:"schema,omitempty"`
	MaxBytes int             `json:"max_bytes"`
	Intent   bool            `json:"intent,omitempty"`
}

func bodyOf(k *state.Kind) kindBody { return kindBody{k.Name, k.Schema, k.MaxBytes, k.Intent} }

// ListKinds answers GET /v1/admin/kinds.
func (s *server) ListKinds(context.Context, gen.ListKindsRequestObject) (gen.ListKindsResponseObject, error) {
	body := struct {
		Kinds []kindBody `json:"kinds"`
	}{[]kindBody{}}
	for _, k := range s.cfg.Kinds.List() {
		body.Kinds = append(body.Kinds, bodyOf(k))
	}
	return shown(http.StatusOK, body, nil)
}

// PutKind answers PUT /v1/admin/kinds/{kind}.
func (s *server) PutKind(ctx context.Context, r gen.PutKindRequestObject) (gen.PutKindResponseObject, error) {
	kind, err := s.cfg.Kinds.Declare(ctx, r.Kind, state.Spec{
		Schema: json.RawMessage(r.Body.Schema), MaxBytes: r.Body.MaxBytes, Intent: r.Body.Intent,
	})
	if err != nil {
		return nil, err
	}
	return shown(http.StatusOK, bodyOf(kind), nil)
}
