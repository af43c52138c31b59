package sqlite

import (
	"context"
	"database/sql"
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
	// Corrupt are entries that could not be read, and stay as they are.
	Corrupt []int64 `json:"corrupt,omitempty"`
}

// Release takes entries out of quarantine and makes their deliveries. Entries that are not in quarantine are left out of the
// answer. With dryRun nothing is changed.
func (s *Store) Release(ctx context.Context, seqs []int64, route Route, dryRun bool) (r Released, err error) {
	r.Entries = []int64{}
	err = s.operateOn(ctx, seqs, dryRun, &r.Corrupt, func(tx *effects, e *inbox.Entry) error {
		if e.State != inbox.Quarantined {
			return nil
		}
		if _, err := s.conn.ExecContext(ctx, `UPDATE entry SET held = 0 WHERE seq = ?1`, e.Seq); err != nil {
			return fmt.Errorf("release entry %d: %w", e.Seq, err)
		}
		handlers := route(e)
		if err := s.insertDeliveries(tx, e.Seq, 0, handlers, s.o.Now().UnixMicro()); err != nil {
			return err
		}
		tx.quarantined--
		r.Entries = append(r.Entries, e.Seq)
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
	err = s.inSteps(ctx, seqs, dryRun, func(tx *effects, seq int64) error {
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
	// Corrupt are entries that could not be read, and are not delivered.
	Corrupt []int64 `json:"corrupt,omitempty"`
}

// Replay makes new deliveries of the entries, with IDs of their own, to the handlers that route names. Entries that are in
// quarantine, that go to no handler, or of which nothing is left are passed over.
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
	err = s.operateOn(ctx, seqs, dryRun, &r.Corrupt, func(tx *effects, e *inbox.Entry) error {
		handlers := route(e)
		if e.State == inbox.Quarantined || len(handlers) == 0 {
			return nil
		}
		if e.Erased {
			if whole, err := s.erasedWhole(ctx, e.Seq); err != nil || whole {
				return err
			}
		}
		if err := s.insertDeliveries(tx, e.Seq, r.Replay, handlers, s.o.Now().UnixMicro()); err != nil {
			return err
		}
		r.Entries++
		r.Deliveries += len(handlers)
		return nil
	})
	return r, err
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

// inSteps is operate for each of the entries, once, in several tasks if they are many. Between two of them it gives up if ctx ends.
func (s *Store) inSteps(ctx context.Context, seqs []int64, dryRun bool, work func(*effects, int64) error) error {
	seqs = slices.Clone(seqs)
	slices.Sort(seqs)
	for part := range slices.Chunk(slices.Compact(seqs), operateStep) {
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

// operateOn is inSteps for work that looks at the entry, but for its body. Those that are gone are passed over, and so are the
// corrupt, which are told.
func (s *Store) operateOn(ctx context.Context, seqs []int64, dryRun bool, corrupt *[]int64, work func(*effects, *inbox.Entry) error) error {
	return s.inSteps(ctx, seqs, dryRun, func(tx *effects, seq int64) error {
		e, err := scanEntry(s.conn.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM entry e WHERE e.seq = ?`, seq), false)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case errors.Is(err, inbox.ErrCorruptEntry):
			*corrupt = append(*corrupt, seq)
			return nil
		case err != nil:
			return fmt.Errorf("read entry %d: %w", seq, err)
		}
		return work(tx, &e)
	})
}
