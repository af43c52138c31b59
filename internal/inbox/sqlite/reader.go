package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"callbackd/internal/inbox"

	"modernc.org/sqlite"
)

// Reader reads an inbox, also while another process writes it. Its queries are short and their answers bounded: SQLite's
// write-ahead log gives each a state of its own, so that none holds up an ack.
type Reader struct {
	db      *sql.DB
	stmt    readStatements
	metrics *inbox.Metrics // nil outside of the receiver
	broken  func(error)
	now     func() time.Time
}

type readStatements struct{ ready, span, waiting, waits, lag, held, entry, entries *sql.Stmt }

// OpenReader opens the inbox in dir for reading only. It does not need the directory's lock.
func OpenReader(ctx context.Context, dir string) (*Reader, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s holds no inbox yet; it is created when `callbackd serve` starts", inbox.ErrNotFound, dir)
	} else if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	if err := checkVersion(ctx, path, "", embedded); err != nil {
		return nil, err
	}
	return newReader(path, "", nil)
}

// openReadOnly opens a database that exists, and whose journal mode stays as it is, for queries.
func openReadOnly(path, vfs string) (*sql.DB, error) {
	parameters := []string{"mode=rw", "_pragma=busy_timeout(1000)", "_pragma=temp_store(MEMORY)", "_query_only=1"}
	if vfs != "" {
		parameters = append(parameters, "vfs="+vfs)
	}
	db, err := sql.Open("sqlite", dsn(path, parameters...))
	if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	return db, nil
}

func newReader(path, vfs string, metrics *inbox.Metrics) (*Reader, error) {
	db, err := openReadOnly(path, vfs)
	if err != nil {
		return nil, err
	}
	const readers = 4
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	r := &Reader{db: db, metrics: metrics, broken: func(error) {}, now: time.Now}
	for _, p := range readerStatements(&r.stmt) {
		if *p.stmt, err = db.Prepare(p.sql); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare query: %w", classify(err)), db.Close())
		}
	}
	return r, nil
}

