package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"callbackd/internal/inbox"
)

const (
	// mostEntries bounds the answer to one query, and mostBytes the bodies in it.
	mostEntries = 1000
	mostBytes   = 16 << 20
)

// Find lists the entries that q selects, by Seq, 1,000 at most. Corrupt ones are left out, and the error then joins their
// [inbox.CorruptError] values; any other error ends the list.
func (r *Reader) Find(ctx context.Context, q inbox.Query) ([]inbox.Entry, error) {
	if q.Limit <= 0 || q.Limit > mostEntries {
		q.Limit = mostEntries
	}
	entries := []inbox.Entry{}
	var corrupt []error
	for e, err := range r.All(ctx, q) {
		switch {
		case errors.Is(err, inbox.ErrCorruptEntry):
			corrupt = append(corrupt, err)
		case err != nil:
			return entries, err
		default:
			entries = append(entries, e)
		}
	}
	return entries, errors.Join(corrupt...)
}

// All yields the entries that q selects, by Seq, each once, and reads them page by page, so that no query is long however many they
// are: what arrives meanwhile, after the cursor, is among them. A corrupt entry comes with an [inbox.CorruptError] and little but its
// Seq, and the next ones follow; any other error is the last.
func (r *Reader) All(ctx context.Context, q inbox.Query) iter.Seq2[inbox.Entry, error] {
	return func(yield func(inbox.Entry, error) bool) {
		s, err := r.selects(ctx, q)
		if err != nil {
			yield(inbox.Entry{}, err)
			return
		}
		for more := !s.empty; more; {
			var page []found
			if page, more, err = r.page(ctx, s); err != nil {
				yield(inbox.Entry{}, err)
				return
			}
			for _, f := range page {
				if !yield(f.entry, f.err) {
					return
				}
			}
			if more = more && !s.passed(page); more {
				s.cursor(page[len(page)-1].entry.Seq)
			}
		}
	}
}

// found is an entry, or with err a corrupt one.
type found struct {
	entry inbox.Entry
	err   error
}

// selection is a query made ready: its condition, but for the cursor.
type selection struct {
	q     inbox.Query
	terms []string
	args  []any
	empty bool
}

// passed counts the page against the query's limit, and reports whether that was reached.
func (s *selection) passed(page []found) bool {
	if s.q.Limit <= 0 {
		return false
	}
	s.q.Limit -= len(page)
	return s.q.Limit <= 0
}

func (s *selection) cursor(seq int64) {
	if s.q.Newest {
		s.q.Before = seq
	} else {
		s.q.After = seq
	}
}

func (s *selection) add(term string, args ...any) {
	s.terms = append(s.terms, term)
	s.args = append(s.args, args...)
}

// page reads the entries after the cursor; more says that others may follow.
func (r *Reader) page(ctx context.Context, s *selection) (page []found, more bool, err error) {
	text, args, limit := s.statement()
	rows, err := r.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, false, r.report(fmt.Errorf("find entries: %w", err))
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		e, err := r.scan(rows, s.q.Body)
		if err != nil && !errors.Is(err, inbox.ErrCorruptEntry) {
			return nil, false, fmt.Errorf("find entries: %w", err)
		}
		page = append(page, found{e, err})
		if size += len(e.Body); size >= mostBytes {
			return page, true, nil
		}
	}
	if err := rows.Err(); err != nil {
		return nil, false, r.report(fmt.Errorf("find entries: %w", err))
	}
	return page, len(page) == limit, nil
}

// statement is the query of the next page.
func (s *selection) statement() (text string, args []any, limit int) {
	text = `SELECT ` + entryColumns
	if s.q.Body {
		text += bodyColumns
	} else {
		text += ` FROM entry e`
	}
	terms, args := slices.Clone(s.terms), slices.Clone(s.args)
	if s.q.After > 0 {
		terms, args = append(terms, `e.seq > ?`), append(args, s.q.After)
	}
	if s.q.Before > 0 {
		terms, args = append(terms, `e.seq < ?`), append(args, s.q.Before)
	}
	if len(terms) > 0 {
		text += ` WHERE ` + strings.Join(terms, ` AND `)
	}
	text += ` ORDER BY e.seq`
	if s.q.Newest {
		text += ` DESC`
	}
	limit = mostEntries
	if s.q.Limit > 0 {
		limit = min(limit, s.q.Limit)
	}
	return text + fmt.Sprintf(` LIMIT %d`, limit), args, limit
}

