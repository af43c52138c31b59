// Package receiver is the HTTP edge: one server for each listening address, one intake for each service.
//
//	accept -> network gate -> read, bounded -> soap and thingspace -> credentials -> schema -> inbox.Append -> ack
//	                  |                |                  |                |            |             |
//	                  +----------------+------------------+----------------+------------+-------------+--> fault.go -> a SOAP fault
//
// The promise: a 2xx is sent only after Append has returned; nothing between the two can fail. Every refusal passes the table in
// fault.go, is counted under exactly one reason, and tells the sender whose fault it is. One stalled service leaves the others'
// latency alone: each listener has its own server, connections and limits, and memory that no other can take. All that comes from
// outside is bounded: connections, headers, bodies, time, and the memory of all requests in flight together.
//
// The limits: HTTP/1.1, and HTTP/2 over TLS. Nothing is streamed into the store: a message is in memory while it is dealt with.
package receiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/soap"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Store is the inbox as the receiver needs it.
type Store interface {
	Append(ctx context.Context, a inbox.Arrival) (inbox.Receipt, error)
}

// Validation says what becomes of an authentic message that breaks the schema.
type Validation string

const (
	Enforce    Validation = "enforce"    // it is refused: the platform tries again, in vain, and it is lost
	Quarantine Validation = "quarantine" // it is stored, acknowledged, and held back from the handlers until released
	Observe    Validation = "observe"    // it is stored, acknowledged and delivered; its violations are counted
)

// Ack is the form of an acknowledgement.
type Ack string

const (
	AckEnvelope Ack = "envelope" // a SOAP envelope with an empty Body
	AckEmpty    Ack = "empty"    // no body at all
)

// Listener is one address with the services behind it.
type Listener struct {
	// Listener is the bound socket, so that an address in use is told before anything starts.
	Listener net.Listener
	TLS      *tls.Config
	Services []Service
}

// Service is a callback service on a listener.
type Service struct {
	Info       callback.Info
	Validation Validation
	// Path is where its messages arrive. "/" takes every path, if no other service shares the listener.
	Path string
	// PublicURL is the address that its WSDL names; empty: that of the request.
	PublicURL string
}

// Route names the handlers that a callback goes to.
type Route func(service callback.Service, kind callback.Kind, test TestMode) []string

// TestMode says whether a message was sent by an operator as a test.
type TestMode uint8

const (
	NotTest     TestMode = iota
	Test                 // to the handlers that take tests
	TestDeliver          // to all that a real message would go to
)

// Limits of each listener. Zero fields mean the defaults.
type Limits struct {
	Connections int // at once, on one listener; default 1,024
	Message     soap.Limits
	// Idle bounds how long a connection is kept between two requests; default 120 s.
	Idle time.Duration
	// Head bounds the head of a request, and a TLS handshake; default 5 s.
	Head time.Duration
	// Read bounds one request from its first byte to its last; default 15 s. The platform gives up after about 4.
	Read time.Duration
}

// Options of a Receiver.
type Options struct {
	Listeners []Listener
	Store     Store
	// SecondOpinion is asked about messages that the decoder finds fault with or, as Engine says, about all. Default Fast.
	SecondOpinion SecondOpinion
	Engine        Engine
	// Credentials and Network are pointers to what is in force, so that they can be replaced while requests are served.
	Credentials *atomic.Pointer[auth.CredentialGate]
	Network     *atomic.Pointer[auth.NetworkGate]
	Route       Route
	Ack         Ack
	Limits      Limits
	// InFlight bounds the memory of all requests in flight: of each message its bytes and a copy. Half of it is for all, the other
	// half is parted among the listeners, for each alone. A request that finds none left waits for a quarter of AckBudget and is then
	// refused. Default 256 MiB.
	InFlight int64
	// AckBudget is the time within which a message that has arrived has to be acknowledged; one that cannot be is refused at once,
	// so that the platform tries again instead of waiting in vain. Default 3 s.
	AckBudget time.Duration
	// Shed says why nothing may be taken now, which is answered before the body is read: an error that wraps [ErrDiskFull]. Nil takes
	// everything, and so does an answer of nil.
	Shed func() error
	// LogOneAckIn is how many acknowledgements with nothing out of the ordinary are told by one line of log; default 1, each.
	LogOneAckIn int
	// LogRefusals bounds the lines of log a minute about refusals on one service for one reason. What the platform will not send again by
	// itself is always told. 0 is no bound.
	LogRefusals int
	Log         *zap.Logger
	Metrics     *Metrics
	// Tracer makes a span of each request; nil makes none, and costs nothing.
	Tracer trace.Tracer
}

