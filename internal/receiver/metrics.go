package receiver

import (
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the receiver. The values of every label come from the catalogue and from this package, never from a sender.
type Metrics struct {
	requests, acks, unheard, refusals, lastTries, wsdl *prometheus.CounterVec
	violations, unjudged, quarantined, extensions      *prometheus.CounterVec
	misrouted, bare, tests, unfamiliar                 *prometheus.CounterVec
	memoryWaits, noRequest, handshakes, acceptErrors   *prometheus.CounterVec
	duplicates, violationPaths, suppressed             *prometheus.CounterVec
	ackSeconds                                         *prometheus.HistogramVec
	lastAck, connections, connectionLimit              *prometheus.GaugeVec
	inFlightBytes, inFlightLimit                       prometheus.Gauge
	paths                                              map[string]prometheus.Counter // of violationPaths
	disagreements                                      prometheus.Counter
}

// NewMetrics registers the metrics with reg and makes every label set, so that zero shows.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Name: name, Help: help}, append([]string{"service"}, labels...))
		reg.MustRegister(c)
		return c
	}
	gaugeVec := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Name: name, Help: help}, []string{"service"})
		reg.MustRegister(g)
		return g
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callbackd", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	plain := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &Metrics{
		paths:     make(map[string]prometheus.Counter),
		requests:  counter("requests_total", "Requests to a listener. Each is acknowledged, refused, or answered with the WSDL."),
		acks:      counter("acks_total", "Callbacks acknowledged, duplicates included."),
		unheard:   counter("unheard_acks_total", "Callbacks stored whose sender had gone before it was told: its next attempt is a duplicate. Counted in acks_total as well."),
		refusals:  counter("refusals_total", "Requests refused, each under exactly one reason.", "reason"),
		lastTries: counter("refused_last_tries_total", "Refusals of the last attempt that the platform makes by itself: ask its support to resend them. Their log lines name them."),
		wsdl:      counter("wsdl_requests_total", "Requests answered with the WSDL."),

		violations:  counter("violations_total", "Callbacks acknowledged although they break the schema."),
		unjudged:    counter("unjudged_total", "Authentic callbacks on which the validator failed. They count as breaking the schema."),
		quarantined: counter("quarantined_total", "Callbacks acknowledged and held back from the handlers until released."),
		extensions:  counter("extensions_total", "Callbacks acknowledged with elements that the schema does not know."),
		misrouted:   counter("misrouted_total", "Callbacks acknowledged that carry the payload of another service than the listener's."),
		bare:        counter("bare_total", "Callbacks acknowledged that came without a SOAP envelope."),
		duplicates:  counter("duplicates_total", "Callbacks acknowledged that were a further sighting of a stored entry. Counted in acks_total as well."),
		tests:       counter("tests_total", "Callbacks acknowledged that an operator sent as a test."),
		unfamiliar:  counter("unfamiliar_media_types_total", "Requests read although their Content-Type is missing or not XML."),

		violationPaths: plain("schema_violations_total", "Places at which authentic callbacks break the schema, several in a callback, by their paths; other: at none that the schema names.", "path"),
		suppressed:     plain("log_suppressed_total", "Lines of log that were not written: acks by sampling, what is refused by the limit of its reason.", "message", "reason"),

		memoryWaits:     counter("in_flight_waits_total", "Requests that waited for memory, since too many bytes were in flight."),
		noRequest:       counter("connections_without_request_total", "Connections closed before a request's head arrived whole and valid: probes, slow senders, failed TLS handshakes, requests that are not HTTP."),
		handshakes:      counter("tls_handshake_failures_total", "TLS handshakes that failed, and plain HTTP to a port of TLS. Under the first service of the listener."),
		acceptErrors:    counter("accept_errors_total", "Failures to accept a connection, such as having no file descriptor left. Under the first service of the listener."),
		lastAck:         gaugeVec("last_ack_timestamp_seconds", "When the last callback was acknowledged; 0 before the first."),
		connections:     gaugeVec("connections", "Open connections of the listener, under the first of its services."),
		connectionLimit: gaugeVec("connections_limit", "The most connections that the listener has open at once; further ones wait in the system's backlog."),
		inFlightBytes:   gauge("in_flight_bytes", "Memory set aside for the requests being dealt with."),
		inFlightLimit:   gauge("in_flight_limit_bytes", "The most memory that is set aside for requests. Beyond it they wait, and are then refused."),
		ackSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "callbackd", Name: "ack_seconds",
			Help:                        "Time from a request's arrival to its acknowledgement. The platform gives up after about 4 s.",
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 4, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"service"}),
	}
	m.disagreements = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Name: "validator_disagreements_total",
		Help: "Authentic callbacks that the decoder and the second opinion judge differently: one of the two is wrong. They are quarantined, never refused."})
	reg.MustRegister(m.ackSeconds, m.disagreements)
	for _, info := range callback.Catalogue() {
		m.prepare(info.Service)
	}
	for _, path := range append(thingspace.SchemaPaths(), otherPath) {
		m.paths[path] = m.violationPaths.WithLabelValues(path)
	}
	for _, r := range reasons() {
		m.suppressed.WithLabelValues(msgRefused, r)
	}
	m.suppressed.WithLabelValues(msgReceived, reasonSampled)
	m.suppressed.WithLabelValues(msgAccept, reasonAccept)
	return m
}

