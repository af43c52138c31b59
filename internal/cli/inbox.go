package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/spf13/cobra"
)

func (e *env) inbox() *cobra.Command {
	c := &cobra.Command{
		Use:   "inbox",
		Short: "Look at stored callbacks, and release, replay, back up or erase them",
		Long: "Look at stored callbacks, and change what becomes of them.\n\n" +
			"These commands work while callbackd serves and while it does not: they read the inbox themselves, and ask the running\n" +
			"callbackd for changes, over the control socket in data_dir. What they print holds personal data.\n\n" +
			"Deliveries that failed for good are with `callbackd dead`, which also makes them pending again.",
	}
	c.AddCommand(e.inboxList(), e.inboxShow(), e.inboxExport(), e.inboxFixture(), e.inboxStats(),
		e.inboxRelease(), e.inboxReplay(), e.inboxErase(), e.inboxBackup(), e.inboxRestore())
	return c
}

// withReader opens the inbox of the configuration for reading.
func (e *env) withReader(ctx context.Context, do func(*sqlite.Reader) error) error {
	return e.withInbox(ctx, func(_ *config.Config, r *sqlite.Reader) error { return do(r) })
}

// withInbox is withReader for what needs the configuration too.
func (e *env) withInbox(ctx context.Context, do func(*config.Config, *sqlite.Reader) error) error {
	c, err := e.loadToOperate()
	if err != nil {
		return err
	}
	r, err := sqlite.OpenReader(ctx, c.DataDir)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(c, r)
}

// listed is an entry as `inbox list` prints it.
type listed struct {
	Seq        int64          `json:"seq"`
	ID         string         `json:"id"`
	ReceivedAt time.Time      `json:"received_at"`
	Service    string         `json:"service"`
	Kind       string         `json:"kind"`
	Account    string         `json:"account"`
	RequestID  string         `json:"request_id"`
	Devices    []inbox.Device `json:"devices"`
	State      inbox.State    `json:"state"`
	Sightings  int            `json:"sightings"`
	Flags      []string       `json:"flags"`
}

func list(e *inbox.Entry) listed {
	l := listed{
		Seq: e.Seq, ID: e.ID, ReceivedAt: e.ReceivedAt, Service: e.Service, Kind: e.Kind, Account: e.Account, RequestID: e.RequestID,
		Devices: e.Facts.Devices, State: e.State, Sightings: e.Sightings, Flags: e.Flags(),
	}
	if l.Devices == nil {
		l.Devices = []inbox.Device{}
	}
	if l.Flags == nil {
		l.Flags = []string{}
	}
	return l
}

func (e *env) inboxList() *cobra.Command {
	var f filter
	c := &cobra.Command{
		Use:   "list [SEQ...]",
		Short: "List entries, oldest first",
		Long:  "List entries, oldest first. With -o json it is one array, which scripts can rely on: fields may be added, none goes away.",
		Example: `  callbackd inbox list --since 2h --service DeviceUsage
  callbackd inbox list --device 5125550100 -o json
  callbackd inbox list --state dead`,
		Args: cobra.ArbitraryArgs,
	}
	f.addTo(c, false)
	o := output(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := f.query(cmd, args)
		if err != nil {
			return err
		}
		return e.list(cmd.Context(), q, f.limit, *o)
	}
	return c
}

func (e *env) list(ctx context.Context, q inbox.Query, limit int, o format) error {
	return e.withReader(ctx, func(r *sqlite.Reader) error {
		if o == asJSON {
			return e.listJSON(ctx, r, q, limit)
		}
		var listErr error
		err := e.print(table, nil, func(w io.Writer) { listErr = listTable(ctx, w, r, q, limit) })
		return errors.Join(listErr, err)
	})
}

func listTable(ctx context.Context, w io.Writer, r *sqlite.Reader, q inbox.Query, limit int) error {
	row(w, "SEQ", "RECEIVED", "SERVICE", "KIND", "ACCOUNT", "REQUEST ID", "DEVICES", "STATE", "SIGHTINGS", "FLAGS")
	return each(ctx, r, q, limit, func(entry *inbox.Entry) error {
		l := list(entry)
		row(w, l.Seq, l.ReceivedAt.Format(time.RFC3339), l.Service, l.Kind, l.Account, dash(l.RequestID), dash(deviceCell(l.Devices)),
			l.State, l.Sightings, dash(strings.Join(l.Flags, ",")))
		return nil
	})
}

