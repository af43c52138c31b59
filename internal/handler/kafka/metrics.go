package kafka

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one handler.
type metrics struct {
	records, connects *prometheus.CounterVec
	batches, bytes    prometheus.Counter
	reg               prometheus.Registerer
	registered        []prometheus.Collector
}

// register makes the metrics, with every label set, so that zero shows.
func register(reg prometheus.Registerer, buffered func() int64) (*metrics, error) {
	m := &metrics{reg: reg,
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "kafka", Name: "records_total",
			Help: "Records by what became of them."}, []string{"result"}),
		batches: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "kafka", Name: "batches_total",
			Help: "Batches that brokers took."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "kafka", Name: "batch_bytes_total",
			Help: "Bytes of the batches that brokers took, as compressed."}),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "kafka", Name: "broker_connects_total",
			Help: "Connections to brokers that were begun, by whether they came about."}, []string{"result"}),
	}
	buffering := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "kafka", Name: "buffered_records",
		Help: "Records that wait for the brokers' answers."}, func() float64 { return float64(buffered()) })
	for _, r := range reasons() {
		m.records.WithLabelValues(string(r))
	}
	for _, result := range []string{"done", "failed"} {
		m.connects.WithLabelValues(result)
	}
	for _, c := range []prometheus.Collector{m.records, m.batches, m.bytes, m.connects, buffering} {
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

func (m *metrics) record(r reason) { m.records.WithLabelValues(string(r)).Inc() }

func (m *metrics) connected(err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.connects.WithLabelValues(result).Inc()
}