// Receiver serves the listeners.
type Receiver struct {
	o       Options
	servers []*server
	memory  *budget
	quiet   *quiet
	state   atomic.Uint32 // idle, serving, draining
	up      chan struct{} // closed when it serves
}

const (
	idle uint32 = iota
	serving
	draining
)

// New prepares the servers. Nothing is accepted before Run.
func New(o Options) (*Receiver, error) {
	setDefault(&o.Limits.Connections, 1024)
	setDefault(&o.Limits.Idle, 120*time.Second)
	setDefault(&o.Limits.Head, 5*time.Second)
	setDefault(&o.Limits.Read, 15*time.Second)
	setDefault(&o.InFlight, 256<<20)
	setDefault(&o.AckBudget, 3*time.Second)
	setDefault(&o.Ack, AckEnvelope)
	setDefault(&o.LogOneAckIn, 1)
	setDefault(&o.Engine, Fast)
	o.Limits.Message = o.Limits.Message.WithDefaults()
	if least := 4 * int64(o.Limits.Message.Bytes); o.InFlight < least {
		return nil, fmt.Errorf("%d bytes in flight are less than four times the largest message: at least %d", o.InFlight, least)
	}
	o.Metrics.inFlightLimit.Add(float64(o.InFlight))
	r := &Receiver{o: o, memory: newBudget(o.InFlight, len(o.Listeners), o.Metrics.inFlightBytes), up: make(chan struct{}),
		quiet: newQuiet(o.Log, o.Metrics.suppressed)}
	for _, l := range o.Listeners {
		s, err := r.server(l, &part{budget: r.memory})
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Listener.Addr(), err)
		}
		r.servers = append(r.servers, s)
	}
	return r, nil
}

// Terms are what can be replaced while requests are served.
type Terms struct {
	Ack Ack
	// Services are those of each listener, in the order of [Options.Listeners].
	Services [][]Service
}

// Replace puts other terms in force, all or none. A request that has begun ends by those that it began with.
func (r *Receiver) Replace(t Terms) error {
	setDefault(&t.Ack, AckEnvelope)
	if len(t.Services) != len(r.servers) {
		return fmt.Errorf("services of %d listeners, and there are %d", len(t.Services), len(r.servers))
	}
	routes := make([]http.Handler, len(r.servers))
	for i, s := range r.servers {
		var err error
		if routes[i], err = r.routes(t.Services[i], t.Ack, s.memory); err != nil {
			return fmt.Errorf("listener %s: %w", s.listener.Addr(), err)
		}
	}
	for i, s := range r.servers {
		s.routes.Store(&routes[i])
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Status is nil while every listener takes requests.
func (r *Receiver) Status() error {
	switch r.state.Load() {
	case idle:
		return errors.New("not receiving yet")
	case draining:
		return errors.New("not receiving any more")
	}
	return nil
}

// Receiving is closed once every listener takes requests.
func (r *Receiver) Receiving() <-chan struct{} { return r.up }

// Alive returns, unless what every request needs has got stuck for good.
func (r *Receiver) Alive() {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
}

// Run serves until ctx ends, then finishes the requests under way, at most for the length of drain, and returns. A server that
// ends by itself ends them all.
func (r *Receiver) Run(ctx context.Context, drain time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watched, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var quiet, servers sync.WaitGroup
	quiet.Go(func() { r.quiet.run(watched) })
	defer quiet.Wait()
	defer unwatch()
	for _, s := range r.servers {
		servers.Go(func() {
			if err := s.serve(); ctx.Err() == nil { // else it was closed
				stop(fmt.Errorf("serve %s: %w", s.listener.Addr(), err))
			}
		})
	}
	r.state.Store(serving)
	close(r.up)
	<-ctx.Done()
	r.state.Store(draining)
	err := r.drain(drain, servers.Wait)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}
