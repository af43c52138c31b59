package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"callbackd/internal/inbox"
)

// Stats sum up an inbox.
type Stats struct {
	Entries     int64            `json:"entries"`
	Sightings   int64            `json:"sightings"`
	Services    map[string]int64 `json:"services"`
	Quarantined int64            `json:"quarantined"`
	Pending     map[string]int64 `json:"pending"`      // deliveries, by handler
	Dead        map[string]int64 `json:"dead"`         // deliveries, by handler
	Paused      []string         `json:"paused"`       // handlers that an operator paused
	OldestDue   *time.Time       `json:"oldest_due"`   // of the pending deliveries
	First       *time.Time       `json:"first"`        // arrival of the oldest entry
	Last        *time.Time       `json:"last"`         // arrival of the newest entry
	Bytes       int64            `json:"bytes"`        // of the database
	Held        bool             `json:"held"`         // deliveries are held since a restore
	WithoutAcks []inbox.Outage   `json:"without_acks"` // spans of time, oldest first; the newest 1,000 of the last 35 days
}

// Stats reads the sums, from indexes alone. It is for operators and not for scrapes.
func (r *Reader) Stats(ctx context.Context) (s Stats, err error) {
	s.Services, s.Pending, s.Dead = map[string]int64{}, map[string]int64{}, map[string]int64{}
	var first, last, oldest sql.NullInt64
	if err := r.db.QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM entry WHERE held = 1),
		(SELECT coalesce(sum(sightings - 1), 0) FROM entry WHERE sightings > 1),
		(SELECT min(received_at) FROM entry), (SELECT max(received_at) FROM entry),
		(SELECT min(at) FROM (SELECT (SELECT due_at FROM delivery WHERE handler = h.id AND state = 0 AND wait = 0 ORDER BY seq LIMIT 1) AS at FROM handler h
			UNION ALL SELECT min(due_at) FROM delivery WHERE state = 0 AND wait >= 2))`).
		Scan(&s.Quarantined, &s.Sightings, &first, &last, &oldest); err != nil {
		return s, r.report(fmt.Errorf("read sums: %w", err))
	}
	for _, t := range []struct {
		to   **time.Time
		from sql.NullInt64
	}{{&s.First, first}, {&s.Last, last}, {&s.OldestDue, oldest}} {
		if t.from.Valid {
			at := fromMicro(t.from.Int64)
			*t.to = &at
		}
	}
	for _, q := range []struct {
		into map[string]int64
		sql  string
	}{
		{s.Services, `SELECT service, count(*) FROM entry GROUP BY service`},
		{s.Pending, `SELECT name, count(*) FROM delivery JOIN handler ON id = handler WHERE state = 0 GROUP BY name`},
		{s.Dead, `SELECT name, count(*) FROM delivery JOIN handler ON id = handler WHERE state = 2 GROUP BY name`},
	} {
		if err := r.counts(ctx, q.sql, q.into); err != nil {
			return s, err
		}
	}
	if s.Paused, err = r.pausedHandlers(ctx); err != nil {
		return s, err
	}
	for _, n := range s.Services {
		s.Entries += n
	}
	s.Sightings += s.Entries // the first arrival is one
	if s.Bytes, err = usedBytes(ctx, r.db); err != nil {
		return s, r.report(err)
	}
	if s.Held, err = r.DeliveriesHeld(ctx); err != nil {
		return s, err
	}
	s.WithoutAcks, err = r.outages(ctx)
	return s, err
}

func (r *Reader) pausedHandlers(ctx context.Context) ([]string, error) {
	var names string
	if err := r.db.QueryRowContext(ctx, `SELECT coalesce(group_concat(name, ' '), '') FROM
		(SELECT name FROM handler WHERE paused_at <> 0 ORDER BY name)`).Scan(&names); err != nil {
		return nil, r.report(fmt.Errorf("read paused handlers: %w", err))
	}
	return strings.Fields(names), nil
}

func (r *Reader) counts(ctx context.Context, query string, into map[string]int64) error {
	rows, err := r.db.QueryContext(ctx, query)
	if err != nil {
		return r.report(fmt.Errorf("count: %w", err))
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return r.report(fmt.Errorf("count: %w", err))
		}
		into[name] = n
	}
	return r.report(rows.Err())
}

// outages lists when the receiver did not run, and when it ran and could not store, oldest first. A run that ended without a word is
// taken to have ended with its last sign of life.
func (r *Reader) outages(ctx context.Context) ([]inbox.Outage, error) {
	rows, err := r.db.QueryContext(ctx, `SELECT from_at, to_at, reason, refused FROM (
		SELECT lag(CASE stopped_at WHEN 0 THEN alive_at ELSE stopped_at END) OVER (ORDER BY id) AS from_at, started_at AS to_at,
			'not running' AS reason, 0 AS refused FROM run
		UNION ALL
		SELECT from_at, to_at, reason, refused FROM outage)
		WHERE from_at < to_at ORDER BY to_at DESC, from_at DESC LIMIT 1000`)
	if err != nil {
		return nil, r.report(fmt.Errorf("read outages: %w", err))
	}
	defer rows.Close()
	list := []inbox.Outage{}
	for rows.Next() {
		var from, to int64
		var o inbox.Outage
		if err := rows.Scan(&from, &to, &o.Reason, &o.Refused); err != nil {
			return nil, r.report(fmt.Errorf("read outages: %w", err))
		}
		o.From, o.To = fromMicro(from), fromMicro(to)
		list = append(list, o)
	}
	if err := rows.Err(); err != nil {
		return nil, r.report(fmt.Errorf("read outages: %w", err))
	}
	slices.Reverse(list)
	return r.withOpenOutage(ctx, list)
}

// silence is how long after its last sign of life a run is taken to have ended.
const silence = time.Minute

// withOpenOutage adds the time without acks that goes on, if the receiver has stopped, died, or cannot write.
func (r *Reader) withOpenOutage(ctx context.Context, list []inbox.Outage) ([]inbox.Outage, error) {
	var alive, stopped int64
	err := r.db.QueryRowContext(ctx, `SELECT alive_at, stopped_at FROM run ORDER BY id DESC LIMIT 1`).Scan(&alive, &stopped)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return list, nil
	case err != nil:
		return nil, r.report(fmt.Errorf("read last run: %w", err))
	case stopped != 0:
		return append(list, inbox.Outage{From: fromMicro(stopped), Reason: "not running"}), nil
	case r.now().Sub(fromMicro(alive)) > silence:
		return append(list, inbox.Outage{From: fromMicro(alive), Reason: "not running, or unable to write"}), nil
	}
	return list, nil
}

// usedBytes is the size of the database without its free pages.
func usedBytes(ctx context.Context, db querier) (int64, error) {
	var bytes int64
	err := db.QueryRowContext(ctx, `SELECT (p.page_count - f.freelist_count) * s.page_size
		FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`).Scan(&bytes)
	if err != nil {
		return 0, fmt.Errorf("measure the database: %w", err)
	}
	return bytes, nil
}
