package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"callbackd/internal/inbox"

	"github.com/google/uuid"
	"go.uber.org/zap"
)

// statements are the writer's, prepared once.
type statements struct {
	begin, commit, rollback                               *sql.Stmt
	claimKey, findKey, renewKey                           *sql.Stmt
	insertEntry, insertBody, insertDevice, insertDelivery *sql.Stmt
	see, insertSighting, insertHandler                    *sql.Stmt
	settleDone, settleRetry, settleDead                   *sql.Stmt
	insertOrdered, orderKey, leaveOrder, advance          *sql.Stmt
	all                                                   []*sql.Stmt
}

// prepared is a statement and where it is kept.
type prepared struct {
	stmt **sql.Stmt
	sql  string
}

func (st *statements) list() []prepared {
	return []prepared{
		{&st.begin, `BEGIN IMMEDIATE`},
		{&st.commit, `COMMIT`},
		{&st.rollback, `ROLLBACK`},
		{&st.claimKey, `INSERT INTO dedup (key, seq, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING`},
		{&st.findKey, `SELECT seq, at FROM dedup WHERE key = ?1`},
		{&st.renewKey, `UPDATE dedup SET seq = ?2, at = ?3 WHERE key = ?1`},
		{&st.insertEntry, `INSERT INTO entry (seq, id, received_at, service, kind, account, request_id, facts, digest, held, test, repeat_of)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`},
		{&st.insertBody, `INSERT INTO body (seq, data) VALUES (?1, ?2)`},
		{&st.insertDevice, `INSERT INTO device (identifier, seq) VALUES (?1, ?2)`},
		{&st.insertDelivery, `INSERT INTO delivery (seq, handler, replay, due_at, wait) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING`},
		{&st.insertOrdered, `INSERT INTO delivery (seq, handler, replay, due_at, order_key, wait) VALUES (?1, ?2, 0, ?3, ?4,
			EXISTS (SELECT 1 FROM delivery WHERE handler = ?2 AND order_key = ?4 AND order_key <> 0)) ON CONFLICT DO NOTHING`},
		{&st.see, `UPDATE entry SET sightings = sightings + 1 WHERE seq = ?1 RETURNING sightings, id`},
		{&st.insertSighting, `INSERT INTO sighting (seq, n, at, source, attempt) VALUES (?1, ?2, ?3, ?4, ?5)`},
		{&st.insertHandler, `INSERT INTO handler (name) VALUES (?1)`},
		{&st.settleDone, `UPDATE delivery SET state = 1, attempts = ?4, settled_at = ?5, reason = '', cause = ''
			WHERE seq = ?1 AND handler = ?2 AND replay = ?3 AND state = 0`},
		{&st.settleRetry, `UPDATE delivery SET attempts = ?4, due_at = ?5, reason = ?6, cause = ?7, wait = ?8
			WHERE seq = ?1 AND handler = ?2 AND replay = ?3 AND state = 0`},
		{&st.settleDead, `UPDATE delivery SET state = 2, attempts = ?4, settled_at = ?5, reason = ?6, cause = ?7
			WHERE seq = ?1 AND handler = ?2 AND replay = ?3 AND state = 0`},
		{&st.orderKey, `SELECT order_key FROM delivery WHERE seq = ?1 AND handler = ?2 AND replay = ?3`},
		{&st.leaveOrder, `UPDATE delivery SET order_key = 0 WHERE seq = ?1 AND handler = ?2 AND replay = ?3`},
		{&st.advance, `UPDATE delivery SET wait = 0 WHERE handler = ?1 AND replay = 0 AND state = 0 AND wait = 1 AND seq =
			(SELECT min(seq) FROM delivery WHERE handler = ?1 AND order_key = ?2 AND order_key <> 0) RETURNING seq`},
	}
}

