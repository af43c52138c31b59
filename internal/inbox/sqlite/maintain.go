package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
	// pruneStep and pruneBytes bound what one task of the writer removes: acks wait for it.
	pruneStep  = 100
	pruneBytes = 1 << 20
	// keyStep is how many keys one round looks at.
	keyStep = 20_000
	// slice is how long retention goes on before the other maintenance has its turn, and maintenanceShare what part of all time it
	// may take to look for what it can remove.
	slice            = time.Second
	maintenanceShare = 20
	// warnEvery is how often the same trouble is told again.
	warnEvery = time.Hour
)

// maintain keeps the store small and notes that it lives, until ctx ends. While the store is unavailable it tries every
// second, so that it recovers without traffic.
func (s *Store) maintain(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var alive, next time.Time // when the next sign of life, and the next sweep, are due
	var sweep *sweep
	var keyCursor []byte
	var warned time.Time
	down := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Broken():
			return
		case <-tick.C:
		}
		now := s.o.Now()
		// An outage that has ended is noted at once: a crash would hide it behind a later sign of life.
		if was := down; was || s.Status() != nil || !now.Before(alive) {
			s.logged("note that the inbox lives", s.Do(ctx, s.noteAlive))
			s.logged("measure lag", s.measureLag(ctx))
			alive = now.Add(s.o.MaintenanceEvery)
		}
		s.logged("checkpoint", s.checkpoint(ctx))
		if down = s.Status() != nil; down || now.Before(next) {
			continue
		}
		if sweep == nil {
			sweep = newSweep()
		}
		done, err := s.sweepUntil(ctx, sweep, time.Now().Add(slice))
		s.logged("retention", err)
		if !done && err == nil {
			continue
		}
		if err == nil && s.tellBlocked(sweep, !now.Before(warned.Add(warnEvery))) {
			warned = now
		}
		keyCursor, err = s.pruneKeys(ctx, keyCursor)
		s.logged("retention of keys", err)
		next = s.o.Now().Add(max(s.o.MaintenanceEvery, sweep.took*maintenanceShare))
		sweep = nil
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
		// Nobody can have anything resent from before, so that the notes do not grow for ever.
		old := s.o.Now().Add(-s.o.KeyAge).UnixMicro()
		if _, err := s.conn.ExecContext(context.Background(), `DELETE FROM run WHERE id <> ?1 AND max(started_at, alive_at, stopped_at) < ?2`,
			s.run, old); err != nil {
			return fmt.Errorf("forget old runs: %w", err)
		}
		if _, err := s.conn.ExecContext(context.Background(), `DELETE FROM outage WHERE to_at < ?`, old); err != nil {
			return fmt.Errorf("forget old outages: %w", err)
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

func (s *Store) noteStop() error { return errors.Join(s.noteAlive(), s.noteEnd()) }

// AcksEnded notes that nothing is received any more, though the store stays open for deliveries: the time without acks begins now.
func (s *Store) AcksEnded(ctx context.Context) error { return s.Do(ctx, s.noteEnd) }

func (s *Store) noteEnd() error {
	return s.transact(func(*effects) error {
		_, err := s.conn.ExecContext(context.Background(), `UPDATE run SET stopped_at = ?2 WHERE id = ?1 AND stopped_at = 0`, s.run, s.o.Now().UnixMicro())
		if err != nil {
			return fmt.Errorf("note end: %w", err)
		}
		return nil
	})
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

// sweep is one way over the entries, from the oldest on, as far as retention reaches.
type sweep struct {
	at, seq int64 // the cursor: arrival and Seq of the last entry looked at
	bytes   int64 // in use, when it was last measured
	blocked int64 // entries past retention that have to stay
	took    time.Duration
}

func newSweep() *sweep { return &sweep{at: math.MinInt64} }

// prune is a whole sweep.
func (s *Store) prune(ctx context.Context) error {
	w := newSweep()
	for {
		done, err := s.sweepUntil(ctx, w, time.Now().Add(slice))
		if err != nil {
			return err
		}
		if done {
			s.tellBlocked(w, true)
			return nil
		}
	}
}

// sweepUntil goes on with a sweep, in steps between which appends have their turn, until it is done or its time is up.
//
// The file does not shrink. Its free pages are used again for what arrives next, so it stays at the size that the limits allow: a
// database that gives pages back keeps a map of all of them, which every ack would pay for. A backup that is restored has none.
func (s *Store) sweepUntil(ctx context.Context, w *sweep, until time.Time) (done bool, err error) {
	began := time.Now()
	defer func() { w.took += time.Since(began) }()
	for !done && time.Now().Before(until) {
		if done, err = s.sweepStep(ctx, w); err != nil {
			return false, err
		}
	}
	return done, nil
}

func (s *Store) sweepStep(ctx context.Context, w *sweep) (done bool, err error) {
	if w.bytes, err = usedBytes(ctx, s.db); err != nil {
		return false, s.report(err)
	}
	s.o.Metrics.Bytes.Set(float64(w.bytes))
	before := s.o.Now().Add(-s.o.Retention.Age).UnixMicro()
	if w.bytes > s.o.Retention.Bytes {
		before = math.MaxInt64
	}
	seqs, done, err := s.prunable(ctx, w, before)
	if err != nil || len(seqs) == 0 {
		return done, err
	}
	var removed int
	err = s.Do(ctx, func() error {
		return s.transact(func(*effects) (err error) {
			removed, err = s.remove(ctx, seqs)
			return err
		})
	})
	if err != nil {
		return false, err
	}
	s.o.Metrics.Pruned.Add(float64(removed))
	return done, nil
}

// settled is the condition under which an entry e may be removed.
const settled = `e.held = 0 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND d.state IN (0, 2))`

// sweepPage is how many entries a step looks at, if most of them have to stay.
const sweepPage = 1000

// The first condition is the second's, for the index.
const sweepStatement = `SELECT e.seq, e.received_at, ` + settled + `, coalesce(length(b.data), 0) FROM entry e LEFT JOIN body b ON b.seq = e.seq
	WHERE e.received_at >= ?1 AND (e.received_at > ?1 OR e.seq > ?2) AND e.received_at < ?3 ORDER BY e.received_at, e.seq LIMIT ?4`

// prunable moves the sweep's cursor over entries that arrived before the time, and returns those that one task may remove.
func (s *Store) prunable(ctx context.Context, w *sweep, before int64) (seqs []int64, done bool, err error) {
	rows, err := s.db.QueryContext(ctx, sweepStatement, w.at, w.seq, before, sweepPage)
	if err != nil {
		return nil, false, s.report(fmt.Errorf("find old entries: %w", err))
	}
	defer rows.Close()
	seen, size := 0, 0
	for len(seqs) < pruneStep && size < pruneBytes && rows.Next() {
		var remove bool
		var bytes int
		if err := rows.Scan(&w.seq, &w.at, &remove, &bytes); err != nil {
			return nil, false, s.report(fmt.Errorf("find old entries: %w", err))
		}
		if seen++; !remove {
			w.blocked++
			continue
		}
		seqs = append(seqs, w.seq)
		size += bytes
	}
	done = len(seqs) < pruneStep && size < pruneBytes && seen < sweepPage
	return seqs, done, s.report(rows.Err())
}

// tellBlocked counts the entries that are past retention and kept, because nothing undelivered may be lost, and with aloud logs them.
func (s *Store) tellBlocked(w *sweep, aloud bool) bool {
	s.o.Metrics.RetentionDue.Set(float64(w.blocked))
	over := w.bytes > s.o.Retention.Bytes
	if !aloud || w.blocked == 0 && !over {
		return false
	}
	text := "entries past retention are kept: they are undelivered, dead or in quarantine; see `callbackd inbox list --state`"
	if w.blocked == 0 {
		text = "the inbox is larger than its retention allows, and has no entry left to remove: the keys that tell duplicates take the room"
	}
	s.o.Log.Warn(text, zap.Int64("entries", w.blocked), zap.Int64("bytes", w.bytes), zap.Int64("bytes_allowed", s.o.Retention.Bytes),
		zap.Duration("age_allowed", s.o.Retention.Age))
	return true
}

// remove deletes entries and all that belongs to them but their keys, unless they got something to deliver since they were
// chosen. It is the writer's task.
func (s *Store) remove(ctx context.Context, seqs []int64) (removed int, err error) {
	if err := s.noteLastSeq(ctx); err != nil {
		return 0, err
	}
	for _, seq := range seqs {
		var text string
		err := s.conn.QueryRowContext(ctx, `DELETE FROM entry AS e WHERE seq = ?1 AND `+settled+` RETURNING facts`, seq).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return removed, fmt.Errorf("remove entry %d: %w", seq, err)
		}
		if err := s.removeRest(ctx, seq, text); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// noteLastSeq keeps the Seq of what is removed from being given again.
func (s *Store) noteLastSeq(ctx context.Context) error {
	if _, err := s.conn.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('last_seq', ?1)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`, fmt.Sprint(s.nextSeq-1)); err != nil {
		return fmt.Errorf("note last entry: %w", err)
	}
	return nil
}

func (s *Store) removeRest(ctx context.Context, seq int64, factsText string) error {
	for _, table := range []string{"delivery", "sighting", "body"} {
		if _, err := s.conn.ExecContext(ctx, `DELETE FROM `+table+` WHERE seq = ?1`, seq); err != nil {
			return fmt.Errorf("remove %s of entry %d: %w", table, seq, err)
		}
	}
	statement, args := `DELETE FROM device WHERE seq = ?1 AND identifier IN (SELECT value FROM json_each(?2))`, []any{seq, ""}
	var facts inbox.Facts
	if err := json.Unmarshal([]byte(factsText), &facts); err == nil {
		args[1] = jsonList(facts.Identifiers())
	} else {
		// The facts are corrupt. Then all devices are looked at, which is slow and rare.
		statement, args = `DELETE FROM device WHERE seq = ?1`, args[:1]
	}
	if _, err := s.conn.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("remove devices of entry %d: %w", seq, err)
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
