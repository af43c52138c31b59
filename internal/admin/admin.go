// Package admin is the second listener, for operators and their tools: /livez, /readyz and /metrics.
//
// The promise: /livez says that the process can answer, and touches nothing else, for a restart mends no dependency. /readyz
// fails only for what stops acknowledging; whatever else is not as it should be is named in its answer and does not fail it, for a
// broken handler must never cost a callback.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that readiness asks.
type Check struct {
	Name string
	// Essential checks fail readiness: without this, nothing is acknowledged.
	Essential bool
	Run       func(ctx context.Context) error
}

// Options of a Server.
type Options struct {
	Listener net.Listener
	Registry *prometheus.Registry
	Checks   []Check
}

// Server is the admin listener.
type Server struct {
	o    Options
	http *http.Server
}

// New prepares the server. Nothing is accepted before Run.
func New(o Options) *Server {
	s := &Server{o: o}
	ready := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Name: "ready",
		Help: "1 while a check of /readyz passes, as of its last call."}, []string{"check"})
	o.Registry.MustRegister(ready)
	for _, c := range o.Checks {
		ready.WithLabelValues(c.Name)
	}
	router := chi.NewRouter()
	router.Get("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	router.Get("/readyz", func(w http.ResponseWriter, r *http.Request) { s.readyz(w, r, ready) })
	router.Handle("/metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	s.http = &http.Server{
		Handler: router, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return s
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error { return run(ctx, s.http, s.o.Listener, "admin") }

func run(ctx context.Context, server *http.Server, l net.Listener, what string) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", what, err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := server.Shutdown(closing)
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// readyResult is one line of /readyz.
type readyResult struct {
	Name      string `json:"name"`
	Ready     bool   `json:"ready"`
	Essential bool   `json:"essential"`
	Cause     string `json:"cause,omitempty"`
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request, metric *prometheus.GaugeVec) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	status := http.StatusOK
	results := make([]readyResult, 0, len(s.o.Checks))
	for _, c := range s.o.Checks {
		result := readyResult{Name: c.Name, Ready: true, Essential: c.Essential}
		if err := c.Run(ctx); err != nil {
			result.Ready, result.Cause = false, err.Error()
			if c.Essential {
				status = http.StatusServiceUnavailable
			}
		}
		value := 0.0
		if result.Ready {
			value = 1
		}
		metric.WithLabelValues(c.Name).Set(value)
		results = append(results, result)
	}
	if slices.Contains(strings.Split(r.Header.Get("Accept"), ","), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(results) // the client may be gone
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	for _, result := range results {
		mark := "ok"
		if !result.Ready {
			mark = "not ready: " + result.Cause
		}
		fmt.Fprintf(w, "%s: %s\n", result.Name, mark)
	}
}