func prepare(ctx context.Context, conn *sql.Conn) (*statements, error) {
	st := &statements{}
	for _, p := range st.list() {
		stmt, err := conn.PrepareContext(ctx, p.sql)
		if err != nil {
			st.close()
			return nil, fmt.Errorf("prepare %q: %w", strings.Fields(p.sql)[:2], classify(err))
		}
		*p.stmt = stmt
		st.all = append(st.all, stmt)
	}
	return st, nil
}

func (st *statements) close() {
	for _, stmt := range st.all {
		_ = stmt.Close()
	}
}

// Commit implements [inbox.Committer]. The writer's goroutine alone calls it.
func (s *Store) Commit(appends []*inbox.Append, settlements []inbox.Settlement) error {
	err := s.transact(func(tx *effects) error { return s.batch(tx, appends, settlements) })
	if err == nil || stops(err) {
		return err
	}
	// Not the store but something in the batch is at fault. That must not cost the others their place.
	return s.oneByOne(appends, settlements)
}

// stops reports whether the error is one of the store, and not of what it was to store.
func stops(err error) bool {
	return errors.Is(err, inbox.ErrBroken) || errors.Is(err, inbox.ErrUnavailable)
}

// oneByOne commits everything alone, so that what cannot be stored fails alone.
func (s *Store) oneByOne(appends []*inbox.Append, settlements []inbox.Settlement) error {
	for _, a := range appends {
		err := s.transact(func(tx *effects) error { return s.append(tx, a) })
		if errors.Is(err, inbox.ErrBroken) {
			return err
		}
		if err != nil {
			a.Fail(fmt.Errorf("store arrival: %w", err))
		}
	}
	for i := range settlements {
		err := s.transact(func(tx *effects) error { return s.settle(tx, &settlements[i]) })
		switch {
		case errors.Is(err, inbox.ErrBroken):
			return err
		case errors.Is(err, inbox.ErrUnavailable):
			s.Settle(settlements[i:]...)
			return nil
		case err != nil:
			// Its claim stays, so that it does not go round and round: a restart makes that delivery again.
			s.o.Metrics.Unsettled.Inc()
			s.o.Log.Error("cannot record the end of an attempt; the delivery is made again after a restart", zap.Int64("seq", settlements[i].Seq),
				zap.String("handler", settlements[i].Handler), zap.Error(err))
		}
	}
	return nil
}

// effects are what a transaction changes in memory, once it is durable.
type effects struct {
	entries, duplicates, repeats int
	stored                       []inbox.Entry // that will soon be claimed
	quarantined                  int
	handlers                     map[string]int64 // that got their number
	pending, dead                map[int64]int    // by handler: the change of their number
	settled                      []claim
	claimable                    map[int64]position // by handler: the first delivery that can be claimed and could not before
	wake                         map[int64]bool     // handlers with something to claim
	then                         []func()           // what else is to be done
}

func (e *effects) count(pending, dead int, handler int64) {
	if e.pending == nil {
		e.pending, e.dead = make(map[int64]int), make(map[int64]int)
	}
	e.pending[handler] += pending
	e.dead[handler] += dead
}

// canClaim notes that a delivery can be claimed at once.
func (e *effects) canClaim(handler int64, at position) {
	if e.claimable == nil {
		e.claimable = make(map[int64]position)
	}
	if first, ok := e.claimable[handler]; ok {
		at = at.orEarlier(first)
	}
	e.claimable[handler] = at
	e.wakeUp(handler)
}

func (e *effects) wakeUp(handler int64) {
	if e.wake == nil {
		e.wake = make(map[int64]bool)
	}
	e.wake[handler] = true
}

