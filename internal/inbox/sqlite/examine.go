package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"callbackd/internal/inbox"
)

// Examined says what Examine found.
type Examined struct {
	// Damage is what SQLite says of the structure, a line each; nothing, if it is sound.
	Damage []string
	// Sample is how many entries were compared with their digests, and Corrupt those that differ.
	Sample  int
	Corrupt []int64
}

// Examine looks at the structure of the database, and compares as many entries with their digests: half of them the newest, the others
// anywhere. The inbox may be in use. Its log cannot be emptied meanwhile, so the caller bounds the time with ctx; what was found until
// then is returned with the error.
func (r *Reader) Examine(ctx context.Context, sample int) (x Examined, err error) {
	seqs, err := r.someEntries(ctx, sample)
	if err != nil {
		return x, err
	}
	rows, err := r.db.QueryContext(ctx, `SELECT `+digestColumns+` WHERE e.seq IN (SELECT value FROM json_each(?))`, seqs)
	if err != nil {
		return x, r.report(fmt.Errorf("read entries: %w", err))
	}
	defer rows.Close()
	for rows.Next() {
		x.Sample++
		var corrupt *inbox.CorruptError
		switch err := digestOf(rows); {
		case errors.As(err, &corrupt):
			x.Corrupt = append(x.Corrupt, corrupt.Seq)
		case err != nil:
			return x, r.report(fmt.Errorf("read entries: %w", err))
		}
	}
	if err := rows.Err(); err != nil {
		return x, r.report(fmt.Errorf("read entries: %w", err))
	}
	x.Damage, err = r.quickCheck(ctx)
	return x, err
}

// someEntries are numbers of entries, as JSON. Those that are gone by now are among them.
func (r *Reader) someEntries(ctx context.Context, n int) (string, error) {
	var first, last int64
	if err := r.db.QueryRowContext(ctx, `SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM entry`).Scan(&first, &last); err != nil {
		return "", r.report(fmt.Errorf("read entries: %w", err))
	}
	seqs := make([]int64, 0, n)
	for seq := last; seq >= first && len(seqs) < n/2; seq-- {
		seqs = append(seqs, seq)
	}
	for len(seqs) < n && last >= first {
		seqs = append(seqs, first+rand.Int64N(last-first+1))
	}
	text, err := json.Marshal(seqs)
	return string(text), err
}

func (r *Reader) quickCheck(ctx context.Context) (damage []string, err error) {
	rows, err := r.db.QueryContext(ctx, `PRAGMA quick_check(5)`)
	if err != nil {
		return nil, r.report(fmt.Errorf("check the structure: %w", err))
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return damage, r.report(fmt.Errorf("check the structure: %w", err))
		}
		if line != "ok" {
			damage = append(damage, line)
		}
	}
	return damage, r.report(rows.Err())
}
