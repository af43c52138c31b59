package exec

import (
	"callbackd/internal/handler"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how a run ended.
type outcome string

const (
	done      outcome = "done"      // exit code 0
	retry     outcome = "retry"     // exit code 75
	bury      outcome = "bury"      // exit code 65
	failed    outcome = "failed"    // another exit code
	killed    outcome = "killed"    // by a signal that was not ours
	stopped   outcome = "stopped"   // it was still running at the end of its time
	unstarted outcome = "unstarted" // it could not be started
)

type metrics struct {
	runs       *prometheus.CounterVec
	unregister func()
}

func newMetrics(env handler.Env) (m *metrics, err error) {
	m = &metrics{runs: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "exec", Name: "runs_total",
		Help: "Runs of the program of an exec handler, by how they ended."}, []string{"result"})}
	for _, o := range []outcome{done, retry, bury, failed, killed, stopped, unstarted} {
		m.runs.WithLabelValues(string(o))
	}
	m.unregister, err = env.Register(m.runs)
	return m, err
}

func (m *metrics) ended(o outcome) { m.runs.WithLabelValues(string(o)).Inc() }
