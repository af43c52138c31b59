package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"callbackd/internal/inbox"
)

// Route names the handlers that an entry goes to.
type Route func(e *inbox.Entry) []string

// Released says what Release did.
type Released struct {
	Entries    []int64 `json:"entries"`
	Deliveries int     `json:"deliveries"`
}

// Release takes entries out of quarantine and makes their deliveries. Entries that are not in quarantine are left out of the
// answer. With dryRun nothing is changed.
func (s *Store) Release(ctx context.Context, seqs []int64, route Route, dryRun bool) (r Released, err error) {
	r.Entries = []int64{}
	err = s.operateOn(ctx, seqs, dryRun, func(tx *effects, seq int64) error {
		e, err := s.Entry(ctx, seq)
		if err != nil || e.State != inbox.Quarantined {
			return err
		}
		if _, err := s.conn.ExecContext(ctx, `UPDATE entry SET held = 0 WHERE seq = ?1`, seq); err != nil {
			return fmt.Errorf("release entry %d: %w", seq, err)
		}
		handlers := route(&e)
		if err := s.insertDeliveries(tx, seq, 0, handlers, s.o.Now().UnixMicro()); err != nil {
			return err
		}
		tx.quarantined--
		r.Entries = append(r.Entries, seq)
		r.Deliveries += len(handlers)
		return nil
	})
	return r, err
}

// ReleaseDeliveries lets a restored store deliver again.
func (s *Store) ReleaseDeliveries(ctx context.Context, dryRun bool) (held bool, err error) {
	if held, err = s.DeliveriesHeld(ctx); err != nil || !held {
		return held, err
	}
	err = s.operate(ctx, dryRun, func(tx *effects) error {
		if _, err := s.conn.ExecContext(ctx, `DELETE FROM meta WHERE key = 'deliveries_held'`); err != nil {
			return fmt.Errorf("release deliveries: %w", err)
		}
		s.handlers.mu.RLock()
		defer s.handlers.mu.RUnlock()
		for id := range s.handlers.names {
			tx.wakeUp(id)
		}
		return nil
	})
	return held, err
}

// Requeue makes the dead letters of the entries pending again, with all their attempts before them; of all handlers, or of one.
func (s *Store) Requeue(ctx context.Context, seqs []int64, handler string, dryRun bool) (requeued int, err error) {
	var only int64
	if handler != "" {
		id, ok := s.handlers.id(handler)
		if !ok {
			return 0, fmt.Errorf("%w: no delivery was ever made to handler %q", inbox.ErrNotFound, handler)
		}
		only = id
	}
	err = s.operateOn(ctx, seqs, dryRun, func(tx *effects, seq int64) error {
		n, err := s.requeue(ctx, tx, seq, only)
		if err != nil {
			return fmt.Errorf("requeue entry %d: %w", seq, err)
		}
		requeued += n
		return nil
	})
	return requeued, err
}

func (s *Store) requeue(ctx context.Context, tx *effects, seq, only int64) (n int, err error) {
	rows, err := s.conn.QueryContext(ctx, `UPDATE delivery SET state = 0, attempts = 0, due_at = ?3, settled_at = 0
		WHERE seq = ?1 AND state = 2 AND (?2 = 0 OR handler = ?2) RETURNING handler`, seq, only, s.o.Now().UnixMicro())
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return n, err
		}
		tx.count(1, -1, id)
		tx.wakeUp(id)
		n++
	}
	return n, rows.Err()
}

// Replayed says what Replay did.
type Replayed struct {
	Replay     int64 `json:"replay"` // its number
	Entries    int   `json:"entries"`
	Deliveries int   `json:"deliveries"`
}

