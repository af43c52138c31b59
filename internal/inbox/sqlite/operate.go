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
		if err := s.insertDeliveries(tx, e, e.Seq, handlers, s.o.Now().UnixMicro()); err != nil {
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
	if held = s.DeliveriesHeld(); !held {
		return false, nil
	}
	err = s.operate(ctx, dryRun, func(tx *effects) error {
		if _, err := s.conn.ExecContext(ctx, `DELETE FROM meta WHERE key = 'deliveries_held'`); err != nil {
			return fmt.Errorf("release deliveries: %w", err)
		}
		tx.then = append(tx.then, func() { s.held.Store(false) })
		s.handlers.mu.RLock()
		defer s.handlers.mu.RUnlock()
		for id := range s.handlers.names {
			tx.wakeUp(id)
		}
		return nil
	})
	return held, err
}

// DeliveriesHeld reports whether all deliveries are held since a restore. It asks nobody: probes and scrapes may call it.
func (s *Store) DeliveriesHeld() bool { return s.held.Load() }

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
		e, err := s.lookAt(ctx, seq, corrupt)
		if err != nil || e == nil {
			return err
		}
		return work(tx, e)
	})
}

// lookAt reads an entry, but for its body, as the writer's task sees it; nil if it is gone or corrupt.
func (s *Store) lookAt(ctx context.Context, seq int64, corrupt *[]int64) (*inbox.Entry, error) {
	e, err := scanEntry(s.conn.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM entry e WHERE e.seq = ?`, seq), false)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case errors.Is(err, inbox.ErrCorruptEntry):
		*corrupt = append(*corrupt, seq)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read entry %d: %w", seq, err)
	}
	return &e, nil
}
