package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"callbackd/internal/inbox"
)

// Reader reads an inbox, also while another process writes it. Its queries are short and their answers bounded.
type Reader struct {
	db      *sql.DB
	stmt    readStatements
	metrics *inbox.Metrics // nil outside of the receiver
	broken  func(error)
}

type readStatements struct{ due, delivery, held, entry *sql.Stmt }

// OpenReader opens the inbox in dir for reading only. It does not need the directory's lock.
func OpenReader(ctx context.Context, dir string) (*Reader, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s holds no inbox yet; it is created when `callbackd serve` starts", inbox.ErrNotFound, dir)
	}
	if err := checkVersion(ctx, path, "", embedded); err != nil {
		return nil, err
	}
	return newReader(path, "", nil)
}

func newReader(path, vfs string, metrics *inbox.Metrics) (*Reader, error) {
	db, err := openDB(path, vfs, "_query_only=1")
	if err != nil {
		return nil, err
	}
	const readers = 4
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	r := &Reader{db: db, metrics: metrics, broken: func(error) {}}
	for _, p := range []struct {
		stmt **sql.Stmt
		sql  string
	}{
		{&r.stmt.due, `SELECT seq, replay, due_at FROM delivery WHERE handler = ?1 AND state = 0 ORDER BY due_at, seq LIMIT ?2`},
		{&r.stmt.delivery, `SELECT attempts FROM delivery WHERE seq = ?1 AND handler = ?2 AND replay = ?3 AND state = 0 AND due_at <= ?4`},
		{&r.stmt.held, `SELECT value FROM meta WHERE key = 'deliveries_held'`},
		{&r.stmt.entry, `SELECT ` + entryColumns + `, data FROM entry e JOIN body USING (seq) WHERE seq = ?1`},
	} {
		if *p.stmt, err = db.Prepare(p.sql); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare query: %w", classify(err)), db.Close())
		}
	}
	return r, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.db.Close() }

// report classifies an error and tells the writer if it says that the store is broken.
func (r *Reader) report(err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return err
	}
	err = classify(err)
	r.broken(err)
	return err
}

// The state is not stored: it follows from the deliveries.
const stateExpression = `CASE
	WHEN held = 1 THEN 'quarantined'
	WHEN EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state = 0) THEN 'pending'
	WHEN EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state = 2) THEN 'dead'
	ELSE 'done' END`

const entryColumns = `e.seq, id, received_at, service, kind, account, request_id, facts, digest, sightings, repeat_of, erased, ` + stateExpression

// Entry reads one entry with its body.
func (r *Reader) Entry(ctx context.Context, seq int64) (inbox.Entry, error) {
	e, err := r.scan(r.stmt.entry.QueryRowContext(ctx, seq), true)
	if errors.Is(err, sql.ErrNoRows) {
		return e, fmt.Errorf("%w: %d", inbox.ErrNotFound, seq)
	}
	return e, err
}

// scan reads one row of entryColumns, and the body if there is one, and then checks the digest.
func (r *Reader) scan(row interface{ Scan(...any) error }, withBody bool) (e inbox.Entry, err error) {
	var id, digest []byte
	var received int64
	var facts string
	targets := []any{&e.Seq, &id, &received, &e.Service, &e.Kind, &e.Account, &e.RequestID, &facts, &digest, &e.Sightings, &e.RepeatOf,
		&e.Erased, &e.State}
	if withBody {
		targets = append(targets, &e.Body)
	}
	if err := row.Scan(targets...); err != nil {
		return e, r.report(err)
	}
	e.ID, e.ReceivedAt = uuidString(id), fromMicro(received)
	if withBody {
		if sum := e.Digest([]byte(facts)); string(sum[:]) != string(digest) {
			if r.metrics != nil {
				r.metrics.Corrupt.Inc()
			}
			return e, &inbox.CorruptEntryError{Seq: e.Seq}
		}
	}
	if err := json.Unmarshal([]byte(facts), &e.Facts); err != nil {
		return e, &inbox.CorruptEntryError{Seq: e.Seq, Cause: err}
	}
	return e, nil
}

// mostEntries bounds the answer to one query.
const mostEntries = 1000

