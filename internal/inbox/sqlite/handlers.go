package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"callbackd/internal/inbox"
)

// registry maps handlers' names to numbers and back.
type registry struct {
	mu    sync.RWMutex
	ids   map[string]int64
	names map[int64]string
	known map[int64]known
}

// known is what an operator or the configuration has said of a handler.
type known struct {
	order  inbox.Order
	paused bool
}

func (r *registry) id(name string) (int64, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok := r.ids[name]
	return id, ok
}

func (r *registry) name(id int64) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.names[id]
}

func (r *registry) order(id int64) inbox.Order {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.known[id].order
}

func (r *registry) paused(id int64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.known[id].paused
}

// change changes what is known of a handler.
func (r *registry) change(id int64, do func(*known)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[int64]known)
	}
	k := r.known[id]
	do(&k)
	r.known[id] = k
}

func (r *registry) add(ids map[string]int64) {
	if len(ids) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids, r.names = make(map[string]int64), make(map[int64]string)
	}
	for name, id := range ids {
		r.ids[name], r.names[id] = id, name
	}
}

// Register makes the handlers known to the store, so that Wake and Claim can be called for them. Deliveries of handlers that are
// not among them are buried as [inbox.ReasonRemoved]; the answer says how many, by handler.
func (s *Store) Register(ctx context.Context, handlers []string) (removed map[string]int, err error) {
	removed = make(map[string]int)
	err = s.Do(ctx, func() error {
		return s.transact(func(tx *effects) error {
			keep := make(map[int64]bool)
			for _, name := range handlers {
				id, err := s.handlerID(tx, name)
				if err != nil {
					return err
				}
				keep[id] = true
			}
			return s.buryOthers(ctx, tx, keep, removed)
		})
	})
	for _, name := range handlers {
		s.o.Metrics.Pending.WithLabelValues(name).Add(0)
		s.o.Metrics.DeadLetters.WithLabelValues(name).Add(0)
		s.o.Metrics.Paused.WithLabelValues(name).Add(0)
		s.o.Metrics.Lag.Add(name, 0)
	}
	return removed, err
}

