package receiver

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the receiver.
type Metrics struct {
	received, acks, refusals, lastTries *prometheus.CounterVec
	violations, extensions, unfamiliar  *prometheus.CounterVec
	ackSeconds                          *prometheus.HistogramVec
	last                                *prometheus.GaugeVec
	open                                *prometheus.GaugeVec
	noRequest                           *prometheus.CounterVec
	inFlightBytes                       prometheus.Gauge
}

// NewMetrics registers the metrics with reg and makes every label set, so that zero shows.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Name: name, Help: help}, append([]string{"service"}, labels...))
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Name: name, Help: help}, append([]string{"service"}, labels...))
		reg.MustRegister(g)
		return g
	}
	m := &Metrics{
		received:   counter("requests_total", "Requests to a listener, WSDL requests aside. Each is either acknowledged or refused."),
		acks:       counter("acks_total", "Callbacks acknowledged, duplicates included."),
		refusals:   counter("refusals_total", "Requests refused, each under exactly one reason.", "reason"),
		lastTries:  counter("refused_last_tries_total", "Refusals of the last attempt that the platform makes by itself: ask its support to resend them."),
		violations: counter("violations_total", "Acceptable callbacks that break the schema."),
		extensions: counter("extensions_total", "Callbacks with elements that the schema does not know."),
		unfamiliar: counter("unfamiliar_media_types_total", "Requests taken although their Content-Type is missing or not XML."),
		last:       gauge("last_ack_timestamp_seconds", "When the last callback was acknowledged; 0 before the first."),
		open:       gauge("connections", "Open connections of the listener, under the first of its services."),
		noRequest:  counter("connections_without_request_total", "Connections closed before a request arrived whole: probes, slow senders, failed TLS handshakes."),
		ackSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "callbackd", Name: "ack_seconds",
			Help:                        "Time from a request's arrival to its acknowledgement. The platform gives up after about 4 s.",
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 4, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"service"}),
		inFlightBytes: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callbackd", Name: "in_flight_bytes", Help: "Bytes of the requests being dealt with."}),
	}
	reg.MustRegister(m.ackSeconds, m.inFlightBytes)
	for _, info := range callback.Catalogue() {
		s := m.service(info.Service)
		for _, r := range append([]refusal{internal}, refusals...) {
			s.refusals.WithLabelValues(s.name, r.reason)
		}
	}
	return m
}

// serviceMetrics are those of one service.
type serviceMetrics struct {
	name                                                               string
	requests, acks, lastTries, violations, extensions, unfamiliarMedia prometheus.Counter
	seconds                                                            prometheus.Observer
	last                                                               prometheus.Gauge
	refusals                                                           *prometheus.CounterVec
}

func (m *Metrics) service(service callback.Service) *serviceMetrics {
	name := string(service)
	return &serviceMetrics{
		name: name, requests: m.received.WithLabelValues(name), acks: m.acks.WithLabelValues(name), lastTries: m.lastTries.WithLabelValues(name),
		violations: m.violations.WithLabelValues(name), extensions: m.extensions.WithLabelValues(name),
		unfamiliarMedia: m.unfamiliar.WithLabelValues(name), seconds: m.ackSeconds.WithLabelValues(name),
		last: m.last.WithLabelValues(name), refusals: m.refusals,
	}
}

func (s *serviceMetrics) acked(at time.Time, took time.Duration) {
	s.requests.Inc()
	s.acks.Inc()
	s.seconds.Observe(took.Seconds())
	s.last.Set(float64(at.UnixMilli()) / 1000)
}

func (s *serviceMetrics) refused(reason string, lastTry bool) {
	s.requests.Inc()
	s.refusals.WithLabelValues(s.name, reason).Inc()
	if lastTry {
		s.lastTries.Inc()
	}
}

func (s *serviceMetrics) judged(m *thingspace.Message, violations []thingspace.Violation) {
	if len(violations) > 0 {
		s.violations.Inc()
	}
	if m.ExtensionCount > 0 {
		s.extensions.Inc()
	}
}

// connectionMetrics count the connections of one listener.
type connectionMetrics struct {
	open      prometheus.Gauge
	noRequest prometheus.Counter
	conns     sync.Map // of net.Conn to *atomic.Bool: whether a request has arrived whole
}

func (m *Metrics) connections(service string) *connectionMetrics {
	return &connectionMetrics{open: m.open.WithLabelValues(service), noRequest: m.noRequest.WithLabelValues(service)}
}

type servedKey struct{}

// begin is the server's ConnContext.
func (c *connectionMetrics) begin(ctx context.Context, conn net.Conn) context.Context {
	served := new(atomic.Bool)
	c.open.Inc()
	c.conns.Store(conn, served)
	return context.WithValue(ctx, servedKey{}, served)
}

// track is the server's ConnState.
func (c *connectionMetrics) track(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	if served, ok := c.conns.LoadAndDelete(conn); ok {
		c.open.Dec()
		if !served.(*atomic.Bool).Load() {
			c.noRequest.Inc()
		}
	}
}

// serve notes that a request has arrived.
func (c *connectionMetrics) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served, ok := r.Context().Value(servedKey{}).(*atomic.Bool); ok {
			served.Store(true)
		}
		next.ServeHTTP(w, r)
	})
}