// listJSON writes one array, entry by entry, however long it is.
func (e *env) listJSON(ctx context.Context, r *sqlite.Reader, q inbox.Query, limit int) error {
	return e.array(func(element func(any) error) error {
		return each(ctx, r, q, limit, func(entry *inbox.Entry) error { return element(list(entry)) })
	})
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func deviceCell(devices []inbox.Device) string {
	const shown = 2
	var cells []string
	for _, d := range devices[:min(shown, len(devices))] {
		cells = append(cells, d.Kind+":"+d.Identifier)
	}
	if more := len(devices) - shown; more > 0 {
		cells = append(cells, fmt.Sprintf("+%d", more))
	}
	return strings.Join(cells, " ")
}

// shown is an entry as `inbox show` prints it.
type shown struct {
	listed
	Facts      inbox.Facts      `json:"facts"`
	RepeatOf   int64            `json:"repeat_of,omitempty"`
	SeenAt     []inbox.Sighting `json:"seen_at"`
	Deliveries []delivery       `json:"deliveries"`
	Event      *handler.Event   `json:"event,omitempty"` // as schemas/event.schema.json describes it
	// DecodeError says why there is no event.
	DecodeError string `json:"decode_error,omitempty"`
	Payload     string `json:"payload"`
}

// delivery is one of an entry's as `inbox show` prints it.
type delivery struct {
	ID        string     `json:"id"`
	Handler   string     `json:"handler"`
	Replay    int64      `json:"replay,omitempty"`
	State     string     `json:"state"`
	Attempts  int        `json:"attempts"`
	DueAt     *time.Time `json:"due_at,omitempty"`     // of one that is pending
	SettledAt *time.Time `json:"settled_at,omitempty"` // of one that is not
	Reason    string     `json:"reason,omitempty"`
	Cause     string     `json:"cause,omitempty"`
	// Blocked is set while an earlier delivery of its device holds it up.
	Blocked     bool   `json:"blocked,omitempty"`
	DiscardedBy string `json:"discarded_by,omitempty"`
}

func deliveries(entryID string, list []inbox.DeliveryStatus) []delivery {
	shown := make([]delivery, len(list))
	for i, d := range list {
		shown[i] = delivery{ID: sqlite.DeliveryID(entryID, d.Handler, d.Replay), Handler: d.Handler, Replay: d.Replay,
			State: d.State, Attempts: d.Attempts, Reason: d.Reason, Cause: d.Cause, Blocked: d.Blocked, DiscardedBy: d.DiscardedBy}
		if d.State == "pending" {
			shown[i].DueAt = &d.DueAt
		} else {
			shown[i].SettledAt = &d.SettledAt
		}
	}
	return shown
}

func (e *env) inboxShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show SEQ",
		Short: "Show one entry: its facts, violations, sightings, deliveries with their causes, event and payload",
		Long: "Show one entry: its facts, violations, sightings, deliveries with their causes, event and payload.\n\n" +
			"With -o json the key event holds what handlers get, a CloudEvents 1.0 event as schemas/event.schema.json describes it, and --event\n" +
			"prints that alone, on one line. Its id is the entry's; handlers see that of their delivery, which is among the deliveries.",
		Example: `  callbackd inbox show 42
  callbackd inbox show 42 -o json
  callbackd inbox show 42 --event | my-program`,
		Args: cobra.ExactArgs(1),
	}
	o := output(c)
	event := c.Flags().Bool("event", false, "print the event alone, as handlers get it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *event && cmd.Flags().Changed("output") {
			return usagef("--event prints the event alone: leave out --output")
		}
		q, err := new(filter).query(cmd, args)
		if err != nil {
			return err
		}
		return e.withReader(cmd.Context(), func(r *sqlite.Reader) error {
			s, err := show(cmd.Context(), r, q.Seqs[0])
			switch {
			case err != nil:
				return err
			case *event && s.Event == nil:
				return fmt.Errorf("entry %d has no event: %s", s.Seq, s.DecodeError)
			case *event:
				encoder := json.NewEncoder(e.out)
				encoder.SetEscapeHTML(false)
				return encoder.Encode(s.Event)
			}
			return e.print(*o, s, func(w io.Writer) { s.table(w) })
		})
	}
	return c
}

