package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/inbox"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// engine is a Committer whose transactions take time, or wait, and end as the test says.
type engine struct {
	takes time.Duration
	fails func(appends []*inbox.Append) error // nil: never
	gate  chan struct{}                       // each transaction receives from it, unless it is nil
	mu    sync.Mutex
	done  []transaction
}

type transaction struct {
	at                   time.Time
	appends, settlements []string
}

func (e *engine) Prepare(*inbox.Append) error { return nil }

func (e *engine) Commit(appends []*inbox.Append, settlements []inbox.Settlement) error {
	t := transaction{at: time.Now()}
	for i, a := range appends {
		t.appends = append(t.appends, a.Arrival.Entry.RequestID)
		a.Receipt = inbox.Receipt{Seq: int64(i + 1), ID: a.Arrival.Entry.RequestID}
	}
	for _, s := range settlements {
		t.settlements = append(t.settlements, s.Handler)
	}
	e.mu.Lock()
	e.done = append(e.done, t)
	takes := e.takes
	e.mu.Unlock()
	if e.gate != nil {
		<-e.gate
	}
	<-time.After(takes)
	if e.fails != nil {
		return e.fails(appends)
	}
	return nil
}

// slow makes the transactions from now on take that long.
func (e *engine) slow(takes time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.takes = takes
}

func (e *engine) transactions() []transaction {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.done)
}

// rig is a writer in a bubble of synctest, where time is the test's.
type rig struct {
	*inbox.Writer
	t        *testing.T
	engine   *engine
	registry *prometheus.Registry
	appends  sync.WaitGroup
	mu       sync.Mutex
	outcomes map[string]error
}

// run runs the test in a bubble, with a writer that is closed at its end.
func run(t *testing.T, e *engine, o inbox.WriterOptions, test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, engine: e, registry: prometheus.NewRegistry(), outcomes: make(map[string]error)}
		if e.gate != nil {
			e.gate = make(chan struct{}) // of this bubble
		}
		r.Writer = inbox.NewWriter(e, o, inbox.NewMetrics(r.registry), time.Now)
		test(r)
		r.Close()
		r.appends.Wait()
	})
}

func arrival(name string, bodyBytes int) inbox.Arrival {
	return inbox.Arrival{Entry: inbox.Entry{RequestID: name, Body: make([]byte, bodyBytes)}}
}

