package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/inbox"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// TestAnInboxOfTheFirstVersionIsMigrated: what was pending in it is delivered in the order of arrival, retries when they are due.
func TestAnInboxOfTheFirstVersionIsMigrated(t *testing.T) {
	t.Parallel()
	c := newClock()
	o := testOptions(t, func(o *Options) { o.Now = c.Now })
	first := o
	first.migrations = migrations{migrationsUpTo(t, 1), "m"}
	path := filepath.Join(o.Dir, File)
	if err := migrate(t.Context(), path, first); err != nil {
		t.Fatal(err)
	}
	fillFirstVersion(t, path, c.Now())

	s := openStore(t, o)
	if backups := backupsIn(t, o.Dir); len(backups) != 1 || !strings.Contains(backups[0], ".version-1.") {
		t.Errorf("the backups are %v", backups)
	}
	register(t, s, "audit")
	list, next, err := s.Claim(t.Context(), "audit", 10)
	if err != nil || !slices.Equal(keysOf(list), []string{"2/0", "5/0", "3/7"}) || !next.Equal(c.Now().Add(time.Hour)) {
		t.Errorf("claimed %v, next %s, %v", keysOf(list), next, err)
	}
	c.Advance(time.Hour)
	if list := claimed(t, s, "audit"); !slices.Equal(keysOf(list), []string{"1/0"}) || list[0].Attempt != 4 {
		t.Errorf("later claimed %v", keysOf(list))
	}
	if dead, err := s.DeadLetters(t.Context(), inbox.DeadQuery{Reason: inbox.ReasonPermanent}); err != nil || len(dead) != 1 || dead[0].Seq != 4 {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
	if r, err := s.Replay(t.Context(), replayOf([]int64{4}, to("audit"), false)); err != nil || r.Replay != 8 {
		t.Errorf("the next replay is %+v, %v; want number 8", r, err)
	}
	if err := s.OrderBy(t.Context(), map[string]inbox.Order{"audit": inbox.DeviceBlock}); err != nil {
		t.Error(err)
	}
}

// fillFirstVersion stores five entries as the first version did: a retry, one to be made, a replay of one that is done, a dead letter, and
// another to be made that has waited longer.
func fillFirstVersion(t testing.TB, path string, now time.Time) {
	t.Helper()
	db, err := openDB(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	run := func(text string, args ...any) {
		t.Helper()
		if _, err := db.Exec(text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	run(`INSERT INTO meta VALUES ('replay', '7')`)
	run(`INSERT INTO handler VALUES (1, 'audit')`)
	for seq := int64(1); seq <= 5; seq++ {
		e := testArrival(fmt.Sprint(seq)).Entry
		id := uuid.MustParse(e.ID)
		facts, err := e.MarshalFacts()
		if err != nil {
			t.Fatal(err)
		}
		digest := e.Digest(facts)
		run(`INSERT INTO entry (seq, id, received_at, service, kind, account, request_id, facts, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			seq, id[:], e.ReceivedAt.UnixMicro(), e.Service, e.Kind, e.Account, e.RequestID, string(facts), digest[:])
		run(`INSERT INTO body VALUES (?, ?)`, seq, e.Body)
	}
	delivery := `INSERT INTO delivery (seq, handler, replay, state, attempts, due_at, reason) VALUES (?, 1, ?, ?, ?, ?, ?)`
	run(delivery, 1, 0, 0, 3, now.Add(time.Hour).UnixMicro(), "error")
	run(delivery, 2, 0, 0, 0, now.UnixMicro(), "")
	run(delivery, 3, 0, 1, 1, now.UnixMicro(), "")
	run(delivery, 3, 7, 0, 0, now.UnixMicro(), "")
	run(delivery, 4, 0, 2, 1, now.UnixMicro(), "permanent")
	run(delivery, 5, 0, 0, 0, now.Add(-time.Hour).UnixMicro(), "")
}

func keysOf(list []inbox.Delivery) []string {
	var keys []string
	for _, d := range list {
		keys = append(keys, fmt.Sprintf("%d/%d", d.Seq, d.Replay))
	}
	return keys
}

// TestAReplayThatWasCutShortIsFinishedUnderItsID: by an operator who gave up, and a restart. Nothing is scheduled twice.
func TestAReplayThatWasCutShortIsFinishedUnderItsID(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	const n = 5*operateStep + 7
	fill(t, s, unrouted(n))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looked := 0
	request := ReplayRequest{ID: "ticket 1", Entries: inbox.Query{Service: "DeviceUsage"}, Rate: 100, Route: func(*inbox.Entry) []string {
		if looked++; looked == operateStep+1 {
			cancel()
		}
		return []string{"audit"}
	}}
	if _, err := s.Replay(ctx, request); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut short: %v", err)
	}
	if looked == n {
		t.Fatal("it was not cut short")
	}
	s = reopen(t, s)
	register(t, s, "audit")
	for range 2 {
		r, err := s.Replay(t.Context(), request)
		if err != nil || r.Entries != n || r.Deliveries != n || !r.Known || r.Replay != 1 {
			t.Fatalf("gone on with: %+v, %v", r, err)
		}
	}
	if looked > n+operateStep {
		t.Errorf("%d entries were looked at for %d", looked, n)
	}
	var count, distinct, last int64
	if err := s.db.QueryRow(`SELECT count(*), count(DISTINCT due_at), (max(due_at) - min(due_at)) / 1000 FROM delivery WHERE replay = 1`).
		Scan(&count, &distinct, &last); err != nil || count != n || distinct != n || last != (n-1)*10 {
		t.Errorf("%d deliveries are due at %d times within %d ms, %v; want %d, one each 10 ms", count, distinct, last, err, n)
	}
}

// unrouted are arrivals of one service that go to no handler.
func unrouted(n int) []inbox.Arrival {
	list := make([]inbox.Arrival, n)
	for i := range list {
		list[i] = testArrival(fmt.Sprint(i))
	}
	return list
}

func TestAReplayRequestIsChecked(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for rule, r := range map[string]ReplayRequest{
		"a negative rate":     {Rate: -1},
		"too long a name":     {ID: strings.Repeat("x", MostReplayID+1)},
		"a limit with a name": {ID: "x", Entries: inbox.Query{Limit: 1}},
	} {
		if _, err := s.Replay(t.Context(), r); err == nil {
			t.Errorf("%s is accepted", rule)
		}
	}
	if _, err := s.Replay(t.Context(), ReplayRequest{ID: "x", Handlers: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Replay(t.Context(), ReplayRequest{ID: "x", Handlers: []string{"b"}}); !errors.Is(err, ErrReplayID) {
		t.Errorf("another request with the ID: %v", err)
	}
}

// TestOrderOfALargeBacklogIsMadeInSteps, and made again after a crash between two of them.
func TestOrderOfALargeBacklogIsMadeInSteps(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	const devices, n = 7, 2*reorderStep + 10
	list := make([]inbox.Arrival, n)
	for i := range list {
		list[i] = testArrival(fmt.Sprint(i), "audit")
		list[i].Entry.Facts.Devices[0].Identifier = fmt.Sprint(i % devices)
	}
	fill(t, s, list)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.OrderBy(ctx, map[string]inbox.Order{"audit": inbox.DeviceBury}); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut short: %v", err)
	}
	id, _ := s.handlers.id("audit")
	execute(t, s, `UPDATE delivery SET order_key = 99, wait = 1 WHERE seq % 5 = 0`) // as a crash may leave it
	for range 2 {
		if err := s.OrderBy(t.Context(), map[string]inbox.Order{"audit": inbox.DeviceBury}); err != nil {
			t.Fatal(err)
		}
		if s.handlers.order(id) != inbox.DeviceBury {
			t.Fatal("the order is not known")
		}
	}
	var keys, ready int
	if err := s.db.QueryRow(`SELECT count(DISTINCT order_key), sum(wait = 0) FROM delivery`).Scan(&keys, &ready); err != nil || keys != devices || ready != devices {
		t.Errorf("%d keys, %d can be claimed, %v; want %d of each", keys, ready, err, devices)
	}
	seen := make(map[string]int64)
	for made := 0; made < n; {
		batch := claimed(t, s, "audit")
		if len(batch) == 0 {
			t.Fatalf("nothing can be claimed after %d", made)
		}
		for _, d := range batch {
			device := d.Entry.Facts.Devices[0].Identifier
			if d.Seq <= seen[device] {
				t.Fatalf("entry %d of device %s comes after entry %d", d.Seq, device, seen[device])
			}
			seen[device] = d.Seq
			s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Attempts: 1})
			made++
		}
		flushed(t, s)
	}
	if err := s.db.QueryRow(`SELECT count(*) FROM delivery WHERE order_key <> 0`).Scan(&keys); err != nil || keys != 0 {
		t.Errorf("%d deliveries that are done have a place in an order, %v", keys, err)
	}
}

// TestAnErasedEntryHoldsUpNoDevice: its delivery ends without an attempt, and the next one goes on.
func TestAnErasedEntryHoldsUpNoDevice(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	if err := s.OrderBy(t.Context(), map[string]inbox.Order{"audit": inbox.DeviceBlock}); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		a := testArrival(fmt.Sprint(n), "audit")
		a.Entry.Facts.Devices[0].Identifier = "one"
		mustAppend(t, s, a)
	}
	if err := s.operate(t.Context(), false, func(tx *effects) error { return s.settleErased(t.Context(), tx, 1) }); err != nil {
		t.Fatal(err)
	}
	if list := claimed(t, s, "audit"); len(list) != 1 || list[0].Seq != 2 {
		t.Errorf("claimed %v", keysOf(list))
	}
}

// TestDeadLettersAreFoundByTheirIndex, or by that of the entries where that leaves fewer; none sorts all of them for a page.
func TestDeadLettersAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	after := inbox.DeliveryKey{Seq: 1, Handler: "audit"}
	for name, c := range map[string]struct {
		q    inbox.DeadQuery
		want string // is where it begins
	}{
		"all":               {inbox.DeadQuery{}, "SCAN d USING INDEX delivery_dead_seq"},
		"all, a later page": {inbox.DeadQuery{After: after}, "SEARCH d USING INDEX delivery_dead_seq (seq>?)"},
		"handler":           {inbox.DeadQuery{Handler: "audit"}, "SEARCH d USING INDEX delivery_dead (handler=?)"},
		"handler, a later page": {inbox.DeadQuery{Handler: "audit", After: after, Service: "DeviceUsage", Reason: inbox.ReasonDecode},
			"SEARCH d USING INDEX delivery_dead (handler=? AND seq>?)"},
		"service":   {inbox.DeadQuery{Service: "DeviceUsage"}, "SCAN d USING INDEX delivery_dead_seq"},
		"time":      {inbox.DeadQuery{Since: time.Unix(1, 0)}, "SCAN d USING INDEX delivery_dead_seq"},
		"device":    {inbox.DeadQuery{Device: "1"}, "SEARCH d USING PRIMARY KEY (seq=?)"},
		"RequestId": {inbox.DeadQuery{RequestID: "1"}, "SEARCH d USING PRIMARY KEY (seq=?)"},
		"numbers":   {inbox.DeadQuery{Seqs: []int64{1}}, "SEARCH d USING PRIMARY KEY (seq=?)"},
	} {
		text, args, err := s.deadStatement(t.Context(), c.q)
		if err != nil {
			t.Fatal(err)
		}
		plan := explain(t, s.Reader, text, args...)
		if !strings.HasPrefix(plan, c.want) || strings.HasPrefix(c.want, "SCAN d") && strings.Contains(plan, "B-TREE") || strings.Contains(plan, "SCAN e") {
			t.Errorf("%s: the plan is %s; want it to begin with %s", name, plan, c.want)
		}
	}
}

// TestTheOldestPendingIsMeasured, whatever it waits for, and costs a scrape no query.
func TestTheOldestPendingIsMeasured(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit", "events", "idle")
	if err := s.OrderBy(t.Context(), map[string]inbox.Order{"events": inbox.DeviceBury}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for n := range 4 {
		a := testArrival(fmt.Sprint(n), "audit", "events")
		a.Entry.ReceivedAt, a.Entry.Facts.Devices[0].Identifier = now.Add(time.Duration(n-10)*time.Hour), "one"
		mustAppend(t, s, a)
	}
	measured := true
	ages := func() map[string]float64 {
		t.Helper()
		if measured {
			if err := s.measureLag(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(s.o.Metrics.Lag)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, m := range families[0].GetMetric() {
			got[m.GetLabel()[0].GetValue()] = math.Floor(m.GetGauge().GetValue() / 3600)
		}
		return got
	}
	if got := ages(); !maps.Equal(got, map[string]float64{"audit": 10, "events": 10, "idle": 0}) {
		t.Errorf("the oldest are %v hours old", got)
	}
	for i, d := range claimed(t, s, "audit") {
		end := inbox.Settlement{DeliveryKey: d.DeliveryKey, Attempts: 1}
		if i == 1 {
			end.Verdict, end.DueAt = inbox.VerdictRetry, now.Add(time.Hour)
		}
		s.Settle(end)
	}
	s.Settle(inbox.Settlement{DeliveryKey: claimed(t, s, "events")[0].DeliveryKey, Attempts: 1, Verdict: inbox.VerdictBury})
	flushed(t, s)
	if got := ages(); !maps.Equal(got, map[string]float64{"audit": 9, "events": 9, "idle": 0}) {
		t.Errorf("after the first was dealt with, the oldest are %v hours old", got)
	}
	for range 3 {
		s.Settle(inbox.Settlement{DeliveryKey: claimed(t, s, "events")[0].DeliveryKey, Attempts: 1})
		flushed(t, s)
	}
	measured = false // the last one ends between two measurements
	if got := ages(); !maps.Equal(got, map[string]float64{"audit": 9, "events": 0, "idle": 0}) {
		t.Errorf("with nothing left to get, the oldest are %v hours old", got)
	}
}