func show(ctx context.Context, r *sqlite.Reader, seq int64) (*shown, error) {
	entry, err := r.Entry(ctx, seq)
	if err != nil {
		return nil, err
	}
	s := &shown{listed: list(&entry), Facts: entry.Facts, RepeatOf: entry.RepeatOf, Payload: string(entry.Body)}
	if s.SeenAt, err = r.Sightings(ctx, seq); err != nil {
		return nil, err
	}
	made, err := r.Deliveries(ctx, seq)
	if err != nil {
		return nil, err
	}
	s.Deliveries = deliveries(entry.ID, made)
	if entry.Erased && len(entry.Body) == 0 {
		s.DecodeError = "erased on request"
		return s, nil
	}
	if s.Event, err = eventOf(&entry); err != nil {
		s.DecodeError = err.Error()
	}
	return s, nil
}

func (s *shown) table(w io.Writer) {
	for _, line := range [][2]string{
		{"Seq", fmt.Sprint(s.Seq)}, {"ID", s.ID}, {"Received", s.ReceivedAt.Format(time.RFC3339Nano)}, {"Service", s.Service}, {"Kind", s.Kind},
		{"Account", s.Account + " (credentials " + s.Facts.Credential + ")"}, {"Request ID", dash(s.RequestID)}, {"Source", s.Facts.Source},
		{"State", string(s.State)}, {"Flags", dash(strings.Join(s.Flags, ", "))}, {"SOAP", s.Facts.SOAP + ", " + s.Facts.Encoding},
		{"Attempt", attempt(s.Facts)},
	} {
		row(w, line[0]+":", line[1])
	}
	for _, d := range s.Devices {
		row(w, "Device:", d.Kind+" "+d.Identifier)
	}
	for _, v := range s.Facts.Violations {
		row(w, "Violation:", fmt.Sprintf("line %d: %s: %s", v.Line, v.Path, v.Msg))
	}
	if s.Facts.SecondOpinion != "" {
		row(w, "Second opinion:", string(s.Facts.SecondOpinion))
	}
	for _, x := range s.Facts.Extensions {
		row(w, "Extension:", x)
	}
	for _, at := range s.SeenAt {
		row(w, "Sighting:", fmt.Sprintf("%s from %s", at.At.Format(time.RFC3339Nano), at.Source))
	}
	for _, d := range s.Deliveries {
		row(w, "Delivery:", deliveryLine(d))
	}
	if s.DecodeError != "" {
		row(w, "Not decoded:", s.DecodeError)
	} else if text, err := json.MarshalIndent(s.Event.Data, "", "  "); err == nil {
		fmt.Fprintf(w, "\n%s\n", printable(string(text)))
	}
	fmt.Fprintf(w, "\n%s\n", printable(s.Payload))
}

// attempt is the platform's count, which not every message bears.
func attempt(f inbox.Facts) string {
	if f.Attempt == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", f.Attempt, f.MaxAttempts)
}

func deliveryLine(d delivery) string {
	line := fmt.Sprintf("%s: %s after %d attempts", d.Handler, d.State, d.Attempts)
	if d.Replay > 0 {
		line = fmt.Sprintf("%s (replay %d): %s after %d attempts", d.Handler, d.Replay, d.State, d.Attempts)
	}
	switch {
	case d.Blocked:
		line += ", blocked behind an earlier one of its device"
	case d.DueAt != nil:
		line += ", due " + d.DueAt.Format(time.RFC3339)
	}
	if d.DiscardedBy != "" {
		line += fmt.Sprintf(", by %s at %s", d.DiscardedBy, d.SettledAt.Format(time.RFC3339))
	}
	if d.Reason != "" {
		line += ", " + d.Reason
	}
	if d.Cause != "" {
		line += ": " + d.Cause
	}
	return line
}

// printable keeps control characters of a payload from a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return '.'
		}
		return r
	}, s)
}

// exported is an entry as `inbox export` prints it.
type exported struct {
	listed
	Facts    inbox.Facts `json:"facts"`
	RepeatOf int64       `json:"repeat_of,omitempty"`
	Payload  string      `json:"payload"`
}

