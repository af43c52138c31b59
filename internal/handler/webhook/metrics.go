package webhook

import (
	"errors"
	"fmt"

	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one handler.
type metrics struct {
	answers  *prometheus.CounterVec
	outdated prometheus.Gauge

	unregister func()
}

// The answers that are counted besides the classes of HTTP.
const (
	answerNone    = "none"
	answerRefused = "address_refused"
	answerOther   = "other" // a status that HTTP does not have
)

// register makes the metrics, with every label set, so that zero shows.
func register(env handler.Env) (m *metrics, err error) {
	m = &metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "webhook", Name: "answers_total",
			Help: "Answers of the endpoint by the class of their status; none is an endpoint that cannot be reached or does not answer in time, " +
				"address_refused an address that nothing is sent to."}, []string{"answer"}),
		outdated: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "webhook", Name: "files_outdated",
			Help: "1 while a file of secrets or certificates has changed and cannot be used, so that what it held before goes on being used, else 0."}),
	}
	for _, answer := range []string{"2xx", "3xx", "410", "429", "4xx", "5xx", answerNone, answerRefused, answerOther} {
		m.answers.WithLabelValues(answer)
	}
	m.unregister, err = env.Register(m.answers, m.outdated)
	return m, err
}

// answered counts an answer, or that there was none: status is 0 then.
func (m *metrics) answered(status int, err error) {
	var r *refused
	answer := fmt.Sprintf("%dxx", status/100)
	switch {
	case errors.As(err, &r):
		answer = answerRefused
	case status == 0:
		answer = answerNone
	case status == 410 || status == 429:
		answer = fmt.Sprint(status)
	case status < 200 || status > 599:
		answer = answerOther
	}
	m.answers.WithLabelValues(answer).Inc()
}
