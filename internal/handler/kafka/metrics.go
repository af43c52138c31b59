package kafka

import (
	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one handler.
type metrics struct {
	records, connects *prometheus.CounterVec
	batches, bytes    prometheus.Counter
	unregister        func()
}

// register makes the metrics, with every label set, so that zero shows.
func register(env handler.Env, buffered func() int64) (m *metrics, err error) {
	m = &metrics{
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
	m.unregister, err = env.Register(m.records, m.batches, m.bytes, m.connects, buffering)
	return m, err
}

func (m *metrics) record(r reason) { m.records.WithLabelValues(string(r)).Inc() }

func (m *metrics) connected(err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.connects.WithLabelValues(result).Inc()
}
