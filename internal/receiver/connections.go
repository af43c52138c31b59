package receiver

import (
	"context"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// connections counts the connections of one listener, and what goes wrong with them before a request is there.
type connections struct {
	open                                prometheus.Gauge
	noRequest, handshakes, acceptErrors prometheus.Counter
	service                             string
	log                                 *zap.Logger
	quiet                               *quiet
	served                              sync.Map // of net.Conn to *atomic.Bool: whether a request has arrived
}

func (m *Metrics) listener(service string, limit int, log *zap.Logger, quiet *quiet) *connections {
	m.connectionLimit.WithLabelValues(service).Set(float64(limit))
	return &connections{
		open: m.connections.WithLabelValues(service), noRequest: m.noRequest.WithLabelValues(service),
		handshakes: m.handshakes.WithLabelValues(service), acceptErrors: m.acceptErrors.WithLabelValues(service), service: service, log: log, quiet: quiet,
	}
}

type servedKey struct{}

// begin is the server's ConnContext. It MUST NOT ask the connection for its addresses, which may wait for a PROXY header.
func (c *connections) begin(ctx context.Context, conn net.Conn) context.Context {
	served := new(atomic.Bool)
	c.open.Inc()
	c.served.Store(conn, served)
	return context.WithValue(ctx, servedKey{}, served)
}

// track is the server's ConnState. What is said of begin holds for it too.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	if served, ok := c.served.LoadAndDelete(conn); ok {
		c.open.Dec()
		if !served.(*atomic.Bool).Load() {
			c.noRequest.Inc()
		}
	}
}

// serve notes that a request has arrived.
func (c *connections) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served, ok := r.Context().Value(servedKey{}).(*atomic.Bool); ok {
			served.Store(true)
		}
		next.ServeHTTP(w, r)
	})
}

// any reports whether there is a connection on which a request has arrived, or one on which none has.
func (c *connections) any(served bool) (found bool) {
	c.served.Range(func(_, has any) bool {
		found = has.(*atomic.Bool).Load() == served
		return !found
	})
	return found
}

// closeSilent closes the connections on which no request has arrived. Nothing that was sent on them was acknowledged.
func (c *connections) closeSilent() {
	c.served.Range(func(conn, served any) bool {
		if !served.(*atomic.Bool).Load() {
			_ = conn.(net.Conn).Close() // it is on its way out
		}
		return true
	})
}

// errorLog is what net/http has to say. Most of it can be brought about by anyone who can connect, so it is counted, and logged for
// those who debug; what concerns the host is logged for all.
func (c *connections) errorLog() *log.Logger { return log.New(errorLog{c}, "", 0) }

type errorLog struct{ *connections }

func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	switch {
	case strings.HasPrefix(text, "http: TLS handshake error"):
		l.handshakes.Inc()
		l.log.Debug("TLS handshake failed", zap.String("error", shown(text)))
	case strings.HasPrefix(text, "http: Accept error"):
		l.acceptErrors.Inc()
		if l.quiet.allows(flood{l.service, msgAccept, reasonAccept}, acceptLines) {
			l.log.Warn(msgAccept, zap.String("error", shown(text)))
		}
	case strings.Contains(text, "panic serving"):
		l.log.Error("panic in the HTTP server", zap.String("error", text))
	default:
		l.log.Debug("HTTP server", zap.String("error", shown(text)))
	}
	return len(line), nil
}
