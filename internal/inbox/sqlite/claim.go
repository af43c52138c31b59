package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"callbackd/internal/inbox"
)

// claim is a delivery that a handler is busy with.
type claim struct{ handler, seq, replay int64 }

func (c claim) position() position { return position{c.seq, c.replay} }

// position is a delivery's place in the order of arrival.
type position struct{ seq, replay int64 }

// lastPosition is behind every delivery.
var lastPosition = position{math.MaxInt64, math.MaxInt64}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.seq, q.seq), cmp.Compare(p.replay, q.replay))
}

func (p position) next() position { return position{p.seq, p.replay + 1} }

func (p position) orEarlier(q position) position {
	if q.compare(p) < 0 {
		return q
	}
	return p
}

// claims are in memory: a process that dies has none.
type claims struct {
	mu sync.Mutex
	of map[int64]*handlerClaims
}

// handlerClaims are one handler's.
type handlerClaims struct {
	looking sync.Mutex // held by a look at what is pending: there is one at a time
	held    map[claim]bool
	wake    chan struct{}
	// from is where the next look begins: all that can be claimed at once and stands before it is claimed. So a look does not read
	// what is claimed and not settled yet, however much that is.
	from position

	// A look may see a delivery whose settlement became durable after the look began. So a claim that ends while its handler looks is
	// kept until it does not. And what becomes claimable behind its back is where the next look begins.
	inLook bool
	ending []claim
	missed position
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

// look begins a look at what a handler has pending, from a position on. The caller MUST call end, with the position before which all
// that can be claimed at once is claimed.
func (cs *claims) look(handler int64) (from position, end func(position)) {
	cs.mu.Lock()
	h := cs.handler(handler)
	cs.mu.Unlock()
	h.looking.Lock()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	h.inLook, h.missed = true, lastPosition
	return h.from, func(to position) {
		defer h.looking.Unlock()
		cs.mu.Lock()
		defer cs.mu.Unlock()
		h.inLook = false
		h.from = to.orEarlier(h.missed)
		if len(h.ending) == 0 {
			return
		}
		for _, c := range h.ending {
			delete(h.held, c)
		}
		h.ending = nil
		h.wakeUp() // the look may have passed over them, and taken the wake-up that they had
	}
}

// claimable notes that a delivery can be claimed at once that could not before.
func (cs *claims) claimable(handler int64, at position) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	h := cs.handler(handler)
	h.from, h.missed = h.from.orEarlier(at), h.missed.orEarlier(at)
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

func (cs *claims) isHeld(c claim) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.handler(c.handler).held[c]
}

func (cs *claims) end(ended []claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range ended {
		h := cs.handler(c.handler)
		if h.inLook {
			h.ending = append(h.ending, c)
		} else {
			delete(h.held, c)
		}
	}
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

// Wake signals that the handler, which was registered, may have something to claim.
func (s *Store) Wake(handler string) <-chan struct{} {
	id, _ := s.handlers.id(handler)
	return s.claims.channel(id)
}

// mostUnsettled bounds the ends of attempts that wait to be recorded: while the store cannot record them, what a crash would
// repeat stays bounded, and so does the memory.
const mostUnsettled = 16 << 10

// Claim hands out at most limit deliveries of the handler that are due, in the order of arrival. Deliveries of a handler in order by device
// are handed out one of each device at a time. A claim ends when its settlement is durable, or with ReleaseClaims. next is when the
// earliest delivery that is not due yet will be; zero for none. A paused handler gets none.
func (s *Store) Claim(ctx context.Context, handler string, limit int) (claimed []inbox.Delivery, next time.Time, err error) {
	return s.claim(ctx, handler, func(id, now int64) ([]pending, time.Time, error) { return s.due(ctx, id, limit, now) })
}

// Probe is a Claim of one delivery, which is to show whether the handler works again. It is any of those that have not failed yet, and if
// there are none the one that has been due for longest: so whatever keeps one delivery, or many, from being made does not keep a probe from
// being of another.
func (s *Store) Probe(ctx context.Context, handler string) (claimed []inbox.Delivery, next time.Time, err error) {
	return s.claim(ctx, handler, func(id, now int64) ([]pending, time.Time, error) { return s.probe(ctx, id, now) })
}

func (s *Store) claim(ctx context.Context, handler string, find func(id, now int64) ([]pending, time.Time, error)) (
	claimed []inbox.Delivery, next time.Time, err error,
) {
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
	if s.DeliveriesHeld() || s.handlers.paused(id) {
		return nil, time.Time{}, nil
	}
	if s.Unsettled() >= mostUnsettled {
		return nil, s.o.Now().Add(time.Second), nil
	}
	due, next, err := find(id, s.o.Now().UnixMicro())
	if err != nil || len(due) == 0 {
		return nil, next, err
	}
	claimed, err = s.readAll(ctx, due, handler)
	return claimed, next, err
}

// pending is a delivery that is due, and how many attempts it had.
type pending struct {
	claim
	attempts int
	waited   bool // until it was due
	bytes    int  // of the body
}

const (
	// claimBytes bounds the bodies of one claim, but for the first.
	claimBytes = 4 << 20
	// mostDue bounds how many deliveries that have waited are put in the order of arrival at a time.
	mostDue = 1000
)

// due finds deliveries that can be made now and claims them: the earliest arrivals first, and replays when nothing else is due.
func (s *Store) due(ctx context.Context, handler int64, limit int, now int64) (due []pending, next time.Time, err error) {
	from, end := s.claims.look(handler)
	to := from
	defer func() { end(to) }()
	waited, next, err := s.waited(ctx, handler, false, now)
	if err != nil {
		return nil, next, err
	}
	ready, passed, err := s.ready(ctx, handler, from, limit)
	if err != nil {
		return nil, next, err
	}
	replays, nextReplay, err := s.waited(ctx, handler, true, now)
	if err != nil {
		return nil, next, err
	}
	next = sooner(next, nextReplay)
	to = passed
	bytes := 0
	for _, p := range slices.Concat(inOrder(append(waited, ready...)), inOrder(replays)) {
		if len(due) < limit && bytes < claimBytes && s.claims.take(p.claim) {
			due = append(due, p)
			bytes += p.bytes
		} else if !p.waited {
			to = to.orEarlier(p.position())
		}
	}
	return due, next, nil
}

// probe finds the delivery of a probe and claims it.
func (s *Store) probe(ctx context.Context, handler int64, now int64) (due []pending, next time.Time, err error) {
	from, end := s.claims.look(handler)
	defer end(from)
	ready, err := s.anyReady(ctx, handler, from)
	if err != nil {
		return nil, next, err
	}
	waited, next, err := s.waited(ctx, handler, false, now)
	if err != nil {
		return nil, next, err
	}
	replays, nextReplay, err := s.waited(ctx, handler, true, now)
	if err != nil {
		return nil, next, err
	}
	next = sooner(next, nextReplay)
	for _, p := range slices.Concat(ready, waited, replays) {
		if s.claims.take(p.claim) {
			return []pending{p}, next, nil
		}
	}
	return nil, next, nil
}

// anyReady finds a delivery that can be made at once: at random, so that it matters little how many of them will fail, and where they stand.
func (s *Store) anyReady(ctx context.Context, handler int64, from position) ([]pending, error) {
	var first, last sql.NullInt64
	if err := s.stmt.span.QueryRowContext(ctx, handler).Scan(&first, &last); err != nil {
		return nil, s.report(fmt.Errorf("find pending deliveries: %w", err))
	}
	if !first.Valid {
		return nil, nil
	}
	at := position{seq: first.Int64 + rand.Int64N(last.Int64-first.Int64+1)}
	ready, _, err := s.ready(ctx, handler, at, 1)
	if err == nil && len(ready) == 0 { // those behind it are claimed
		ready, _, err = s.ready(ctx, handler, from, 1)
	}
	return ready, err
}

// sooner is the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func inOrder(list []pending) []pending {
	slices.SortFunc(list, func(a, b pending) int { return a.position().compare(b.position()) })
	return list
}