// begin appends in the background, and returns when that is queued or refused.
func (r *rig) begin(ctx context.Context, name string, bodyBytes int) {
	r.appends.Go(func() {
		receipt, err := r.Append(ctx, arrival(name, bodyBytes))
		if err == nil && receipt.ID != name {
			r.t.Errorf("append %s got the receipt of %q", name, receipt.ID)
		}
		if err != nil && receipt != (inbox.Receipt{}) {
			r.t.Errorf("append %s failed and has the receipt %+v", name, receipt)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcomes[name] = err
	})
	synctest.Wait()
}

// outcome is how an append ended, and whether it did.
func (r *rig) outcome(name string) (error, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err, ended := r.outcomes[name]
	return err, ended
}

func (r *rig) wantOutcome(name string, want error) {
	r.t.Helper()
	synctest.Wait()
	if err, ended := r.outcome(name); !ended || !errors.Is(err, want) {
		r.t.Errorf("append %s: ended %t with %v, want %v", name, ended, err, want)
	}
}

func (r *rig) wantPending(names ...string) {
	r.t.Helper()
	synctest.Wait()
	for _, name := range names {
		if err, ended := r.outcome(name); ended {
			r.t.Errorf("append %s ended before its transaction: %v", name, err)
		}
	}
}

// pass lets n transactions of a gated engine end.
func (r *rig) pass(n int) {
	for range n {
		r.engine.gate <- struct{}{}
	}
	synctest.Wait()
}

// elapse lets time pass.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// metric is the value of a counter or gauge, by name and label value.
func (r *rig) metric(name string, label ...string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "callbackd_inbox_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(label) == 0 || m.GetLabel()[0].GetValue() == label[0] {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	r.t.Fatalf("no metric %s %v", name, label)
	return 0
}

func (r *rig) wantMetric(want float64, name string, label ...string) {
	r.t.Helper()
	if got := r.metric(name, label...); got != want {
		r.t.Errorf("%s %v is %v, want %v", name, label, got, want)
	}
}

func (r *rig) wantTransactions(want ...string) {
	r.t.Helper()
	synctest.Wait()
	var got []string
	for _, tx := range r.engine.transactions() {
		got = append(got, strings.Join(tx.appends, " ")+"|"+strings.Join(tx.settlements, " "))
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("transactions %q, want %q", got, want)
	}
}

func settlements(names ...string) []inbox.Settlement {
	var list []inbox.Settlement
	for _, name := range names {
		list = append(list, inbox.Settlement{DeliveryKey: inbox.DeliveryKey{Handler: name}})
	}
	return list
}

func TestAppendsThatArriveDuringATransactionShareTheNext(t *testing.T) {
	t.Parallel()
	run(t, &engine{gate: make(chan struct{})}, inbox.WriterOptions{}, func(r *rig) {
		r.begin(r.t.Context(), "a", 1)
		for _, name := range []string{"b", "c", "d"} {
			r.begin(r.t.Context(), name, 1)
		}
		r.wantMetric(3, "queued_appends")
		r.wantPending("a", "b", "c", "d")
		r.pass(1)
		r.wantOutcome("a", nil)
		r.wantPending("b", "c", "d")
		r.pass(1)
		for _, name := range []string{"b", "c", "d"} {
			r.wantOutcome(name, nil)
		}
		r.wantTransactions("a|", "b c d|")
		r.wantMetric(0, "queued_appends")
		r.wantMetric(2, "batch_appends")
		r.wantMetric(2, "commit_seconds")
		r.wantMetric(4, "append_seconds")
	})
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		o      inbox.WriterOptions
		bodies []int
		want   []string
	}{
		{"by their number", inbox.WriterOptions{MaxBatch: 2}, []int{1, 1, 1, 1, 1}, []string{"first|", "0 1|", "2 3|", "4|"}},
		{"by the bytes of their bodies", inbox.WriterOptions{MaxBatchBytes: 10}, []int{5, 5, 1, 9, 9}, []string{"first|", "0 1|", "2 3|", "4|"}},
		{"but one body always passes", inbox.WriterOptions{MaxBatchBytes: 10}, []int{50, 1, 50}, []string{"first|", "0|", "1|", "2|"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			run(t, &engine{gate: make(chan struct{})}, tc.o, func(r *rig) {
				r.begin(r.t.Context(), "first", 1)
				for i, bytes := range tc.bodies {
					r.begin(r.t.Context(), fmt.Sprint(i), bytes)
				}
				r.pass(len(tc.want))
				r.wantTransactions(tc.want...)
			})
		})
	}
}

func TestAdmissionByExpectedWait(t *testing.T) {
	t.Parallel()
	inTime := func(d time.Duration) func(*testing.T) context.Context {
		return func(t *testing.T) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			t.Cleanup(cancel)
			return ctx
		}
	}
	noDeadline := func(t *testing.T) context.Context { return t.Context() }
	for _, tc := range []struct {
		name    string
		stalled time.Duration // how long the transaction under way has lasted
		queued  int           // beside it
		bytes   int           // of each body
		ctx     func(*testing.T) context.Context
		want    error // nil: admitted
	}{
		{"a busy writer admits", 0, 10, 1, noDeadline, nil},
		{"a stall shorter than the budget admits", 2 * time.Second, 0, 1, noDeadline, nil},
		{"a stall as long as the budget sheds", 3 * time.Second, 0, 1, noDeadline, inbox.ErrOverloaded},
		{"a deadline that the stall does not leave sheds", 600 * time.Millisecond, 0, 1, inTime(500 * time.Millisecond), inbox.ErrOverloaded},
		{"a deadline that the stall leaves admits", 400 * time.Millisecond, 0, 1, inTime(time.Second), nil},
		{"more appends queued than the budget has batches for shed", 0, 60, 1, noDeadline, inbox.ErrOverloaded},
		{"more bytes queued than the budget has batches for shed", 0, 40, 90, noDeadline, inbox.ErrOverloaded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{takes: 100 * time.Millisecond}
			run(t, e, inbox.WriterOptions{MaxBatch: 2, MaxBatchBytes: 100}, func(r *rig) {
				for i := range 60 { // until the average is about 100 ms
					r.begin(r.t.Context(), fmt.Sprint("warm ", i), 90)
					elapse(time.Second)
				}
				e.slow(time.Hour)
				r.begin(r.t.Context(), "stalled", 1)
				for i := range tc.queued {
					r.begin(inTime(24*time.Hour)(r.t), fmt.Sprint("queued ", i), tc.bytes)
				}
				<-time.After(tc.stalled)
				r.begin(tc.ctx(r.t), "last", 1)
				if tc.want == nil {
					r.wantPending("last")
				} else {
					r.wantOutcome("last", tc.want)
					r.wantMetric(1, "failed_appends_total", "overloaded")
				}
				e.slow(0)
				elapse(2 * time.Hour)
				for i := range tc.queued {
					r.wantOutcome(fmt.Sprint("queued ", i), nil) // queued is never cancelled, however long it takes
				}
				r.wantOutcome("stalled", nil)
			})
		})
	}
}

