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

	"go.uber.org/zap"
)

const (
	// walBig is when the write-ahead log is copied into the database, walHuge when the writer has to help so that it can begin anew.
	walBig  = 8 << 20
	walHuge = 64 << 20
	// pruneStep bounds what one task of the writer removes: acks wait for it.
	pruneStep = 100
	// keyStep is how many keys one round looks at.
	keyStep = 5000
)

// maintain keeps the store small and notes that it lives, until ctx ends. While the store is unavailable it tries every
// second, so that it recovers without traffic.
func (s *Store) maintain(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	next := s.o.Now()
	var keyCursor []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Broken():
			return
		case <-tick.C:
		}
		due := !s.o.Now().Before(next)
		if due || s.Status() != nil {
			s.logged("note that the inbox lives", s.Do(ctx, s.noteAlive))
		}
		s.logged("checkpoint", s.checkpoint(ctx))
		if !due || s.Status() != nil {
			continue
		}
		next = s.o.Now().Add(s.o.MaintenanceEvery)
		s.logged("retention", s.prune(ctx))
		var err error
		keyCursor, err = s.pruneKeys(ctx, keyCursor)
		s.logged("retention of keys", err)
	}
}

// logged logs an error of maintenance, unless it is one that stops the acks, which is told elsewhere.
func (s *Store) logged(what string, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, inbox.ErrBroken) || errors.Is(err, inbox.ErrClosed) {
		return
	}
	s.o.Log.Warn("inbox maintenance failed", zap.String("step", what), zap.Error(err))
}

// noteStart notes a new run.
func (s *Store) noteStart(ctx context.Context) error {
	now := s.o.Now().UnixMicro()
	result, err := s.conn.ExecContext(ctx, `INSERT INTO run (started_at, alive_at) VALUES (?1, ?1)`, now)
	if err != nil {
		return fmt.Errorf("note start: %w", classify(err))
	}
	s.run, err = result.LastInsertId()
	return err
}

