// Package admin is the second listener, for operators and their tools, and the control socket, for the command line.
//
//	admin.listen       /livez /readyz /metrics   whoever can reach it; it changes nothing and tells nothing of any callback
//	                   /api/v1/...               whoever has the token of admin.token_file; nobody, without such a file
//	                   /debug/pprof/...          whoever has the token; without one, whom the web-config identifies, and this machine
//	control.sock, 0600 /api/v1/...               the owner of data_dir alone
//
// The promise: /livez says that the process can answer, and touches nothing else, for a restart mends no dependency. /readyz
// fails only for what stops acknowledging; whatever else is not as it should be is named in its answer and does not fail it, for a
// broken handler must never cost a callback.
//
// The API is a set of operations, each a POST of a JSON object that is answered with one. What fails is answered with its [Code] and a
// text, and the status that the code has:
//
//	POST /api/v1/handler/pause {"handler": "events"}   200 {"handler": "events", "paused": true, "changed": true}
//	POST /api/v1/handler/pause {"handler": "evnts"}    404 {"error": "no handler \"evnts\" is configured", "code": "not_found"}
//
// Every request is logged with its operation and the way that it came in by, and nothing of what it says.
//
// The limits: the listener speaks plain HTTP unless admin.web_config_file says otherwise, by which it has TLS, users, client certificates or
// all three; what is outside may not reach it without. /livez and /readyz ask for no user, for a kubelet has none to name: without one they tell
// the state alone. Client certificates come before all that, and a kubelet has none of those either.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// Check is one thing that readiness asks.
type Check struct {
	Name string
	// Essential checks fail readiness: without this, nothing is acknowledged. The others say what is degraded.
	Essential bool
	// Run MUST return when ctx ends. Its error is shown to operators, so it MUST hold nothing of a callback.
	Run func(ctx context.Context) error
}

// Options of a Server.
type Options struct {
	Listener net.Listener
	Registry *prometheus.Registry
	Checks   []Check
	// API is served to who knows the Token; to nobody, if that is empty.
	API   *API
	Token string
	Web   Web
	// Log takes what goes wrong with requests; nil logs nothing.
	Log *zap.Logger
}

// Server is the admin listener.
type Server struct {
	listener net.Listener
	http     *http.Server
	web      atomic.Pointer[Web]
	log      *zap.Logger
	api      *entrance // nil without a token
}

// mostConnections and mostScrapes bound what the listener does at once.
const (
	mostConnections = 64
	mostScrapes     = 4
)

// New prepares the server. Nothing is accepted before Run.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	errorLog := zap.NewStdLog(o.Log)
	checks := checks(o.Checks)
	o.Registry.MustRegister(checks)
	router := chi.NewRouter()
	get := func(path string, handler http.HandlerFunc) {
		router.Get(path, handler)
		router.Head(path, handler) // net/http leaves the body out
	}
	get("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	get("/readyz", checks.readyz)
	get("/metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: mostScrapes, ErrorLog: errorLog,
		ErrorHandling: promhttp.ContinueOnError, // one metric that cannot be had is no reason to be blind to the others
	}).ServeHTTP)
	s := &Server{log: o.Log, listener: netutil.LimitListener(o.Listener, mostConnections)}
	s.web.Store(&o.Web)
	profiles := &profiles{identified: s.identifies, busy: make(chan struct{}, 1), log: o.Log}
	if o.API != nil && o.Token != "" {
		profiles.api = o.API.withToken(o.Token)
		router.Mount(prefix, profiles.api)
	}
	router.Get(profilesPrefix+"*", profiles.ServeHTTP)
	s.api = profiles.api
	s.http = &http.Server{
		Handler: router, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: errorLog,
	}
	return s
}

// SetWeb notes what has become of the web-config, which the listener itself has read already.
func (s *Server) SetWeb(web Web) { s.web.Store(&web) }

// identifies reports whether nobody is let in whom the web-config does not know.
func (s *Server) identifies() bool {
	web := s.web.Load()
	return web.Users || web.Certificates
}

// SetToken replaces the token of the API, for requests that come from now on. A server that was made without one stays without the API.
func (s *Server) SetToken(token string) {
	if s.api != nil && token != "" {
		s.api.setToken(token)
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error { return run(ctx, s.http, s.serve, "admin") }

func run(ctx context.Context, server *http.Server, serve func() error, what string) error {
	var silent silent
	server.ConnState = silent.track
	server.BaseContext = func(net.Listener) context.Context { return ctx } // what is under way at the end is told so
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", what, err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	const grace = 100 * time.Millisecond
	defer time.AfterFunc(grace, silent.close).Stop()
	err := server.Shutdown(closing)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop %s: %w", what, err), server.Close())
	}
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// silent are the connections on which nothing was asked, such as those of a health check that only connects. net/http waits for each until
// it is 5 s old, and that would hold up the end of the process.
type silent struct{ conns sync.Map }

func (s *silent) track(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.conns.Store(c, nil)
	} else {
		s.conns.Delete(c)
	}
}

func (s *silent) close() {
	s.conns.Range(func(c, _ any) bool {
		_ = c.(net.Conn).Close() // it is on its way out
		return true
	})
}

// checks are asked by /readyz, and as a metric by each scrape.
type checks []Check

// result is one line of /readyz.
type result struct {
	Name      string `json:"name"`
	Ready     bool   `json:"ready"`
	Essential bool   `json:"essential"`
	Cause     string `json:"cause,omitempty"`
}

// run asks all checks, which together have 2 s: a probe waits no longer, as a rule.
func (c checks) run(ctx context.Context) []result {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	results := make([]result, len(c))
	for i, check := range c {
		results[i] = result{Name: check.Name, Ready: true, Essential: check.Essential}
		if err := check.Run(ctx); err != nil {
			results[i].Ready, results[i].Cause = false, err.Error()
		}
	}
	return results
}

// state sums results up.
type state string

const (
	ready    state = "ready"
	degraded state = "degraded" // and ready all the same
	notReady state = "not ready"
)

func sum(results []result) state {
	s := ready
	for _, r := range results {
		switch {
		case r.Ready:
		case r.Essential:
			return notReady
		default:
			s = degraded
		}
	}
	return s
}

func (c checks) readyz(w http.ResponseWriter, r *http.Request) {
	results := c.run(r.Context())
	s := sum(results)
	status := http.StatusOK
	if s == notReady {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(struct { // the client may be gone
			State  state    `json:"state"`
			Checks []result `json:"checks"`
		}{s, results})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, s)
	for _, result := range results {
		result.print(w)
	}
}

func (r result) print(w io.Writer) {
	switch {
	case r.Ready:
		fmt.Fprintf(w, "%s: ok\n", r.Name)
	case r.Essential:
		fmt.Fprintf(w, "%s: failed: %s\n", r.Name, r.Cause)
	default:
		fmt.Fprintf(w, "%s: degraded: %s\n", r.Name, r.Cause)
	}
}

// readyDesc has no value that is not asked for: one that waited for somebody to call /readyz would be wrong where nobody does.
var readyDesc = prometheus.NewDesc("callbackd_ready", "1 while a check of /readyz passes.", []string{"check"}, nil)

// Describe implements [prometheus.Collector].
func (c checks) Describe(descs chan<- *prometheus.Desc) { descs <- readyDesc }

// Collect implements [prometheus.Collector].
func (c checks) Collect(metrics chan<- prometheus.Metric) {
	for _, r := range c.run(context.Background()) {
		value := 0.0
		if r.Ready {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, value, r.Name)
	}
}