func (s *Store) buryOthers(ctx context.Context, tx *effects, keep map[int64]bool, removed map[string]int) error {
	s.handlers.mu.RLock()
	defer s.handlers.mu.RUnlock()
	for id, name := range s.handlers.names {
		if keep[id] {
			continue
		}
		result, err := s.conn.ExecContext(ctx, `UPDATE delivery SET state = 2, settled_at = ?2, reason = ?3, order_key = 0
			WHERE handler = ?1 AND state = 0`, id, s.o.Now().UnixMicro(), inbox.ReasonRemoved)
		if err != nil {
			return fmt.Errorf("bury deliveries of %s: %w", name, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("bury deliveries of %s: %w", name, err)
		}
		if n > 0 {
			removed[name] = int(n)
			tx.count(-int(n), int(n), id)
		}
	}
	return nil
}

// OrderBy says in which order the deliveries of handlers are made; of those that are not named, in none. It MUST be called before anything
// is claimed: where the order of a handler changes, that of its pending deliveries is made anew, and what was buried before is outside
// of it.
func (s *Store) OrderBy(ctx context.Context, orders map[string]inbox.Order) error {
	s.handlers.mu.RLock()
	changed := make(map[int64]inbox.Order)
	for id, name := range s.handlers.names {
		if orders[name] != s.handlers.known[id].order {
			changed[id] = orders[name]
		}
	}
	s.handlers.mu.RUnlock()
	for id, order := range changed {
		if err := s.reorder(ctx, id, order); err != nil {
			return fmt.Errorf("order the deliveries of %s: %w", s.handlers.name(id), err)
		}
	}
	return nil
}

// reorder makes the order of a handler's pending deliveries anew, in steps. That it is made is noted last, so that a crash before it has
// all of it made again.
func (s *Store) reorder(ctx context.Context, id int64, order inbox.Order) error {
	for more := true; more; {
		if err := s.operate(ctx, false, func(*effects) error {
			n, err := s.change(ctx, `UPDATE delivery SET order_key = 0, wait = CASE wait WHEN 1 THEN 0 ELSE wait END
				WHERE (seq, handler, replay) IN (SELECT seq, handler, replay FROM delivery WHERE handler = ?1 AND order_key <> 0 LIMIT ?2)`, id, reorderStep)
			more = n == reorderStep
			return err
		}); err != nil {
			return err
		}
	}
	if order != inbox.Unordered {
		if err := s.enterOrder(ctx, id); err != nil {
			return err
		}
	}
	return s.operate(ctx, false, func(tx *effects) error {
		if _, err := s.change(ctx, `UPDATE handler SET in_order = ?2 WHERE id = ?1`, id, order); err != nil {
			return err
		}
		tx.then = append(tx.then, func() { s.handlers.change(id, func(k *known) { k.order = order }) })
		tx.canClaim(id, position{})
		return nil
	})
}

// reorderStep bounds the deliveries of one task.
const reorderStep = 1000

// enterOrder gives the handler's pending deliveries their keys, by arrival, and lets the first of each device go first.
func (s *Store) enterOrder(ctx context.Context, id int64) error {
	seen := make(map[int64]bool)
	for after := int64(0); after >= 0; {
		err := s.operate(ctx, false, func(*effects) error {
			entries, err := s.pendingEntries(ctx, id, after)
			if err != nil {
				return err
			}
			after = -1
			for i := range entries {
				e := &entries[i]
				if len(entries) == reorderStep {
					after = e.Seq
				}
				key := e.OrderKey()
				if key == 0 {
					continue
				}
				if _, err := s.change(ctx, `UPDATE delivery SET order_key = ?3, wait = CASE ?4 WHEN 1 THEN 1 ELSE wait END
					WHERE seq = ?1 AND handler = ?2 AND replay = 0`, e.Seq, id, key, seen[key]); err != nil {
					return err
				}
				seen[key] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pendingStatement merges what waits in one way and another, so that a step costs the same however much is pending. None waits for an
// earlier one: it has no order yet.
const pendingStatement = `SELECT ` + claimColumns + ` FROM (
	SELECT seq FROM delivery WHERE handler = ?1 AND state = 0 AND wait = 0 AND replay = 0 AND seq > ?2 UNION ALL
	SELECT seq FROM delivery WHERE handler = ?1 AND state = 0 AND wait = 2 AND replay = 0 AND seq > ?2 UNION ALL
	SELECT seq FROM delivery WHERE handler = ?1 AND state = 0 AND wait = 3 AND replay = 0 AND seq > ?2 ORDER BY seq LIMIT ?3
	) p JOIN entry e ON e.seq = p.seq ORDER BY p.seq`

// pendingEntries reads entries that have yet to be delivered to the handler, without their bodies. One that is corrupt has no device.
func (s *Store) pendingEntries(ctx context.Context, id, after int64) ([]inbox.Entry, error) {
	rows, err := s.conn.QueryContext(ctx, pendingStatement, id, after, reorderStep)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var entries []inbox.Entry
	for rows.Next() {
		e, err := scanEntry(rows, false)
		if err != nil && !errors.Is(err, inbox.ErrCorruptEntry) {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// change is a statement of the writer's task; it says how many rows it changed.
func (s *Store) change(ctx context.Context, text string, args ...any) (int, error) {
	result, err := s.conn.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// Hasten makes what waits after a failure claimable at once, in the order of arrival: the handler works again, or is to be tried. What the
// handler itself asked to wait for is left alone, and so are replays.
func (s *Store) Hasten(ctx context.Context, handler string) error {
	id, ok := s.handlers.id(handler)
	if !ok {
		return fmt.Errorf("hasten: handler %q was not registered", handler)
	}
	for more := true; more; {
		waits, err := s.waits(ctx, id)
		if err != nil || len(waits) == 0 {
			return err
		}
		more = len(waits) == reorderStep
		if err := s.operate(ctx, false, func(tx *effects) error {
			for _, seq := range waits {
				n, err := s.change(ctx, `UPDATE delivery SET wait = 0 WHERE seq = ?1 AND handler = ?2 AND replay = 0 AND state = 0 AND wait = 2`, seq, id)
				if err != nil {
					return fmt.Errorf("hasten deliveries: %w", err)
				}
				if n > 0 {
					tx.canClaim(id, position{seq, 0})
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// waits lists deliveries that wait after a failure.
func (s *Store) waits(ctx context.Context, handler int64) ([]int64, error) {
	rows, err := s.stmt.waits.QueryContext(ctx, handler, reorderStep)
	if err != nil {
		return nil, s.report(fmt.Errorf("find waiting deliveries: %w", err))
	}
	defer rows.Close()
	var seqs []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, s.report(fmt.Errorf("find waiting deliveries: %w", err))
		}
		seqs = append(seqs, seq)
	}
	return seqs, s.report(rows.Err())
}

// Pause keeps a handler from being given deliveries, until [Store.Resume]; a restart changes nothing about it. by is who asked for it.
// changed says whether it was not paused before.
func (s *Store) Pause(ctx context.Context, handler, by string) (changed bool, err error) {
	return s.setPaused(ctx, handler, s.o.Now().UnixMicro(), by)
}

// Resume ends a pause.
func (s *Store) Resume(ctx context.Context, handler string) (changed bool, err error) {
	return s.setPaused(ctx, handler, 0, "")
}

func (s *Store) setPaused(ctx context.Context, handler string, at int64, by string) (changed bool, err error) {
	id, ok := s.handlers.id(handler)
	if !ok {
		return false, fmt.Errorf("%w: the inbox knows no handler %q", inbox.ErrNotFound, handler)
	}
	err = s.operate(ctx, false, func(tx *effects) error {
		n, err := s.change(ctx, `UPDATE handler SET paused_at = ?2, paused_by = ?3 WHERE id = ?1 AND (paused_at = 0) <> (?2 = 0)`, id, at, by)
		if err != nil {
			return fmt.Errorf("pause %s: %w", handler, err)
		}
		changed = n > 0
		tx.then = append(tx.then, func() { s.notePaused(id, handler, at != 0) })
		tx.wakeUp(id)
		return nil
	})
	return changed, err
}

func (s *Store) notePaused(id int64, handler string, paused bool) {
	s.handlers.change(id, func(k *known) { k.paused = paused })
	value := 0.0
	if paused {
		value = 1
	}
	s.o.Metrics.Paused.WithLabelValues(handler).Set(value)
}

// Paused reports whether an operator has paused the handler.
func (s *Store) Paused(handler string) bool {
	id, ok := s.handlers.id(handler)
	return ok && s.handlers.paused(id)
}

// Handlers lists what is known of the handlers that ever had a delivery, by name.
func (r *Reader) Handlers(ctx context.Context) ([]inbox.HandlerStatus, error) {
	rows, err := r.db.QueryContext(ctx, handlerStatement)
	if err != nil {
		return nil, r.report(fmt.Errorf("read handlers: %w", err))
	}
	defer rows.Close()
	list := []inbox.HandlerStatus{}
	for rows.Next() {
		var h inbox.HandlerStatus
		var paused int64
		var oldest sql.NullInt64
		if err := rows.Scan(&h.Name, &h.Order, &paused, &h.PausedBy, &h.Pending, &h.Blocked, &h.Dead, &oldest); err != nil {
			return nil, r.report(fmt.Errorf("read handlers: %w", err))
		}
		h.PausedAt, h.OldestPending = fromMicro(paused), fromMicro(oldest.Int64)
		list = append(list, h)
	}
	return list, r.report(rows.Err())
}

const handlerStatement = `SELECT name, in_order, paused_at, paused_by,
	(SELECT count(*) FROM delivery WHERE handler = h.id AND state = 0),
	(SELECT count(*) FROM delivery WHERE handler = h.id AND state = 0 AND wait = 1),
	(SELECT count(*) FROM delivery WHERE handler = h.id AND state = 2),
	(SELECT received_at FROM entry WHERE seq = ` + oldestPending + `) FROM handler h ORDER BY name`

// oldestPending is the first entry that has yet to be delivered to the handler h; each way to wait has its place in the index.
const oldestPending = `(SELECT min(first) FROM (
	SELECT min(seq) AS first FROM delivery WHERE handler = h.id AND state = 0 AND wait = 0 UNION ALL
	SELECT min(seq) FROM delivery WHERE handler = h.id AND state = 0 AND wait = 1 UNION ALL
	SELECT min(seq) FROM delivery WHERE handler = h.id AND state = 0 AND wait = 2 UNION ALL
	SELECT min(seq) FROM delivery WHERE handler = h.id AND state = 0 AND wait = 3))`

// measureLag tells the metrics how old the oldest callback is that each handler has yet to get.
func (s *Store) measureLag(ctx context.Context) error {
	rows, err := s.stmt.lag.QueryContext(ctx)
	if err != nil {
		return s.report(fmt.Errorf("measure lag: %w", err))
	}
	defer rows.Close()
	oldest := make(map[string]time.Time)
	for rows.Next() {
		var name string
		var at sql.NullInt64
		if err := rows.Scan(&name, &at); err != nil {
			return s.report(fmt.Errorf("measure lag: %w", err))
		}
		oldest[name] = fromMicro(at.Int64)
	}
	if err := rows.Err(); err != nil {
		return s.report(fmt.Errorf("measure lag: %w", err))
	}
	s.o.Metrics.Lag.Set(oldest)
	return nil
}
