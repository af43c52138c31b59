package nats

import (
	"sync"

	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one handler.
type metrics struct {
	messages, connects *prometheus.CounterVec
	unregister         func()
}

// register makes the metrics, with every label set, so that zero shows.
func register(env handler.Env, connected func() bool) (*metrics, error) {
	m := &metrics{
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
	unregister, err := env.Register(m.messages, m.connects, up)
	m.unregister = sync.OnceFunc(unregister) // another may have registered them since
	return m, err
}

func (m *metrics) message(r reason) { m.messages.WithLabelValues(string(r)).Inc() }

func (m *metrics) connected(done bool) {
	result := "failed"
	if done {
		result = "done"
	}
	m.connects.WithLabelValues(result).Inc()
}
