package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"

	"github.com/statesvc/statesvc/client/gen"
)

// How consistent a read of state data is; "" is Bounded.
const (
	Bounded  = "bounded"
	Strong   = "strong"
	Eventual = "eventual"
)

// Document is a document of state data.
type Document struct {
	Body    json.RawMessage
	Version string // for IfVersion
	Token   string // for ReadOptions: reads that bring it along return nothing older
}

// UnmarshalJSON takes the body as it is.
func (d *Document) UnmarshalJSON(body []byte) error {
	d.Body = append(json.RawMessage(nil), body...)
	return nil
}

func (d *Document) readHeader(header http.Header) {
	d.Version, d.Token = strings.Trim(header.Get("ETag"), `"`), header.Get("Consistency-Token")
}

// ReadOptions say how old a document may be. At most one of them is set.
type ReadOptions struct {
	Consistency string
	Token       string // of an earlier reply about the same document
}

// GetDocument reads a document. One that does not exist is ErrNotFound.
func (c *Client) GetDocument(ctx context.Context, kind, id string, o ReadOptions) (Document, error) {
	return do[Document](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewGetDocumentRequest(server, kind, id, &gen.GetDocumentParams{
			Consistency: optional(o.Consistency), ConsistencyToken: o.Token,
		})
	}))
}

// GetDocuments reads up to 200 documents of a kind. Those that do not exist are left out.
func (c *Client) GetDocuments(ctx context.Context, kind string, ids []string, consistency string) ([]DocumentItem, error) {
	list, err := do[gen.DocumentList](ctx, c, read(func(server string) (*http.Request, error) {
		return gen.NewListDocumentsRequest(server, kind, &gen.ListDocumentsParams{
			Ids: optional(strings.Join(ids, ",")), Consistency: optional(consistency),
		})
	}))
	return list.Documents, err
}

// Documents goes through all documents of a kind. It asks for the next page when it is needed, and ends with the first error.
func (c *Client) Documents(ctx context.Context, kind string) iter.Seq2[DocumentItem, error] {
	return pages(func(cursor *string) ([]DocumentItem, string, error) {
		page, err := do[gen.DocumentList](ctx, c, read(func(server string) (*http.Request, error) {
			return gen.NewListDocumentsRequest(server, kind, &gen.ListDocumentsParams{Limit: new(pageSize), Cursor: cursor})
		}))
		return page.Documents, page.NextCursor, err
	})
}

// Condition is what must be true of a document for it to be written.
type Condition struct{ match, noneMatch string }

// IfAbsent is that the document does not exist.
func IfAbsent() Condition { return Condition{noneMatch: "*"} }

// IfExists is that it exists, in whatever version.
func IfExists() Condition { return Condition{match: "*"} }

// IfVersion is that it has this version.
func IfVersion(version string) Condition { return Condition{match: `"` + version + `"`} }

// DocumentReply says what a write has made of a document.
type DocumentReply struct {
	gen.DocumentReply
	Token string // reads that bring it along return nothing older
}

func (r *DocumentReply) readHeader(header http.Header) { r.Token = header.Get("Consistency-Token") }

// PutDocument writes a document as a whole. ErrPreconditionFailed says that the condition does not hold.
func (c *Client) PutDocument(ctx context.Context, key, kind, id string, when Condition, body json.RawMessage) (DocumentReply, error) {
	return do[DocumentReply](ctx, c, write("", key, func(server, key string) (*http.Request, error) {
		return gen.NewPutDocumentRequest(server, kind, id, &gen.PutDocumentParams{
			IdempotencyKey: key, IfMatch: when.match, IfNoneMatch: when.noneMatch,
		}, body)
	}).unasked())
}

// PatchDocument applies a merge patch (RFC 7396).
func (c *Client) PatchDocument(ctx context.Context, key, kind, id string, when Condition, patch json.RawMessage) (DocumentReply, error) {
	return do[DocumentReply](ctx, c, write("", key, func(server, key string) (*http.Request, error) {
		return gen.NewPatchDocumentRequestWithApplicationMergePatchPlusJSONBody(server, kind, id, &gen.PatchDocumentParams{
			IdempotencyKey: key, IfMatch: when.match, IfNoneMatch: when.noneMatch,
		}, patch)
	}).unasked())
}

// DeleteDocument removes a document.
func (c *Client) DeleteDocument(ctx context.Context, key, kind, id string, when Condition) (DocumentReply, error) {
	return do[DocumentReply](ctx, c, write("", key, func(server, key string) (*http.Request, error) {
		return gen.NewDeleteDocumentRequest(server, kind, id, &gen.DeleteDocumentParams{IdempotencyKey: key, IfMatch: when.match})
	}).unasked())
}

// unasked is the exchange of a write whose key belongs to no owner: what became of it is learnt by sending it again.
func (e exchange) unasked() exchange {
	e.key = ""
	return e
}

// Kinds lists the kinds of state data.
func (c *Client) Kinds(ctx context.Context) ([]Kind, error) {
	list, err := do[gen.KindList](ctx, c, read(gen.NewListKindsRequest))
	return list.Kinds, err
}

// DeclareKind makes a kind of state data, or replaces its declaration.
func (c *Client) DeclareKind(ctx context.Context, kind string, r KindRequest) (Kind, error) {
	return do[Kind](ctx, c, read(func(server string) (*http.Request, error) { return gen.NewPutKindRequest(server, kind, r) }))
}