func TestWriterAdmitsAgainAfterAStall(t *testing.T) {
	t.Parallel()
	e := &engine{takes: 10 * time.Minute}
	run(t, e, inbox.WriterOptions{}, func(r *rig) {
		r.begin(r.t.Context(), "stalled", 1)
		elapse(time.Minute)
		r.begin(r.t.Context(), "shed", 1)
		r.wantOutcome("shed", inbox.ErrOverloaded)
		elapse(10 * time.Minute)
		r.wantOutcome("stalled", nil)
		e.slow(time.Millisecond)
		shed := 0
		for i := range 60 {
			one, two := fmt.Sprint("one ", i), fmt.Sprint("two ", i)
			r.begin(r.t.Context(), one, 1)
			r.begin(r.t.Context(), two, 1) // while the other is under way
			elapse(10 * time.Millisecond)
			r.wantOutcome(one, nil)
			if err, _ := r.outcome(two); err != nil {
				shed++
			}
		}
		if shed == 0 || shed > 40 {
			t.Errorf("%d of 60 shed after the stall, want some but not for long", shed)
		}
		r.wantOutcome("two 59", nil)
	})
}

func TestStalledTaskSheds(t *testing.T) {
	t.Parallel()
	run(t, &engine{}, inbox.WriterOptions{}, func(r *rig) {
		go func() { _ = r.Do(r.t.Context(), func() error { <-time.After(time.Hour); return nil }) }()
		elapse(time.Second)
		r.begin(r.t.Context(), "early", 1)
		r.wantPending("early")
		elapse(3 * time.Second)
		r.begin(r.t.Context(), "late", 1)
		r.wantOutcome("late", inbox.ErrOverloaded)
		elapse(time.Hour)
		r.wantOutcome("early", nil)
		r.wantMetric(1, "task_seconds")
	})
}

func TestAppendWithAnEndedContextIsNotQueued(t *testing.T) {
	t.Parallel()
	run(t, &engine{}, inbox.WriterOptions{}, func(r *rig) {
		cancelled, cancel := context.WithCancel(r.t.Context())
		cancel()
		r.begin(cancelled, "cancelled", 1)
		r.wantOutcome("cancelled", context.Canceled)
		late, cancel := context.WithTimeout(r.t.Context(), -time.Second)
		defer cancel()
		r.begin(late, "late", 1)
		r.wantOutcome("late", inbox.ErrOverloaded)
		r.wantTransactions()
	})
}

func TestCancellingTheWaiterDoesNotCancelItsAppend(t *testing.T) {
	t.Parallel()
	run(t, &engine{gate: make(chan struct{})}, inbox.WriterOptions{}, func(r *rig) {
		r.begin(r.t.Context(), "first", 1)
		ctx, cancel := context.WithCancel(r.t.Context())
		r.begin(ctx, "queued", 1)
		cancel()
		r.wantPending("queued")
		r.pass(2)
		r.wantOutcome("queued", nil)
		r.wantTransactions("first|", "queued|")
	})
}

func TestSettlementsYieldToAppends(t *testing.T) {
	t.Parallel()
	run(t, &engine{gate: make(chan struct{})}, inbox.WriterOptions{MaxSettlements: 150}, func(r *rig) {
		r.begin(r.t.Context(), "first", 1)
		r.Settle(settlements(slices.Repeat([]string{"s"}, 300)...)...)
		r.begin(r.t.Context(), "second", 1) // queued behind 300 settlements
		r.wantMetric(300, "queued_settlements")
		r.pass(1)
		if tx := r.engine.transactions()[1]; !slices.Equal(tx.appends, []string{"second"}) || len(tx.settlements) != 128 {
			t.Errorf("the second transaction has the appends %v and %d settlements, want the append and 128", tx.appends, len(tx.settlements))
		}
		r.pass(3)
		var sizes []int
		for _, tx := range r.engine.transactions() {
			sizes = append(sizes, len(tx.settlements))
		}
		if want := []int{0, 128, 150, 22}; !slices.Equal(sizes, want) {
			t.Errorf("settlements by transaction %v, want %v", sizes, want)
		}
		r.wantMetric(0, "queued_settlements")
	})
}