// otherPath is the path of violations where the schema has no name for the place.
const otherPath = "other"

// reasons are those of all refusals.
func reasons() []string {
	list := []string{internal.reason}
	for _, r := range refusals {
		list = append(list, r.reason)
	}
	return list
}

// prepare makes every label set of a service.
func (m *Metrics) prepare(service callback.Service) {
	s := m.service(service)
	for _, r := range reasons() {
		s.refusals.WithLabelValues(r)
	}
	for _, c := range []*prometheus.CounterVec{m.noRequest, m.handshakes, m.acceptErrors} {
		c.WithLabelValues(string(service))
	}
}

// serviceMetrics are those of one service.
type serviceMetrics struct {
	requests, acks, unheard, lastTries, wsdl, unfamiliar, memoryWaits     prometheus.Counter
	violations, unjudged, quarantined, extensions, misrouted, bare, tests prometheus.Counter
	duplicates                                                            prometheus.Counter

	seconds  prometheus.Observer
	lastAck  prometheus.Gauge
	refusals *prometheus.CounterVec        // by reason
	paths    map[string]prometheus.Counter // of violations, those of Metrics
}

func (m *Metrics) service(service callback.Service) *serviceMetrics {
	name := string(service)
	s := &serviceMetrics{paths: m.paths,
		seconds: m.ackSeconds.WithLabelValues(name), lastAck: m.lastAck.WithLabelValues(name),
		refusals: m.refusals.MustCurryWith(prometheus.Labels{"service": name}),
	}
	for _, c := range []struct {
		counter *prometheus.Counter
		of      *prometheus.CounterVec
	}{
		{&s.requests, m.requests}, {&s.acks, m.acks}, {&s.unheard, m.unheard}, {&s.lastTries, m.lastTries}, {&s.wsdl, m.wsdl},
		{&s.unfamiliar, m.unfamiliar}, {&s.memoryWaits, m.memoryWaits}, {&s.violations, m.violations}, {&s.unjudged, m.unjudged},
		{&s.quarantined, m.quarantined}, {&s.extensions, m.extensions}, {&s.misrouted, m.misrouted}, {&s.bare, m.bare}, {&s.tests, m.tests},
		{&s.duplicates, m.duplicates},
	} {
		*c.counter = c.of.WithLabelValues(name)
	}
	return s
}

// count counts a request that has ended.
func (s *serviceMetrics) count(e *event, took time.Duration) {
	s.requests.Inc()
	countIf(s.unfamiliar, e.unfamiliar)
	for _, v := range e.violations {
		path := v.Path
		if s.paths[path] == nil {
			path = otherPath
		}
		s.paths[path].Inc()
	}
	switch e.outcome {
	case described:
		s.wsdl.Inc()
	case refused:
		s.refusals.WithLabelValues(e.refusal.reason).Inc()
		countIf(s.lastTries, e.letter.last())
	case acked:
		s.acks.Inc()
		s.seconds.Observe(took.Seconds())
		s.lastAck.SetToCurrentTime()
		countIf(s.unheard, e.unheard)
		countIf(s.duplicates, e.receipt.Duplicate)
		countIf(s.violations, len(e.violations) > 0)
		countIf(s.quarantined, e.held)
		countIf(s.extensions, e.message.ExtensionCount > 0)
		countIf(s.misrouted, e.misrouted)
		countIf(s.bare, e.message.SOAP == soap.Bare)
		countIf(s.tests, e.entry.Facts.Test)
	}
}

func countIf(c prometheus.Counter, yes bool) {
	if yes {
		c.Inc()
	}
}
