package ndjson

import (
	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// step is something that can fail.
type step string

const (
	stepWrite    step = "write"
	stepSync     step = "sync"
	stepRotate   step = "rotate"
	stepCompress step = "compress"
	stepRemove   step = "remove"
)

type metrics struct {
	rotations  prometheus.Counter
	failures   *prometheus.CounterVec
	unregister func()
}

func newMetrics(env handler.Env) (m *metrics, err error) {
	m = &metrics{
		rotations: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "ndjson", Name: "rotations_total",
			Help: "How often the file of an ndjson handler was renamed because of its size or age."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "ndjson", Name: "failures_total",
			Help: "What failed on the disk of an ndjson handler, by step; a write that fails is made again."}, []string{"step"}),
	}
	for _, s := range []step{stepWrite, stepSync, stepRotate, stepCompress, stepRemove} {
		m.failures.WithLabelValues(string(s))
	}
	m.unregister, err = env.Register(m.rotations, m.failures)
	return m, err
}

// tell notes how a step went. The log has the first failure of a run of them, and its end.
func (h *file) tell(s step, err error) {
	if err != nil {
		h.metrics.failures.WithLabelValues(string(s)).Inc()
	}
	if s == stepWrite {
		h.Note(err)
		return
	}
	h.told.Lock()
	defer h.told.Unlock()
	before := h.failing[s]
	h.failing[s] = err
	switch {
	case err != nil && before == nil:
		h.log.Error("the events file is written, and not looked after as it should be; it is tried again", zap.String("step", string(s)), zap.Error(err))
	case err == nil && before != nil:
		h.log.Info("the events file is looked after again", zap.String("step", string(s)))
	}
}
