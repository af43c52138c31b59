package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite/faultvfs"

	"github.com/prometheus/client_golang/prometheus"
	sqlite3 "modernc.org/sqlite/lib"
)

// TestNoFaultCostsAnAck makes the n-th operation of a load fail, for every n, once or from there on, and compares what is left with
// what was acknowledged: in the files as they are, and in what a power cut leaves.
func TestNoFaultCostsAnAck(t *testing.T) {
	t.Parallel()
	from := blank(t)
	for _, tc := range []struct {
		name   string
		fault  faultvfs.Fault
		want   error // of the appends that fail
		step   int   // between one n and the next
		enough int   // operations at least
	}{
		{"write fails", faultvfs.Fault{Op: faultvfs.Write}, inbox.ErrUnavailable, 7, 30},
		{"write is torn", faultvfs.Fault{Op: faultvfs.Write, Torn: 700}, inbox.ErrUnavailable, 7, 30},
		{"disk is full from there on", faultvfs.Fault{Op: faultvfs.Write, Code: sqlite3.SQLITE_FULL, Sticky: true}, inbox.ErrUnavailable, 7, 30},
		{"sync fails", faultvfs.Fault{Op: faultvfs.Sync}, inbox.ErrBroken, 1, 8},
		{"sync fails from there on", faultvfs.Fault{Op: faultvfs.Sync, Sticky: true}, inbox.ErrBroken, 1, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for n := rand.IntN(tc.step); ; n += tc.step { // each n in one run or another
				fault := tc.fault
				fault.After = n
				if !workWithFault(t, from, fault, tc.want) {
					if n < tc.enough {
						t.Errorf("the load has only %d such operations, want %d", n, tc.enough)
					}
					return
				}
				if t.Failed() {
					t.Fatalf("fault after %d operations", n)
				}
			}
		})
	}
}

// workWithFault reports whether the load came as far as the fault.
func workWithFault(t *testing.T, from string, fault faultvfs.Fault, want error) bool {
	t.Helper()
	fs := newFaults(t)
	s := openCopy(t, from, fs.Name())
	l := newLedger()
	trap := fs.Fail(fault)
	l.work(s)
	hit := trap.Hits() > 0
	for _, err := range l.errors() {
		if !errors.Is(err, want) {
			t.Errorf("append failed with %v, want %v", err, want)
		}
	}
	if hit && want == inbox.ErrBroken {
		wantBroken(t, s)
	}
	l.remember().check(t, powerCut(t, fs))
	trap.Clear()
	if want == inbox.ErrUnavailable {
		l.send(s, "after")
		if l.acks["after"] != 1 {
			t.Errorf("the store did not recover: %v", s.Status())
		}
	}
	if err := s.Close(); err != nil && want != inbox.ErrBroken {
		t.Errorf("close: %v", err)
	}
	if want == inbox.ErrBroken {
		l.remember().check(t, powerCut(t, fs)) // closing it did no harm
	}
	l.remember().check(t, s.o.Dir)
	return hit
}

// wantBroken checks that nothing is acknowledged any more, and that the status says what to do.
func wantBroken(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.Broken():
	case <-time.After(10 * time.Second):
		t.Fatal("the store does not say that it is broken")
	}
	if err := s.Status(); !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "re") {
		t.Errorf("status %v does not say what to do", err)
	}
	for range 2 {
		if r, err := s.Append(context.Background(), testArrival("late", "log")); !errors.Is(err, inbox.ErrBroken) {
			t.Errorf("append to a broken store: %+v, %v", r, err)
		}
	}
	if claimed, _, err := s.Claim(context.Background(), "log", 1); !errors.Is(err, inbox.ErrBroken) {
		t.Errorf("claim from a broken store: %v, %v", claimed, err)
	}
}

func TestFailedSyncSaysWhatToDo(t *testing.T) {
	t.Parallel()
	fs := newFaults(t)
	registry := prometheus.NewRegistry()
	s := newStore(t, func(o *Options) { o.VFS, o.Metrics = fs.Name(), inbox.NewMetrics(registry) })
	fs.Fail(faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.WAL})
	if _, err := s.Append(t.Context(), testArrival("1")); !errors.Is(err, inbox.ErrBroken) {
		t.Errorf("append: %v", err)
	}
	for _, word := range []string{"did not confirm a sync", "kernel log", "restart callbackd"} {
		if err := s.Status(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("status %v lacks %q", err, word)
		}
	}
	if got := scraped(t, registry, "available"); got != 0 {
		t.Errorf("available is %v", got)
	}
	if got := scraped(t, registry, "failed_appends_total", "broken"); got != 1 {
		t.Errorf("failed appends: %v", got)
	}
}