func TestSettlementsThatFailAreTriedAgainInOrder(t *testing.T) {
	t.Parallel()
	left := 2
	e := &engine{takes: 10 * time.Millisecond, fails: func([]*inbox.Append) error {
		if left--; left >= 0 {
			return fmt.Errorf("%w: test", inbox.ErrUnavailable)
		}
		return nil
	}}
	run(t, e, inbox.WriterOptions{RetryAfter: time.Second}, func(r *rig) {
		from := time.Now()
		r.Settle(settlements("a", "b")...)
		synctest.Wait()
		r.Settle(settlements("c")...) // while the first try is under way
		elapse(10 * time.Second)
		r.wantTransactions("|a b", "|a b c", "|a b c")
		for i, tx := range e.transactions() {
			if got, want := tx.at.Sub(from), time.Duration(i)*(time.Second+e.takes); got != want {
				t.Errorf("try %d after %s, want %s", i, got, want)
			}
		}
	})
}

func TestCloseCarriesOutWhatIsQueued(t *testing.T) {
	t.Parallel()
	run(t, &engine{gate: make(chan struct{})}, inbox.WriterOptions{}, func(r *rig) {
		r.begin(r.t.Context(), "first", 1)
		r.begin(r.t.Context(), "queued", 1)
		r.Settle(settlements("s")...)
		ran := false
		task := make(chan error, 1)
		go func() { task <- r.Do(r.t.Context(), func() error { ran = true; return nil }) }()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { defer close(closed); r.Close() }()
		synctest.Wait()
		r.begin(r.t.Context(), "late", 1)
		r.wantOutcome("late", inbox.ErrClosed)
		r.wantMetric(1, "failed_appends_total", "closed")
		select {
		case <-closed:
			t.Error("closed while appends are queued")
		default:
		}
		r.pass(2)
		<-closed
		r.wantOutcome("first", nil)
		r.wantOutcome("queued", nil)
		r.wantTransactions("first|", "queued|s")
		if err := <-task; err != nil || !ran {
			t.Errorf("task ran %t: %v", ran, err)
		}
		if err := r.Do(r.t.Context(), func() error { t.Error("ran after Close"); return nil }); !errors.Is(err, inbox.ErrClosed) {
			t.Errorf("task after Close: %v", err)
		}
	})
}

func TestCloseGivesUpOnSettlementsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	e := &engine{fails: func([]*inbox.Append) error { return inbox.ErrUnavailable }}
	run(t, e, inbox.WriterOptions{}, func(r *rig) {
		r.Settle(settlements("a")...)
		synctest.Wait()
		r.Close()
		r.wantTransactions("|a", "|a")
	})
}

func TestUnavailableStoreRecovers(t *testing.T) {
	t.Parallel()
	full := fmt.Errorf("%w: the disk is full", inbox.ErrUnavailable)
	down := true
	e := &engine{fails: func([]*inbox.Append) error {
		if down {
			return full
		}
		return nil
	}}
	run(t, e, inbox.WriterOptions{}, func(r *rig) {
		from := time.Now()
		for _, name := range []string{"a", "b"} {
			r.begin(r.t.Context(), name, 1)
			r.wantOutcome(name, inbox.ErrUnavailable)
			elapse(time.Minute)
		}
		if !errors.Is(r.Status(), inbox.ErrUnavailable) {
			t.Errorf("status %v", r.Status())
		}
		r.wantMetric(0, "available")
		r.wantMetric(2, "failed_appends_total", "unavailable")
		select {
		case <-r.Broken():
			t.Error("an unavailable store is not a broken one")
		default:
		}
		if err := r.Do(r.t.Context(), func() error { return nil }); err != nil || r.Status() == nil {
			t.Errorf("a task that wrote nothing ended with %v, and the status is %v", err, r.Status())
		}
		down = false
		r.begin(r.t.Context(), "c", 1)
		r.wantOutcome("c", nil)
		if r.Status() != nil {
			t.Errorf("status %v", r.Status())
		}
		r.wantMetric(1, "available")
		want := []inbox.Outage{{From: from, To: from.Add(2 * time.Minute), Reason: full.Error(), Refused: 2}}
		if got := r.TakeOutages(); !slices.Equal(got, want) {
			t.Errorf("outages %v, want %v", got, want)
		}
		r.ReturnOutages(want)
		if got := r.TakeOutages(); !slices.Equal(got, want) {
			t.Errorf("outages taken again %v, want %v", got, want)
		}
	})
}

