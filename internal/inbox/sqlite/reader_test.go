package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/inbox"
)

// dated sets the store's clock to the time of the tests' arrivals, which retention would remove otherwise.
func dated(o *Options) { o.Now = newClock().Now }

// fill appends the arrivals, many at once, and returns the entries by Seq, as they should be read.
func fill(t testing.TB, s *Store, arrivals []inbox.Arrival) []inbox.Entry {
	t.Helper()
	entries := make([]inbox.Entry, len(arrivals))
	var wait sync.WaitGroup
	room := make(chan struct{}, 256)
	for i, a := range arrivals {
		room <- struct{}{}
		wait.Go(func() {
			defer func() { <-room }()
			receipt, err := s.Append(context.Background(), a)
			if err != nil {
				t.Error(err)
			}
			entries[i] = a.Entry
			entries[i].Seq = receipt.Seq
		})
	}
	wait.Wait()
	slices.SortFunc(entries, func(a, b inbox.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return entries
}

// execute changes the database behind the store's back.
func execute(t testing.TB, s *Store, statement string, args ...any) {
	t.Helper()
	if err := s.Do(context.Background(), func() error {
		_, err := s.conn.ExecContext(context.Background(), statement, args...)
		return err
	}); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func seqsOf(entries []inbox.Entry) []int64 {
	list := make([]int64, len(entries))
	for i := range entries {
		list[i] = entries[i].Seq
	}
	return list
}

// allSeqs reads all that q selects, the corrupt included, and reports those apart.
func allSeqs(t testing.TB, r *Reader, q inbox.Query) (seqs, corrupt []int64) {
	t.Helper()
	for e, err := range r.All(context.Background(), q) {
		var c *inbox.CorruptError
		switch {
		case errors.As(err, &c):
			corrupt = append(corrupt, c.Seq)
		case err != nil:
			t.Fatal(err)
		}
		seqs = append(seqs, e.Seq)
	}
	return seqs, corrupt
}

// variety is 2,500 arrivals that differ in all that can be asked for. Their times are not quite in the order of their Seq.
func variety() []inbox.Arrival {
	arrivals := make([]inbox.Arrival, 2500)
	for i := range arrivals {
		a := testArrival(fmt.Sprint(i), "audit")
		e := &a.Entry
		e.ReceivedAt = e.ReceivedAt.Add(time.Duration(i) * time.Second)
		e.Service = []string{"DeviceUsage", "CarrierService", "PromoChange"}[i%3]
		e.Kind = []string{"Usage", "Carrier"}[i%2]
		e.Account = []string{"main", "spare"}[i/2%2]
		e.RequestID = fmt.Sprintf("request-%d", i/5)
		e.Facts.Devices = []inbox.Device{{Kind: "mdn", Identifier: fmt.Sprint(i % 7)}, {Kind: "imei", Identifier: fmt.Sprintf("A%d", i%400)}}
		e.Facts.Test = i%50 == 0
		a.Key = testKey(e.RequestID, fmt.Sprint(i))
		a.Held = i%11 == 0
		if i%3 == 1 {
			a.Handlers = nil
		}
		arrivals[i] = a
	}
	return arrivals
}

func TestQueriesSelectWhatTheySay(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	entries := fill(t, s, variety())
	// One delivery in four is made, one is dead, the others wait.
	for _, e := range entries {
		var settlement inbox.Settlement
		switch e.Seq % 4 {
		case 0:
			settlement.Verdict = inbox.VerdictDone
		case 1:
			settlement.Verdict = inbox.VerdictBury
		default:
			continue
		}
		settlement.DeliveryKey = inbox.DeliveryKey{Seq: e.Seq, Handler: "audit"}
		s.Settle(settlement)
	}
	flushed(t, s)
	state := func(e *inbox.Entry) inbox.State {
		var i int
		fmt.Sscanf(string(e.Body), "<Envelope>%d", &i)
		switch {
		case i%11 == 0:
			return inbox.Quarantined
		case i%3 == 1 || e.Seq%4 == 0:
			return inbox.Done
		case e.Seq%4 == 1:
			return inbox.Dead
		}
		return inbox.Pending
	}
	yes, no := true, false
	begin := testArrival("0").Entry.ReceivedAt
	queries := map[string]inbox.Query{
		"everything":         {},
		"since":              {Since: begin.Add(2000 * time.Second)},
		"until":              {Until: begin.Add(100 * time.Second)},
		"a span of time":     {Since: begin.Add(300 * time.Second), Until: begin.Add(1900 * time.Second)},
		"an empty span":      {Since: begin.Add(time.Hour * 24)},
		"service":            {Service: "PromoChange"},
		"kind":               {Kind: "Usage"},
		"account":            {Account: "spare"},
		"RequestId":          {RequestID: "request-77"},
		"no such RequestId":  {RequestID: "request-none"},
		"device":             {Device: "3"},
		"device in any case": {Device: "a17"},
		"pending":            {State: inbox.Pending},
		"done":               {State: inbox.Done},
		"dead":               {State: inbox.Dead},
		"quarantined":        {State: inbox.Quarantined},
		"test":               {Test: &yes},
		"not test":           {Test: &no},
		"by number":          {Seqs: []int64{7, 3, 3, 999999}},
		"after":              {After: 2000},
		"before":             {Before: 20},
		"all at once": {Since: begin, Until: begin.Add(time.Hour), Service: "DeviceUsage", Kind: "Usage", Account: "main", Device: "0",
			State: inbox.Pending, Test: &no, After: 10, Before: 2400},
		"time and number": {Since: begin.Add(time.Minute), Until: begin.Add(time.Hour), After: 500, Before: 600},
	}
	for name, q := range queries {
		t.Run(name, func(t *testing.T) {
			want := []int64{}
			for _, e := range entries {
				device := slices.ContainsFunc(e.Facts.Devices, func(d inbox.Device) bool { return strings.EqualFold(d.Identifier, q.Device) })
				if (q.Since.IsZero() || !e.ReceivedAt.Before(q.Since)) && (q.Until.IsZero() || e.ReceivedAt.Before(q.Until)) &&
					(q.Service == "" || e.Service == q.Service) && (q.Kind == "" || e.Kind == q.Kind) && (q.Account == "" || e.Account == q.Account) &&
					(q.RequestID == "" || e.RequestID == q.RequestID) && (q.Device == "" || device) && (q.State == "" || state(&e) == q.State) &&
					(q.Test == nil || e.Facts.Test == *q.Test) && e.Seq > q.After && (q.Before == 0 || e.Seq < q.Before) &&
					(len(q.Seqs) == 0 || slices.Contains(q.Seqs, e.Seq)) {
					want = append(want, e.Seq)
				}
			}
			if got, _ := allSeqs(t, s.Reader, q); !slices.Equal(got, want) {
				t.Errorf("got %d entries, want %d: %v, want %v", len(got), len(want), head(got), head(want))
			}
			newest := q
			newest.Newest, newest.Limit, newest.Body = true, 1200, true
			slices.Reverse(want)
			if got, _ := allSeqs(t, s.Reader, newest); !slices.Equal(got, want[:min(len(want), 1200)]) {
				t.Errorf("newest first: got %d entries: %v, want %v", len(got), head(got), head(want))
			}
			if got, err := s.Find(t.Context(), newest); err != nil || !slices.Equal(seqsOf(got), want[:min(len(want), mostEntries)]) {
				t.Errorf("Find: got %d entries, %v: %v, want %v", len(got), err, head(seqsOf(got)), head(want))
			}
		})
	}
}

func head(seqs []int64) []int64 { return seqs[:min(len(seqs), 10)] }

// With many deliveries in a state, entries are looked at one by one instead; the answer is the same.
func TestAStateOfManyDeliveriesIsFoundToo(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	mustAppend(t, s, testArrival("1", "a"))
	mustAppend(t, s, testArrival("2"))
	execute(t, s, `INSERT INTO delivery (seq, handler, replay, due_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT 1, 1, i, 1 FROM n`, fewDeliveries+1)
	if plan := plan(t, s.Reader, inbox.Query{State: inbox.Pending}); !strings.Contains(plan, "CORRELATED") {
		t.Errorf("the plan still gathers the deliveries: %s", plan)
	}
	if got, _ := allSeqs(t, s.Reader, inbox.Query{State: inbox.Pending}); !slices.Equal(got, []int64{1}) {
		t.Errorf("pending are %v, want entry 1", got)
	}
}

func plan(t testing.TB, r *Reader, q inbox.Query) string {
	t.Helper()
	s, err := r.selects(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	text, args, _ := s.statement()
	return explain(t, r, text, args...)
}

func explain(t testing.TB, r *Reader, text string, args ...any) string {
	t.Helper()
	rows, err := r.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, detail)
	}
	return strings.Join(steps, "; ")
}

func TestEachFilterUsesItsIndex(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	for _, a := range variety()[:10] {
		mustAppend(t, s, a)
	}
	yes := true
	at := testArrival("1").Entry.ReceivedAt.Add(5 * time.Second)
	terms, args := times(inbox.Query{Since: at, Until: at.Add(time.Hour)})
	if plan := explain(t, s.Reader, spanStatement(terms), args...); !strings.Contains(plan, "COVERING INDEX entry_received (received_at>? AND received_at<?)") {
		t.Errorf("a span of time is found by %s", plan)
	}
	for name, c := range map[string]struct {
		q     inbox.Query
		index string
	}{
		"time":         {inbox.Query{Since: at, Until: at.Add(time.Hour)}, "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"},
		"service":      {inbox.Query{Service: "DeviceUsage"}, "e USING INDEX entry_service (service=?"},
		"service page": {inbox.Query{Service: "DeviceUsage", After: 5}, "e USING INDEX entry_service (service=? AND rowid>?)"},
		"RequestId":    {inbox.Query{RequestID: "request-1"}, "dedup USING PRIMARY KEY (key>? AND key<?)"},
		"device":       {inbox.Query{Device: "555001"}, "device USING PRIMARY KEY (identifier=?)"},
		"device, service, state and time": {inbox.Query{Device: "555001", Service: "DeviceUsage", State: inbox.Pending, Since: at},
			"device USING PRIMARY KEY (identifier=?)"},
		"numbers":     {inbox.Query{Seqs: []int64{1}}, "e USING INTEGER PRIMARY KEY (rowid=?)"},
		"test":        {inbox.Query{Test: &yes}, "e USING INDEX entry_test"},
		"quarantined": {inbox.Query{State: inbox.Quarantined}, "e USING INDEX entry_held"},
		"pending":     {inbox.Query{State: inbox.Pending}, "d USING COVERING INDEX delivery_pending"},
		"dead":        {inbox.Query{State: inbox.Dead}, "d USING COVERING INDEX delivery_dead"},
		"done":        {inbox.Query{State: inbox.Done}, "d USING PRIMARY KEY (seq=?)"},
		"kind":        {inbox.Query{Kind: "Usage", After: 5}, "e USING INTEGER PRIMARY KEY (rowid>?)"},
		"account":     {inbox.Query{Account: "main", After: 5}, "e USING INTEGER PRIMARY KEY (rowid>?)"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, newest := range []bool{false, true} {
				c.q.Newest = newest
				plan := plan(t, s.Reader, c.q)
				if !strings.Contains(plan, c.index) {
					t.Errorf("newest %v: the plan is %s; want %s", newest, plan, c.index)
				}
				if strings.Contains(plan, "B-TREE") {
					t.Errorf("newest %v: every page is sorted: %s", newest, plan)
				}
			}
		})
	}
}

// An operator's long query holds a state of its own, and the acks go on beside it.
func TestAnOpenReadDoesNotHoldUpAnAppend(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	for n := range 10 {
		mustAppend(t, s, testArrival(fmt.Sprint(n)))
	}
	operator, err := OpenReader(t.Context(), s.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	for name, r := range map[string]*Reader{"the receiver's reader": s.Reader, "an operator's reader": operator} {
		t.Run(name, func(t *testing.T) {
			tx, err := r.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			rows, err := tx.Query(`SELECT seq FROM entry`)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			if !rows.Next() {
				t.Fatal("no entry to read")
			}
			for n := range 20 {
				began := time.Now()
				mustAppend(t, s, testArrival(name+fmt.Sprint(n)))
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("an append took %s beside an open read", took)
				}
			}
			seen := 1
			for rows.Next() {
				seen++
			}
			if all, _ := allSeqs(t, s.Reader, inbox.Query{}); seen >= len(all) || rows.Err() != nil {
				t.Errorf("the open read saw %d of %d entries, %v; it began before the last 20", seen, len(all), rows.Err())
			}
		})
	}
}

// What the consumer of a long list does between two entries holds nothing in the store, and what arrives meanwhile is in the list.
func TestAListBeingReadHoldsNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	fill(t, s, variety()[:mostEntries+1])
	late := int64(0)
	last := int64(0)
	for e, err := range s.All(t.Context(), inbox.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if late == 0 {
			if in := s.Reader.db.Stats().InUse; in != 0 {
				t.Errorf("%d connections are in use between two entries", in)
			}
			late = mustAppend(t, s, testArrival("late")).Seq
		}
		last = e.Seq
	}
	if last != late {
		t.Errorf("the list ended with entry %d, want %d", last, late)
	}
}

