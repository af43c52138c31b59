package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"callbackd/internal/inbox"

	"github.com/google/uuid"
)

// ReplayRequest asks for entries to be delivered again.
type ReplayRequest struct {
	// ID names the replay. A second request with the ID schedules nothing twice: it goes on with what the first left undone, and gets the
	// answer of both. It MUST be the same request. Empty is a name of its own for each.
	ID string
	// Entries are those to deliver, of the entries that the inbox has when the ID is first seen. Body and Newest do not matter; Limit bounds
	// the entries that are looked at, and 0 is no bound.
	Entries inbox.Query
	// Handlers get them. None are the handlers that Route names for each entry.
	Handlers []string
	Route    Route
	// Except is a service whose entries nobody gets: callbackd's own.
	Except string
	// Rate is how many a second are due to each handler; 0 is all at once. What fell due while a handler could not take it follows at the
	// handler's own pace.
	Rate float64
	// DryRun changes nothing.
	DryRun bool
}

// Replayed says what a replay has scheduled, earlier requests of its ID included.
type Replayed struct {
	ID         string `json:"id"`
	Replay     int64  `json:"replay"` // its number, which its delivery IDs end in
	Entries    int    `json:"entries"`
	Deliveries int    `json:"deliveries"`
	// Scheduled counts those of the deliveries that this request made.
	Scheduled int `json:"scheduled"`
	// Known is set when the ID was used before.
	Known bool `json:"known,omitempty"`
	// Corrupt are entries that could not be read, and are not delivered.
	Corrupt []int64 `json:"corrupt,omitempty"`
}

// MostReplayID bounds a replay's name, in bytes.
const MostReplayID = 200

// ErrReplayID is an ID that another request has.
var ErrReplayID = errors.New("the replay ID belongs to another request")

// Replay makes new deliveries, with IDs of their own. They are claimed when nothing else is due, in the order of arrival, and outside of the
// order of devices. Entries that are in quarantine, that go to no handler, or of which nothing is left are passed over.
func (s *Store) Replay(ctx context.Context, r ReplayRequest) (Replayed, error) {
	s.replaying.Lock()
	defer s.replaying.Unlock()
	p, err := s.openReplay(ctx, &r)
	if err != nil || p.finished {
		return p.Replayed, err
	}
	q := r.Entries
	q.After, q.Before, q.Newest, q.Body = max(q.After, p.cursor), bound(q.Before, p.lastSeq+1), false, false
	var step []int64
	for e, err := range s.All(ctx, q) {
		switch {
		case errors.Is(err, inbox.ErrCorruptEntry):
			p.Corrupt = append(p.Corrupt, e.Seq)
			continue
		case err != nil:
			return p.Replayed, err
		}
		if step = append(step, e.Seq); len(step) == operateStep {
			if err := s.replayStep(ctx, &r, p, step, false); err != nil {
				return p.Replayed, err
			}
			step = step[:0]
		}
	}
	return p.Replayed, s.replayStep(ctx, &r, p, step, true)
}

func bound(before, most int64) int64 {
	if before == 0 {
		return most
	}
	return min(before, most)
}

// replay is a replay under way, as of its last step.
type replay struct {
	Replayed
	requested       int64
	lastSeq, cursor int64
	finished        bool
}

// openReplay finds the replay of the ID, or numbers a new one.
func (s *Store) openReplay(ctx context.Context, r *ReplayRequest) (*replay, error) {
	switch {
	case len(r.ID) > MostReplayID:
		return &replay{}, fmt.Errorf("a replay ID has at most %d bytes", MostReplayID)
	case r.Rate < 0:
		return &replay{}, errors.New("rate: must not be negative")
	case r.Entries.Limit > 0 && r.ID != "":
		return &replay{}, errors.New("a replay with an ID has no limit: what it leaves undone is gone on with")
	case r.ID == "":
		id, err := uuid.NewV7()
		if err != nil {
			return &replay{}, fmt.Errorf("make a replay ID: %w", err)
		}
		r.ID = id.String()
	}
	digest, err := r.digest()
	if err != nil {
		return &replay{}, err
	}
	p := &replay{Replayed: Replayed{ID: r.ID}}
	err = s.operate(ctx, r.DryRun, func(*effects) error {
		known, err := s.findReplay(ctx, p, digest)
		if err != nil || known {
			return err
		}
		return s.insertReplay(ctx, p, digest)
	})
	return p, err
}