func TestTaskMakesTheStoreUnavailableAndAvailable(t *testing.T) {
	t.Parallel()
	run(t, &engine{}, inbox.WriterOptions{}, func(r *rig) {
		if err := r.Do(r.t.Context(), func() error { return inbox.ErrNotFound }); !errors.Is(err, inbox.ErrNotFound) || r.Status() != nil {
			t.Errorf("a task's own error %v, and the status is %v", err, r.Status())
		}
		if err := r.Do(r.t.Context(), func() error { return inbox.ErrUnavailable }); !errors.Is(err, inbox.ErrUnavailable) || r.Status() == nil {
			t.Errorf("task %v, status %v", err, r.Status())
		}
		if err := r.Do(r.t.Context(), func() error { r.Recovered(); return nil }); err != nil || r.Status() != nil {
			t.Errorf("task %v, status %v", err, r.Status())
		}
	})
}

// TestBrokenStoreTakesNothingAnyMore: whatever breaks it, everybody who waits is told, and the engine is not called again.
func TestBrokenStoreTakesNothingAnyMore(t *testing.T) {
	t.Parallel()
	errSync := fmt.Errorf("%w: sync failed; replace the disk", inbox.ErrBroken)
	for _, tc := range []struct {
		name    string
		fails   func([]*inbox.Append) error
		do      func(r *rig)
		inBatch error  // the outcome of the transaction under way
		text    string // of the status
	}{
		{name: "a transaction's sync", fails: func([]*inbox.Append) error { return errSync }, inBatch: inbox.ErrBroken, text: "replace the disk"},
		{name: "a panic in a transaction", fails: func(a []*inbox.Append) error { _ = a[len(a)]; return nil }, inBatch: inbox.ErrBroken,
			text: "panic in callbackd/internal/inbox_test.TestBrokenStoreTakesNothingAnyMore"},
		{name: "a reader's report", do: func(r *rig) { r.Report(inbox.ErrNotFound); r.Report(errSync); r.Report(inbox.ErrBroken) }, text: "replace the disk"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{gate: make(chan struct{}), fails: tc.fails}
			run(t, e, inbox.WriterOptions{}, func(r *rig) {
				r.begin(r.t.Context(), "under way", 1)
				r.begin(r.t.Context(), "queued", 1)
				r.Settle(settlements("s")...)
				task := make(chan error, 1)
				go func() {
					task <- r.Do(r.t.Context(), func() error { t.Error("a task ran on a broken store"); return nil })
				}()
				synctest.Wait()
				if tc.do != nil {
					tc.do(r)
				}
				r.pass(1)
				<-r.Broken()
				r.wantOutcome("under way", tc.inBatch)
				r.wantOutcome("queued", inbox.ErrBroken)
				if err := <-task; !errors.Is(err, inbox.ErrBroken) {
					t.Errorf("task: %v", err)
				}
				r.begin(r.t.Context(), "late", 1)
				r.wantOutcome("late", inbox.ErrBroken)
				r.Settle(settlements("s")...)
				if err := r.Do(r.t.Context(), nil); !errors.Is(err, inbox.ErrBroken) {
					t.Errorf("task afterwards: %v", err)
				}
				r.Recovered()
				if err := r.Status(); !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("status %v, want %q in it", err, tc.text)
				}
				elapse(time.Hour)
				r.wantTransactions("under way|")
				r.wantMetric(0, "available")
				r.wantMetric(0, "queued_appends")
				r.wantMetric(0, "queued_settlements")
				if r.metric("failed_appends_total", "broken") < 2 {
					t.Error("the failed appends were not counted")
				}
			})
		})
	}
}

