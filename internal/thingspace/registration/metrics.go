package registration

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// failure is why a look at the platform failed: a value of the label "reason".
type failure string

const (
	failedLogIn       failure = "login_refused" // ends the looking
	failedFault       failure = "fault"         // the platform answered with a fault
	failedAnswer      failure = "answer"        // an answer that is none of the platform's
	failedTimeout     failure = "timeout"
	failedUnreachable failure = "unreachable"
	failedOther       failure = "other" // on this machine
)

func failures() []failure {
	return []failure{failedLogIn, failedFault, failedAnswer, failedTimeout, failedUnreachable, failedOther}
}

// Metrics are those of all watches. An account stands there under the label of its credentials; of several under one label, what is shown
// is the worst. Values of labels come from the configuration and this package, never from the platform.
type Metrics struct {
	held    *prometheus.GaugeVec
	looked  *prometheus.GaugeVec
	failed  *prometheus.CounterVec
	stopped *prometheus.GaugeVec

	mu     sync.Mutex
	labels map[string]map[string]*accountView // by label, by account
}

// accountView is what is known of an account.
type accountView struct {
	held   map[string]float64 // by service: 1, 0, or NaN before the first look
	looked time.Time
}

// NewMetrics registers the metrics. It panics when they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	with := promauto.With(reg)
	return &Metrics{
		held: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_registration_held",
			Help: "Whether the platform holds the service's public_url, as of the last look that succeeded: 1 or 0; NaN before the first.",
		}, []string{"account", "service"}),
		looked: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_registration_last_look_timestamp_seconds",
			Help: "When the last look at the platform's registrations succeeded; 0 for never.",
		}, []string{"account"}),
		failed: with.NewCounterVec(prometheus.CounterOpts{
			Name: "callbackd_registration_look_failures_total",
			Help: "Looks at the platform's registrations that failed, by reason: login_refused, fault, answer, timeout, unreachable or other.",
		}, []string{"account", "reason"}),
		stopped: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "callbackd_registration_watch_stopped",
			Help: "1 when the platform refused the log-in, so that nobody looks any more until the program is started anew.",
		}, []string{"account"}),
		labels: make(map[string]map[string]*accountView),
	}
}

// show begins with an account, of which nothing is known yet.
func (m *Metrics) show(label, account string, wanted []Wanted) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &accountView{held: make(map[string]float64)}
	for _, w := range wanted {
		v.held[string(w.Service)] = math.NaN()
	}
	if m.labels[label] == nil {
		m.labels[label] = make(map[string]*accountView)
	}
	m.labels[label][account] = v
	m.stopped.WithLabelValues(label)
	for _, reason := range failures() {
		m.failed.WithLabelValues(label, string(reason))
	}
	m.refresh(label)
}

// seen notes a look that succeeded.
func (m *Metrics) seen(label, account string, held map[string]bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.labels[label][account]
	v.looked = time.Now()
	for service, ok := range held {
		v.held[service] = 0
		if ok {
			v.held[service] = 1
		}
	}
	m.refresh(label)
}

// refresh shows the worst of a label's accounts.
func (m *Metrics) refresh(label string) {
	held, looked := make(map[string]float64), math.Inf(1)
	for _, v := range m.labels[label] {
		for service, value := range v.held {
			if before, ok := held[service]; ok {
				value = worse(before, value)
			}
			held[service] = value
		}
		at := 0.0
		if !v.looked.IsZero() {
			at = float64(v.looked.UnixMilli()) / 1000
		}
		looked = min(looked, at)
	}
	for service, value := range held {
		m.held.WithLabelValues(label, service).Set(value)
	}
	m.looked.WithLabelValues(label).Set(looked)
}

// worse is 0 rather than unknown, and unknown rather than 1.
func worse(a, b float64) float64 {
	if a == 0 || b == 0 {
		return 0
	}
	return min(a, b) // NaN, if either is
}

func (m *Metrics) countFailure(label string, reason failure) {
	if m == nil {
		return
	}
	m.failed.WithLabelValues(label, string(reason)).Inc()
	if reason == failedLogIn {
		m.stopped.WithLabelValues(label).Set(1)
	}
}
