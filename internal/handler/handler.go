// Package handler is the contract between the dispatcher and whatever consumes callbacks.
//
// A handler gets one delivery at a time and answers with an error, which is its verdict:
//
//	nil               done
//	Permanent(err)    bury: no attempt will ever succeed; the delivery becomes a dead letter, kept with its cause
//	RetryAfter(d, err) retry, no sooner than d from now
//	any other error   retry, with backoff, until the attempts are used up
//
// The promise to a handler: it sees every callback routed to it at least once, whatever happens to the process; an attempt has
// a time-out; a panic is a retry; no other handler's failure has anything to do with it. In return it MUST stop when its
// context ends, MUST be safe for as many calls at once as it is configured for, and should do nothing when it sees a delivery ID
// again that it has dealt with.
//
// A new handler is a folder beside this one, and a line in package builtin. [For] turns a function of one payload type into a
// handler.
package handler

import (
	"context"
	"errors"
	"time"

	"callbackd/internal/callback"

	"go.uber.org/zap"
)

// Handler consumes callbacks.
type Handler interface {
	Handle(ctx context.Context, d *Delivery) error
	// Close is called once, after the last call of Handle has returned.
	Close() error
}

// Delivery is one callback on its way to one handler.
type Delivery struct {
	// ID is the same over all attempts of this delivery, and no other's.
	ID      string
	Attempt int // from 1
	// Replay is set when an operator asked for this delivery: the handler may have seen the callback before, under another ID.
	Replay bool

	EntryID    string
	Seq        int64
	ReceivedAt time.Time
	Service    callback.Service // the listener it arrived at
	Account    string           // the label of the credentials it carried
	// Flags tell what is out of the ordinary: test, violation, extension, misrouted, repeat, bare.
	Flags    []string
	Callback *callback.Callback
}

// Env is what a handler is built with.
type Env struct {
	// Name is the instance's, from the configuration.
	Name string
	Log  *zap.Logger
}

// Config is the configuration of one handler type, as decoded from the file.
type Config interface {
	// Validate reports every problem, each beginning with the key it is about. It touches nothing outside.
	Validate() []error
	// Open builds the handler.
	Open(ctx context.Context, env Env) (Handler, error)
}

// Type is a type of handler that a configuration can name.
type Type struct {
	Name string
	// Config returns a configuration with the defaults set, for a strict decoder to fill.
	Config func() Config
	// Concurrency is the default for how many deliveries are handled at once.
	Concurrency int
	// TakesTests is set for a type that messages sent as a test go to without further asking.
	TakesTests bool
}

// For makes a handler of a function of one payload type. Callbacks without that payload are done at once.
func For[T callback.Payload](handle func(ctx context.Context, d *Delivery, payload *T) error) Handler {
	return typed[T]{handle}
}

type typed[T callback.Payload] struct {
	handle func(context.Context, *Delivery, *T) error
}

func (t typed[T]) Handle(ctx context.Context, d *Delivery) error {
	if payload := callback.PayloadOf[T](d.Callback); payload != nil {
		return t.handle(ctx, d, payload)
	}
	return nil
}

func (t typed[T]) Close() error { return nil }

// Permanent marks an error that no further attempt can mend.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent reports whether err was marked so.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// RetryAfter marks an error after which the next attempt has to wait for d at least.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, d}
}

type retryAfterError struct {
	err   error
	after time.Duration
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryDelay is the wait that err asks for, 0 if none.
func RetryDelay(err error) time.Duration {
	var r *retryAfterError
	if errors.As(err, &r) {
		return r.after
	}
	return 0
}