// transact runs work in one durable transaction, and applies its effects afterwards. Only an error of the work itself leaves the
// store as good as it was: if the beginning or the end of a transaction fails for a reason that classify does not know, its state
// is unknown as well.
func (s *Store) transact(work func(*effects) error) error {
	tx := &effects{}
	nextSeq := s.nextSeq
	ctx := context.Background() // a transaction is never cancelled half-way
	if _, err := s.w.begin.ExecContext(ctx); err != nil {
		return unexplained(fmt.Errorf("begin: %w", err))
	}
	err := classify(work(tx))
	if err == nil {
		if err = s.commit(ctx); err == nil {
			s.apply(tx)
			s.Recovered()
			return nil
		}
	}
	s.nextSeq = nextSeq
	// SQLite may have rolled back by itself, as it does when the disk is full; then this fails, and nothing is lost.
	_, _ = s.w.rollback.ExecContext(ctx)
	return err
}

func (s *Store) commit(ctx context.Context) error {
	if _, err := s.w.commit.ExecContext(ctx); err != nil {
		return unexplained(fmt.Errorf("commit: %w", err))
	}
	return inPlace(s.files)
}

// unexplained is classify where nothing but the store can be at fault.
func unexplained(err error) error {
	if err = classify(err); stops(err) {
		return err
	}
	return fmt.Errorf("%w: restart callbackd: %w", inbox.ErrBroken, err)
}

func (s *Store) apply(tx *effects) {
	m := s.o.Metrics
	m.Entries.Add(float64(tx.entries))
	m.Duplicates.Add(float64(tx.duplicates))
	m.Repeats.Add(float64(tx.repeats))
	m.Quarantined.Add(float64(tx.quarantined))
	s.recent.add(tx.stored)
	s.handlers.add(tx.handlers)
	for handler, n := range tx.pending {
		name := s.handlers.name(handler)
		m.Pending.WithLabelValues(name).Add(float64(n))
		m.DeadLetters.WithLabelValues(name).Add(float64(tx.dead[handler]))
		m.Lag.Add(name, n)
	}
	for _, do := range tx.then {
		do()
	}
	for handler, at := range tx.claimable {
		s.claims.claimable(handler, at)
	}
	s.claims.end(tx.settled)
	for handler := range tx.wake {
		s.claims.wakeUp(handler)
	}
}

func (s *Store) batch(tx *effects, appends []*inbox.Append, settlements []inbox.Settlement) error {
	for _, a := range appends {
		if err := s.append(tx, a); err != nil {
			return err
		}
	}
	for i := range settlements {
		if err := s.settle(tx, &settlements[i]); err != nil {
			return err
		}
	}
	return nil
}

// preparedArrival is what is stored of an arrival and depends on nothing but itself.
type preparedArrival struct {
	id          uuid.UUID
	facts       string
	digest      [sha256.Size]byte
	identifiers []string
}

// Prepare implements [inbox.Committer].
func (s *Store) Prepare(a *inbox.Append) error {
	e := &a.Arrival.Entry
	id, err := entryID(e)
	if err != nil {
		return err
	}
	facts, err := e.MarshalFacts()
	if err != nil {
		return fmt.Errorf("marshal facts: %w", err)
	}
	a.Prepared = &preparedArrival{id, string(facts), e.Digest(facts), e.Facts.Identifiers()}
	return nil
}

// append stores one arrival, or a sighting if its key is taken.
func (s *Store) append(tx *effects, a *inbox.Append) error {
	e := &a.Arrival.Entry
	a.Receipt = inbox.Receipt{}
	at := e.ReceivedAt.UnixMicro()
	if len(a.Arrival.Key) > 0 {
		done, err := s.dedup(tx, a, at)
		if err != nil || done {
			return err
		}
	}
	p := a.Prepared.(*preparedArrival)
	seq := s.nextSeq
	if _, err := s.w.insertEntry.Exec(seq, p.id[:], at, e.Service, e.Kind, e.Account, e.RequestID, p.facts, p.digest[:],
		a.Arrival.Held, e.Facts.Test, a.Receipt.RepeatOf); err != nil {
		return fmt.Errorf("insert entry: %w", err)
	}
	if _, err := s.w.insertBody.Exec(seq, e.Body); err != nil {
		return fmt.Errorf("insert body: %w", err)
	}
	for _, identifier := range p.identifiers {
		if _, err := s.w.insertDevice.Exec(identifier, seq); err != nil {
			return fmt.Errorf("insert device: %w", err)
		}
	}
	if a.Arrival.Held {
		tx.quarantined++
	} else if err := s.insertDeliveries(tx, e, seq, a.Arrival.Handlers, at); err != nil {
		return err
	} else if len(a.Arrival.Handlers) > 0 {
		stored := *e
		stored.Seq, stored.ReceivedAt, stored.State, stored.Sightings, stored.RepeatOf = seq, fromMicro(at), inbox.Pending, 1, a.Receipt.RepeatOf
		tx.stored = append(tx.stored, stored)
	}
	s.nextSeq++
	tx.entries++
	a.Receipt.Seq, a.Receipt.ID = seq, e.ID
	return nil
}

