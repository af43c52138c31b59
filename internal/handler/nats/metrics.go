package nats

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one handler.
type metrics struct {
	messages, connects *prometheus.CounterVec
	reg                prometheus.Registerer
	registered         []prometheus.Collector
}

// register makes the metrics, with every label set, so that zero shows.
func register(reg prometheus.Registerer, connected func() bool) (*metrics, error) {
	m := &metrics{reg: reg,
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "nats", Name: "messages_total",
			Help: "Messages by what became of them."}, []string{"result"}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "nats", Name: "connects_total",
			Help: "Connections to servers that were begun, by whether they came about."}, []string{"result"}),
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "nats", Name: "connected",
		Help: "Whether there is a connection to a server."}, func() float64 {
		if connected() {
			return 1
		}
		return 0
	})
	for _, r := range reasons() {
		m.messages.WithLabelValues(string(r))
	}
	for _, result := range []string{"done", "failed"} {
		m.connects.WithLabelValues(result)
	}
	for _, c := range []prometheus.Collector{m.messages, m.connects, up} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register metrics: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

// unregister takes back what was registered, and not what another bears the name of.
func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
	m.registered = nil
}

func (m *metrics) message(r reason) { m.messages.WithLabelValues(string(r)).Inc() }

func (m *metrics) connected(done bool) {
	result := "failed"
	if done {
		result = "done"
	}
	m.connects.WithLabelValues(result).Inc()
}
