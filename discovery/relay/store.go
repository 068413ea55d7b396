package relay

import (
	"context"
	"errors"
)

// Store is where the published state lies: a head, which moves, and values under names, which never change once written. It elects who may
// write. It is safe for concurrent use.
type Store interface {
	// Watch returns the head as soon as it differs from the one seen, or after a while as it is. The zero Seen answers at once.
	Watch(ctx context.Context, seen Seen) (Seen, error)
	// Read returns a value; errMissing says that there is none, as of the leader of the store.
	Read(ctx context.Context, name string) ([]byte, error)
	// Claim makes this controller the leader and replaces the head, if nobody leads and the head still is the one seen; else errTaken.
	Claim(ctx context.Context, seen Seen, head []byte) (Term, error)
	// Most is how large a value may be, in bytes.
	Most() int
	// String names the store for people, without secrets.
	String() string
	// Close lets its connections go.
	Close()
}

// Term is the time during which this controller leads.
type Term interface {
	// Publish replaces the head and adds small values, both or neither. errDeposed says that this controller does not lead any more, and that
	// nothing was written; after another error it may have been.
	Publish(ctx context.Context, head []byte, values map[string][]byte) error
	// Put adds a value, or replaces one of the same name.
	Put(ctx context.Context, name string, value []byte) error
	// Names returns the names of all values.
	Names(ctx context.Context) ([]string, error)
	// Delete removes a value.
	Delete(ctx context.Context, name string) error
	// Lost is closed when the term has ended, as far as this controller can tell.
	Lost() <-chan struct{}
	// Resign ends the term at once, so that another may begin. It may be called once, after the term has ended too.
	Resign(ctx context.Context)
}

// Seen is a head at one moment.
type Seen struct {
	Value   []byte // nil: there is none
	Version uint64 // of the store; 0: nothing has been seen
	Held    bool   // somebody leads
	Anew    bool   // in a question: answer at once, for what was seen may be of another history
}

var (
	errMissing = errors.New("a value is missing")
	errTaken   = errors.New("another controller was first")
	errDeposed = errors.New("another controller leads, or may")
)