func readerStatements(st *readStatements) []prepared {
	return []prepared{
		{&st.ready, `SELECT seq, replay, attempts, ` + bodyLength + ` FROM delivery d
			WHERE handler = ?1 AND state = 0 AND wait = 0 AND (seq, replay) >= (?2, ?3) ORDER BY seq, replay`},
		{&st.span, `SELECT (SELECT min(seq) FROM delivery WHERE handler = ?1 AND state = 0 AND wait = 0),
			(SELECT max(seq) FROM delivery WHERE handler = ?1 AND state = 0 AND wait = 0)`},
		{&st.waiting, `SELECT seq, replay, due_at, attempts, ` + bodyLength + ` FROM delivery d INDEXED BY delivery_waiting
			WHERE handler = ?1 AND (replay > 0) = ?2 AND state = 0 AND wait >= 2 ORDER BY due_at`},
		{&st.waits, `SELECT seq FROM delivery WHERE handler = ?1 AND state = 0 AND wait = 2 AND replay = 0 ORDER BY seq LIMIT ?2`},
		{&st.lag, `SELECT name, (SELECT received_at FROM entry WHERE seq = ` + oldestPending + `) FROM handler h`},
		{&st.entries, `SELECT ` + claimColumns + bodyColumns + ` WHERE e.seq IN (SELECT value FROM json_each(?1))`},
		{&st.held, `SELECT value FROM meta WHERE key = 'deliveries_held'`},
		{&st.entry, `SELECT ` + entryColumns + bodyColumns + ` WHERE e.seq = ?1`},
	}
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

const (
	bodyLength   = `coalesce((SELECT length(data) FROM body b WHERE b.seq = d.seq), 0)`
	factColumns  = `e.seq, id, received_at, service, kind, account, request_id, facts, digest, sightings, repeat_of, erased, `
	entryColumns = factColumns + stateExpression
	claimColumns = factColumns + `'pending'` // nothing else is claimed
	bodyColumns  = `, b.seq IS NOT NULL, b.data FROM entry e LEFT JOIN body b ON b.seq = e.seq`
)

// Entry reads one entry with its body.
func (r *Reader) Entry(ctx context.Context, seq int64) (inbox.Entry, error) {
	e, err := r.scan(r.stmt.entry.QueryRowContext(ctx, seq), true)
	if errors.Is(err, sql.ErrNoRows) {
		return e, fmt.Errorf("%w: %d", inbox.ErrNotFound, seq)
	}
	return e, err
}

type row interface{ Scan(...any) error }

// scan reads one row of entryColumns, and with withBody of bodyColumns, and then checks the digest.
func (r *Reader) scan(from row, withBody bool) (inbox.Entry, error) {
	e, err := scanEntry(from, withBody)
	if errors.Is(err, inbox.ErrCorruptEntry) {
		if r.metrics != nil {
			r.metrics.Corrupt.Inc()
		}
		return e, err
	}
	return e, r.report(err)
}

func scanEntry(from row, withBody bool) (e inbox.Entry, err error) {
	var id, digest []byte
	var received int64
	var facts string
	hasBody := true
	targets := []any{&e.Seq, &id, &received, &e.Service, &e.Kind, &e.Account, &e.RequestID, &facts, &digest, &e.Sightings, &e.RepeatOf,
		&e.Erased, &e.State}
	if withBody {
		targets = append(targets, &hasBody, &e.Body)
	}
	if err := from.Scan(targets...); err != nil {
		return e, corruptRow(e.Seq, err)
	}
	e.ID, e.ReceivedAt = uuidString(id), fromMicro(received)
	if !hasBody {
		return e, &inbox.CorruptError{Seq: e.Seq, Detail: "its body is missing"}
	}
	if withBody {
		if sum := e.Digest([]byte(facts)); string(sum[:]) != string(digest) {
			return e, &inbox.CorruptError{Seq: e.Seq, Detail: "its bytes have changed"}
		}
	}
	if err := json.Unmarshal([]byte(facts), &e.Facts); err != nil {
		return e, &inbox.CorruptError{Seq: e.Seq, Detail: "its facts cannot be read"}
	}
	return e, nil
}

// corruptRow tells a row whose values are not of their columns' types, which is one entry's trouble, from a failed query.
func corruptRow(seq int64, err error) error {
	var driver *sqlite.Error
	if seq == 0 || errors.As(err, &driver) || errors.Is(err, sql.ErrNoRows) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &inbox.CorruptError{Seq: seq, Detail: "its row cannot be read"}
}

// Sightings lists the arrivals of an entry, the first one included.
func (r *Reader) Sightings(ctx context.Context, seq int64) ([]inbox.Sighting, error) {
	e, err := r.scan(r.db.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM entry e WHERE e.seq = ?`, seq), false)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: %d", inbox.ErrNotFound, seq)
	}
	if err != nil {
		return nil, err
	}
	list := []inbox.Sighting{{At: e.ReceivedAt, Source: e.Facts.Source, Attempt: e.Facts.Attempt}}
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
	rows, err := r.db.QueryContext(ctx, `SELECT name, replay, state, attempts, due_at, settled_at, reason, cause, state = 0 AND wait = 1, settled_by
		FROM delivery d JOIN handler h ON h.id = d.handler WHERE seq = ? ORDER BY replay, name`, seq)
	if err != nil {
		return nil, r.report(fmt.Errorf("read deliveries: %w", err))
	}
	defer rows.Close()
	list, states := []inbox.DeliveryStatus{}, inbox.DeliveryStates()
	for rows.Next() {
		d := inbox.DeliveryStatus{DeliveryKey: inbox.DeliveryKey{Seq: seq}}
		var state int
		var due, settled int64
		if err := rows.Scan(&d.Handler, &d.Replay, &state, &d.Attempts, &due, &settled, &d.Reason, &d.Cause, &d.Blocked, &d.DiscardedBy); err != nil {
			return nil, r.report(fmt.Errorf("read deliveries: %w", err))
		}
		d.State = states[state]
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