// noteAlive notes that the run goes on, and the outages that have ended. It is the writer's task, and the probe that finds an
// unavailable store available again.
func (s *Store) noteAlive() error {
	ended := s.TakeOutages()
	err := s.transact(func(*effects) error {
		if _, err := s.conn.ExecContext(context.Background(), `UPDATE run SET alive_at = ?2 WHERE id = ?1`, s.run, s.o.Now().UnixMicro()); err != nil {
			return fmt.Errorf("note life: %w", err)
		}
		for _, o := range ended {
			if _, err := s.conn.ExecContext(context.Background(), `INSERT INTO outage (from_at, to_at, reason, refused) VALUES (?, ?, ?, ?)`,
				o.From.UnixMicro(), o.To.UnixMicro(), o.Reason, o.Refused); err != nil {
				return fmt.Errorf("note outage: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		s.ReturnOutages(ended)
	}
	return err
}

func (s *Store) noteStop() error {
	return errors.Join(s.noteAlive(), s.transact(func(*effects) error {
		_, err := s.conn.ExecContext(context.Background(), `UPDATE run SET stopped_at = ?2 WHERE id = ?1`, s.run, s.o.Now().UnixMicro())
		return err
	}))
}

// checkpoint copies the write-ahead log into the database when it has grown. It does so beside the writer; only when the writer
// was too fast for that, the rest is copied between two transactions.
func (s *Store) checkpoint(ctx context.Context) error {
	size := s.walSize()
	if size > walBig {
		if err := checkpoint(ctx, s.ckpt, "PASSIVE"); err != nil {
			s.Report(err) // a sync that failed here ends the acks as well
			return err
		}
		s.o.Metrics.Checkpoints.Inc()
	}
	if size > walHuge {
		if err := s.Do(ctx, func() error { return checkpoint(ctx, s.conn, "PASSIVE") }); err != nil {
			return err
		}
	}
	s.o.Metrics.WALBytes.Set(float64(s.walSize()))
	return nil
}

func (s *Store) walSize() int64 {
	info, err := os.Stat(filepath.Join(s.o.Dir, File+"-wal"))
	if err != nil {
		return 0
	}
	return info.Size()
}

type querier interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func checkpoint(ctx context.Context, q querier, mode string) error {
	var busy, frames, copied int
	if err := q.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &frames, &copied); err != nil {
		return fmt.Errorf("checkpoint: %w", classify(err))
	}
	return nil
}

// prune removes the oldest entries past the limits of retention, step by step.
func (s *Store) prune(ctx context.Context) error {
	cutoff := s.o.Now().Add(-s.o.Retention.Age).UnixMicro()
	const mostSteps = 100
	for range mostSteps {
		bytes, err := usedBytes(ctx, s.db)
		if err != nil {
			return s.report(err)
		}
		s.o.Metrics.Bytes.Set(float64(bytes))
		before := cutoff
		if bytes > s.o.Retention.Bytes {
			before = s.o.Now().UnixMicro() + 1
		}
		seqs, err := s.prunable(ctx, before)
		if err != nil {
			return err
		}
		if len(seqs) == 0 {
			return s.blocked(ctx, before)
		}
		if err := s.Do(ctx, func() error { return s.transact(func(*effects) error { return s.remove(ctx, seqs) }) }); err != nil {
			return err
		}
		s.o.Metrics.Pruned.Add(float64(len(seqs)))
	}
	return nil
}

// settled is the condition under which an entry e may be removed.
const settled = `e.held = 0 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state <> 1)`

func (s *Store) prunable(ctx context.Context, before int64) ([]int64, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT seq FROM entry e WHERE received_at < ? AND `+settled+` ORDER BY received_at LIMIT ?`, before, pruneStep)
	if err != nil {
		return nil, s.report(fmt.Errorf("find old entries: %w", err))
	}
	defer rows.Close()
	var seqs []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, s.report(fmt.Errorf("find old entries: %w", err))
		}
		seqs = append(seqs, seq)
	}
	return seqs, s.report(rows.Err())
}

// remove deletes entries and all that belongs to them but their keys, unless they got something to deliver since they were
// chosen. It is the writer's task.
func (s *Store) remove(ctx context.Context, seqs []int64) error {
	if _, err := s.conn.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('last_seq', ?1)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`, fmt.Sprint(s.nextSeq-1)); err != nil {
		return fmt.Errorf("note last entry: %w", err)
	}
	for _, seq := range seqs {
		var text string
		err := s.conn.QueryRowContext(ctx, `DELETE FROM entry AS e WHERE seq = ?1 AND `+settled+` RETURNING facts`, seq).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return fmt.Errorf("remove entry %d: %w", seq, err)
		}
		if err := s.removeRest(ctx, seq, text); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) removeRest(ctx context.Context, seq int64, factsText string) error {
	for _, table := range []string{"delivery", "sighting", "body"} {
		if _, err := s.conn.ExecContext(ctx, `DELETE FROM `+table+` WHERE seq = ?1`, seq); err != nil {
			return fmt.Errorf("remove %s of entry %d: %w", table, seq, err)
		}
	}
	return s.removeDevices(ctx, seq, factsText)
}

func (s *Store) removeDevices(ctx context.Context, seq int64, factsText string) error {
	var facts inbox.Facts
	if err := json.Unmarshal([]byte(factsText), &facts); err != nil {
		return fmt.Errorf("%w: facts of entry %d: %w", inbox.ErrCorruptEntry, seq, err)
	}
	for _, identifier := range facts.Identifiers() {
		if _, err := s.conn.ExecContext(ctx, `DELETE FROM device WHERE identifier = ?1 AND seq = ?2`, identifier, seq); err != nil {
			return fmt.Errorf("remove devices of entry %d: %w", seq, err)
		}
	}
	return nil
}

// blocked counts and tells the entries that are past retention and kept, because nothing undelivered may be lost.
func (s *Store) blocked(ctx context.Context, before int64) error {
	var n int64
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM entry e WHERE received_at < ? AND NOT (`+settled+`)`, before).Scan(&n); err != nil {
		return s.report(fmt.Errorf("count old entries: %w", err))
	}
	s.o.Metrics.RetentionDue.Set(float64(n))
	if n > 0 {
		s.o.Log.Warn("entries past retention are kept: they are undelivered, dead or in quarantine; see `callbackd inbox list --state`",
			zap.Int64("entries", n))
	}
	return nil
}

// pruneKeys looks at a few keys, from the cursor on, and removes those that are old and whose entry is gone. The keys have no index
// by age, for each index costs every ack; so a round goes over all of them little by little.
func (s *Store) pruneKeys(ctx context.Context, cursor []byte) (next []byte, err error) {
	cutoff := s.o.Now().Add(-s.o.KeyAge).UnixMicro()
	rows, err := s.db.QueryContext(ctx, `SELECT key, at < ?2 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.seq = k.seq)
		FROM dedup k WHERE key > ?1 ORDER BY key LIMIT ?3`, append([]byte{}, cursor...), cutoff, keyStep)
	if err != nil {
		return cursor, s.report(fmt.Errorf("find old keys: %w", err))
	}
	defer rows.Close()
	var old [][]byte
	for rows.Next() {
		var key []byte
		var remove bool
		if err := rows.Scan(&key, &remove); err != nil {
			return cursor, s.report(fmt.Errorf("find old keys: %w", err))
		}
		next = key
		if remove {
			old = append(old, key)
		}
	}
	if err := rows.Err(); err != nil {
		return cursor, s.report(err)
	}
	rows.Close()
	for len(old) > 0 {
		step := old[:min(len(old), pruneStep)]
		old = old[len(step):]
		if err := s.Do(ctx, func() error {
			return s.transact(func(*effects) error {
				for _, key := range step {
					if _, err := s.conn.ExecContext(ctx, `DELETE FROM dedup WHERE key = ?1 AND at < ?2`, key, cutoff); err != nil {
						return fmt.Errorf("remove keys: %w", err)
					}
				}
				return nil
			})
		}); err != nil {
			return cursor, err
		}
	}
	return next, nil // nil at the end of the keys: begin again
}