// entryID is the entry's ID, which it gets here if it has none.
func entryID(e *inbox.Entry) (id uuid.UUID, err error) {
	if e.ID == "" {
		if id, err = uuid.NewV7(); err != nil {
			return id, fmt.Errorf("make an entry ID: %w", err)
		}
		e.ID = id.String()
		return id, nil
	}
	if id, err = uuid.Parse(e.ID); err != nil {
		return id, fmt.Errorf("entry ID: %w", err)
	}
	e.ID = id.String() // the one spelling that reading gives back, and the digest covers
	return id, nil
}

// dedup claims the arrival's key. It reports true if the arrival was a duplicate, and is dealt with.
func (s *Store) dedup(tx *effects, a *inbox.Append, at int64) (bool, error) {
	key := a.Arrival.Key
	result, err := s.w.claimKey.Exec(key, s.nextSeq, at)
	if err != nil {
		return false, fmt.Errorf("claim key: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return false, err
	}
	var seq, last int64
	if err := s.w.findKey.QueryRow(key).Scan(&seq, &last); err != nil {
		return false, fmt.Errorf("find key: %w", err)
	}
	if !a.Arrival.Repeat {
		return true, s.sight(tx, a, seq, at)
	}
	if at-last <= s.o.RepeatWindow.Microseconds() {
		a.Receipt.RepeatOf = seq
		tx.repeats++
	}
	if _, err := s.w.renewKey.Exec(key, s.nextSeq, at); err != nil {
		return false, fmt.Errorf("renew key: %w", err)
	}
	return false, nil
}

// maxSightings bounds the rows for one entry; beyond, only the count goes on.
const maxSightings = 1000

func (s *Store) sight(tx *effects, a *inbox.Append, seq, at int64) error {
	var n int64
	var id []byte
	err := s.w.see.QueryRow(seq).Scan(&n, &id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		// The entry was pruned; its key says that it was here.
		a.Receipt = inbox.Receipt{Seq: seq, Duplicate: true}
		tx.duplicates++
		return nil
	case err != nil:
		return fmt.Errorf("count sighting: %w", err)
	}
	if n <= maxSightings {
		f := &a.Arrival.Entry.Facts
		if _, err := s.w.insertSighting.Exec(seq, n, at, f.Source, f.Attempt); err != nil {
			return fmt.Errorf("insert sighting: %w", err)
		}
	}
	a.Receipt = inbox.Receipt{Seq: seq, ID: uuidString(id), Duplicate: true}
	tx.duplicates++
	return nil
}

// insertDeliveries makes the deliveries of an entry that has arrived, or that was released.
func (s *Store) insertDeliveries(tx *effects, e *inbox.Entry, seq int64, handlers []string, due int64) error {
	for _, name := range handlers {
		handler, err := s.handlerID(tx, name)
		if err != nil {
			return err
		}
		key := int64(0)
		if s.handlers.order(handler) != inbox.Unordered {
			key = e.OrderKey()
		}
		var result sql.Result
		if key == 0 {
			result, err = s.w.insertDelivery.Exec(seq, handler, 0, due, waitNone)
		} else {
			result, err = s.w.insertOrdered.Exec(seq, handler, due, key)
		}
		if err != nil {
			return fmt.Errorf("insert delivery: %w", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("insert delivery: %w", err)
		}
		tx.count(int(n), 0, handler)
		tx.canClaim(handler, position{seq, 0})
	}
	return nil
}

// When a pending delivery can be claimed.
const (
	waitNone      = 0 // at once
	waitEarlier   = 1 // when those of its device before it have ended
	waitBackoff   = 2 // when it is due, or sooner when the handler works again
	waitNotBefore = 3 // when it is due
)

// settle ends an attempt. A delivery that is no longer pending stays as it is.
func (s *Store) settle(tx *effects, e *inbox.Settlement) error {
	handler, err := s.handlerID(tx, e.Handler)
	if err != nil {
		return err
	}
	n, err := s.settleOne(tx, e, handler)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	c := claim{handler, e.Seq, e.Replay}
	order := s.handlers.order(handler)
	switch e.Verdict {
	case inbox.VerdictDone:
		tx.count(-n, 0, handler)
	case inbox.VerdictBury:
		tx.count(-n, n, handler)
		if order == inbox.DeviceBlock {
			order = inbox.Unordered // it keeps its place, and those behind it theirs
		}
	}
	if n > 0 && e.Verdict != inbox.VerdictRetry && order != inbox.Unordered {
		if err := s.leaveOrder(tx, c); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
	}
	tx.settled = append(tx.settled, c)
	return nil
}

func (s *Store) settleOne(tx *effects, e *inbox.Settlement, handler int64) (changed int, err error) {
	now := s.o.Now().UnixMicro()
	var result sql.Result
	switch e.Verdict {
	case inbox.VerdictDone:
		result, err = s.w.settleDone.Exec(e.Seq, handler, e.Replay, e.Attempts, now)
	case inbox.VerdictRetry:
		wait := waitBackoff
		if e.NotBefore {
			wait = waitNotBefore
		}
		result, err = s.w.settleRetry.Exec(e.Seq, handler, e.Replay, e.Attempts, e.DueAt.UnixMicro(), e.Reason, e.Cause, wait)
		tx.wakeUp(handler)
	case inbox.VerdictBury:
		result, err = s.w.settleDead.Exec(e.Seq, handler, e.Replay, e.Attempts, now, e.Reason, e.Cause)
	default:
		return 0, fmt.Errorf("no verdict %d", e.Verdict)
	}
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// leaveOrder takes a delivery that has ended out of the order of its device, and lets the next one be claimed.
func (s *Store) leaveOrder(tx *effects, c claim) error {
	var key int64
	err := s.w.orderKey.QueryRow(c.seq, c.handler, c.replay).Scan(&key)
	if errors.Is(err, sql.ErrNoRows) || err == nil && key == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.w.leaveOrder.Exec(c.seq, c.handler, c.replay); err != nil {
		return err
	}
	var next int64
	err = s.w.advance.QueryRow(c.handler, key).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		tx.canClaim(c.handler, position{next, 0})
	}
	return err
}

// handlerID is the number of a handler's name, which is given out at its first delivery.
func (s *Store) handlerID(tx *effects, name string) (int64, error) {
	if id, ok := s.handlers.id(name); ok {
		return id, nil
	}
	if id, ok := tx.handlers[name]; ok {
		return id, nil
	}
	result, err := s.w.insertHandler.Exec(name)
	if err != nil {
		return 0, fmt.Errorf("insert handler: %w", err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		return 0, fmt.Errorf("insert handler: %w", err)
	}
	if tx.handlers == nil {
		tx.handlers = make(map[string]int64)
	}
	tx.handlers[name] = id
	return id, nil
}

func uuidString(b []byte) string {
	id, err := uuid.FromBytes(b)
	if err != nil {
		return ""
	}
	return id.String()
}

func fromMicro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
