package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite/faultvfs"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	sqlite3 "modernc.org/sqlite/lib"
)

// observed collects what the store logs.
func observed(logs **observer.ObservedLogs) func(*Options) {
	return func(o *Options) {
		core, list := observer.New(zapcore.InfoLevel)
		o.Log, *logs = zap.New(core), list
	}
}

// unsettled is one arrival for each reason why an entry has to stay, and one that may go.
func unsettled(t testing.TB, s *Store) (done int64) {
	t.Helper()
	register(t, s, "audit")
	mustAppend(t, s, testArrival("dead", "audit"))
	bury(t, s, "audit")
	mustAppend(t, s, testArrival("pending", "audit"))
	held := testArrival("held")
	held.Held = true
	mustAppend(t, s, held)
	return mustAppend(t, s, testArrival("done")).Seq
}

func TestRetentionByAgeKeepsWhatIsNotSettled(t *testing.T) {
	t.Parallel()
	c := newClock()
	var logs *observer.ObservedLogs
	s := newStore(t, func(o *Options) { o.Now = c.Now }, observed(&logs))
	done := unsettled(t, s)
	mustAppend(t, s, testArrival("done")) // a sighting
	c.Advance(30 * 24 * time.Hour)
	young := testArrival("young")
	young.Entry.ReceivedAt = c.Now()
	mustAppend(t, s, young)
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := allSeqs(t, s.Reader, inbox.Query{}); len(got) != 5 || logs.FilterMessageSnippet("past retention").Len() != 0 {
		t.Fatalf("at the limit of age %v are left", got)
	}
	c.Advance(time.Second)
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := allSeqs(t, s.Reader, inbox.Query{}); !slices.Equal(got, []int64{1, 2, 3, done + 1}) {
		t.Errorf("%v are left; entry %d was to go and no other", got, done)
	}
	for _, table := range []string{"body", "device", "sighting", "delivery"} {
		var n int
		if err := s.Reader.db.QueryRow(`SELECT count(*) FROM `+table+` WHERE seq = ?`, done).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s has %d rows of the entry that went, %v", table, n, err)
		}
	}
	if n := metric(t, s.o.Metrics.RetentionDue); n != 3 {
		t.Errorf("the metric counts %v entries that stay, want 3", n)
	}
	if n := metric(t, s.o.Metrics.Pruned); n != 1 {
		t.Errorf("the metric counts %v entries that went, want 1", n)
	}
	warnings := logs.FilterMessageSnippet("past retention").All()
	if len(warnings) != 1 || warnings[0].Level != zapcore.WarnLevel || warnings[0].ContextMap()["entries"] != int64(3) {
		t.Errorf("warned %v", warnings)
	}
}

