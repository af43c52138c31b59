package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"callbackd/internal/inbox"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// to routes every entry to the handlers.
func to(handlers ...string) Route { return func(*inbox.Entry) []string { return handlers } }

// replayOf is the request to replay entries by their numbers.
func replayOf(seqs []int64, route Route, dryRun bool) ReplayRequest {
	return ReplayRequest{Entries: inbox.Query{Seqs: seqs}, Route: route, DryRun: dryRun}
}

// contents is everything in the store that an operator can change, table by table.
func contents(t testing.TB, s *Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for table, columns := range map[string]string{
		"meta": "key, value", "entry": "seq, facts, digest, sightings, held, erased", "body": "seq, data", "device": "identifier, seq",
		"sighting": "seq, n", "delivery": "seq, handler, replay, state, attempts, reason, cause, wait, order_key, settled_by", "handler": "id, name, in_order, paused_at",
		"dedup": "key, seq", "replay": "number, id, cursor, entries",
	} {
		var text string
		if err := s.Reader.db.QueryRowContext(t.Context(), `SELECT coalesce(group_concat(line, char(10)), '') FROM
			(SELECT concat_ws('|', `+columns+`) AS line FROM `+table+` ORDER BY 1)`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		all[table] = text
	}
	return all
}

// bothWays runs a change dry, which must change nothing, and then in earnest, and returns the two answers.
func bothWays[A any](t testing.TB, s *Store, change func(dryRun bool) (A, error)) (dry, done A) {
	t.Helper()
	before, pending := contents(t, s), metric(t, s.o.Metrics.Quarantined)
	dry, err := change(true)
	if err != nil {
		t.Fatalf("dry run: %v", err)
	}
	if after := contents(t, s); !maps.Equal(before, after) {
		t.Errorf("the dry run changed the store:\n%v\n%v", before, after)
	}
	if metric(t, s.o.Metrics.Quarantined) != pending {
		t.Error("the dry run changed a metric")
	}
	if done, err = change(false); err != nil {
		t.Fatal(err)
	}
	if maps.Equal(before, contents(t, s)) {
		t.Error("the change changed nothing")
	}
	return dry, done
}

func metric(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var value dto.Metric
	if err := m.Write(&value); err != nil {
		t.Fatal(err)
	}
	return value.GetGauge().GetValue() + value.GetCounter().GetValue()
}

func claimed(t testing.TB, s *Store, handler string) []inbox.Delivery {
	t.Helper()
	list, _, err := s.Claim(t.Context(), handler, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func register(t testing.TB, s *Store, handlers ...string) map[string]int {
	t.Helper()
	removed, err := s.Register(t.Context(), handlers)
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

func bury(t testing.TB, s *Store, handler string) {
	t.Helper()
	for _, d := range claimed(t, s, handler) {
		s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictBury, Attempts: d.Attempt, Reason: "permanent", Cause: "no"})
	}
	flushed(t, s)
}

func TestReleaseDeliversWhatWasInQuarantine(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit", "events")
	for n := range 3 {
		a := testArrival(fmt.Sprint(n), "audit")
		a.Held = n < 2
		mustAppend(t, s, a)
	}
	if got := claimed(t, s, "audit"); len(got) != 1 || got[0].Seq != 3 {
		t.Fatalf("before the release %d deliveries were made", len(got))
	}
	seqs := []int64{2, 1, 3, 1, 77} // in any order, twice, not in quarantine, not there
	dry, done := bothWays(t, s, func(dryRun bool) (Released, error) {
		return s.Release(t.Context(), seqs, to("audit", "events"), dryRun)
	})
	if !slices.Equal(done.Entries, []int64{1, 2}) || done.Deliveries != 4 || len(done.Corrupt) != 0 {
		t.Errorf("released %+v", done)
	}
	if fmt.Sprint(dry) != fmt.Sprint(done) {
		t.Errorf("the dry run said %+v, and the release %+v", dry, done)
	}
	if got := claimed(t, s, "events"); len(got) != 2 {
		t.Errorf("events got %d deliveries, want 2", len(got))
	}
	if n := metric(t, s.o.Metrics.Quarantined); n != 0 {
		t.Errorf("%v entries are counted as in quarantine", n)
	}
	again, err := s.Release(t.Context(), seqs, to("audit"), false)
	if err != nil || len(again.Entries) != 0 {
		t.Errorf("released again: %+v, %v", again, err)
	}
}

func TestACorruptEntryIsToldAndDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	for n := range 3 {
		a := testArrival(fmt.Sprint(n))
		a.Held = true
		mustAppend(t, s, a)
	}
	execute(t, s, `UPDATE entry SET facts = '{' WHERE seq = 2`)
	released, err := s.Release(t.Context(), []int64{1, 2, 3}, to("audit"), false)
	if err != nil || !slices.Equal(released.Entries, []int64{1, 3}) || !slices.Equal(released.Corrupt, []int64{2}) {
		t.Errorf("released %+v, %v", released, err)
	}
	replayed, err := s.Replay(t.Context(), replayOf([]int64{1, 2, 3}, to("audit"), false))
	if err != nil || replayed.Entries != 2 || !slices.Equal(replayed.Corrupt, []int64{2}) {
		t.Errorf("replayed %+v, %v", replayed, err)
	}
}

func TestRequeueMakesDeadLettersPendingAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit", "events")
	for n := range 3 {
		mustAppend(t, s, testArrival(fmt.Sprint(n), "audit", "events"))
	}
	bury(t, s, "audit")
	bury(t, s, "events")
	dead := s.o.Metrics.DeadLetters.WithLabelValues("audit")
	if metric(t, dead) != 3 {
		t.Fatalf("%v dead letters are counted", metric(t, dead))
	}
	dry, done := bothWays(t, s, func(dryRun bool) (inbox.Changed, error) {
		return s.Requeue(t.Context(), inbox.DeadQuery{Seqs: []int64{1, 1, 2}, Handler: "audit"}, dryRun)
	})
	if want := (inbox.Changed{Deliveries: 2, Handlers: map[string]int{"audit": 2}}); !reflect.DeepEqual(dry, want) || !reflect.DeepEqual(done, want) {
		t.Errorf("requeued %+v, and %+v in a dry run, want 2", done, dry)
	}
	if metric(t, dead) != 1 {
		t.Errorf("%v dead letters are counted, want 1", metric(t, dead))
	}
	got := claimed(t, s, "audit")
	if len(got) != 2 || got[0].Attempt != 1 || got[0].ID != DeliveryID(got[0].Entry.ID, "audit", 0) {
		t.Errorf("claimed %+v", got)
	}
	if n, err := s.Requeue(t.Context(), inbox.DeadQuery{Seqs: []int64{1, 2, 3}}, false); err != nil || n.Deliveries != 4 {
		t.Errorf("of all handlers %+v were requeued, %v; want 4", n, err)
	}
	if _, err := s.Requeue(t.Context(), inbox.DeadQuery{Seqs: []int64{1}, Handler: "nobody"}, false); !errors.Is(err, inbox.ErrNotFound) {
		t.Errorf("of an unknown handler: %v", err)
	}
}

