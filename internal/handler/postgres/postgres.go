// Package postgres is the handler type "postgres": it inserts a row for each callback into a table of the user's own.
//
//	Handle --> row: the columns' values --> check, if the table was not looked at yet --> INSERT ... ON CONFLICT (id) DO NOTHING
//
// The promise: a delivery is done when its row is committed, or was before; a delivery that is made again is known by its id, which a unique
// index on that column sees to. Names are quoted and values are parameters, whatever they hold.
//
// A table that cannot take rows (it is not there, a column is missing or of another type, nothing is unique, a privilege is missing) is for an
// operator to mend: the deliveries wait, Ready says which statement mends it, and no value is tried on it. What remains is a value that its
// column does not take: that buries the delivery, by the name of the column.
//
// The limits: an attempt that ends while its statement is under way may have inserted the row; the next one finds it. How durable a commit is
// the server decides (synchronous_commit).
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/handler"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// table inserts rows. It is safe for concurrent use.
type table struct {
	c         *Config
	user      string
	log       *zap.Logger
	pool      *pgxpool.Pool
	metrics   *metrics
	insertion string

	checking chan struct{}            // holds one while the table is looked at
	narrow   atomic.Pointer[[]string] // what takes less than its configured type

	handler.Readiness // why the table takes nothing

	mu  sync.Mutex
	fit bool // it was looked at, and nothing has failed since

	stop     context.CancelFunc
	watching sync.WaitGroup
	closing  sync.Once
	closed   error
}

var errPassword = errors.New("no password")

func open(c *Config, env handler.Env) (*table, error) {
	d, err := parseDSN(c.DSN)
	if err != nil {
		return nil, fmt.Errorf("dsn: %w", err)
	}
	settings, err := d.pool()
	if err != nil {
		return nil, err
	}
	settings.MaxConns = int32(c.Connections)
	if c.StatementTimeout > 0 {
		settings.ConnConfig.RuntimeParams["statement_timeout"] = strconv.FormatInt(c.StatementTimeout.Milliseconds(), 10)
	}
	if c.PasswordFile != "" {
		settings.BeforeConnect = func(_ context.Context, connection *pgx.ConnConfig) (err error) {
			if connection.Password, err = handler.ReadSecret(c.PasswordFile); err != nil {
				return fmt.Errorf("%w: password_file: %w", errPassword, err)
			}
			return nil
		}
	}
	ctx, stop := context.WithCancel(context.Background()) // until Close
	pool, err := pgxpool.NewWithConfig(ctx, settings)     // which connects when it has to
	if err != nil {
		stop()
		return nil, err
	}
	t := &table{c: c, user: d.user, log: env.Log, Readiness: handler.Readiness{Log: env.Log}, pool: pool, stop: stop, checking: make(chan struct{}, 1),
		insertion: c.insertion(func(i int) string { return "$" + strconv.Itoa(i+1) })}
	if t.metrics, err = newMetrics(env, pool); err != nil {
		stop()
		pool.Close()
		return nil, err
	}
	env.WarnOfPublicSecrets(c)
	t.watching.Go(func() { t.watch(ctx) })
	return t, nil
}

// Handle implements [handler.Handler].
func (t *table) Handle(ctx context.Context, d *handler.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	values, err := row(t.c.Columns, d)
	if err != nil {
		return handler.Permanent(err)
	}
	if err := t.check(ctx); err != nil {
		return err
	}
	tag, err := t.pool.Exec(ctx, t.insertion, values...)
	if err != nil {
		verdict, unready := t.verdict(ctx, err)
		if unready {
			t.note(verdict)
		}
		return verdict
	}
	result := inserted
	if tag.RowsAffected() == 0 {
		result = known
	}
	t.metrics.rows.WithLabelValues(result).Inc()
	return nil
}

// note notes that the table takes rows, or why it does not. It is looked at again before the next row.
func (t *table) note(fault error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fit = fault == nil
	t.Note(fault)
}

func (t *table) isFit() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fit
}

// closeLimit bounds Close: a connection says farewell to its server, which may be gone.
const closeLimit = 5 * time.Second

// Close implements [handler.Handler].
func (t *table) Close() error {
	t.closing.Do(func() {
		t.stop()
		t.watching.Wait()
		t.metrics.unregister()
		done := make(chan struct{})
		go func() { // ends with the last connection
			t.pool.Close()
			close(done)
		}()
		timer := time.NewTimer(closeLimit)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			t.closed = fmt.Errorf("connections to the database were not closed within %s", closeLimit)
		}
	})
	return t.closed
}

// watch looks at the table at the start, and now and then while it is not fit, so that Ready is right without a delivery.
func (t *table) watch(ctx context.Context) {
	const patience = 20 * time.Second
	tick := time.NewTicker(t.c.checkEvery)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, patience)
		_ = t.check(limited) // which notes it
		cancel()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