func TestAReaderCannotWrite(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	mustAppend(t, s, testArrival("1"))
	if _, err := s.Reader.db.ExecContext(t.Context(), `DELETE FROM entry`); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a reader deleted entries: %v", err)
	}
}

func TestAReaderWorksWhateverTheReceiverDoes(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	for n := range 5 {
		mustAppend(t, s, testArrival(fmt.Sprint(n), "audit"))
	}
	// What a crash leaves: the database and the write-ahead log as they are now.
	crashed := t.TempDir()
	for _, name := range []string{File, File + "-wal"} {
		data, err := os.ReadFile(filepath.Join(s.o.Dir, name))
		if err != nil || len(data) == 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(data), err)
		}
		if err := os.WriteFile(filepath.Join(crashed, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(dir string) {
		t.Helper()
		r, err := OpenReader(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, _ := allSeqs(t, r, inbox.Query{State: inbox.Pending, Body: true}); !slices.Equal(got, []int64{1, 2, 3, 4, 5}) {
			t.Errorf("entries %v, want 1 to 5", got)
		}
		if list, err := r.Deliveries(t.Context(), 3); err != nil || len(list) != 1 || list[0].State != "pending" {
			t.Errorf("deliveries %v, %v", list, err)
		}
		if _, err := r.Entry(t.Context(), 99); !errors.Is(err, inbox.ErrNotFound) {
			t.Errorf("an entry that is not there: %v", err)
		}
		if _, err := r.Sightings(t.Context(), 99); !errors.Is(err, inbox.ErrNotFound) {
			t.Errorf("the sightings of an entry that is not there: %v", err)
		}
	}
	t.Run("serving", func(t *testing.T) { check(s.o.Dir) })
	t.Run("crashed", func(t *testing.T) { check(crashed) })
	t.Run("stopped", func(t *testing.T) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		check(s.o.Dir)
	})
	t.Run("never started", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := OpenReader(t.Context(), dir); !errors.Is(err, inbox.ErrNotFound) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("reading created %v", left)
		}
	})
}

