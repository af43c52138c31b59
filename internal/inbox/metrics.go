package inbox

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of a store. One store, one set.
type Metrics struct {
	appendSeconds, commitSeconds, taskSeconds, batchSize prometheus.Histogram
	queued, queuedSettlements, available                 prometheus.Gauge
	failedAppends                                        *prometheus.CounterVec // by reason

	Entries      prometheus.Counter
	Duplicates   prometheus.Counter
	Repeats      prometheus.Counter
	Corrupt      prometheus.Counter
	Unsettled    prometheus.Counter
	Pruned       prometheus.Counter
	Checkpoints  prometheus.Counter
	Bytes        prometheus.Gauge
	WALBytes     prometheus.Gauge
	RetentionDue prometheus.Gauge
	Quarantined  prometheus.Gauge
	Pending      *prometheus.GaugeVec // by handler
	DeadLetters  *prometheus.GaugeVec // by handler
	Paused       *prometheus.GaugeVec // by handler: 1 while it is
	Lag          *Lag
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "callbackd", Subsystem: "inbox", Name: name, Help: help,
			Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		})
		reg.MustRegister(h)
		return h
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "inbox", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "inbox", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10}
	m := &Metrics{
		appendSeconds:     histogram("append_seconds", "Time from queueing an arrival to its durable commit.", seconds),
		commitSeconds:     histogram("commit_seconds", "Duration of one transaction, sync included.", seconds),
		taskSeconds:       histogram("task_seconds", "Duration of one task between two transactions, for which acks wait.", seconds),
		batchSize:         histogram("batch_appends", "Arrivals in one transaction.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}),
		queued:            gauge("queued_appends", "Arrivals waiting for a transaction."),
		queuedSettlements: gauge("queued_settlements", "Ends of attempts waiting for a transaction."),
		available:         gauge("available", "1 while the store takes arrivals, 0 while it refuses them."),
		Entries:           counter("entries_total", "Entries stored."),
		Duplicates:        counter("duplicates_total", "Arrivals that were a further sighting of a stored entry."),
		Repeats:           counter("repeats_total", "Entries without a RequestId that are suspected to repeat an earlier one."),
		Corrupt:           counter("corrupt_entries_total", "Entries read whose bytes do not match their digest."),
		Unsettled:         counter("failed_settlements_total", "Ends of attempts that the store cannot record; those deliveries are made again after a restart."),
		Pruned:            counter("pruned_entries_total", "Entries that retention removed."),
		Checkpoints:       counter("checkpoints_total", "Completed checkpoints of the write-ahead log."),
		Bytes:             gauge("bytes", "Bytes of the database in use, as of the last maintenance."),
		WALBytes:          gauge("wal_bytes", "Size of the write-ahead log, as of the last maintenance."),
		RetentionDue:      gauge("retention_blocked_entries", "Entries past retention that are kept because they are undelivered, dead or quarantined."),
		Quarantined:       gauge("quarantined_entries", "Entries held back from handlers until released."),
	}
	for _, v := range []struct {
		vec        **prometheus.GaugeVec
		name, help string
	}{
		{&m.Pending, "pending_deliveries", "Deliveries still to be made."},
		{&m.DeadLetters, "dead_letters", "Deliveries that were buried."},
		{&m.Paused, "handler_paused", "1 while an operator has paused the handler, else 0."},
	} {
		*v.vec = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "inbox", Name: v.name, Help: v.help}, []string{"handler"})
		reg.MustRegister(*v.vec)
	}
	m.Lag = &Lag{desc: prometheus.NewDesc("callbackd_inbox_oldest_pending_age_seconds",
		"Age of the oldest callback that is still to be delivered, since its arrival; 0 if there is none.", []string{"handler"}, nil)}
	reg.MustRegister(m.Lag)
	m.failedAppends = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "inbox", Name: "failed_appends_total",
		Help: "Arrivals that were not stored."}, []string{"reason"})
	reg.MustRegister(m.failedAppends)
	for _, f := range failures {
		m.failedAppends.WithLabelValues(f.reason)
	}
	m.failedAppends.WithLabelValues(otherFailure)
	m.available.Set(1)
	return m
}

// Lag shows how old the oldest callback is that each handler has yet to get. It grows between two measurements, and a scrape costs no query.
type Lag struct {
	desc    *prometheus.Desc
	mu      sync.Mutex
	pending map[string]int
	oldest  map[string]time.Time
}

// Add changes how many deliveries a handler has pending. With none there is no oldest.
func (l *Lag) Add(handler string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		l.pending = make(map[string]int)
	}
	if l.pending[handler] += n; l.pending[handler] == 0 {
		delete(l.oldest, handler)
	}
}

// Set gives the times of arrival that were measured, by handler; zero for a handler with nothing to get.
func (l *Lag) Set(oldest map[string]time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oldest = oldest
}

// Describe implements [prometheus.Collector].
func (l *Lag) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

// Collect implements [prometheus.Collector].
func (l *Lag) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range l.pending {
		age := 0.0
		if at := l.oldest[name]; n > 0 && !at.IsZero() {
			age = max(0, time.Since(at).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, age, name)
	}
}

// failures are the reasons for which an append fails.
var failures = [...]struct {
	is     error
	reason string
}{{ErrBroken, "broken"}, {ErrOverloaded, "overloaded"}, {ErrUnavailable, "unavailable"}, {ErrClosed, "closed"}}

// otherFailure is the reason of an append that is itself at fault.
const otherFailure = "rejected"

func (m *Metrics) failed(err error) {
	for _, f := range failures {
		if errors.Is(err, f.is) {
			m.failedAppends.WithLabelValues(f.reason).Inc()
			return
		}
	}
	m.failedAppends.WithLabelValues(otherFailure).Inc()
}
