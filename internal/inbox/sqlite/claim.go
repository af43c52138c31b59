package sqlite

import (
	"context"
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
	mu sync.Mutex
	of map[int64]*handlerClaims
}

// handlerClaims are one handler's.
type handlerClaims struct {
	held map[claim]bool
	wake chan struct{}

	// A look at what is pending may see a delivery whose settlement became durable after the look began. So a claim that ends
	// while its handler looks is kept until it does not.
	looks  int
	ending []claim
}

// handler returns the handler's claims. cs.mu is held.
func (cs *claims) handler(id int64) *handlerClaims {
	if cs.of == nil {
		cs.of = make(map[int64]*handlerClaims)
	}
	if cs.of[id] == nil {
		cs.of[id] = &handlerClaims{held: make(map[claim]bool), wake: make(chan struct{}, 1)}
	}
	return cs.of[id]
}

// look begins a look at what a handler has pending; the caller MUST call done after it.
func (cs *claims) look(handler int64) (done func()) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	h := cs.handler(handler)
	h.looks++
	return func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		if h.looks--; h.looks > 0 || len(h.ending) == 0 {
			return
		}
		for _, c := range h.ending {
			delete(h.held, c)
		}
		h.ending = nil
		h.wakeUp() // the look may have passed over them, and taken the wake-up that they had
	}
}

// take claims c, unless it is claimed.
func (cs *claims) take(c claim) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	h := cs.handler(c.handler)
	if h.held[c] {
		return false
	}
	h.held[c] = true
	return true
}

func (cs *claims) end(ended []claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range ended {
		h := cs.handler(c.handler)
		if h.looks > 0 {
			h.ending = append(h.ending, c)
		} else {
			delete(h.held, c)
		}
	}
}

func (cs *claims) count(handler int64) int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.handler(handler).held)
}

func (cs *claims) channel(handler int64) chan struct{} {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.handler(handler).wake
}

func (cs *claims) wakeUp(handler int64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.handler(handler).wakeUp()
}

func (h *handlerClaims) wakeUp() {
	select {
	case h.wake <- struct{}{}:
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

// mostUnsettled bounds the ends of attempts that wait to be recorded: while the store cannot record them, what a crash would
// repeat stays bounded, and so does the memory.
const mostUnsettled = 16 << 10

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
	if s.Unsettled() >= mostUnsettled {
		return nil, s.o.Now().Add(time.Second), nil
	}
	due, next, err := s.due(ctx, id, limit, s.o.Now().UnixMicro())
	if err != nil {
		s.unclaim(due)
		return nil, next, err
	}
	if len(due) == 0 {
		return nil, next, nil
	}
	claimed, err = s.readAll(ctx, due, handler)
	return claimed, next, err
}

// pending is a delivery that is due, and how many attempts it had.
type pending struct {
	claim
	attempts int
}

// claimBytes bounds the bodies of one claim, but for the first.
const claimBytes = 4 << 20

// due finds deliveries that are due and claims them. What it returns is claimed, also with an error.
func (s *Store) due(ctx context.Context, handler int64, limit int, now int64) (due []pending, next time.Time, err error) {
	defer s.claims.look(handler)()
	// Those in claim are still pending in the database, so look past them.
	rows, err := s.stmt.due.QueryContext(ctx, handler, limit+s.claims.count(handler)+1)
	if err != nil {
		return nil, time.Time{}, s.report(fmt.Errorf("find due deliveries: %w", err))
	}
	defer rows.Close()
	bytes := 0
	for rows.Next() && len(due) < limit && bytes < claimBytes {
		p := pending{claim: claim{handler: handler}}
		var at int64
		var body int
		if err := rows.Scan(&p.seq, &p.replay, &at, &p.attempts, &body); err != nil {
			return due, time.Time{}, s.report(fmt.Errorf("find due deliveries: %w", err))
		}
		if at > now {
			return due, fromMicro(at), nil
		}
		if s.claims.take(p.claim) {
			due = append(due, p)
			bytes += body
		}
	}
	return due, time.Time{}, s.report(rows.Err())
}

// readAll reads the entries of claimed deliveries, in one query. A delivery whose entry cannot be read is buried.
func (s *Store) readAll(ctx context.Context, due []pending, handler string) ([]inbox.Delivery, error) {
	entries, err := s.entries(ctx, due)
	if err != nil {
		s.unclaim(due)
		return nil, err
	}
	claimed := make([]inbox.Delivery, 0, len(due))
	for _, p := range due {
		d := inbox.Delivery{DeliveryKey: inbox.DeliveryKey{Seq: p.seq, Handler: handler, Replay: p.replay}, Attempt: p.attempts + 1}
		read, ok := entries[p.seq]
		if !ok {
			read.err = fmt.Errorf("%w: entry %d is missing", inbox.ErrCorruptEntry, p.seq)
		}
		if read.err != nil {
			s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictBury, Attempts: p.attempts,
				Reason: "corrupt_entry", Cause: read.err.Error()})
			continue
		}
		d.Entry = read.entry
		d.ID = DeliveryID(d.Entry.ID, handler, p.replay)
		claimed = append(claimed, d)
	}
	return claimed, nil
}

// unclaim ends claims of which nothing came.
func (s *Store) unclaim(due []pending) {
	for _, p := range due {
		s.claims.end([]claim{p.claim})
	}
}

// readEntry is an entry, or why it cannot be read.
type readEntry struct {
	entry inbox.Entry
	err   error
}

func (s *Store) entries(ctx context.Context, due []pending) (map[int64]readEntry, error) {
	seqs := make([]byte, 0, 8*len(due))
	for _, p := range due {
		seqs = strconv.AppendInt(append(seqs, ','), p.seq, 10)
	}
	seqs[0] = '['
	rows, err := s.stmt.entries.QueryContext(ctx, string(append(seqs, ']')))
	if err != nil {
		return nil, s.report(fmt.Errorf("read entries: %w", err))
	}
	defer rows.Close()
	entries := make(map[int64]readEntry, len(due))
	for rows.Next() {
		e, err := s.scan(rows, true)
		if err != nil && !errors.Is(err, inbox.ErrCorruptEntry) {
			return nil, err
		}
		entries[e.Seq] = readEntry{e, err}
	}
	if err := rows.Err(); err != nil {
		return nil, s.report(fmt.Errorf("read entries: %w", err))
	}
	return entries, nil
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