func TestPanicInATaskBreaksTheStore(t *testing.T) {
	t.Parallel()
	run(t, &engine{}, inbox.WriterOptions{}, func(r *rig) {
		err := r.Do(r.t.Context(), func() error { panic("test") })
		if !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "TestPanicInATask") {
			t.Errorf("task: %v", err)
		}
		<-r.Broken()
	})
}

func TestTaskComesAfterTheTransactionThatBrokeTheStore(t *testing.T) {
	t.Parallel()
	e := &engine{gate: make(chan struct{}), fails: func(a []*inbox.Append) error {
		if a[0].Arrival.Entry.RequestID == "breaks" {
			return inbox.ErrBroken
		}
		return nil
	}}
	run(t, e, inbox.WriterOptions{}, func(r *rig) {
		r.begin(r.t.Context(), "first", 1)
		r.begin(r.t.Context(), "breaks", 1)
		task := make(chan error, 1)
		go func() { task <- r.Do(r.t.Context(), func() error { t.Error("ran"); return nil }) }()
		synctest.Wait()
		r.pass(2)
		if err := <-task; !errors.Is(err, inbox.ErrBroken) {
			t.Errorf("task: %v", err)
		}
	})
}

func TestOneAppendFailsAlone(t *testing.T) {
	t.Parallel()
	e := &engine{gate: make(chan struct{}), fails: func(appends []*inbox.Append) error {
		for _, a := range appends {
			if a.Arrival.Entry.RequestID == "bad" {
				a.Fail(errors.New("cannot be stored"))
			}
		}
		return nil
	}}
	run(t, e, inbox.WriterOptions{}, func(r *rig) {
		for _, name := range []string{"first", "good", "bad", "fine"} {
			r.begin(r.t.Context(), name, 1)
		}
		r.pass(2)
		r.wantOutcome("good", nil)
		r.wantOutcome("fine", nil)
		if err, ended := r.outcome("bad"); !ended || err == nil {
			t.Errorf("bad: ended %t with %v", ended, err)
		}
		r.wantMetric(1, "failed_appends_total", "rejected")
		if r.Status() != nil {
			t.Errorf("the store is fine and its status is %v", r.Status())
		}
	})
}

func TestTaskWithAnEndedContext(t *testing.T) {
	t.Parallel()
	run(t, &engine{gate: make(chan struct{})}, inbox.WriterOptions{}, func(r *rig) {
		r.begin(r.t.Context(), "first", 1)
		ctx, cancel := context.WithCancel(r.t.Context())
		withdrawn, begun := make(chan error, 1), make(chan error, 1)
		go func() { withdrawn <- r.Do(ctx, func() error { t.Error("a withdrawn task ran"); return nil }) }()
		synctest.Wait()
		cancel()
		if err := <-withdrawn; !errors.Is(err, context.Canceled) {
			t.Errorf("withdrawn task: %v", err)
		}
		ctx, cancel = context.WithCancel(r.t.Context())
		defer cancel()
		hold, ended := make(chan struct{}), false
		go func() {
			err := r.Do(ctx, func() error { <-hold; ended = true; return nil })
			if !ended {
				t.Error("Do returned before its task")
			}
			begun <- err
		}()
		r.pass(1)
		cancel()
		synctest.Wait()
		close(hold)
		if err := <-begun; err != nil {
			t.Errorf("a task that had begun: %v", err)
		}
	})
}

func TestMetricsAreNamedAsTheFieldNamesThem(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	inbox.NewMetrics(registry)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestBusyWhileMuchArrives: some hundreds of appends a second make it so, and a moment without them ends it.
func TestBusyWhileMuchArrives(t *testing.T) {
	t.Parallel()
	run(t, &engine{takes: time.Millisecond}, inbox.WriterOptions{}, func(r *rig) {
		several := func(n int, pause time.Duration) {
			for i := range n {
				<-time.After(pause)
				if _, err := r.Append(t.Context(), arrival(fmt.Sprint(i), 1)); err != nil {
					t.Error(err)
				}
			}
		}
		if several(20, 10*time.Millisecond); r.Busy() != 0 {
			t.Error("busy with 90 a second")
		}
		if several(150, 0); r.Busy() < 500 {
			t.Error("not busy with 1,000 a second")
		}
		if <-time.After(time.Second); r.Busy() != 0 {
			t.Error("busy a second later")
		}
	})
}