// One damaged entry costs that entry alone, wherever in a page it stands, and is told once.
func TestAListGoesOnPastCorruptEntries(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	entries := fill(t, s, variety()[:2*mostEntries+10])
	damage := map[int64]string{
		1:                 `UPDATE body SET data = x'00' WHERE seq = ?`,
		2:                 `UPDATE entry SET facts = '{"devi' WHERE seq = ?`,
		mostEntries:       `DELETE FROM body WHERE seq = ?`,
		mostEntries + 1:   `UPDATE entry SET received_at = 'noon' WHERE seq = ?`,
		2 * mostEntries:   `UPDATE body SET data = x'' WHERE seq = ?`,
		2*mostEntries + 9: `UPDATE entry SET service = 'Other' WHERE seq = ?`,
	}
	var want []int64
	for seq, statement := range damage {
		execute(t, s, statement, seq)
		want = append(want, seq)
	}
	slices.Sort(want)
	got, corrupt := allSeqs(t, s.Reader, inbox.Query{Body: true})
	if !slices.Equal(got, seqsOf(entries)) {
		t.Errorf("%d entries were listed, want %d, each once and in order", len(got), len(entries))
	}
	if !slices.Equal(corrupt, want) {
		t.Errorf("corrupt are %v, want %v", corrupt, want)
	}
	// Without bodies there is nothing to check the digest of; what cannot be read is still told.
	got, corrupt = allSeqs(t, s.Reader, inbox.Query{})
	if len(got) != len(entries) || !slices.Equal(corrupt, []int64{2, mostEntries + 1}) {
		t.Errorf("without bodies %d entries were listed, corrupt are %v", len(got), corrupt)
	}
	found, err := s.Find(t.Context(), inbox.Query{Body: true, Limit: 5})
	if !slices.Equal(seqsOf(found), []int64{3, 4, 5}) || !errors.Is(err, inbox.ErrCorruptEntry) {
		t.Errorf("Find gives %v, %v", seqsOf(found), err)
	}
	var c *inbox.CorruptError
	if _, err := s.Entry(t.Context(), mostEntries); !errors.As(err, &c) || c.Seq != mostEntries || !strings.Contains(err.Error(), "entry 1000: its body is missing") {
		t.Errorf("Entry gives %v", err)
	}
	if s.Status() != nil {
		t.Errorf("a corrupt entry stopped the acks: %v", s.Status())
	}
}

func TestAPageOfBodiesIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	for n := range 5 {
		a := testArrival(fmt.Sprint(n))
		a.Entry.Body = make([]byte, mostBytes/3)
		mustAppend(t, s, a)
	}
	selection, err := s.selects(t.Context(), inbox.Query{Body: true})
	if err != nil {
		t.Fatal(err)
	}
	page, more, err := s.page(t.Context(), selection)
	if err != nil || len(page) >= 5 || !more {
		t.Errorf("a page has %d bodies of %d bytes, more %v, %v", len(page), mostBytes/3, more, err)
	}
	if got, _ := allSeqs(t, s.Reader, inbox.Query{Body: true}); !slices.Equal(got, []int64{1, 2, 3, 4, 5}) {
		t.Errorf("the list has %v", got)
	}
}

func TestAQueryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	mustAppend(t, s, testArrival("1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Find(ctx, inbox.Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s.Status() != nil {
		t.Errorf("a cancelled query stopped the acks: %v", s.Status())
	}
}

func TestStatsSumUp(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	mustAppend(t, s, testArrival("1", "a", "b"))
	mustAppend(t, s, testArrival("1", "a", "b"))
	mustAppend(t, s, testArrival("1", "a", "b"))
	held := testArrival("2", "a")
	held.Held = true
	held.Entry.Service = "PromoChange"
	held.Entry.ReceivedAt = held.Entry.ReceivedAt.Add(time.Hour)
	mustAppend(t, s, held)
	s.Settle(inbox.Settlement{DeliveryKey: inbox.DeliveryKey{Seq: 1, Handler: "b"}, Verdict: inbox.VerdictBury})
	flushed(t, s)
	got, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Entries != 2 || got.Sightings != 4 || got.Quarantined != 1 || got.Services["DeviceUsage"] != 1 || got.Services["PromoChange"] != 1 ||
		got.Pending["a"] != 1 || got.Pending["b"] != 0 || got.Dead["b"] != 1 || got.Bytes == 0 || got.Held || len(got.WithoutAcks) != 0 {
		t.Errorf("got %+v", got)
	}
	if want := held.Entry.ReceivedAt; got.Last == nil || !got.Last.Equal(want) || !got.First.Equal(want.Add(-time.Hour)) || got.OldestDue == nil {
		t.Errorf("first %v, last %v, due %v", got.First, got.Last, got.OldestDue)
	}
}