// Find lists the entries that q selects, by Seq. An entry whose digest is wrong ends the list with an error, after those before it.
func (r *Reader) Find(ctx context.Context, q inbox.Query) ([]inbox.Entry, error) {
	where, args := conditions(q)
	text := `SELECT ` + entryColumns
	if q.Body {
		text += `, data FROM entry e JOIN body USING (seq)`
	} else {
		text += ` FROM entry e`
	}
	text += where + ` ORDER BY e.seq`
	if q.Newest {
		text += ` DESC`
	}
	limit := mostEntries
	if q.Limit > 0 && q.Limit < limit {
		limit = q.Limit
	}
	text += fmt.Sprintf(` LIMIT %d`, limit)
	rows, err := r.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, r.report(fmt.Errorf("find entries: %w", err))
	}
	defer rows.Close()
	entries := []inbox.Entry{}
	for rows.Next() {
		e, err := r.scan(rows, q.Body)
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
	return entries, r.report(rows.Err())
}

// conditions is the WHERE clause of a query.
func conditions(q inbox.Query) (string, []any) {
	var terms []string
	var args []any
	add := func(term string, values ...any) {
		terms = append(terms, term)
		args = append(args, values...)
	}
	if !q.Since.IsZero() {
		add(`received_at >= ?`, q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		add(`received_at < ?`, q.Until.UnixMicro())
	}
	for _, c := range []struct{ column, value string }{{"service", q.Service}, {"kind", q.Kind}, {"account", q.Account}} {
		if c.value != "" {
			add(c.column+` = ?`, c.value)
		}
	}
	if q.RequestID != "" {
		// The keys of a RequestId stand together in the index of keys; the comparison settles the rare accident.
		low := inbox.RequestPrefix(q.RequestID)
		high := append(slices.Clone(low), bytes.Repeat([]byte{0xff}, sha256.Size)...)
		add(`e.seq IN (SELECT seq FROM dedup WHERE key >= ? AND key <= ?) AND request_id = ?`, low, high, q.RequestID)
	}
	if q.Device != "" {
		add(`e.seq IN (SELECT seq FROM device WHERE identifier = ?)`, strings.ToLower(q.Device))
	}
	if q.After > 0 {
		add(`e.seq > ?`, q.After)
	}
	if q.Before > 0 {
		add(`e.seq < ?`, q.Before)
	}
	if len(q.Seqs) > 0 {
		marks := strings.TrimSuffix(strings.Repeat("?,", len(q.Seqs)), ",")
		values := make([]any, len(q.Seqs))
		for i, seq := range q.Seqs {
			values[i] = seq
		}
		add(`e.seq IN (`+marks+`)`, values...)
	}
	if q.Test != nil {
		add(`test = ?`, *q.Test)
	}
	switch q.State {
	case inbox.Quarantined:
		add(`held = 1`)
	case inbox.Pending:
		add(`held = 0 AND EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state = 0)`)
	case inbox.Dead:
		add(`e.seq IN (SELECT seq FROM delivery WHERE state = 2) AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state = 0)`)
	case inbox.Done:
		add(`held = 0 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state <> 1)`)
	}
	if len(terms) == 0 {
		return "", nil
	}
	return ` WHERE ` + strings.Join(terms, ` AND `), args
}

// Sightings lists the arrivals of an entry, the first one included.
func (r *Reader) Sightings(ctx context.Context, seq int64) ([]inbox.Sighting, error) {
	e, err := r.Find(ctx, inbox.Query{Seqs: []int64{seq}})
	if err != nil {
		return nil, err
	}
	if len(e) == 0 {
		return nil, fmt.Errorf("%w: %d", inbox.ErrNotFound, seq)
	}
	list := []inbox.Sighting{{At: e[0].ReceivedAt, Source: e[0].Facts.Source, Attempt: e[0].Facts.Attempt}}
	rows, err := r.db.QueryContext(ctx, `SELECT at, source, attempt FROM sighting WHERE seq = ? ORDER BY n`, seq)
	if err != nil {
		return nil, r.report(fmt.Errorf("read sightings: %w", err))
	}
	defer rows.Close()
	for rows.Next() {
		var s inbox.Sighting
		var at int64
		if err := rows.Scan(&at, &s.Source, &s.Attempt); err != nil {
			return nil, r.report(fmt.Errorf("read sightings: %w", err))
		}
		s.At = fromMicro(at)
		list = append(list, s)
	}
	return list, r.report(rows.Err())
}

// Deliveries lists the deliveries of an entry.
func (r *Reader) Deliveries(ctx context.Context, seq int64) ([]inbox.DeliveryStatus, error) {
	rows, err := r.db.QueryContext(ctx, `SELECT name, replay, state, attempts, due_at, settled_at, reason, cause
		FROM delivery d JOIN handler h ON h.id = d.handler WHERE seq = ? ORDER BY replay, name`, seq)
	if err != nil {
		return nil, r.report(fmt.Errorf("read deliveries: %w", err))
	}
	defer rows.Close()
	list := []inbox.DeliveryStatus{}
	for rows.Next() {
		d := inbox.DeliveryStatus{DeliveryKey: inbox.DeliveryKey{Seq: seq}}
		var state int
		var due, settled int64
		if err := rows.Scan(&d.Handler, &d.Replay, &state, &d.Attempts, &due, &settled, &d.Reason, &d.Cause); err != nil {
			return nil, r.report(fmt.Errorf("read deliveries: %w", err))
		}
		d.State = [...]string{"pending", "done", "dead"}[state]
		d.DueAt, d.SettledAt = fromMicro(due), fromMicro(settled)
		list = append(list, d)
	}
	return list, r.report(rows.Err())
}

// DeliveriesHeld reports whether a restored store holds all deliveries until an operator releases them.
func (r *Reader) DeliveriesHeld(ctx context.Context) (bool, error) {
	var value string
	err := r.stmt.held.QueryRowContext(ctx).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return value == "1", r.report(err)
}

// Stats sum up an inbox.
type Stats struct {
	Entries     int64            `json:"entries"`
	Sightings   int64            `json:"sightings"`
	Services    map[string]int64 `json:"services"`
	Quarantined int64            `json:"quarantined"`
	Pending     map[string]int64 `json:"pending"`      // deliveries, by handler
	Dead        map[string]int64 `json:"dead"`         // deliveries, by handler
	OldestDue   *time.Time       `json:"oldest_due"`   // of the pending deliveries
	First       *time.Time       `json:"first"`        // arrival of the oldest entry
	Last        *time.Time       `json:"last"`         // arrival of the newest entry
	Bytes       int64            `json:"bytes"`        // of the database
	Held        bool             `json:"held"`         // deliveries are held since a restore
	WithoutAcks []inbox.Outage   `json:"without_acks"` // spans of time, oldest first
}

// Stats reads the sums. It reads every entry's row, so it is for operators and not for scrapes.
func (r *Reader) Stats(ctx context.Context) (s Stats, err error) {
	s.Services, s.Pending, s.Dead = map[string]int64{}, map[string]int64{}, map[string]int64{}
	var first, last, oldest sql.NullInt64
	if err := r.db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(sightings), 0), coalesce(sum(held), 0), min(received_at), max(received_at),
		(SELECT min(due_at) FROM delivery WHERE state = 0) FROM entry`).
		Scan(&s.Entries, &s.Sightings, &s.Quarantined, &first, &last, &oldest); err != nil {
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
	if s.Bytes, err = usedBytes(ctx, r.db); err != nil {
		return s, r.report(err)
	}
	if s.Held, err = r.DeliveriesHeld(ctx); err != nil {
		return s, err
	}
	s.WithoutAcks, err = r.outages(ctx)
	return s, err
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

// outages lists when the receiver did not run, and when it ran and could not store.
func (r *Reader) outages(ctx context.Context) ([]inbox.Outage, error) {
	rows, err := r.db.QueryContext(ctx, `
		SELECT lag(max(alive_at, stopped_at)) OVER (ORDER BY id) AS from_at, started_at AS to_at, 'not running' AS reason, 0 AS refused FROM run
		UNION ALL
		SELECT from_at, to_at, reason, refused FROM outage
		ORDER BY 1`)
	if err != nil {
		return nil, r.report(fmt.Errorf("read outages: %w", err))
	}
	defer rows.Close()
	list := []inbox.Outage{}
	for rows.Next() {
		var from sql.NullInt64
		var to int64
		var o inbox.Outage
		if err := rows.Scan(&from, &to, &o.Reason, &o.Refused); err != nil {
			return nil, r.report(fmt.Errorf("read outages: %w", err))
		}
		if from.Valid { // the first run has none before it
			o.From, o.To = fromMicro(from.Int64), fromMicro(to)
			list = append(list, o)
		}
	}
	return list, r.report(rows.Err())
}

// usedBytes is the size of the database without its free pages.
func usedBytes(ctx context.Context, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (int64, error) {
	var bytes int64
	err := db.QueryRowContext(ctx, `SELECT (p.page_count - f.freelist_count) * s.page_size
		FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`).Scan(&bytes)
	if err != nil {
		return 0, fmt.Errorf("measure the database: %w", err)
	}
	return bytes, nil
}