// selects makes a query ready. Each filter that may leave few of many entries has an index, which finds them without reading the
// others: times, service, RequestId, device, the states but done, the test flag. Kind, account and done are looked for among the rest,
// in pages.
func (r *Reader) selects(ctx context.Context, q inbox.Query) (*selection, error) {
	s := &selection{q: q}
	for _, c := range []struct{ column, value string }{{"service", q.Service}, {"kind", q.Kind}, {"account", q.Account}} {
		if c.value != "" {
			s.add(c.column+` = ?`, c.value)
		}
	}
	if q.RequestID != "" {
		// The keys of a RequestId stand together in the index of keys; the comparison settles the rare accident.
		low := inbox.RequestPrefix(q.RequestID)
		s.add(`e.seq IN (SELECT seq FROM dedup WHERE key >= ? AND key <= ?) AND request_id = ?`, low, keysUpTo(low), q.RequestID)
	}
	if q.Device != "" {
		s.add(`e.seq IN (SELECT seq FROM device WHERE identifier = ?)`, strings.ToLower(q.Device))
	}
	if len(q.Seqs) > 0 {
		s.add(`e.seq IN (SELECT value FROM json_each(?))`, seqList(q.Seqs))
	}
	if q.Test != nil {
		// A literal, for that is what a partial index is found by.
		s.add(map[bool]string{false: `test = 0`, true: `test = 1`}[*q.Test])
	}
	if err := r.selectState(ctx, s); err != nil {
		return nil, err
	}
	return s, r.selectTimes(ctx, s)
}

// keysUpTo is the last key that begins so.
func keysUpTo(low []byte) []byte {
	return append(slices.Clone(low), bytes.Repeat([]byte{0xff}, sha256.Size)...)
}

func seqList(seqs []int64) string {
	return strings.ReplaceAll(fmt.Sprint(seqs), " ", ",")
}

// selectTimes turns the span of time into a span of Seq, in which the pages then move, once for all pages: Seq and time of arrival are
// nearly in the same order, but not quite, and a clock may be set back.
func (r *Reader) selectTimes(ctx context.Context, s *selection) error {
	terms, args := times(s.q)
	if len(terms) == 0 {
		return nil
	}
	var first, last sql.NullInt64
	if err := r.db.QueryRowContext(ctx, spanStatement(terms), args...).Scan(&first, &last); err != nil {
		return r.report(fmt.Errorf("find entries by time: %w", err))
	}
	s.empty = !first.Valid
	if s.q.After = max(s.q.After, first.Int64-1); s.q.Before == 0 || s.q.Before > last.Int64+1 {
		s.q.Before = last.Int64 + 1
	}
	for i, term := range terms {
		s.add(`+`+term, args[i]) // the + keeps the planner from sorting a whole span for each page
	}
	return nil
}

func times(q inbox.Query) (terms []string, args []any) {
	if !q.Since.IsZero() {
		terms, args = append(terms, `received_at >= ?`), append(args, q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		terms, args = append(terms, `received_at < ?`), append(args, q.Until.UnixMicro())
	}
	return terms, args
}

func spanStatement(terms []string) string {
	return `SELECT min(seq), max(seq) FROM entry WHERE ` + strings.Join(terms, ` AND `)
}

// fewDeliveries is up to where the deliveries in a state are gathered from their index for each page. More are looked for entry by
// entry.
const fewDeliveries = 10_000

func (r *Reader) selectState(ctx context.Context, s *selection) error {
	const not, pending, dead = ` AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND `, `d.state = 0`, `d.state = 2`
	switch s.q.State {
	case inbox.Quarantined:
		s.add(`held = 1`)
	case inbox.Pending:
		has, err := r.hasDelivery(ctx, pending)
		if err != nil {
			return err
		}
		s.add(`held = 0 AND ` + has)
	case inbox.Dead:
		has, err := r.hasDelivery(ctx, dead)
		if err != nil {
			return err
		}
		s.add(`held = 0 AND ` + has + not + pending + `)`)
	case inbox.Done:
		s.add(`held = 0` + not + `d.state IN (0, 2))`)
	}
	return nil
}

// hasDelivery is the term for an entry with a delivery in the state.
func (r *Reader) hasDelivery(ctx context.Context, state string) (string, error) {
	var n int
	err := r.db.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM delivery d WHERE %s LIMIT %d)`, state, fewDeliveries+1)).Scan(&n)
	if err != nil {
		return "", r.report(fmt.Errorf("find deliveries: %w", err))
	}
	if n <= fewDeliveries {
		return `e.seq IN (SELECT seq FROM delivery d WHERE ` + state + `)`, nil
	}
	return `EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq AND ` + state + `)`, nil
}
