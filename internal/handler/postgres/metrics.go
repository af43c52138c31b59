package postgres

import (
	"callbackd/internal/handler"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// What became of a row.
const (
	inserted = "inserted"
	known    = "known"
)

// metrics of one handler.
type metrics struct {
	rows       *prometheus.CounterVec
	unregister func()
}

// newMetrics registers them.
func newMetrics(env handler.Env, pool *pgxpool.Pool) (m *metrics, err error) {
	m = &metrics{rows: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "postgres", Name: "rows_total",
		Help: "Deliveries that are done: inserted, or known by their id and so left as they were."}, []string{"result"})}
	for _, result := range []string{inserted, known} {
		m.rows.WithLabelValues(result)
	}
	connections := func(state string, count func(*pgxpool.Stat) int32) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "postgres", Name: "connections",
			Help: "Connections to the database.", ConstLabels: prometheus.Labels{"state": state}}, func() float64 { return float64(count(pool.Stat())) })
	}
	m.unregister, err = env.Register(m.rows, connections("in_use", (*pgxpool.Stat).AcquiredConns), connections("idle", (*pgxpool.Stat).IdleConns))
	return m, err
}