// A new handler starts at now, and a replay brings it what came before.
func TestReplayBackfillsANewHandler(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	for n := range 4 {
		a := testArrival(fmt.Sprint(n), "audit")
		a.Held = n == 3
		mustAppend(t, s, a)
	}
	register(t, s, "audit", "late")
	if got := claimed(t, s, "late"); len(got) != 0 {
		t.Fatalf("the new handler was given %d old entries", len(got))
	}
	evenOnly := func(e *inbox.Entry) []string {
		if e.Seq%2 == 0 {
			return []string{"late"}
		}
		return nil
	}
	dry, done := bothWays(t, s, func(dryRun bool) (Replayed, error) {
		return s.Replay(t.Context(), replayOf([]int64{1, 2, 3, 4}, evenOnly, dryRun))
	})
	if done.Replay != 1 || done.Entries != 1 || done.Deliveries != 1 || dry.Deliveries != 1 {
		t.Errorf("replayed %+v, and %+v in a dry run: entry 4 is in quarantine and the others go nowhere", done, dry)
	}
	second, err := s.Replay(t.Context(), replayOf([]int64{2, 2}, to("late"), false))
	if err != nil || second.Replay != 2 || second.Deliveries != 1 {
		t.Errorf("a second replay: %+v, %v", second, err)
	}
	var ids []string
	for _, d := range claimed(t, s, "late") {
		ids = append(ids, d.ID)
	}
	e, err := s.Entry(t.Context(), 2)
	if err != nil || !slices.Equal(ids, []string{e.ID + ".late.1", e.ID + ".late.2"}) {
		t.Errorf("delivered as %v, %v", ids, err)
	}
}

