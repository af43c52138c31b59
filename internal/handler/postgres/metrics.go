package postgres

import (
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
	registered []prometheus.Collector
	registerer prometheus.Registerer
}

// newMetrics registers them.
func newMetrics(reg prometheus.Registerer, pool *pgxpool.Pool) (*metrics, error) {
	m := &metrics{registerer: reg, rows: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callbackd", Subsystem: "postgres", Name: "rows_total",
		Help: "Deliveries that are done: inserted, or known by their id and so left as they were."}, []string{"result"})}
	for _, result := range []string{inserted, known} {
		m.rows.WithLabelValues(result)
	}
	connections := func(state string, count func(*pgxpool.Stat) int32) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callbackd", Subsystem: "postgres", Name: "connections",
			Help: "Connections to the database.", ConstLabels: prometheus.Labels{"state": state}}, func() float64 { return float64(count(pool.Stat())) })
	}
	for _, c := range []prometheus.Collector{m.rows, connections("in_use", (*pgxpool.Stat).AcquiredConns), connections("idle", (*pgxpool.Stat).IdleConns)} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
}