// TestFailedSyncOfACheckpointEndsTheAcks: the checkpoint runs beside the writer, which has to learn of it all the same.
func TestFailedSyncOfACheckpointEndsTheAcks(t *testing.T) {
	t.Parallel()
	fs := newFaults(t)
	s := newStore(t, func(o *Options) { o.VFS = fs.Name() })
	big := testArrival("big")
	big.Entry.Body = bytes.Repeat([]byte{'x'}, walBig+1)
	fs.Fail(faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.Main, Sticky: true})
	mustAppend(t, s, big)
	_ = s.checkpoint(t.Context()) // maintenance may have come first
	if _, err := s.Register(t.Context(), []string{"log"}); !errors.Is(err, inbox.ErrBroken) {
		t.Errorf("register: %v", err)
	}
	select {
	case <-s.Broken():
	case <-time.After(10 * time.Second):
		t.Error("a failed sync of a checkpoint went unnoticed")
	}
}

func TestDiskFullRecoversByItself(t *testing.T) {
	t.Parallel()
	fs := newFaults(t)
	registry := prometheus.NewRegistry()
	s := newStore(t, func(o *Options) { o.VFS, o.Metrics = fs.Name(), inbox.NewMetrics(registry) })
	first := mustAppend(t, s, testArrival("1"))
	full := fs.Fail(faultvfs.Fault{Op: faultvfs.Write, Code: sqlite3.SQLITE_FULL, Sticky: true})
	for range 3 {
		if _, err := s.Append(t.Context(), testArrival("2")); !errors.Is(err, inbox.ErrUnavailable) || !strings.Contains(err.Error(), "free space") {
			t.Errorf("append to a full disk: %v", err)
		}
	}
	if err := s.Status(); !errors.Is(err, inbox.ErrUnavailable) {
		t.Errorf("status %v", err)
	}
	if got := scraped(t, registry, "available"); got != 0 {
		t.Errorf("available is %v while the disk is full", got)
	}
	if _, err := s.Entry(t.Context(), first.Seq); err != nil {
		t.Errorf("read from a full disk: %v", err)
	}
	full.Clear()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.Status() != nil { // the test's own time-out ends it
		<-tick.C
	}
	if got := scraped(t, registry, "available"); got != 1 {
		t.Errorf("available is %v after space came back", got)
	}
	if r := mustAppend(t, s, testArrival("2")); r.Duplicate {
		t.Error("an append that failed left its key behind")
	}
	if err := s.Do(t.Context(), s.noteAlive); err != nil {
		t.Fatal(err)
	}
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(stats.WithoutAcks) != 1 || stats.WithoutAcks[0].Refused != 3 || !strings.Contains(stats.WithoutAcks[0].Reason, "full") {
		t.Errorf("windows without acks %+v, want one with 3 refused", stats.WithoutAcks)
	}
}

func TestLockedDatabaseIsUnavailableUntilTheLockIsGone(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	other, err := sql.Open("sqlite", dsn(databaseFile(s), "_txlock=immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), testArrival("1")); !errors.Is(err, inbox.ErrUnavailable) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("append to a locked database: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, testArrival("1"))
	if err := s.Status(); err != nil {
		t.Errorf("status %v", err)
	}
}

func TestStalledDiskShedsAndCancelsNothing(t *testing.T) {
	t.Parallel()
	const budget = 20 * time.Millisecond
	fs := newFaults(t)
	registry := prometheus.NewRegistry()
	s := newStore(t, func(o *Options) {
		o.VFS, o.Metrics, o.Writer.Budget = fs.Name(), inbox.NewMetrics(registry), budget
	})
	stall := fs.Stall(faultvfs.Sync, faultvfs.WAL, 0)
	defer stall.Clear()
	appended := make(chan error, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // which the queue can meet, for all it knows
	defer cancel()
	begin := func(name string) {
		_, err := s.Append(ctx, testArrival(name))
		appended <- err
	}
	go begin("under way")
	<-stall.Reached()
	go begin("queued")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for scraped(t, registry, "queued_appends") == 0 {
		<-tick.C
	}
	cancel()
	<-time.After(2 * budget) // the stall has to last
	if _, err := s.Append(t.Context(), testArrival("late")); !errors.Is(err, inbox.ErrOverloaded) {
		t.Errorf("append during the stall: %v", err)
	}
	if got := scraped(t, registry, "failed_appends_total", "overloaded"); got != 1 {
		t.Errorf("%v appends were shed", got)
	}
	stall.Clear()
	for range 2 {
		if err := <-appended; err != nil {
			t.Errorf("a queued append failed: %v", err)
		}
	}
	if found, err := s.Find(t.Context(), inbox.Query{}); err != nil || len(found) != 2 {
		t.Errorf("found %d entries, %v, want the 2 that were queued", len(found), err)
	}
}

// TestCopyWaitsForTheFirstOnesOutcome: a copy that comes while the first is being written is no duplicate if the first fails.
func TestCopyWaitsForTheFirstOnesOutcome(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("the first fails: %t", fails), func(t *testing.T) {
			t.Parallel()
			fs := newFaults(t)
			registry := prometheus.NewRegistry()
			s := newStore(t, func(o *Options) { o.VFS, o.Metrics = fs.Name(), inbox.NewMetrics(registry) })
			stall := fs.Stall(faultvfs.Write, faultvfs.WAL, 0)
			defer stall.Clear()
			type outcome struct {
				receipt inbox.Receipt
				err     error
			}
			send := func() chan outcome {
				c := make(chan outcome, 1)
				go func() {
					r, err := s.Append(context.Background(), testArrival("1", "log"))
					c <- outcome{r, err}
				}()
				return c
			}
			first := send()
			<-stall.Reached()
			second := send()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for scraped(t, registry, "queued_appends") == 0 {
				<-tick.C
			}
			if fails {
				fs.Fail(faultvfs.Fault{Op: faultvfs.Write, Code: sqlite3.SQLITE_FULL})
			}
			if len(first)+len(second) > 0 {
				t.Error("an append was answered before it was written")
			}
			stall.Clear()
			one, two := <-first, <-second
			if fails != errors.Is(one.err, inbox.ErrUnavailable) || two.err != nil || two.receipt.Duplicate == fails {
				t.Errorf("first %+v, second %+v", one, two)
			}
			if e, err := s.Entry(t.Context(), two.receipt.Seq); err != nil || e.Sightings != map[bool]int{true: 1, false: 2}[fails] {
				t.Errorf("entry %+v, %v", e, err)
			}
			wantDuplicates := map[bool]float64{true: 0, false: 1}[fails]
			if e, d := scraped(t, registry, "entries_total"), scraped(t, registry, "duplicates_total"); e != 1 || d != wantDuplicates {
				t.Errorf("counted %v entries and %v duplicates", e, d)
			}
		})
	}
}

