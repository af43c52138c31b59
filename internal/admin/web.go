package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"
)

// Web is a web-config file of Prometheus's exporter-toolkit: TLS, users and headers of the listener. The toolkit reads it again for each
// connection and each request.
type Web struct {
	// File is its path; empty for none.
	File string
	TLS  bool
	// Users is set if it names users, and Certificates if it asks everybody for a client certificate that it verifies.
	Users, Certificates bool
}

// serve serves as the web-config says, if there is one.
func (s *Server) serve() error {
	web := s.web.Load()
	if web.File == "" {
		return s.http.Serve(s.listener)
	}
	return toolkit.Serve(&probesFirst{Listener: s.listener, server: s.http, probes: s.probes(s.http.Handler)}, s.http,
		&toolkit.FlagConfig{WebConfigFile: &web.File}, slog.New(toZap{s.log}))
}

// probes answers /livez and /readyz: a kubelet has no password, and a file that gives others access must not decide whether callbackd lives.
// Where users are asked for, who names none gets to know the state alone.
func (s *Server) probes(all http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.web.Load().Users {
			w = &firstLine{ResponseWriter: w}
		}
		all.ServeHTTP(w, r)
	})
}

func isProbe(r *http.Request) bool {
	return (r.URL.Path == "/livez" || r.URL.Path == "/readyz") && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Authorization") == ""
}

// firstLine leaves out all of an answer but its first line.
type firstLine struct {
	http.ResponseWriter
	over bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.over {
		return len(p), nil
	}
	line, _, found := strings.Cut(string(p), "\n")
	if f.over = found; found {
		line += "\n"
	}
	if _, err := f.ResponseWriter.Write([]byte(line)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// probesFirst puts the probes before the handler by which the toolkit has replaced the server's own. It does so when the first connection is
// asked for, for that is the first that is heard of the toolkit after it has.
type probesFirst struct {
	net.Listener
	server *http.Server
	probes http.Handler
	once   sync.Once
}

func (l *probesFirst) Accept() (net.Conn, error) {
	l.once.Do(func() {
		guarded := l.server.Handler
		l.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isProbe(r) {
				l.probes.ServeHTTP(w, r)
				return
			}
			guarded.ServeHTTP(w, r)
		})
	})
	return l.Listener.Accept()
}

// toZap writes what the toolkit tells.
type toZap struct{ log *zap.Logger }

func (toZap) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h toZap) Handle(_ context.Context, r slog.Record) error {
	var fields []zap.Field
	r.Attrs(func(a slog.Attr) bool {
		fields = append(fields, zap.String(a.Key, a.Value.String()))
		return true
	})
	if r.Level >= slog.LevelError {
		h.log.Error(r.Message, fields...)
	} else {
		h.log.Warn(r.Message, fields...)
	}
	return nil
}

func (h toZap) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h toZap) WithGroup(string) slog.Handler      { return h }