// Replay makes new deliveries of the entries, with IDs of their own, to the handlers that route names. Quarantined entries are
// passed over.
func (s *Store) Replay(ctx context.Context, seqs []int64, route Route, dryRun bool) (r Replayed, err error) {
	err = s.operate(ctx, dryRun, func(*effects) error {
		if err := s.conn.QueryRowContext(ctx, `INSERT INTO meta (key, value) VALUES ('replay', '1')
			ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)`).Scan(&r.Replay); err != nil {
			return fmt.Errorf("number the replay: %w", err)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	err = s.operateOn(ctx, seqs, dryRun, func(tx *effects, seq int64) error {
		e, err := s.Entry(ctx, seq)
		if err != nil || e.State == inbox.Quarantined || e.Erased {
			return err
		}
		handlers := route(&e)
		if err := s.insertDeliveries(tx, seq, r.Replay, handlers, s.o.Now().UnixMicro()); err != nil {
			return err
		}
		r.Entries++
		r.Deliveries += len(handlers)
		return nil
	})
	return r, err
}

// Erased says what Erase did.
type Erased struct {
	// Entries that held the device, and Whole those of them of which nothing is left but the facts of arrival.
	Entries []int64 `json:"entries"`
	Whole   []int64 `json:"whole"`
	// Delivered are the deliveries that were made before: what the handlers did with them is out of reach.
	Delivered []string `json:"delivered"`
}

// Redact returns a body without the data of a device, or nil if nothing of it is to stay.
type Redact func(body []byte, identifier string) []byte

// eraseStep bounds what one transaction erases.
const eraseStep = 50

// Erase removes a device's data: its bytes, its identifiers and the further sightings of its entries. Deliveries of an entry that
// are still pending are buried if nothing of the entry is left.
func (s *Store) Erase(ctx context.Context, identifier string, redact Redact, dryRun bool) (r Erased, err error) {
	r = Erased{Entries: []int64{}, Whole: []int64{}, Delivered: []string{}}
	after := int64(0)
	for {
		entries, err := s.Find(ctx, inbox.Query{Device: identifier, After: after, Limit: eraseStep, Body: true})
		if err != nil {
			return r, err
		}
		if len(entries) == 0 {
			break
		}
		after = entries[len(entries)-1].Seq
		if err := s.operate(ctx, dryRun, func(tx *effects) error { return s.eraseSome(ctx, tx, entries, identifier, redact, &r) }); err != nil {
			return r, err
		}
	}
	if dryRun || len(r.Entries) == 0 {
		return r, nil
	}
	// The old bytes are still in the write-ahead log.
	return r, s.Do(ctx, func() error { return checkpoint(ctx, s.conn, "TRUNCATE") })
}

func (s *Store) eraseSome(ctx context.Context, tx *effects, entries []inbox.Entry, identifier string, redact Redact, r *Erased) error {
	// Zeros go where the bytes were.
	if _, err := s.conn.ExecContext(ctx, `PRAGMA secure_delete = ON`); err != nil {
		return fmt.Errorf("choose secure deletion: %w", err)
	}
	defer func() { _, _ = s.conn.ExecContext(context.Background(), `PRAGMA secure_delete = OFF`) }()
	for i := range entries {
		e := &entries[i]
		body := redact(e.Body, identifier)
		if body == nil {
			r.Whole = append(r.Whole, e.Seq)
			body = []byte{}
		}
		r.Entries = append(r.Entries, e.Seq)
		delivered, err := s.delivered(ctx, e)
		if err != nil {
			return err
		}
		r.Delivered = append(r.Delivered, delivered...)
		if err := s.erase(ctx, tx, e, body, identifier); err != nil {
			return fmt.Errorf("erase entry %d: %w", e.Seq, err)
		}
	}
	return nil
}

func (s *Store) erase(ctx context.Context, tx *effects, e *inbox.Entry, body []byte, identifier string) error {
	old, err := e.MarshalFacts()
	if err != nil {
		return err
	}
	if err := s.removeDevices(ctx, e.Seq, string(old)); err != nil {
		return err
	}
	e.Body = body
	e.Facts.Forget(identifier, len(body) == 0)
	facts, err := json.Marshal(&e.Facts)
	if err != nil {
		return err
	}
	for _, identifier := range e.Facts.Identifiers() {
		if _, err := s.w.insertDevice.Exec(identifier, e.Seq); err != nil {
			return err
		}
	}
	digest := e.Digest(facts)
	for _, st := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE entry SET facts = ?2, digest = ?3, erased = 1 WHERE seq = ?1`, []any{e.Seq, string(facts), digest[:]}},
		{`UPDATE body SET data = ?2 WHERE seq = ?1`, []any{e.Seq, body}},
		{`DELETE FROM sighting WHERE seq = ?1`, []any{e.Seq}},
		{`UPDATE delivery SET cause = '' WHERE seq = ?1`, []any{e.Seq}},
	} {
		if _, err := s.conn.ExecContext(ctx, st.sql, st.args...); err != nil {
			return err
		}
	}
	if len(body) > 0 {
		return nil
	}
	return s.settleErased(ctx, tx, e.Seq)
}

// settleErased ends the deliveries of an entry of which nothing is left, and its quarantine.
func (s *Store) settleErased(ctx context.Context, tx *effects, seq int64) error {
	rows, err := s.conn.QueryContext(ctx, `SELECT handler, state FROM delivery WHERE seq = ?1 AND state <> 1`, seq)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var handler int64
		var state int
		if err := rows.Scan(&handler, &state); err != nil {
			return err
		}
		if state == 0 {
			tx.count(-1, 0, handler)
		} else {
			tx.count(0, -1, handler)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if _, err := s.conn.ExecContext(ctx, `UPDATE delivery SET state = 1, settled_at = ?2, reason = 'erased'
		WHERE seq = ?1 AND state <> 1`, seq, s.o.Now().UnixMicro()); err != nil {
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

// operate runs an operator's change as a task of the writer. A dry run carries it out and takes it back.
func (s *Store) operate(ctx context.Context, dryRun bool, work func(*effects) error) error {
	errDryRun := errors.New("dry run")
	return s.Do(ctx, func() error {
		err := s.transact(func(tx *effects) error {
			if err := work(tx); err != nil {
				return err
			}
			if dryRun {
				return errDryRun
			}
			return nil
		})
		if errors.Is(err, errDryRun) {
			return nil
		}
		return err
	})
}

// operateStep bounds the entries of one task, so that an operator's change of many does not hold up the acks.
const operateStep = 100

// operateOn is operate for each of the entries, in several tasks if they are many.
func (s *Store) operateOn(ctx context.Context, seqs []int64, dryRun bool, work func(*effects, int64) error) error {
	for part := range slices.Chunk(seqs, operateStep) {
		err := s.operate(ctx, dryRun, func(tx *effects) error {
			for _, seq := range part {
				if err := work(tx, seq); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
