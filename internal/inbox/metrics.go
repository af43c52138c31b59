package inbox

import "github.com/prometheus/client_golang/prometheus"

// Metrics of a store. One store, one set.
type Metrics struct {
	appendSeconds, commitSeconds, batchSize prometheus.Histogram
	queued, available                       prometheus.Gauge

	Entries      prometheus.Counter
	Duplicates   prometheus.Counter
	Repeats      prometheus.Counter
	Corrupt      prometheus.Counter
	Pruned       prometheus.Counter
	Checkpoints  prometheus.Counter
	Bytes        prometheus.Gauge
	WALBytes     prometheus.Gauge
	RetentionDue prometheus.Gauge
	Quarantined  prometheus.Gauge
	Pending      *prometheus.GaugeVec // by handler
	DeadLetters  *prometheus.GaugeVec // by handler
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
		appendSeconds: histogram("append_seconds", "Time from queueing an arrival to its durable commit.", seconds),
		commitSeconds: histogram("commit_seconds", "Duration of one transaction, sync included.", seconds),
		batchSize:     histogram("batch_appends", "Arrivals in one transaction.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}),
		queued:        gauge("queued_appends", "Arrivals waiting for a transaction."),
		available:     gauge("available", "1 while the store takes arrivals, 0 while it refuses them."),
		Entries:       counter("entries_total", "Entries stored."),
		Duplicates:    counter("duplicates_total", "Arrivals that were a further sighting of a stored entry."),
		Repeats:       counter("repeats_total", "Entries without a RequestId that are suspected to repeat an earlier one."),
		Corrupt:       counter("corrupt_entries_total", "Entries read whose bytes do not match their digest."),
		Pruned:        counter("pruned_entries_total", "Entries that retention removed."),
		Checkpoints:   counter("checkpoints_total", "Completed checkpoints of the write-ahead log."),
		Bytes:         gauge("bytes", "Bytes of the database in use, as of the last maintenance."),
		WALBytes:      gauge("wal_bytes", "Size of the write-ahead log, as of the last maintenance."),
		RetentionDue:  gauge("retention_blocked_entries", "Entries past retention that are kept because they are undelivered, dead or quarantined."),
		Quarantined:   gauge("quarantined_entries", "Entries held back from handlers until released."),
	}
	for _, v := range []struct {
		vec        **prometheus.GaugeVec
		name, help string
	}{
		{&m.Pending, "pending_deliveries", "Deliveries still to be made."},
		{&m.DeadLetters, "dead_letters", "Deliveries that were buried."},
	} {
		*v.vec = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "inbox", Name: v.name, Help: v.help}, []string{"handler"})
		reg.MustRegister(*v.vec)
	}
	m.available.Set(1)
	return m
}