func TestRemovedOrReplacedFilesEndTheAcks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   func(path string) error
	}{
		{"the database is removed", func(path string) error { return os.Remove(path) }},
		{"the database is moved away", func(path string) error { return os.Rename(path, path+".old") }},
		{"the log is removed", func(path string) error { return os.Remove(path + "-wal") }},
		{"the database is replaced by a copy", func(path string) error {
			return errors.Join(copyFile(path, path+".copy"), os.Rename(path+".copy", path))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			mustAppend(t, s, testArrival("1"))
			if err := tc.do(databaseFile(s)); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Append(t.Context(), testArrival("2")); !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "removed or replaced") {
				t.Errorf("append: %+v, %v", r, err)
			}
		})
	}
}

func TestDamagedDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := blank(t)
	path := dir + "/" + File
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(data); i++ {
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), testOptions(t, func(o *Options) { o.Dir = dir }))
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "callbackd inbox restore") {
		t.Errorf("open: %v", err)
	}
}

func TestMetricsCountWhatArrives(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s := newStore(t, func(o *Options) { o.Metrics = inbox.NewMetrics(registry) })
	want := func(name string, want float64, label ...string) {
		t.Helper()
		if got := scraped(t, registry, name, label...); got != want {
			t.Errorf("%s %v is %v, want %v", name, label, got, want)
		}
	}
	if _, err := s.Register(t.Context(), []string{"log"}); err != nil {
		t.Fatal(err)
	}
	want("pending_deliveries", 0, "log")
	one, two := testArrival("1", "log"), testArrival("2", "log")
	mustAppend(t, s, one)
	mustAppend(t, s, one)
	mustAppend(t, s, two)
	repeated := testArrival("3")
	repeated.Repeat = true
	mustAppend(t, s, repeated)
	repeated.Entry.ID = ""
	mustAppend(t, s, repeated)
	held := testArrival("4", "log")
	held.Held = true
	mustAppend(t, s, held)
	bad := testArrival("5")
	bad.Entry.ID = "no UUID"
	if _, err := s.Append(t.Context(), bad); err == nil {
		t.Error("an entry without a proper ID was stored")
	}
	want("entries_total", 5)
	want("duplicates_total", 1)
	want("repeats_total", 1)
	want("quarantined_entries", 1)
	want("failed_appends_total", 1, "rejected")
	want("pending_deliveries", 2, "log")
	claimed, _, err := s.Claim(t.Context(), "log", 2)
	if err != nil || len(claimed) != 2 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	s.Settle(
		inbox.Settlement{DeliveryKey: claimed[0].DeliveryKey, Verdict: inbox.VerdictBury, Attempts: 1},
		inbox.Settlement{DeliveryKey: claimed[1].DeliveryKey, Verdict: 99},
	)
	flushed(t, s)
	want("pending_deliveries", 1, "log")
	want("dead_letters", 1, "log")
	want("failed_settlements_total", 1)
	want("available", 1)
}