// digest is of all that makes two requests the same, but for the handlers that the configuration names.
func (r *ReplayRequest) digest() ([]byte, error) {
	q := r.Entries
	q.Since, q.Until = q.Since.UTC(), q.Until.UTC()
	handlers := slices.Clone(r.Handlers)
	slices.Sort(handlers)
	text, err := json.Marshal(struct {
		Entries  inbox.Query
		Handlers []string
		Rate     float64
	}{q, handlers, r.Rate})
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	sum := sha256.Sum256(text)
	return sum[:], nil
}

func (s *Store) findReplay(ctx context.Context, p *replay, digest []byte) (known bool, err error) {
	var of []byte
	err = s.conn.QueryRowContext(ctx, `SELECT number, digest, requested_at, last_seq, cursor, entries, deliveries, finished_at <> 0 FROM replay WHERE id = ?`, p.ID).
		Scan(&p.Replay, &of, &p.requested, &p.lastSeq, &p.cursor, &p.Entries, &p.Deliveries, &p.finished)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("find replay: %w", err)
	case string(of) != string(digest):
		return true, fmt.Errorf("%w: %q was of %s; choose another", ErrReplayID, p.ID, fromMicro(p.requested).Format(time.RFC3339))
	}
	p.Known = true
	return true, nil
}

func (s *Store) insertReplay(ctx context.Context, p *replay, digest []byte) error {
	p.requested, p.lastSeq = s.o.Now().UnixMicro(), s.nextSeq-1
	if err := s.conn.QueryRowContext(ctx, `INSERT INTO meta (key, value) VALUES ('replay', '1')
		ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)`).Scan(&p.Replay); err != nil {
		return fmt.Errorf("number the replay: %w", err)
	}
	_, err := s.change(ctx, `INSERT INTO replay (number, id, digest, requested_at, last_seq, cursor, entries, deliveries, finished_at)
		VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0)`, p.Replay, p.ID, digest, p.requested, p.lastSeq)
	if err != nil {
		return fmt.Errorf("note the replay: %w", err)
	}
	return nil
}

// replayStep schedules some of the entries, and notes how far the replay is in the same transaction.
func (s *Store) replayStep(ctx context.Context, r *ReplayRequest, p *replay, seqs []int64, last bool) error {
	next := *p
	next.Corrupt = slices.Clone(p.Corrupt)
	err := s.operate(ctx, r.DryRun, func(tx *effects) error {
		for _, seq := range seqs {
			e, err := s.lookAt(ctx, seq, &next.Corrupt)
			if err != nil {
				return err
			}
			if e != nil {
				if err := s.replayOne(ctx, tx, r, &next, e); err != nil {
					return err
				}
			}
			next.cursor = seq
		}
		finished := int64(0)
		if last {
			finished = s.o.Now().UnixMicro()
		}
		if _, err := s.change(ctx, `UPDATE replay SET cursor = ?2, entries = ?3, deliveries = ?4, finished_at = ?5 WHERE number = ?1`,
			p.Replay, next.cursor, next.Entries, next.Deliveries, finished); err != nil {
			return fmt.Errorf("note the replay: %w", err)
		}
		return nil
	})
	if err == nil {
		*p = next
	}
	return err
}

func (s *Store) replayOne(ctx context.Context, tx *effects, r *ReplayRequest, p *replay, e *inbox.Entry) error {
	handlers := r.Handlers
	if len(handlers) == 0 {
		handlers = r.Route(e)
	}
	if e.State == inbox.Quarantined || len(handlers) == 0 || e.Service == r.Except {
		return nil
	}
	if e.Erased {
		if whole, err := s.erasedWhole(ctx, e.Seq); err != nil || whole {
			return err
		}
	}
	due := p.requested
	if r.Rate > 0 {
		due += int64(float64(p.Entries) / r.Rate * 1e6)
	}
	for _, name := range handlers {
		id, err := s.handlerID(tx, name)
		if err != nil {
			return err
		}
		result, err := s.w.insertDelivery.Exec(e.Seq, id, p.Replay, due, waitNotBefore)
		if err != nil {
			return fmt.Errorf("insert delivery: %w", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("insert delivery: %w", err)
		}
		tx.count(int(n), 0, id)
		tx.wakeUp(id)
		p.Deliveries += int(n)
		p.Scheduled += int(n)
	}
	p.Entries++
	return nil
}
