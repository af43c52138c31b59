package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/callback"
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
	f.addEntryFlags(c)
	flags := c.Flags()
	flags.StringVar(&f.state, "state", "", "is in this state: pending, done, dead or quarantined")
	flags.BoolVar(&f.test, "test", false, "was sent by callbackd send (--test=false: was not)")
	if changes {
		flags.BoolVar(&f.all, "all", false, "take every entry")
	} else {
		flags.IntVar(&f.limit, "limit", 0, "show the newest `n` entries only")
	}
	complete(c, "state", []string{"pending", "done", "dead", "quarantined"})
}

// addEntryFlags adds those of the flags that are about the callback and its arrival.
func (f *filter) addEntryFlags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.since, "since", "", "arrived at or after this `time`: RFC 3339, or an age such as 2h or 3d")
	flags.StringVar(&f.until, "until", "", "arrived before this `time`, or longer ago than an age")
	flags.StringVar(&f.service, "service", "", "arrived at this service's listener")
	flags.StringVar(&f.kind, "kind", "", "carries this kind of payload")
	flags.StringVar(&f.account, "account", "", "carried the credentials with this label")
	flags.StringVar(&f.requestID, "request-id", "", "answers this request")
	flags.StringVar(&f.device, "device", "", "names this device, by any of its identifiers")
	complete(c, "service", serviceNames())
	complete(c, "kind", kindNames())
}

// complete has the shell complete a flag's words.
func complete(c *cobra.Command, flag string, words []string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
}

func serviceNames() []string {
	var names []string
	for _, info := range callback.Catalogue() {
		names = append(names, string(info.Service))
	}
	return names
}

func kindNames() []string {
	var names []string
	for _, k := range callback.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// query reads the flags and the entries named as arguments.
func (f *filter) query(cmd *cobra.Command, args []string) (inbox.Query, error) {
	for _, name := range selecting {
		// A script's variable that is empty must not make the selection a larger one.
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed && flag.Value.String() == "" {
			return inbox.Query{}, usagef("--%s is empty: leave it out, or give it a value", name)
		}
	}
	q := inbox.Query{Service: f.service, Kind: f.kind, Account: f.account, RequestID: f.requestID, Device: f.device, State: inbox.State(f.state)}
	if _, ok := inbox.ParseState(f.state); f.state != "" && !ok {
		return q, usagef("--state %q is none of pending, done, dead, quarantined", f.state)
	}
	for _, w := range []struct {
		flag, word string
		known      []string
	}{{"service", f.service, serviceNames()}, {"kind", f.kind, kindNames()}} {
		if w.word != "" && !slices.Contains(w.known, w.word) {
			return q, usagef("--%s %q is none of %s", w.flag, w.word, strings.Join(w.known, ", "))
		}
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
	chosen := len(q.Seqs) > 0 || f.chosen(cmd)
	if chosen == f.all {
		return q, usagef("name entries by number, select them by flags, or take them with --all")
	}
	return q, nil
}

// selecting are the flags that select, of all commands.
var selecting = [...]string{"since", "until", "service", "kind", "account", "request-id", "device", "state", "test", "handler", "reason"}

// chosen reports whether a flag selects.
func (f *filter) chosen(cmd *cobra.Command) bool {
	return slices.ContainsFunc(selecting[:], cmd.Flags().Changed)
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

// isAge reports whether a time is given by how long ago it was.
func isAge(text string) bool {
	if text == "" {
		return false
	}
	_, days := cutDays(text)
	_, err := time.ParseDuration(text)
	return days || err == nil
}

func cutDays(text string) (time.Duration, bool) {
	if text[len(text)-1] != 'd' {
		return 0, false
	}
	n, err := strconv.Atoi(text[:len(text)-1])
	return time.Duration(n) * 24 * time.Hour, err == nil && n >= 0
}

// each hands over the entries that q selects, and no heartbeat. Corrupt ones are passed over, and the error tells of them at the end.
func each(ctx context.Context, r *sqlite.Reader, q inbox.Query, limit int, do func(*inbox.Entry) error) error {
	if limit > 0 {
		var err error
		if q.After, err = beforeNewest(ctx, r, q, limit); err != nil {
			return err
		}
	}
	var corrupt []error
	for entry, err := range r.All(ctx, q) {
		switch {
		case errors.Is(err, inbox.ErrCorruptEntry):
			corrupt = append(corrupt, err)
		case err != nil:
			return err
		case entry.Service == string(callback.Heartbeat):
		default:
			if err := do(&entry); err != nil {
				return err
			}
		}
	}
	return errors.Join(corrupt...)
}

// beforeNewest is the number before that of the n-th newest entry that q selects.
func beforeNewest(ctx context.Context, r *sqlite.Reader, q inbox.Query, n int) (int64, error) {
	q.Newest, q.Body, q.Limit = true, false, n
	oldest := int64(1)
	for entry, err := range r.All(ctx, q) {
		if err != nil && !errors.Is(err, inbox.ErrCorruptEntry) {
			return 0, err
		}
		oldest = entry.Seq
	}
	return oldest - 1, nil
}

// seqs lists the numbers of the entries that q selects.
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
