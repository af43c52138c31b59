package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"callbackd/internal/inbox"
)

// claim is a delivery that a handler is busy with.
type claim struct{ handler, seq, replay int64 }

// claims are in memory: a process that dies has none.
type claims struct {
	mu    sync.Mutex
	held  map[int64]map[claim]bool // by handler
	wakes map[int64]chan struct{}
}

// take claims c, unless it is claimed.
func (cs *claims) take(c claim) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	of := cs.held[c.handler]
	if of[c] {
		return false
	}
	if of == nil {
		if cs.held == nil {
			cs.held = make(map[int64]map[claim]bool)
		}
		of = make(map[claim]bool)
		cs.held[c.handler] = of
	}
	of[c] = true
	return true
}

func (cs *claims) end(ended []claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range ended {
		delete(cs.held[c.handler], c)
	}
}

func (cs *claims) count(handler int64) int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.held[handler])
}

func (cs *claims) channel(handler int64) chan struct{} {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.wakes == nil {
		cs.wakes = make(map[int64]chan struct{})
	}
	if cs.wakes[handler] == nil {
		cs.wakes[handler] = make(chan struct{}, 1)
	}
	return cs.wakes[handler]
}

func (cs *claims) wakeUp(handler int64) {
	select {
	case cs.channel(handler) <- struct{}{}:
	default: // a wake-up is waiting already
	}
}

// registry maps handlers' names to numbers and back.
type registry struct {
	mu    sync.RWMutex
	ids   map[string]int64
	names map[int64]string
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
// not among them are buried as "handler_removed"; the answer says how many, by handler.
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
		result, err := s.conn.ExecContext(ctx, `UPDATE delivery SET state = 2, settled_at = ?2, reason = 'handler_removed'
			WHERE handler = ?1 AND state = 0`, id, s.o.Now().UnixMicro())
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

// Wake signals that the handler, which was registered, may have something to claim.
func (s *Store) Wake(handler string) <-chan struct{} {
	id, _ := s.handlers.id(handler)
	return s.claims.channel(id)
}

// Claim hands out at most limit deliveries of the handler that are due, in the order of their due times. A claim ends when its
// settlement is durable, or with ReleaseClaims. next is when the earliest delivery that is not due yet will be; zero for none.
func (s *Store) Claim(ctx context.Context, handler string, limit int) (claimed []inbox.Delivery, next time.Time, err error) {
	id, ok := s.handlers.id(handler)
	if !ok {
		return nil, time.Time{}, fmt.Errorf("claim: handler %q was not registered", handler)
	}
	select {
	case <-s.Broken():
		// No end of an attempt could be recorded any more.
		return nil, time.Time{}, s.Status()
	default:
	}
	if held, err := s.DeliveriesHeld(ctx); err != nil || held {
		return nil, time.Time{}, err
	}
	for {
		due, next, err := s.due(ctx, id, limit, s.o.Now().UnixMicro())
		if err != nil || len(due) == 0 {
			return nil, next, err
		}
		// All of them may have been settled between the two looks.
		if claimed, err = s.readAll(ctx, due, handler); err != nil || len(claimed) > 0 {
			return claimed, next, err
		}
	}
}

// readAll reads claimed deliveries, and ends the claims on those that it does not return.
func (s *Store) readAll(ctx context.Context, due []claim, handler string) (claimed []inbox.Delivery, err error) {
	for i, c := range due {
		d, err := s.read(ctx, c, handler)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			s.claims.end([]claim{c})
		case errors.Is(err, inbox.ErrCorruptEntry):
			s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictBury, Attempts: d.Attempt - 1,
				Reason: "corrupt_entry", Cause: err.Error()})
		case err != nil:
			s.claims.end(due[i:])
			s.ReleaseClaims(keys(claimed)...)
			return nil, err
		default:
			claimed = append(claimed, d)
		}
	}
	return claimed, nil
}

// due finds deliveries that are due and claims them.
func (s *Store) due(ctx context.Context, handler int64, limit int, now int64) (due []claim, next time.Time, err error) {
	// Those in claim are still pending in the database, so look past them.
	rows, err := s.stmt.due.QueryContext(ctx, handler, limit+s.claims.count(handler)+1)
	if err != nil {
		return nil, time.Time{}, s.report(fmt.Errorf("find due deliveries: %w", err))
	}
	defer rows.Close()
	for rows.Next() && len(due) < limit {
		c := claim{handler: handler}
		var at int64
		if err := rows.Scan(&c.seq, &c.replay, &at); err != nil {
			return due, time.Time{}, s.report(fmt.Errorf("find due deliveries: %w", err))
		}
		if at > now {
			return due, fromMicro(at), nil
		}
		if s.claims.take(c) {
			due = append(due, c)
		}
	}
	return due, time.Time{}, s.report(rows.Err())
}

// read reads a claimed delivery. It looks again whether the delivery is due: an earlier attempt's settlement may have become
// durable, and its claim ended, after due looked and before it claimed.
func (s *Store) read(ctx context.Context, c claim, handler string) (inbox.Delivery, error) {
	d := inbox.Delivery{DeliveryKey: inbox.DeliveryKey{Seq: c.seq, Handler: handler, Replay: c.replay}}
	var attempts int
	err := s.stmt.delivery.QueryRowContext(ctx, c.seq, c.handler, c.replay, s.o.Now().UnixMicro()).Scan(&attempts)
	if err != nil {
		return d, s.report(err)
	}
	d.Attempt = attempts + 1
	d.Entry, err = s.Entry(ctx, c.seq)
	d.ID = DeliveryID(d.Entry.ID, handler, c.replay)
	return d, err
}

// DeliveryID is the lasting name of a delivery.
func DeliveryID(entryID, handler string, replay int64) string {
	id := entryID + "." + handler
	if replay > 0 {
		id += "." + strconv.FormatInt(replay, 10)
	}
	return id
}

// ReleaseClaims ends claims without a settlement: no attempt was made, and another claim may follow at once.
func (s *Store) ReleaseClaims(released ...inbox.DeliveryKey) {
	ended := make([]claim, 0, len(released))
	for _, k := range released {
		if id, ok := s.handlers.id(k.Handler); ok {
			ended = append(ended, claim{id, k.Seq, k.Replay})
		}
	}
	s.claims.end(ended)
	for _, c := range ended {
		s.claims.wakeUp(c.handler)
	}
}

func keys(deliveries []inbox.Delivery) []inbox.DeliveryKey {
	list := make([]inbox.DeliveryKey, len(deliveries))
	for i := range deliveries {
		list[i] = deliveries[i].DeliveryKey
	}
	return list
}
