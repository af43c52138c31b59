package app

import (
	"time"

	"callbackd/internal/config"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// reloadMetrics tell how the configuration stands that is in force.
type reloadMetrics struct {
	reloads       *prometheus.CounterVec
	successful    prometheus.Gauge
	since         prometheus.Gauge
	restartNeeded prometheus.Gauge
	expiry        *prometheus.GaugeVec
}

// newReloadMetrics registers them, for a configuration that has just been read.
func newReloadMetrics(reg prometheus.Registerer, c *config.Config) *reloadMetrics {
	with := promauto.With(reg)
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "callbackd", Name: name, Help: help}
	}
	m := &reloadMetrics{
		reloads: with.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Name: "config_reloads_total",
			Help: "Reloads of the configuration, by what came of it: applied, unchanged or rejected."}, []string{"result"}),
		successful:    with.NewGauge(gauge("config_last_reload_successful", "1 unless the configuration was rejected when it was read last: the one before is then in force.")),
		since:         with.NewGauge(gauge("config_last_reload_success_timestamp_seconds", "When the configuration was last read and not rejected.")),
		restartNeeded: with.NewGauge(gauge("config_restart_needed", "1 while the configuration has changed in keys that take a restart; the log names them.")),
		expiry: with.NewGaugeVec(gauge("certificate_expiry_timestamp_seconds", "When the certificate expires that the service's listener shows; admin: that of admin.web_config_file."),
			[]string{"service"}),
	}
	for _, result := range []ReloadResult{ReloadApplied, ReloadUnchanged, ReloadRejected} {
		m.reloads.WithLabelValues(string(result))
	}
	m.read(c, false)
	return m
}

// read notes that c is in force.
func (m *reloadMetrics) read(c *config.Config, restartNeeded bool) {
	m.successful.Set(1)
	m.since.Set(float64(time.Now().UnixMilli()) / 1000)
	m.restartNeeded.Set(0)
	if restartNeeded {
		m.restartNeeded.Set(1)
	}
	if pair := c.Admin.Certificate(); pair != nil {
		m.expiry.WithLabelValues("admin").Set(float64(pair.Leaf().NotAfter.Unix()))
	}
	for name, s := range c.Services {
		if s.TLS != nil {
			m.expiry.WithLabelValues(name).Set(float64(s.TLS.Certificate().Leaf().NotAfter.Unix()))
		}
	}
}

// spanMetrics tell how many spans are lost: those that have ended and are not exported, but for the last few.
type spanMetrics struct{ ended, exported prometheus.Counter }

func newSpanMetrics(reg prometheus.Registerer) spanMetrics {
	with := promauto.With(reg)
	return spanMetrics{
		ended: with.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Name: "spans_total",
			Help: "Spans that ended and were to be exported."}),
		exported: with.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Name: "spans_exported_total",
			Help: "Spans that the collector has taken. What it lacks to callbackd_spans_total is lost, but for the last seconds."}),
	}
}
