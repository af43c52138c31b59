package receiver

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"
)

// server is one listening address.
type server struct {
	http        *http.Server
	listener    net.Listener
	connections *connections
	memory      *part
	routes      atomic.Pointer[http.Handler]
}

// serveCurrent serves a request by the routes that are in force when it comes.
func (s *server) serveCurrent(w http.ResponseWriter, r *http.Request) {
	(*s.routes.Load()).ServeHTTP(w, r)
}

const (
	// writeTime is what is left for the answer when a request took all of its time to arrive.
	writeTime      = 15 * time.Second
	maxHeaderBytes = 16 << 10
)

// server prepares the server of a listener, whose connections are bounded first, then asked for their PROXY header, then for TLS.
func (r *Receiver) server(l Listener, memory *part) (*server, error) {
	routes, err := r.routes(l.Services, r.o.Ack, memory)
	if err != nil {
		return nil, err
	}
	s := &server{memory: memory}
	s.routes.Store(&routes)
	first := string(l.Services[0].Info.Service)
	log := r.o.Log.With(zap.String("listener", l.Listener.Addr().String()))
	connections := r.o.Metrics.listener(first, r.o.Limits.Connections, log, r.quiet)
	h := &http.Server{
		Handler:           connections.serve(http.HandlerFunc(s.serveCurrent)),
		TLSConfig:         l.TLS.Clone(), // the server adds to it
		ReadHeaderTimeout: r.o.Limits.Head,
		ReadTimeout:       r.o.Limits.Read,
		WriteTimeout:      r.o.Limits.Read + writeTime, // it runs from the end of the head
		IdleTimeout:       r.o.Limits.Idle,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          connections.errorLog(),
		ConnContext:       connections.begin,
		ConnState:         connections.track,
		Protocols:         new(http.Protocols),
		// What HTTP/2 buffers for its streams is outside of the budget, so it is kept small.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 64, MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10},
		// OPTIONS * is refused like every other method.
		DisableGeneralOptionsHandler: true,
	}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetHTTP2(l.TLS != nil)
	bounded := limited(l.Listener, r.o.Limits.Connections)
	s.http, s.connections, s.listener = h, connections, auth.WrapListener(bounded, r.o.Network.Load)
	return s, nil
}

// routes leads every request to an intake, so that each is counted. The service of a listener of its own takes every path, unless
// it has one.
func (r *Receiver) routes(services []Service, ack Ack, memory *part) (http.Handler, error) {
	intake := func(s Service) *intake {
		name := s.Info.Service
		r.o.Metrics.prepare(name)
		return &intake{Receiver: r, service: s, form: ack, memory: memory, counters: r.o.Metrics.service(name),
			log: r.o.Log.With(zap.String("service", string(name)))}
	}
	router, known := chi.NewRouter(), direct{}
	taken := map[string]callback.Service{}
	for _, s := range services {
		path, name := s.Path, s.Info.Service
		if path == "" {
			path = "/"
		}
		if other, ok := taken[path]; ok {
			return nil, fmt.Errorf("path %s: %s and %s cannot share it", path, other, name)
		}
		if path[0] != '/' || strings.ContainsAny(path, "{}*") {
			return nil, fmt.Errorf("path %q of %s: begin it with / and leave out { } *", path, name)
		}
		taken[path] = name
		takes := intake(s)
		known[path] = takes
		if path == "/" && len(services) == 1 {
			path = "/*"
		}
		router.Handle(path, takes)
	}
	for _, s := range services {
		// A URL registered with a slash too many is not to lose its callbacks, unless that is another service's.
		if other := s.Path + "/"; s.Path != "" && taken[other] == "" && !strings.HasSuffix(s.Path, "/") {
			router.Handle(other, intake(s))
		}
	}
	lost := intake(services[0])
	lost.lost = true
	router.NotFound(lost.ServeHTTP)
	router.MethodNotAllowed(lost.ServeHTTP) // a method that the router has never heard of
	known[""] = router
	return known, nil
}

// direct leads the paths that are written out to their intakes, for which a router would make a context and a request of its own, and
// leaves the others to the router, which stands under no path.
type direct map[string]http.Handler

func (d direct) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handler := d[r.URL.Path]
	if handler == nil || r.URL.RawPath != "" {
		handler = d[""]
	}
	handler.ServeHTTP(w, r)
}

func (s *server) serve() error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}
