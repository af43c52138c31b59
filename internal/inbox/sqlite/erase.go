package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"callbackd/internal/inbox"
)

// Erased says what Erase did.
type Erased struct {
	// Entries that held the device, and Whole those of them of which nothing is left but the facts of arrival.
	Entries []int64 `json:"entries"`
	Whole   []int64 `json:"whole"`
	// What is out of reach: what handlers did with the deliveries that were made before, and copies of the database in the data
	// directory. Of backups elsewhere the inbox knows nothing.
	Delivered []string `json:"delivered"`
	Copies    []string `json:"copies"`
}

// Redact returns a body without the data of a device, or nil if nothing of it is to stay.
type Redact func(body []byte, identifier string) []byte

const (
	// eraseStep and eraseBytes bound what one transaction erases.
	eraseStep  = 50
	eraseBytes = 1 << 20
)

// Erase removes a device's data: its bytes, its identifiers and the further sightings of its entries. Deliveries of an entry that
// are still pending end if nothing of the entry is left. When it returns nil, the bytes are in no file of the database: SQLite writes
// zeros over what is deleted, what it copied elsewhere is scrubbed, which reads the whole database, and the write-ahead log is emptied.
func (s *Store) Erase(ctx context.Context, identifier string, redact Redact, dryRun bool) (r Erased, err error) {
	r = Erased{Entries: []int64{}, Whole: []int64{}, Delivered: []string{}, Copies: []string{}}
	identifier = strings.TrimSpace(identifier)
	if identifier == "" {
		return r, errors.New("erase: no device is named")
	}
	// What an erasure read may not be changed by another before it is written.
	s.erasing.Lock()
	defer s.erasing.Unlock()
	var part []erasure
	size := 0
	flush := func() error {
		defer func() { part, size = nil, 0 }()
		return s.operate(ctx, dryRun, func(tx *effects) error { return s.erase(ctx, tx, part, &r) })
	}
	for e, err := range s.All(ctx, inbox.Query{Device: identifier, Body: true}) {
		if err != nil && !errors.Is(err, inbox.ErrCorruptEntry) {
			return r, err
		}
		size += len(e.Body)
		erasure, err := s.erasure(ctx, e, err != nil, identifier, redact)
		if err != nil {
			return r, err
		}
		part = append(part, erasure)
		if len(part) >= eraseStep || size >= eraseBytes {
			if err := flush(); err != nil {
				return r, err
			}
		}
	}
	if err := flush(); err != nil {
		return r, err
	}
	if r.Copies, err = copies(s.o.Dir); err != nil || dryRun {
		return r, err
	}
	// Also when there is no such entry: an earlier erasure may have got this far.
	if err := s.scrub(ctx); err != nil {
		return r, err
	}
	return r, s.purgeLog(ctx)
}

// copies lists the databases in the data directory beside the inbox: what migrations and restores kept.
func copies(dir string) ([]string, error) {
	list, err := filepath.Glob(filepath.Join(dir, File+".*"))
	if err != nil {
		return nil, fmt.Errorf("look for copies: %w", err)
	}
	return append([]string{}, list...), nil
}

// erasure is what erasing a device makes of one entry.
type erasure struct {
	e       inbox.Entry // as it is to be
	whole   bool
	removed []string // identifiers by which the entry is no longer found
}

// erasure computes what is to be done, outside of the writer. An entry that is corrupt goes whole: what is in it cannot be told.
func (s *Store) erasure(ctx context.Context, e inbox.Entry, corrupt bool, identifier string, redact Redact) (x erasure, err error) {
	if x.removed, err = s.identifiers(ctx, &e, corrupt); err != nil {
		return x, err
	}
	var body []byte
	if !corrupt {
		body = redact(e.Body, identifier)
	}
	if x.whole = body == nil; x.whole {
		body = []byte{}
	}
	e.Body = body
	forget(&e.Facts, body, identifier, x.whole)
	kept := e.Facts.Identifiers()
	x.removed = slices.DeleteFunc(x.removed, func(removed string) bool { return slices.Contains(kept, removed) })
	x.e = e
	return x, nil
}

// identifiers lists those by which the entry is found.
func (s *Store) identifiers(ctx context.Context, e *inbox.Entry, corrupt bool) (list []string, err error) {
	if !corrupt {
		return e.Facts.Identifiers(), nil
	}
	return s.scanIdentifiers(ctx, e.Seq)
}

// scanIdentifiers looks for an entry's identifiers in the index of devices, whole as it is: only for an entry whose facts are unreadable.
func (r *Reader) scanIdentifiers(ctx context.Context, seq int64) (list []string, err error) {
	rows, err := r.db.QueryContext(ctx, `SELECT identifier FROM device WHERE seq = ?`, seq)
	if err != nil {
		return nil, r.report(fmt.Errorf("find devices of entry %d: %w", seq, err))
	}
	defer rows.Close()
	for rows.Next() {
		var identifier string
		if err := rows.Scan(&identifier); err != nil {
			return nil, r.report(fmt.Errorf("find devices of entry %d: %w", seq, err))
		}
		list = append(list, identifier)
	}
	return list, r.report(rows.Err())
}

// forget takes from the facts what came from the device: its identifiers, those by which the body named it beside this one, and the
// violations' texts, which may quote it.
func forget(f *inbox.Facts, body []byte, identifier string, whole bool) {
	f.Forget(identifier, whole)
	lower := bytes.ToLower(body)
	gone := func(identifier string) bool { return !bytes.Contains(lower, []byte(strings.ToLower(identifier))) }
	f.Devices = slices.DeleteFunc(f.Devices, func(d inbox.Device) bool { return gone(d.Identifier) })
	f.Related = slices.DeleteFunc(f.Related, gone)
	for i := range f.Violations {
		f.Violations[i].Msg = "erased"
	}
}