func TestRetentionBySizeTakesTheOldestAndReusesTheFile(t *testing.T) {
	t.Parallel()
	c := newClock()
	var logs *observer.ObservedLogs
	const limit = 4 << 20
	s := newStore(t, func(o *Options) { o.Now, o.Retention.Bytes = c.Now, limit }, observed(&logs))
	unsettled(t, s)
	load := func(round int) {
		var arrivals []inbox.Arrival
		for n := range 250 {
			a := testArrival(fmt.Sprintf("%d.%d", round, n))
			c.Advance(time.Second)
			a.Entry.ReceivedAt = c.Now()
			a.Entry.Body = make([]byte, 20_000)
			arrivals = append(arrivals, a)
		}
		fill(t, s, arrivals)
		if err := s.prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.purgeLog(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		info, err := os.Stat(databaseFile(s))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	load(0)
	if used, err := usedBytes(t.Context(), s.Reader.db); err != nil || used > limit || used < limit-2*pruneBytes {
		t.Errorf("%d bytes are in use, %v; the limit is %d", used, err, limit)
	}
	got, err := s.Find(t.Context(), inbox.Query{})
	if err != nil || !slices.Equal(seqsOf(got)[:3], []int64{1, 2, 3}) {
		t.Fatalf("left are %v, %v: the first three are not settled", head(seqsOf(got)), err)
	}
	oldest := got[3].ReceivedAt
	for _, e := range got[3:] {
		if e.ReceivedAt.Before(oldest) {
			oldest = e.ReceivedAt
		}
	}
	if left := c.Now().Sub(oldest); left > time.Duration(len(got))*time.Second {
		t.Errorf("an entry of %s ago is left, and there are only %d", left, len(got))
	}
	if metric(t, s.o.Metrics.RetentionDue) != 3 || logs.FilterMessageSnippet("past retention").Len() != 1 {
		t.Errorf("blocked are %v, told %v", metric(t, s.o.Metrics.RetentionDue), logs.All())
	}
	load(1) // the limit, and a round's arrivals on top
	first := size()
	for round := range 3 {
		load(round + 2)
	}
	if again := size(); again > first*5/4 {
		t.Errorf("the file grew from %d to %d bytes: free pages are not used again", first, again)
	}
}

func TestRetentionSaysWhenNothingIsLeftToRemove(t *testing.T) {
	t.Parallel()
	var logs *observer.ObservedLogs
	s := newStore(t, dated, func(o *Options) { o.Retention.Bytes = 1 }, observed(&logs))
	mustAppend(t, s, testArrival("1"))
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if logs.FilterMessageSnippet("no entry left to remove").Len() != 1 {
		t.Errorf("told %v", logs.All())
	}
}

func TestKeysOutliveTheirEntries(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	register(t, s, "audit")
	seq := mustAppend(t, s, testArrival("done")).Seq
	kept := mustAppend(t, s, testArrival("pending", "audit")).Seq
	sweepKeys := func() {
		t.Helper()
		if err := s.prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		next, err := s.pruneKeys(t.Context(), nil)
		if err == nil {
			next, err = s.pruneKeys(t.Context(), next)
		}
		if err != nil || next != nil {
			t.Fatalf("after all keys come %x, %v", next, err)
		}
	}
	c.Advance(35 * 24 * time.Hour)
	sweepKeys()
	if _, err := s.Entry(t.Context(), seq); !errors.Is(err, inbox.ErrNotFound) {
		t.Fatalf("the entry is still there: %v", err)
	}
	if r := mustAppend(t, s, testArrival("done")); !r.Duplicate || r.Seq != seq {
		t.Errorf("within 35 days the platform's copy makes %+v, want a duplicate of entry %d", r, seq)
	}
	c.Advance(time.Second)
	sweepKeys()
	if r := mustAppend(t, s, testArrival("pending", "audit")); !r.Duplicate || r.Seq != kept {
		t.Errorf("the key of an entry that is there was forgotten: %+v", r)
	}
	if r := mustAppend(t, s, testArrival("done")); r.Duplicate {
		t.Errorf("after 35 days: %+v", r)
	}
}

func TestASeqIsNeverGivenAgain(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	last := mustAppend(t, s, testArrival("1")).Seq
	c.Advance(31 * 24 * time.Hour)
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	if r := mustAppend(t, s, testArrival("2")); r.Seq <= last {
		t.Errorf("entry %d follows entry %d", r.Seq, last)
	}
}

func TestRetentionGetsPastACorruptEntry(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	for n := range 3 {
		mustAppend(t, s, testArrival(fmt.Sprint(n)))
	}
	execute(t, s, `UPDATE entry SET facts = '{' WHERE seq = 1`)
	execute(t, s, `DELETE FROM body WHERE seq = 2`)
	c.Advance(31 * 24 * time.Hour)
	if err := s.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := s.Reader.db.QueryRow(`SELECT (SELECT count(*) FROM entry) + (SELECT count(*) FROM device)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are left, %v", left, err)
	}
}

// Many entries that have to stay, before those that may go, are looked at once a sweep, and in steps.
func TestASweepGoesOnBehindWhatHasToStay(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	var arrivals []inbox.Arrival
	for n := range 2*sweepPage + 2*pruneStep {
		a := testArrival(fmt.Sprint(n))
		a.Held = n < 2*sweepPage
		a.Entry.ReceivedAt = a.Entry.ReceivedAt.Add(time.Duration(n/500) * time.Second) // many at one time
		arrivals = append(arrivals, a)
	}
	fill(t, s, arrivals)
	c.Advance(31 * 24 * time.Hour)
	w := newSweep()
	steps := 0
	for done := false; !done; steps++ {
		var err error
		if done, err = s.sweepStep(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := allSeqs(t, s.Reader, inbox.Query{}); len(got) != 2*sweepPage || w.blocked != 2*sweepPage {
		t.Errorf("%d are left and %d were counted as blocked, want %d", len(got), w.blocked, 2*sweepPage)
	}
	if steps < 4 {
		t.Errorf("%d steps removed %d entries", steps, 2*pruneStep)
	}
	if plan := explain(t, s.Reader, sweepStatement, 1, 1, 1, 1); !strings.Contains(plan, "e USING INDEX entry_received (received_at>? AND received_at<?)") ||
		strings.Contains(plan, "B-TREE") {
		t.Errorf("a step's plan is %s", plan)
	}
}

// A task of the writer is bounded in bytes too, for bodies may be large.
func TestAStepOfRetentionIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	for n := range 4 {
		a := testArrival(fmt.Sprint(n))
		a.Entry.Body = make([]byte, pruneBytes/2)
		mustAppend(t, s, a)
	}
	c.Advance(31 * 24 * time.Hour)
	seqs, done, err := s.prunable(t.Context(), newSweep(), c.Now().UnixMicro())
	if err != nil || len(seqs) != 2 || done {
		t.Errorf("a step takes %v, done %v, %v", seqs, done, err)
	}
}

func windows(t testing.TB, s *Store) []inbox.Outage {
	t.Helper()
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats.WithoutAcks
}

// crash ends a store as a killed process does: without a word.
func crash(t testing.TB, s *Store) {
	t.Helper()
	s.stop()
	s.finished.Wait()
	s.Writer.Close()
	if err := s.closeDatabases(); err != nil {
		t.Fatal(err)
	}
}

func TestStatsListTheTimesWithoutAcks(t *testing.T) {
	t.Parallel()
	c := newClock()
	at := func(minutes int) time.Time { return newClock().Now().Add(time.Duration(minutes) * time.Minute) }
	fs := newFaults(t)
	s := newStore(t, func(o *Options) { o.Now, o.VFS = c.Now, fs.Name() })
	if got := windows(t, s); len(got) != 0 {
		t.Errorf("the first start follows %v", got)
	}
	c.Advance(10 * time.Minute) // 10: stopped, with a drain before
	if err := s.AcksEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	s = reopen(t, s) // 11
	c.Advance(time.Minute)
	if err := s.Do(t.Context(), s.noteAlive); err != nil { // 12
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	crash(t, s) // 13
	c.Advance(7 * time.Minute)
	s = openStore(t, testOptions(t, func(o *Options) { o.Dir, o.Now, o.VFS = s.o.Dir, c.Now, fs.Name() })) // 20

	full := fs.Fail(faultvfs.Fault{Op: faultvfs.Write, Role: faultvfs.WAL, Code: sqlite3.SQLITE_FULL, Sticky: true})
	for n := range 2 {
		if _, err := s.Append(t.Context(), testArrival(fmt.Sprint(n))); !errors.Is(err, inbox.ErrUnavailable) {
			t.Fatalf("with a full disk: %v", err)
		}
	}
	if err := s.Status(); !errors.Is(err, inbox.ErrUnavailable) || !strings.Contains(err.Error(), "disk of data_dir is full") {
		t.Errorf("the status is %v", err)
	}
	c.Advance(5 * time.Minute)
	full.Clear()
	recovered(t, s) // 25, by itself
	c.Advance(time.Minute)
	s = reopen(t, s) // 26, at once

	got := windows(t, s)
	want := []inbox.Outage{
		{From: at(10), To: at(11), Reason: "not running"},
		{From: at(12), To: at(20), Reason: "not running"},
		{From: at(20), To: at(25), Reason: "full", Refused: 2},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i, w := range want {
		if g := got[i]; !g.From.Equal(w.From) || !g.To.Equal(w.To) || !strings.Contains(g.Reason, w.Reason) || g.Refused != w.Refused {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	c.Advance(36 * 24 * time.Hour)
	if err := s.Do(t.Context(), s.noteAlive); err != nil {
		t.Fatal(err)
	}
	if got := windows(t, s); len(got) != 0 {
		t.Errorf("after 36 days are left %v", got)
	}
}

// TestStatsTellOfATimeWithoutAcksThatGoesOn, since nobody has ended it yet: the receiver is stopped, or gives no sign of life.
func TestStatsTellOfATimeWithoutAcksThatGoesOn(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	if got := windows(t, s); len(got) != 0 {
		t.Errorf("while it runs: %v", got)
	}
	alive := c.Now()
	c.Advance(silence + time.Second)
	if got := windows(t, s); len(got) != 1 || !got[0].From.Equal(alive) || !got[0].To.IsZero() {
		t.Errorf("without a sign of life: %v", got)
	}
	stopped := c.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(t.Context(), s.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stats, err := r.Stats(t.Context())
	if got := stats.WithoutAcks; err != nil || len(got) != 1 || !got[0].From.Equal(stopped) || !got[0].To.IsZero() || got[0].Reason != "not running" {
		t.Errorf("after the stop: %v, %v", got, err)
	}
}

// recovered waits until maintenance has found that the store works again, without any traffic.
func recovered(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Status() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the store did not recover: %v", s.Status())
		}
	}
}

// An operator's command that opens the inbox while no receiver runs is no run of the receiver.
func TestAnOperatorsCommandIsNoRun(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newStore(t, func(o *Options) { o.Now = c.Now })
	c.Advance(time.Minute)
	o := s.o
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	operator := o
	operator.NoReceiver = true
	if err := openStore(t, operator).Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	got := windows(t, openStore(t, o))
	if len(got) != 1 || got[0].To.Sub(got[0].From) != 2*time.Minute {
		t.Errorf("got %v, want one of two minutes", got)
	}
}
