package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"callbackd/internal/inbox"
)

// DeadLetters lists the dead letters that q selects, by Seq, 1,000 at most. An unknown reason is an error, for it would
// select nothing, which looks as if there were nothing.
func (r *Reader) DeadLetters(ctx context.Context, q inbox.DeadQuery) ([]inbox.DeadLetter, error) {
	text, args, err := r.deadStatement(ctx, q)
	if err != nil {
		return nil, err
	}
	rows, err := r.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, r.report(fmt.Errorf("find dead letters: %w", err))
	}
	defer rows.Close()
	list := []inbox.DeadLetter{}
	for rows.Next() {
		var d inbox.DeadLetter
		var id []byte
		var received, buried int64
		if err := rows.Scan(&d.Seq, &d.Handler, &d.Replay, &d.Attempts, &buried, &d.Reason, &d.Cause,
			&id, &received, &d.Service, &d.Kind, &d.Account, &d.RequestID); err != nil {
			return list, r.report(fmt.Errorf("find dead letters: %w", err))
		}
		d.ID = DeliveryID(uuidString(id), d.Handler, d.Replay)
		d.BuriedAt, d.ReceivedAt = fromMicro(buried), fromMicro(received)
		list = append(list, d)
	}
	return list, r.report(rows.Err())
}

// deadStatement is the query of a page. The dead letters have indexes of their own, in whose order they are looked at; those of a device or
// a RequestId are found by that, for they are few.
func (r *Reader) deadStatement(ctx context.Context, q inbox.DeadQuery) (text string, args []any, err error) {
	if q.Reason != "" && !slices.Contains(inbox.DeadReasons(), q.Reason) {
		return "", nil, fmt.Errorf("no dead letter has the reason %q: the reasons are %s", q.Reason, strings.Join(inbox.DeadReasons(), ", "))
	}
	s, err := r.selects(ctx, inbox.Query{Seqs: q.Seqs, Service: q.Service, Kind: q.Kind, Account: q.Account, RequestID: q.RequestID, Device: q.Device})
	if err != nil {
		return "", nil, err
	}
	terms, args := append([]string{"d.state = 2"}, s.terms...), s.args
	add := func(term string, value ...any) { terms, args = append(terms, term), append(args, value...) }
	if q.Handler != "" {
		add(`d.handler = (SELECT id FROM handler WHERE name = ?)`, q.Handler)
	}
	if q.Reason != "" {
		add(`d.reason = ?`, q.Reason)
	}
	during, bounds := times(inbox.Query{Since: q.Since, Until: q.Until})
	for i, term := range during {
		add(`+`+term, bounds[i]) // by age would be by the entries, which are more
	}
	if q.After != (inbox.DeliveryKey{}) {
		add(`d.seq >= ? AND (d.seq, d.handler, d.replay) > (?, (SELECT id FROM handler WHERE name = ?), ?)`,
			q.After.Seq, q.After.Seq, q.After.Handler, q.After.Replay)
	}
	limit := mostEntries
	if q.Limit > 0 {
		limit = min(limit, q.Limit)
	}
	join := `CROSS JOIN` // in this order
	if q.Device != "" || q.RequestID != "" || len(q.Seqs) > 0 {
		join = `JOIN`
	}
	return `SELECT d.seq, h.name, d.replay, d.attempts, d.settled_at, d.reason, d.cause, e.id, e.received_at, e.service, e.kind, e.account, e.request_id
		FROM delivery d ` + join + ` entry e ON e.seq = d.seq JOIN handler h ON h.id = d.handler
		WHERE ` + strings.Join(terms, ` AND `) + fmt.Sprintf(` ORDER BY d.seq, d.handler, d.replay LIMIT %d`, limit), args, nil
}

// Requeue makes the dead letters that q selects pending again, with all their attempts before them. q.Limit and q.After bound them as they
// bound a list, but that no limit means all. With dryRun nothing is changed.
func (s *Store) Requeue(ctx context.Context, q inbox.DeadQuery, dryRun bool) (inbox.Changed, error) {
	return s.changeDead(ctx, q, dryRun, func(tx *effects, c claim) (int, error) {
		// In an order that it was taken out of, it has no place any more: others have gone on.
		n, err := s.change(ctx, `UPDATE delivery SET state = 0, wait = 0, attempts = 0, due_at = ?4, settled_at = 0
			WHERE seq = ?1 AND handler = ?2 AND replay = ?3 AND state = 2`, c.seq, c.handler, c.replay, s.o.Now().UnixMicro())
		if err != nil || n == 0 {
			return n, err
		}
		tx.count(1, -1, c.handler)
		tx.canClaim(c.handler, c.position())
		return n, nil
	})
}

// Discard gives up the dead letters that q selects: the entries stay, and the deliveries are marked as discarded, by whom and when. q bounds
// them as in [Store.Requeue]. With dryRun nothing is changed.
func (s *Store) Discard(ctx context.Context, q inbox.DeadQuery, by string, dryRun bool) (inbox.Changed, error) {
	return s.changeDead(ctx, q, dryRun, func(tx *effects, c claim) (int, error) {
		n, err := s.change(ctx, `UPDATE delivery SET state = 3, settled_at = ?4, settled_by = ?5
			WHERE seq = ?1 AND handler = ?2 AND replay = ?3 AND state = 2`, c.seq, c.handler, c.replay, s.o.Now().UnixMicro(), by)
		if err != nil || n == 0 {
			return n, err
		}
		tx.count(0, -1, c.handler)
		return n, s.leaveOrder(tx, c)
	})
}

// changeDead does something to each of the selected dead letters, in steps. What is no dead letter any more is passed over.
func (s *Store) changeDead(ctx context.Context, q inbox.DeadQuery, dryRun bool, do func(*effects, claim) (int, error)) (inbox.Changed, error) {
	changed := inbox.Changed{Handlers: map[string]int{}}
	if q.Handler != "" {
		if _, ok := s.handlers.id(q.Handler); !ok {
			return changed, fmt.Errorf("%w: no delivery was ever made to handler %q", inbox.ErrNotFound, q.Handler)
		}
	}
	for most := q.Limit; ; {
		q.Limit = operateStep
		if most > 0 {
			q.Limit = min(most-changed.Deliveries, operateStep)
		}
		page, err := s.DeadLetters(ctx, q)
		if err != nil || len(page) == 0 {
			return changed, err
		}
		q.After = page[len(page)-1].DeliveryKey
		if err := s.operate(ctx, dryRun, func(tx *effects) error {
			for _, d := range page {
				id, _ := s.handlers.id(d.Handler)
				n, err := do(tx, claim{id, d.Seq, d.Replay})
				if err != nil {
					return fmt.Errorf("change dead letter %s: %w", d.ID, err)
				}
				if n > 0 {
					changed.Deliveries++
					changed.Handlers[d.Handler]++
				}
			}
			return nil
		}); err != nil {
			return changed, err
		}
		if len(page) < q.Limit || changed.Deliveries == most {
			return changed, nil
		}
	}
}
