package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"callbackd/internal/inbox"
)

// RemoveService removes the entries of a service with all that belongs to them, delivered or not, their keys too. It is for callbacks that
// callbackd sends itself: nothing of the platform's may be removed so.
func (s *Store) RemoveService(ctx context.Context, service string) (removed int, err error) {
	for more := true; more; {
		seqs, err := s.ofService(ctx, service)
		if err != nil || len(seqs) == 0 {
			return removed, err
		}
		more = len(seqs) == pruneStep
		if err := s.operate(ctx, false, func(tx *effects) error {
			if err := s.noteLastSeq(ctx); err != nil {
				return err
			}
			for _, seq := range seqs {
				if err := s.removeWhole(ctx, tx, seq); err != nil {
					return fmt.Errorf("remove entry %d of %s: %w", seq, service, err)
				}
			}
			return nil
		}); err != nil {
			return removed, err
		}
		removed += len(seqs)
	}
	return removed, nil
}

func (s *Store) ofService(ctx context.Context, service string) ([]int64, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT seq FROM entry WHERE service = ?1 ORDER BY seq LIMIT ?2`, service, pruneStep)
	if err != nil {
		return nil, s.report(fmt.Errorf("find entries of %s: %w", service, err))
	}
	defer rows.Close()
	var seqs []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, s.report(fmt.Errorf("find entries of %s: %w", service, err))
		}
		seqs = append(seqs, seq)
	}
	return seqs, s.report(rows.Err())
}

// removeWhole removes an entry whatever its deliveries. What is claimed of it ends as an attempt on nothing.
func (s *Store) removeWhole(ctx context.Context, tx *effects, seq int64) error {
	if err := s.uncount(ctx, tx, seq); err != nil {
		return err
	}
	var requestID, facts string
	var held int
	err := s.conn.QueryRowContext(ctx, `DELETE FROM entry WHERE seq = ?1 RETURNING request_id, facts, held`, seq).Scan(&requestID, &facts, &held)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	tx.quarantined -= held
	low := inbox.RequestPrefix(requestID)
	if _, err := s.conn.ExecContext(ctx, `DELETE FROM dedup WHERE key >= ?1 AND key <= ?2 AND seq = ?3`, low, keysUpTo(low), seq); err != nil {
		return fmt.Errorf("remove its key: %w", err)
	}
	return s.removeRest(ctx, seq, facts)
}

// uncount takes the deliveries of an entry that is being removed from what the handlers have pending, and dead.
func (s *Store) uncount(ctx context.Context, tx *effects, seq int64) error {
	rows, err := s.conn.QueryContext(ctx, `SELECT handler, state = 2 FROM delivery WHERE seq = ?1 AND state IN (0, 2)`, seq)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var handler int64
		var dead int
		if err := rows.Scan(&handler, &dead); err != nil {
			return err
		}
		tx.count(dead-1, -dead, handler)
	}
	return rows.Err()
}
