package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
)

// filter are the flags that select entries.
type filter struct {
	since, until, state                       string
	service, kind, account, requestID, device string
	test                                      bool
	all                                       bool
	limit                                     int
}

// addTo adds the flags to a command. A command that changes something asks for --all before it takes everything.
func (f *filter) addTo(c *cobra.Command, changes bool) {
	flags := c.Flags()
	flags.StringVar(&f.since, "since", "", "arrived at or after this `time`: RFC 3339, or an age such as 2h or 3d")
	flags.StringVar(&f.until, "until", "", "arrived before this `time`")
	flags.StringVar(&f.service, "service", "", "arrived at this service's listener")
	flags.StringVar(&f.kind, "kind", "", "carries this kind of payload")
	flags.StringVar(&f.account, "account", "", "carried the credentials with this label")
	flags.StringVar(&f.requestID, "request-id", "", "answers this request")
	flags.StringVar(&f.device, "device", "", "names this device, by any of its identifiers")
	flags.StringVar(&f.state, "state", "", "is in this state: pending, done, dead or quarantined")
	flags.BoolVar(&f.test, "test", false, "was sent by `callbackd send` (--test=false: was not)")
	if changes {
		flags.BoolVar(&f.all, "all", false, "take every entry")
	} else {
		flags.IntVar(&f.limit, "limit", 0, "show the newest `n` entries only")
	}
}

// query reads the flags and the entries named as arguments.
func (f *filter) query(cmd *cobra.Command, args []string) (inbox.Query, error) {
	q := inbox.Query{Service: f.service, Kind: f.kind, Account: f.account, RequestID: f.requestID, Device: f.device, State: inbox.State(f.state)}
	if _, ok := inbox.ParseState(f.state); f.state != "" && !ok {
		return q, usagef("--state %q is none of pending, done, dead, quarantined", f.state)
	}
	if cmd.Flags().Changed("test") {
		q.Test = &f.test
	}
	if f.limit < 0 {
		return q, usagef("--limit cannot be negative")
	}
	for _, t := range []struct {
		name, text string
		into       *time.Time
	}{{"since", f.since, &q.Since}, {"until", f.until, &q.Until}} {
		at, err := parseTime(t.text, time.Now())
		if err != nil {
			return q, usagef("--%s: %w", t.name, err)
		}
		*t.into = at
	}
	for _, a := range args {
		seq, err := strconv.ParseInt(a, 10, 64)
		if err != nil || seq < 1 {
			return q, usagef("%q is not an entry's number", a)
		}
		q.Seqs = append(q.Seqs, seq)
	}
	return q, nil
}

// narrow is query for a command that changes something: everything has to be asked for.
func (f *filter) narrow(cmd *cobra.Command, args []string) (inbox.Query, error) {
	q, err := f.query(cmd, args)
	if err != nil {
		return q, err
	}
	chosen := len(q.Seqs) > 0
	for _, name := range []string{"since", "until", "service", "kind", "account", "request-id", "device", "state", "test"} {
		chosen = chosen || cmd.Flags().Changed(name)
	}
	if chosen == f.all {
		return q, usagef("name entries by number, select them by flags, or take them with --all")
	}
	return q, nil
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	if at, err := time.ParseInLocation("2006-01-02", text, time.Local); err == nil {
		return at, nil
	}
	if days, ok := cutDays(text); ok {
		return now.Add(-days), nil
	}
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-11-24T08:00:00Z or 2026-11-24, nor an age such as 2h or 3d", text)
}

func cutDays(text string) (time.Duration, bool) {
	if text[len(text)-1] != 'd' {
		return 0, false
	}
	n, err := strconv.Atoi(text[:len(text)-1])
	return time.Duration(n) * 24 * time.Hour, err == nil && n >= 0
}

// page is how many entries are read at once.
const page = 500

// each reads the entries that q selects, page by page, so that no query is long.
func each(ctx context.Context, r *sqlite.Reader, q inbox.Query, limit int, do func(*inbox.Entry) error) error {
	if limit > 0 {
		from, err := newest(ctx, r, q, limit)
		if err != nil {
			return err
		}
		q.After = from
	}
	for {
		q.Limit = page
		entries, err := r.Find(ctx, q)
		for i := range entries {
			if err := do(&entries[i]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if len(entries) < page {
			return nil
		}
		q.After = entries[len(entries)-1].Seq
	}
}

// newest is the entry before the last n that q selects.
func newest(ctx context.Context, r *sqlite.Reader, q inbox.Query, n int) (int64, error) {
	q.Newest, q.Body = true, false
	before := int64(0)
	for n > 0 {
		q.Before, q.Limit = before, min(n, page)
		entries, err := r.Find(ctx, q)
		if err != nil {
			return 0, err
		}
		if len(entries) > 0 {
			before = entries[len(entries)-1].Seq
		}
		if n -= len(entries); len(entries) < q.Limit {
			break
		}
	}
	return max(before-1, 0), nil
}

// seqs lists the entries that q selects.
func seqs(ctx context.Context, r *sqlite.Reader, q inbox.Query) ([]int64, error) {
	list := []int64{}
	err := each(ctx, r, q, 0, func(e *inbox.Entry) error {
		list = append(list, e.Seq)
		return nil
	})
	if err == nil && len(list) == 0 {
		err = errNotFound
	}
	return list, err
}
