// Package receiver is the HTTP edge: one server for each listening address, one intake for each service.
//
//	accept -> network gate -> read, bounded -> soap and thingspace -> credentials -> schema -> inbox.Append -> ack
//
// The promise: a 2xx is sent only after Append has returned; nothing between the two can fail. Every refusal passes the table in
// fault.go, is counted under exactly one reason, and tells the sender whose fault it is. One stalled service leaves the others'
// latency alone: each listener has its own server, connections and limits. All that comes from outside is bounded: connections,
// headers, bodies, time, and the bytes of all requests in flight together.
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
	"callbackd/internal/thingspace"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
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
	// Read bounds one request from its first byte to its last; default 15 s. The platform gives up after about 4.
	Read time.Duration
}

// Options of a Receiver.
type Options struct {
	Listeners []Listener
	Store     Store
	Validator *thingspace.Validator
	// Credentials and Network are pointers to what is in force, so that they can be replaced while requests are served.
	Credentials *atomic.Pointer[auth.CredentialGate]
	Network     *atomic.Pointer[auth.NetworkGate]
	Route       Route
	Ack         Ack
	Limits      Limits
	// InFlight bounds the bytes of all requests in flight; default 256 MiB.
	InFlight int64
	// AckBudget is the time from the arrival of a request within which it has to be acknowledged; one that cannot be is refused
	// at once, so that the platform tries again instead of waiting in vain. Default 3 s.
	AckBudget time.Duration
	Log       *zap.Logger
	Metrics   *Metrics
}

// Receiver serves the listeners.
type Receiver struct {
	o        Options
	budget   *budget
	servers  []*server
	draining atomic.Bool
}

// server is one listening address.
type server struct {
	http     *http.Server
	listener net.Listener
	tls      bool
}

const (
	readHeaderTimeout = 5 * time.Second
	writeTimeout      = 15 * time.Second
	maxHeaderBytes    = 16 << 10
)

// New prepares the servers. Nothing is accepted before Run.
func New(o Options) (*Receiver, error) {
	setDefault(&o.Limits.Connections, 1024)
	setDefault(&o.Limits.Idle, 120*time.Second)
	setDefault(&o.Limits.Read, 15*time.Second)
	setDefault(&o.InFlight, 256<<20)
	setDefault(&o.AckBudget, 3*time.Second)
	setDefault(&o.Ack, AckEnvelope)
	o.Limits.Message = o.Limits.Message.WithDefaults()
	r := &Receiver{o: o, budget: &budget{free: o.InFlight, metric: o.Metrics.inFlightBytes}}
	for _, l := range o.Listeners {
		s, err := r.server(l)
		if err != nil {
			return nil, err
		}
		r.servers = append(r.servers, s)
	}
	return r, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (r *Receiver) server(l Listener) (*server, error) {
	router := chi.NewRouter()
	for _, service := range l.Services {
		in := &intake{Receiver: r, service: service, counters: r.o.Metrics.service(service.Info.Service)}
		path := service.Path
		if path == "" {
			path = "/"
		}
		if path == "/" && len(l.Services) == 1 {
			path = "/*"
		}
		router.Handle(path, in)
	}
	router.NotFound((&wrongPath{r, l.Services}).ServeHTTP)
	names := serviceNames(l.Services)
	log := r.o.Log.With(zap.String("listener", l.Listener.Addr().String()), zap.Strings("services", names))
	errorLog, err := zap.NewStdLogAt(log.Named("http"), zap.DebugLevel)
	if err != nil {
		return nil, fmt.Errorf("prepare log: %w", err)
	}
	connections := r.o.Metrics.connections(names[0])
	h := &http.Server{
		Handler:           connections.serve(router),
		TLSConfig:         l.TLS,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       r.o.Limits.Read,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       r.o.Limits.Idle,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          errorLog,
		ConnContext:       connections.begin,
		ConnState:         connections.track,
		Protocols:         new(http.Protocols),
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(l.TLS != nil)
	inner := netutil.LimitListener(l.Listener, r.o.Limits.Connections)
	return &server{http: h, listener: r.o.Network.Load().WrapListener(inner), tls: l.TLS != nil}, nil
}

func serviceNames(services []Service) []string {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = string(s.Info.Service)
	}
	return names
}

// Run serves until ctx ends, then finishes the requests under way, at most for the length of drain, and returns. A server that
// ends by itself ends them all.
func (r *Receiver) Run(ctx context.Context, drain time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var serving sync.WaitGroup
	for _, s := range r.servers {
		serving.Go(func() {
			if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("serve %s: %w", s.listener.Addr(), err))
			}
		})
	}
	<-ctx.Done()
	err := r.shutdown(drain)
	serving.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

func (s *server) serve() error {
	if s.tls {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

func (r *Receiver) shutdown(drain time.Duration) error {
	r.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	errs := make([]error, len(r.servers))
	var closing sync.WaitGroup
	for i, s := range r.servers {
		closing.Go(func() {
			if err := s.http.Shutdown(ctx); err != nil {
				errs[i] = errors.Join(fmt.Errorf("drain %s: %w", s.listener.Addr(), err), s.http.Close())
			}
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}