func (e *env) inboxExport() *cobra.Command {
	var f filter
	c := &cobra.Command{
		Use:   "export [SEQ...]",
		Short: "Print entries whole, one JSON object a line",
		Long: "Print entries whole, one JSON object a line, oldest first: what `inbox list -o json` has, and the facts of arrival and the payload.\n" +
			"`callbackd send -` posts what this prints. Passwords are masked; everything else is as it arrived. With -o table it is a list.",
		Example: `  callbackd inbox export --since 1d > callbacks.ndjson
  callbackd inbox export 42 | callbackd send - --url https://staging.example.com:28204/`,
		Args: cobra.ArbitraryArgs,
	}
	f.addTo(c, false)
	o := output(c)
	*o = asJSON
	c.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := f.query(cmd, args)
		if err != nil {
			return err
		}
		if *o == table {
			return e.list(cmd.Context(), q, f.limit, table)
		}
		q.Body = true
		return e.withReader(cmd.Context(), func(r *sqlite.Reader) error {
			encoder := json.NewEncoder(e.out)
			encoder.SetEscapeHTML(false)
			return each(cmd.Context(), r, q, f.limit, func(entry *inbox.Entry) error {
				return encoder.Encode(exported{list(entry), entry.Facts, entry.RepeatOf, string(entry.Body)})
			})
		})
	}
	return c
}

func (e *env) inboxStats() *cobra.Command {
	c := &cobra.Command{
		Use:   "stats",
		Short: "Sum up the inbox, and list the times without acknowledgements",
		Long: "Sum up the inbox, and list the times without acknowledgements: what the platform sent then it has given up, and its support can be\n" +
			"asked to send it again.",
		Example: `  callbackd inbox stats
  callbackd inbox stats -o json`,
		Args: cobra.NoArgs,
	}
	o := output(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return e.withReader(cmd.Context(), func(r *sqlite.Reader) error {
			s, err := r.Stats(cmd.Context())
			if err != nil {
				return err
			}
			withoutHeartbeats(&s)
			return e.print(*o, summed{s, outages(s.WithoutAcks)}, func(w io.Writer) { statsTable(w, s) })
		})
	}
	return c
}

// withoutHeartbeats leaves out what is no callback of the platform's, but is in the inbox while it is under way.
func withoutHeartbeats(s *sqlite.Stats) {
	const heartbeat = string(callback.Heartbeat)
	s.Entries -= s.Services[heartbeat]
	s.Sightings -= s.Services[heartbeat]
	delete(s.Services, heartbeat)
	delete(s.Pending, heartbeat)
}

// summed are the stats as JSON.
type summed struct {
	sqlite.Stats
	WithoutAcks []outage `json:"without_acks"`
}

type outage struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"` // absent while it goes on
	Reason  string    `json:"reason"`
	Refused int64     `json:"refused"`
}

func outages(list []inbox.Outage) []outage {
	shown := make([]outage, len(list))
	for i, o := range list {
		shown[i] = outage(o)
	}
	return shown
}

func statsTable(w io.Writer, s sqlite.Stats) {
	row(w, "Entries:", s.Entries)
	row(w, "Sightings:", s.Sightings)
	row(w, "Quarantined:", s.Quarantined)
	row(w, "Size:", fmt.Sprintf("%.1f MiB", float64(s.Bytes)/(1<<20)))
	if s.First != nil {
		row(w, "First:", s.First.Format(time.RFC3339))
		row(w, "Last:", s.Last.Format(time.RFC3339))
	}
	if s.OldestDue != nil {
		row(w, "Oldest delivery due:", s.OldestDue.Format(time.RFC3339))
	}
	if s.Held {
		row(w, "Deliveries:", "held since a restore")
	}
	for _, name := range s.Paused {
		row(w, "Paused:", name)
	}
	for _, group := range []struct {
		title  string
		counts map[string]int64
	}{{"Entries of", s.Services}, {"Pending for", s.Pending}, {"Dead for", s.Dead}} {
		for _, name := range sorted(group.counts) {
			row(w, group.title+" "+name+":", group.counts[name])
		}
	}
	for _, o := range s.WithoutAcks {
		refused := ""
		if o.Refused > 0 {
			refused = fmt.Sprintf(", %d refused", o.Refused)
		}
		until := "now"
		if !o.To.IsZero() {
			until = fmt.Sprintf("%s (%s)", o.To.Format(time.RFC3339), o.To.Sub(o.From).Round(time.Millisecond))
		}
		row(w, "Without acks:", fmt.Sprintf("%s to %s: %s%s", o.From.Format(time.RFC3339), until, o.Reason, refused))
	}
}
