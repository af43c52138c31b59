package dispatch

import (
	"maps"
	"sync"
	"time"

	"callbackd/internal/inbox"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the dispatcher.
type Metrics struct {
	attempts      *prometheus.CounterVec
	seconds, late *prometheus.HistogramVec
	stuck         *prometheus.GaugeVec
	ready         *readiness
	breaker       *prometheus.GaugeVec
	openings      *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "delivery", Name: "attempts_total",
			Help: "Attempts to deliver, by verdict and the reason of one that is not done."}, []string{"handler", "verdict", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "callbackd", Subsystem: "delivery", Name: "attempt_seconds",
			Help: "Duration of one attempt.", Buckets: []float64{.001, .01, .1, .5, 1, 5, 10, 30, 60},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"handler"}),
		late: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "callbackd", Subsystem: "delivery", Name: "lag_seconds",
			Help: "Time from a callback's arrival to the end of its delivery.", Buckets: []float64{.01, .1, 1, 10, 60, 600, 3600, 86400},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100}, []string{"handler"}),
		ready: &readiness{faults: make(map[string]func() string), desc: prometheus.NewDesc("callbackd_delivery_handler_ready",
			"0 while the handler ignores a time-out, has failed several times running or says that it is not ready, else 1.", []string{"handler"}, nil)},
		stuck: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "delivery", Name: "stuck_attempts",
			Help: "Attempts whose handler ignores its time-out."}, []string{"handler"}),
	}
	m.breaker = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "delivery", Name: "breaker_open",
		Help: "1 while the handler is given nothing but probes, because what it was given failed, else 0."}, []string{"handler"})
	m.openings = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "delivery", Name: "breaker_openings_total",
		Help: "How often the handler's breaker opened; probes that fail are not counted."}, []string{"handler"})
	reg.MustRegister(m.breaker, m.openings, m.attempts, m.seconds, m.late, m.stuck, m.ready)
	return m
}

// handlerMetrics are those of one handler, found once.
type handlerMetrics struct {
	done           prometheus.Counter
	failed         *prometheus.CounterVec // by verdict and reason
	seconds, late  prometheus.Observer
	stuck, breaker prometheus.Gauge
	openings       prometheus.Counter
}

// of makes every label set of a handler, so that zero shows.
func (m *Metrics) of(name string) *handlerMetrics {
	for _, reason := range []string{reasonError, reasonTimeout, reasonPanic} {
		m.attempts.WithLabelValues(name, inbox.VerdictRetry.String(), reason)
	}
	for _, reason := range []string{reasonPermanent, reasonExhausted, reasonDecode} {
		m.attempts.WithLabelValues(name, inbox.VerdictBury.String(), reason)
	}
	return &handlerMetrics{
		done:    m.attempts.WithLabelValues(name, inbox.VerdictDone.String(), ""),
		failed:  m.attempts.MustCurryWith(prometheus.Labels{"handler": name}),
		seconds: m.seconds.WithLabelValues(name), late: m.late.WithLabelValues(name),
		stuck: m.stuck.WithLabelValues(name), breaker: m.breaker.WithLabelValues(name), openings: m.openings.WithLabelValues(name),
	}
}

func (m *handlerMetrics) attempt(d decision, took, lag time.Duration) {
	m.seconds.Observe(took.Seconds())
	if d.verdict != inbox.VerdictDone {
		m.failed.WithLabelValues(d.verdict.String(), d.reason).Inc()
		return
	}
	m.done.Inc()
	m.late.Observe(lag.Seconds())
}

// readiness asks the handlers how they stand when it is asked: a destination comes and goes between deliveries, too.
type readiness struct {
	desc *prometheus.Desc

	mu     sync.Mutex
	faults map[string]func() string
}

func (r *readiness) watch(name string, fault func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[name] = fault
}

// Describe implements [prometheus.Collector].
func (r *readiness) Describe(descs chan<- *prometheus.Desc) { descs <- r.desc }

// Collect implements [prometheus.Collector].
func (r *readiness) Collect(metrics chan<- prometheus.Metric) {
	r.mu.Lock()
	faults := maps.Clone(r.faults)
	r.mu.Unlock()
	for name, fault := range faults {
		ready := 1.0
		if fault() != "" {
			ready = 0
		}
		metrics <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, ready, name)
	}
}