func (s *Store) erase(ctx context.Context, tx *effects, part []erasure, r *Erased) error {
	tx.then = append(tx.then, s.recent.forget)
	for i := range part {
		x := &part[i]
		if err := s.eraseOne(ctx, tx, x, r); err != nil {
			return fmt.Errorf("erase entry %d: %w", x.e.Seq, err)
		}
	}
	return nil
}

func (s *Store) eraseOne(ctx context.Context, tx *effects, x *erasure, r *Erased) error {
	facts, err := json.Marshal(&x.e.Facts)
	if err != nil {
		return err
	}
	digest := x.e.Digest(facts)
	result, err := s.conn.ExecContext(ctx, `UPDATE entry SET facts = ?2, digest = ?3, erased = 1 WHERE seq = ?1`, x.e.Seq, string(facts), digest[:])
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err // retention was faster
	}
	for _, st := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE body SET data = ?2 WHERE seq = ?1`, []any{x.e.Seq, x.e.Body}},
		{`DELETE FROM sighting WHERE seq = ?1`, []any{x.e.Seq}},
		{`UPDATE delivery SET cause = '' WHERE seq = ?1 AND cause <> ''`, []any{x.e.Seq}},
		{`DELETE FROM device WHERE seq = ?1 AND identifier IN (SELECT value FROM json_each(?2))`, []any{x.e.Seq, jsonList(x.removed)}},
	} {
		if _, err := s.conn.ExecContext(ctx, st.sql, st.args...); err != nil {
			return err
		}
	}
	delivered, err := s.delivered(ctx, &x.e)
	if err != nil {
		return err
	}
	r.Delivered = append(r.Delivered, delivered...)
	r.Entries = append(r.Entries, x.e.Seq)
	if !x.whole {
		return nil
	}
	r.Whole = append(r.Whole, x.e.Seq)
	return s.settleErased(ctx, tx, x.e.Seq)
}

func jsonList(list []string) string {
	text, err := json.Marshal(append([]string{}, list...))
	if err != nil {
		return "[]" // strings always marshal
	}
	return string(text)
}

// settleErased ends the deliveries of an entry of which nothing is left, and its quarantine.
func (s *Store) settleErased(ctx context.Context, tx *effects, seq int64) error {
	rows, err := s.conn.QueryContext(ctx, `SELECT handler, replay, state FROM delivery WHERE seq = ?1 AND state IN (0, 2)`, seq)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ended []claim
	for rows.Next() {
		var handler, replay int64
		var state int
		if err := rows.Scan(&handler, &replay, &state); err != nil {
			return err
		}
		ended = append(ended, claim{handler, seq, replay})
		if state == 0 {
			tx.count(-1, 0, handler)
		} else {
			tx.count(0, -1, handler)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, c := range ended {
		if err := s.leaveOrder(tx, c); err != nil {
			return err
		}
	}
	if _, err := s.conn.ExecContext(ctx, `UPDATE delivery SET state = 1, settled_at = ?2, reason = 'erased'
		WHERE seq = ?1 AND state IN (0, 2)`, seq, s.o.Now().UnixMicro()); err != nil {
		return err
	}
	result, err := s.conn.ExecContext(ctx, `UPDATE entry SET held = 0 WHERE seq = ?1 AND held = 1`, seq)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	tx.quarantined -= int(n)
	return err
}

// delivered lists the deliveries of an entry that handlers have seen.
func (s *Store) delivered(ctx context.Context, e *inbox.Entry) ([]string, error) {
	list, err := s.Deliveries(ctx, e.Seq)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range list {
		if d.Attempts > 0 {
			ids = append(ids, DeliveryID(e.ID, d.Handler, d.Replay))
		}
	}
	return ids, nil
}

// erasedWhole reports whether nothing of an erased entry is left to deliver.
func (s *Store) erasedWhole(ctx context.Context, seq int64) (whole bool, err error) {
	err = s.conn.QueryRowContext(ctx, `SELECT length(data) = 0 FROM body WHERE seq = ?`, seq).Scan(&whole)
	if err != nil {
		return false, fmt.Errorf("read body of entry %d: %w", seq, err)
	}
	return whole, nil
}

// purgeLog takes what was overwritten in the database out of the write-ahead log too. It copies beside the writer as much as it can, and
// then has the writer begin the log anew, which has to wait for whoever still reads from the old one, and must not make the acks wait.
func (s *Store) purgeLog(ctx context.Context) error {
	const tries, pause = 100, 100 * time.Millisecond
	for range tries {
		if err := checkpoint(ctx, s.ckpt, "PASSIVE"); err != nil {
			return s.report(err)
		}
		var busy, frames, copied int
		err := s.Do(ctx, func() error {
			if _, err := s.conn.ExecContext(ctx, `PRAGMA busy_timeout = 0`); err != nil {
				return fmt.Errorf("checkpoint: %w", classify(err))
			}
			defer func() { _, _ = s.conn.ExecContext(context.Background(), `PRAGMA busy_timeout = 1000`) }()
			err := s.conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &copied)
			if err != nil {
				return fmt.Errorf("checkpoint: %w", classify(err))
			}
			return nil
		})
		if err != nil || busy == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return errors.New("the device is erased, but another program, a backup perhaps, still reads the write-ahead log that has its bytes: " +
		"erase again when that has ended")
}
