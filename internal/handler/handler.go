// Package handler is the contract between the dispatcher and whatever consumes callbacks.
//
// A handler gets one delivery at a time and answers with an error, which is its verdict:
//
//	nil                 done
//	Permanent(err)      bury: no attempt will ever succeed; the delivery becomes a dead letter, kept with its cause
//	RetryAfter(d, err)  retry, no sooner than d from now
//	any other error     retry, with backoff, until the attempts are used up
//
// The promise to a handler: it sees every callback routed to it at least once, whatever happens to the process; an attempt has
// a time-out; a panic is a retry; no other handler's failure has anything to do with it. In return
//
//   - Handle MUST return when its context ends: until then it keeps a place, and at a shutdown it is left behind;
//   - it MUST be safe for as many calls at once as it is configured for;
//   - it MUST NOT return nil before the callback is where it is meant to be, for nobody will deliver it again;
//   - it should do nothing, and return nil, when it sees the ID of a delivery that it has dealt with: at least once can be twice;
//   - neither its log nor its errors may quote the callback, which holds personal data.
//
// Package handlertest checks that. A new handler is a folder beside this one, and a line in package builtin. [For] turns a function
// of one payload type into a handler.
package handler

import (
	"context"
	"fmt"
	"time"

	"callbackd/internal/callback"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Handler consumes callbacks.
type Handler interface {
	// Handle deals with one delivery; its error is the verdict.
	Handle(ctx context.Context, d *Delivery) error
	// Close lets go of what the handler holds. No call of Handle follows. One is still under way only if it was left behind at a
	// shutdown, for it ignored the end of its context. A second Close does nothing.
	Close() error
}

// Readier is implemented by a [Handler] that knows how its destination stands. /readyz and a metric tell; nothing else follows from it.
type Readier interface {
	// Ready says why the handler can do nothing at present, and what to do about it; nil if it can. It tells what is known, asks nobody, and
	// MUST NOT quote a callback. It is safe beside all other calls. One that takes longer than half a second counts as not ready meanwhile.
	Ready() error
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
	// Flags tell what is out of the ordinary: test, violation, extension, misrouted, repeat, bare, erased.
	Flags []string
	// Callback is decoded from the stored bytes for this attempt alone, so a handler may change it. It is never nil.
	Callback *callback.Callback
}

// MarshalLogObject writes which delivery it is, and nothing of what the callback says.
func (d *Delivery) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("id", d.ID)
	e.AddInt("attempt", d.Attempt)
	e.AddInt64("seq", d.Seq)
	e.AddString("service", string(d.Service))
	e.AddString("account", d.Account)
	return nil
}

// Env is what a handler is built with.
type Env struct {
	// Name is the instance's, from the configuration.
	Name string
	// Log bears the instance's name already.
	Log *zap.Logger
	// Registerer takes the handler's own metrics, and adds the instance's name to them as the label handler. Open may be called again after it
	// has failed: what it had registered it takes back then, and so does Close.
	Registerer prometheus.Registerer
	// LookupEnv reads callbackd's environment, as os.LookupEnv does.
	LookupEnv func(name string) (value string, ok bool)
}

// Register registers the handler's metrics: all of them, or none. unregister takes them back.
func (e Env) Register(collectors ...prometheus.Collector) (unregister func(), err error) {
	for i, c := range collectors {
		if err := e.Registerer.Register(c); err != nil {
			e.unregister(collectors[:i]) // and not what another bears the name of
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return func() { e.unregister(collectors) }, nil
}

func (e Env) unregister(collectors []prometheus.Collector) {
	for _, c := range collectors {
		e.Registerer.Unregister(c)
	}
}

// Config is the configuration of one handler type: a pointer to a struct whose yaml tags are its keys. The keys type and delivery
// are everybody's and not for it to take.
type Config interface {
	// Validate reports every problem, each beginning with the key it is about and a colon. It touches nothing outside, so that a
	// configuration can be checked on another machine.
	Validate() []error
	// Open builds the handler. Its error says what to do, for it is the operator who reads it. Receiving goes on without the handler,
	// and each delivery calls Open again until it succeeds.
	Open(ctx context.Context, env Env) (Handler, error)
}

// Files is implemented by a [Config] that names files. Paths maps its keys to them; before Validate is called, those that are
// relative are made absolute, from the folder of the configuration file.
type Files interface {
	Paths() map[string]*string
}

// Sole is implemented by a [Config] that names something which no two handlers of its type can share, such as a file to write.
type Sole interface {
	// Sole is the key that names it, and what stands there; empty for nothing.
	Sole() (key, value string)
}

// Warner is implemented by a [Config] that can be right and unwise. Warnings are told as the problems of Validate are, and stop nothing.
type Warner interface {
	Warnings() []error
}

// Type is a type of handler that a configuration can name.
type Type struct {
	// Name is what the configuration says under type: lower case letters and digits.
	Name string
	// Config returns a configuration with the defaults set, for a strict decoder to fill.
	Config func() Config
	// Concurrency is the default for how many deliveries are handled at once; 0 means one, in order.
	Concurrency int
	// TakesTests is set for a type that messages sent as a test go to without further asking.
	TakesTests bool
}
