package state

import (
	"errors"
	"fmt"
	"strings"
)

// The ways in which an operation on a document is refused. Others are those of package shard.
var (
	// ErrInvalid is what every *Invalid is: the request is malformed, or the document is not what its kind asks for. The key is unused.
	ErrInvalid = errors.New("the document or its name is not as it must be")
	// ErrTooLarge says that the document has more bytes than its kind allows. The key is unused.
	ErrTooLarge = errors.New("the document is too large for its kind")
	// ErrNoKind says that the kind was not declared.
	ErrNoKind = errors.New("the kind is not declared")
	// ErrTooManyKinds says that no further kind can be declared.
	ErrTooManyKinds = errors.New("there are as many kinds as there may be")
	// ErrPrecondition is what every *Conflict is.
	ErrPrecondition = errors.New("the document is not in the state that the request asks for")
	// ErrKeyReused is what every *KeyReused is.
	ErrKeyReused = errors.New("the idempotency key belongs to another request")
)

// Invalid lists what is wrong with a request.
type Invalid struct{ Problems []Problem }

// Problem is one thing that is wrong, with the JSON pointer to it in the document, or the name of a parameter.
type Problem struct{ Pointer, Detail string }

func (e *Invalid) Error() string { return e.Problems[0].Pointer + ": " + e.Problems[0].Detail }

// Unwrap makes errors.Is(err, ErrInvalid) work.
func (e *Invalid) Unwrap() error { return ErrInvalid }

func invalid(pointer, detail string) error { return &Invalid{[]Problem{{pointer, detail}}} }

// Conflict is a precondition that did not hold. It is recorded under its key: every repeat gets it again.
type Conflict struct {
	Current Version // of the document when the operation was decided; zero: there was none
}

func (e *Conflict) Error() string {
	if e.Current == (Version{}) {
		return "the document does not exist"
	}
	return fmt.Sprintf("the document exists, in version %s", e.Current)
}

// Unwrap makes errors.Is(err, ErrPrecondition) work.
func (e *Conflict) Unwrap() error { return ErrPrecondition }

// KeyReused says which parts of the request differ from the one that used the key first.
type KeyReused struct{ Fields []string }

func (e *KeyReused) Error() string {
	return "the idempotency key belongs to another request for the document, which differs in: " + strings.Join(e.Fields, ", ")
}

// Unwrap makes errors.Is(err, ErrKeyReused) work.
func (e *KeyReused) Unwrap() error { return ErrKeyReused }
