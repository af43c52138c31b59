package auth

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"callbackd/internal/callback"
)

// refusal is why the PROXY protocol was refused: a value of the label "reason".
type refusal string

const (
	refusedMissing    refusal = "missing"    // a trusted peer sent something else
	refusedUnexpected refusal = "unexpected" // a peer that is not trusted sent a header
	refusedMalformed  refusal = "malformed"  // a header that cannot be read, or names no TCP address
	refusedTimeout    refusal = "timeout"    // a header that did not come, or not whole, in time
)

// Metrics outlive the gates, which a reload replaces. A nil *Metrics counts nothing.
type Metrics struct {
	matches  *prometheus.CounterVec
	failures *prometheus.CounterVec
	unknown  *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

// NewMetrics registers the metrics and shows their zeros. It panics when they are registered already. Label values come from
// the catalogue, the configuration and this package, never from a sender.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	with := promauto.With(reg)
	m := &Metrics{
		matches: with.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_credential_matches_total",
			Help: "Callbacks by the pair of user name and password that they bore. An old pair that stands still has gone silent.",
		}, []string{"service", "label", "id"}),
		failures: with.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_credential_failures_total",
			Help: "Callbacks refused because their user name and password match no configured pair.",
		}, []string{"service"}),
		unknown: with.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_source_address_unknown_total",
			Help: "Requests from an address that is not in network.allow or could not be told: let in when the mode is observe, " +
				"refused when it is enforce.",
		}, []string{"service", "mode"}),
		refused: with.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_proxy_protocol_refused_total",
			Help: "Connections closed because of the PROXY protocol, by reason: missing, unexpected, malformed or timeout.",
		}, []string{"reason"}),
	}
	for _, s := range allServices() {
		m.failures.WithLabelValues(string(s))
	}
	for _, r := range []refusal{refusedMissing, refusedUnexpected, refusedMalformed, refusedTimeout} {
		m.refused.WithLabelValues(string(r))
	}
	return m
}

// credential shows a pair's zero, and returns what counts the callbacks that bear it.
func (m *Metrics) credential(s callback.Service, match Match) func() {
	if m == nil {
		return func() {}
	}
	m.failures.WithLabelValues(string(s))
	return m.matches.WithLabelValues(string(s), match.Label, match.ID).Inc
}

func (m *Metrics) countMismatch(s callback.Service) {
	if m != nil {
		m.failures.WithLabelValues(string(s)).Inc()
	}
}

func (m *Metrics) showMode(mode Mode) {
	if m == nil {
		return
	}
	for _, s := range allServices() {
		m.unknown.WithLabelValues(string(s), string(mode))
	}
}

func (m *Metrics) countUnknown(s callback.Service, mode Mode) {
	if m != nil {
		m.unknown.WithLabelValues(string(s), string(mode)).Inc()
	}
}

func (m *Metrics) countRefused(reason refusal) {
	if m != nil {
		m.refused.WithLabelValues(string(reason)).Inc()
	}
}