func TestDeliveriesOfARemovedHandlerAreBuried(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit", "gone")
	for n := range 3 {
		mustAppend(t, s, testArrival(fmt.Sprint(n), "audit", "gone"))
	}
	s = reopen(t, s)
	if removed := register(t, s, "audit"); !maps.Equal(removed, map[string]int{"gone": 3}) {
		t.Errorf("removed %v", removed)
	}
	list, err := s.Deliveries(t.Context(), 1)
	if err != nil || len(list) != 2 || list[1].Handler != "gone" || list[1].State != "dead" || list[1].Reason != "handler_removed" {
		t.Errorf("deliveries %+v, %v", list, err)
	}
	if got := claimed(t, s, "audit"); len(got) != 3 {
		t.Errorf("the other handler has %d deliveries, want 3", len(got))
	}
	// It comes back: its dead letters are there to be requeued.
	if removed := register(t, s, "audit", "gone"); len(removed) != 0 {
		t.Errorf("removed %v", removed)
	}
	if n, err := s.Requeue(t.Context(), inbox.DeadQuery{Seqs: []int64{1, 2, 3}, Handler: "gone"}, false); err != nil || n.Deliveries != 3 {
		t.Errorf("requeued %+v, %v", n, err)
	}
	if got := claimed(t, s, "gone"); len(got) != 3 {
		t.Errorf("claimed %d, want 3", len(got))
	}
}

// A change of many entries lets the acks in between its steps.
func TestAHugeChangeLetsAcksThrough(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	var seqs []int64
	for _, e := range fill(t, s, variety()) {
		seqs = append(seqs, e.Seq)
	}
	done := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		first := true
		_, err := s.Replay(context.Background(), replayOf(seqs, func(*inbox.Entry) []string {
			if first {
				close(began)
				first = false
			}
			return []string{"audit"}
		}, false))
		done <- err
	}()
	<-began
	acks := 0
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
			mustAppend(t, s, testArrival(fmt.Sprintf("beside %d", acks)))
			acks++
		}
	}
	// 2,500 entries are 25 steps. Each lets a transaction of appends through.
	if acks < 5 {
		t.Errorf("%d acks went out during the change", acks)
	}
}

func TestAChangeStopsWithItsContextBetweenSteps(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	var seqs []int64
	for _, e := range fill(t, s, variety()[:3*operateStep]) {
		seqs = append(seqs, e.Seq)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	n := 0
	_, err := s.Replay(ctx, replayOf(seqs, func(*inbox.Entry) []string {
		if n++; n == 1 {
			cancel()
		}
		return []string{"audit"}
	}, false))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n > operateStep {
		t.Errorf("%d entries were looked at after the operator gave up", n)
	}
	if s.Status() != nil {
		t.Errorf("giving up stopped the acks: %v", s.Status())
	}
	mustAppend(t, s, testArrival("after"))
}