// ready finds deliveries that can be made at once and are not claimed, from the position on, and says up to where it has looked.
func (s *Store) ready(ctx context.Context, handler int64, from position, limit int) (ready []pending, passed position, err error) {
	rows, err := s.stmt.ready.QueryContext(ctx, handler, from.seq, from.replay)
	if err != nil {
		return nil, from, s.report(fmt.Errorf("find pending deliveries: %w", err))
	}
	defer rows.Close()
	passed = from
	for len(ready) < limit && rows.Next() {
		p := pending{claim: claim{handler: handler}}
		if err := rows.Scan(&p.seq, &p.replay, &p.attempts, &p.bytes); err != nil {
			return nil, from, s.report(fmt.Errorf("find pending deliveries: %w", err))
		}
		passed = p.position().next()
		if !s.claims.isHeld(p.claim) {
			ready = append(ready, p)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, from, s.report(fmt.Errorf("find pending deliveries: %w", err))
	}
	return ready, passed, nil
}

// waited finds deliveries that have waited until they were due and are not claimed, and says when the next will be.
func (s *Store) waited(ctx context.Context, handler int64, replays bool, now int64) (due []pending, next time.Time, err error) {
	rows, err := s.stmt.waiting.QueryContext(ctx, handler, replays)
	if err != nil {
		return nil, next, s.report(fmt.Errorf("find due deliveries: %w", err))
	}
	defer rows.Close()
	for len(due) < mostDue && rows.Next() {
		p := pending{claim: claim{handler: handler}, waited: true}
		var at int64
		if err := rows.Scan(&p.seq, &p.replay, &at, &p.attempts, &p.bytes); err != nil {
			return nil, next, s.report(fmt.Errorf("find due deliveries: %w", err))
		}
		switch {
		case s.claims.isHeld(p.claim):
		case at > now:
			return due, fromMicro(at), nil
		default:
			due = append(due, p)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, next, s.report(fmt.Errorf("find due deliveries: %w", err))
	}
	return due, next, nil
}

// readAll reads the entries of claimed deliveries, those that are not in memory in one query. A delivery whose entry cannot be read is
// buried.
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
				Reason: inbox.ReasonCorrupt, Cause: read.err.Error()})
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
	ended := make([]claim, len(due))
	for i, p := range due {
		ended[i] = p.claim
	}
	s.release(ended)
}

func (s *Store) release(ended []claim) {
	for _, c := range ended {
		s.claims.claimable(c.handler, c.position())
	}
	s.claims.end(ended)
	for _, c := range ended {
		s.claims.wakeUp(c.handler)
	}
}

// readEntry is an entry, or why it cannot be read.
type readEntry struct {
	entry inbox.Entry
	err   error
}

func (s *Store) entries(ctx context.Context, due []pending) (map[int64]readEntry, error) {
	entries := make(map[int64]readEntry, len(due))
	var seqs []byte
	for _, p := range due {
		if e, ok := s.recent.get(p.seq); ok {
			entries[p.seq] = readEntry{entry: e}
		} else {
			seqs = strconv.AppendInt(append(seqs, ','), p.seq, 10)
		}
	}
	if len(seqs) == 0 {
		return entries, nil
	}
	seqs[0] = '['
	rows, err := s.stmt.entries.QueryContext(ctx, string(append(seqs, ']')))
	if err != nil {
		return nil, s.report(fmt.Errorf("read entries: %w", err))
	}
	defer rows.Close()
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
	s.release(ended)
}
