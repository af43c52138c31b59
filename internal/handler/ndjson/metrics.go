package ndjson

import (
	"fmt"

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
	registerer prometheus.Registerer
	rotations  prometheus.Counter
	failures   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{registerer: reg,
		rotations: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "ndjson", Name: "rotations_total",
			Help: "How often the file of an ndjson handler was renamed because of its size or age."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "ndjson", Name: "failures_total",
			Help: "What failed on the disk of an ndjson handler, by step; a write that fails is made again."}, []string{"step"}),
	}
	for _, s := range []step{stepWrite, stepSync, stepRotate, stepCompress, stepRemove} {
		m.failures.WithLabelValues(string(s))
	}
	if err := reg.Register(m.rotations); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	if err := reg.Register(m.failures); err != nil {
		reg.Unregister(m.rotations)
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) close() {
	m.registerer.Unregister(m.rotations)
	m.registerer.Unregister(m.failures)
}

// tell notes how a step went. The log has the first failure of a run of them, and its end.
func (h *file) tell(s step, err error) {
	h.told.Lock()
	defer h.told.Unlock()
	before := h.failing[s]
	h.failing[s] = err
	switch {
	case err != nil:
		h.metrics.failures.WithLabelValues(string(s)).Inc()
		if before == nil && s != stepWrite { // which the dispatcher tells
			h.log.Error("the events file is written, and not looked after as it should be; it is tried again", zap.String("step", string(s)), zap.Error(err))
		}
	case before != nil && s != stepWrite:
		h.log.Info("the events file is looked after again", zap.String("step", string(s)))
	}
}

// Ready implements [handler.Readier]: what keeps lines from the file, and nothing less.
func (h *file) Ready() error {
	h.told.Lock()
	defer h.told.Unlock()
	return h.failing[stepWrite]
}
