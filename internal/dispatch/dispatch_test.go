package dispatch_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
)

var errRefused = errors.New("destination refused " + phone)

func TestEveryDeliveryIsMadeOnceAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		const entries = 300
		got := make(chan *handler.Delivery, 2*entries)
		b.append(entries/2, "events")
		r := b.start(named("events", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error { got <- d; return nil }))
		last := b.append(entries/2, "events") // while it runs
		later(time.Second)
		r.stop()
		close(got)
		var seqs []int64
		ids := make(map[string]bool)
		for d := range got {
			seqs = append(seqs, d.Seq)
			ids[d.ID] = true
			if d.Attempt != 1 || d.Replay || d.EntryID == "" || !strings.HasPrefix(d.ID, d.EntryID) || d.Account != "main" ||
				d.Service != callback.EnhancedConnectivityService || d.ReceivedAt.IsZero() || d.Callback.SmsMessage.Text != secret {
				t.Fatalf("delivery is %+v of %+v", d, d.Callback)
			}
		}
		if len(seqs) != entries || len(ids) != entries || !slices.IsSorted(seqs) {
			t.Errorf("%d deliveries with %d IDs, sorted %t; want %d in the order of arrival", len(seqs), len(ids), slices.IsSorted(seqs), entries)
		}
		b.wantState(last, "events", "done", 1, "")
		if n := r.metric(t, "callbackd_delivery_lag_seconds", "events"); n != entries {
			t.Errorf("%v lags observed", n)
		}
	})
}

func TestAFailureIsMadeAgainUnderTheSameID(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var attempts []int
		var ids []string
		var at []time.Time
		decoded := 0
		b.decode = func(body []byte) (*callback.Callback, error) { decoded++; return decodeStored(body) }
		seq := b.append(1, "events")
		policy := dispatch.Policy{Backoff: dispatch.Backoff{Min: time.Minute, Max: 4 * time.Minute}}
		r := b.start(named("events", policy, func(_ context.Context, d *handler.Delivery) error {
			attempts, ids, at = append(attempts, d.Attempt), append(ids, d.ID), append(at, time.Now())
			if d.Attempt < 6 {
				return errRefused
			}
			return nil
		}))
		later(time.Hour)
		r.stop()
		if !slices.Equal(attempts, []int{1, 2, 3, 4, 5, 6}) || len(slices.Compact(ids)) != 1 {
			t.Errorf("attempts %v under %v", attempts, ids)
		}
		for i := 1; i < len(at); i++ {
			if pause, longest := at[i].Sub(at[i-1]), min(time.Minute<<(i-1), 4*time.Minute); pause < 0 || pause > longest {
				t.Errorf("pause %d is %s, longer than %s", i, pause, longest)
			}
		}
		if decoded != 6 {
			t.Errorf("decoded %d times for 6 attempts: each one must read the stored bytes", decoded)
		}
		b.wantState(seq, "events", "done", 6, "")
		if n := r.metric(t, "callbackd_delivery_attempts_total", "events", "error", "retry"); n != 5 {
			t.Errorf("%v retries counted", n)
		}
	})
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		rule     string
		policy   dispatch.Policy
		handle   handlerFunc
		state    string
		attempts int
		reason   string
		cause    string // part of it
		verdict  string // of the last attempt
	}{
		{"used up attempts bury", dispatch.Policy{MaxAttempts: 3},
			func(context.Context, *handler.Delivery) error { return errRefused }, "dead", 3, "attempts_exhausted", "destination refused", "bury"},
		{"Permanent buries", dispatch.Policy{},
			func(context.Context, *handler.Delivery) error { return handler.Permanent(errRefused) }, "dead", 1, "permanent", "destination refused", "bury"},
		{"a panic is tried again", dispatch.Policy{Backoff: dispatch.Backoff{Min: 1e4 * time.Hour, Max: 1e4 * time.Hour}},
			func(context.Context, *handler.Delivery) error { panic("no route for " + phone) }, "pending", 1, "panic", "no route for", "retry"},
		{"a time-out is tried again", dispatch.Policy{Timeout: time.Minute, Backoff: dispatch.Backoff{Min: 1e4 * time.Hour, Max: 1e4 * time.Hour}},
			func(ctx context.Context, _ *handler.Delivery) error { <-ctx.Done(); return ctx.Err() }, "pending", 1, "timeout", "deadline exceeded", "retry"},
		{"an own error after the time-out is a time-out", dispatch.Policy{Timeout: time.Minute, Backoff: dispatch.Backoff{Min: 1e4 * time.Hour, Max: 1e4 * time.Hour}},
			func(ctx context.Context, _ *handler.Delivery) error { <-ctx.Done(); return errRefused }, "pending", 1, "timeout", "destination refused", "retry"},
		{"success after the time-out is done", dispatch.Policy{Timeout: time.Minute},
			func(ctx context.Context, _ *handler.Delivery) error { <-ctx.Done(); return nil }, "done", 1, "", "", "done"},
		{"success is done", dispatch.Policy{},
			func(context.Context, *handler.Delivery) error { return nil }, "done", 1, "", "", "done"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				seq := b.append(1, "events")
				r := b.start(named("events", test.policy, test.handle))
				later(time.Hour)
				r.stop()
				d := b.wantState(seq, "events", test.state, test.attempts, test.reason)
				if !strings.Contains(d.Cause, test.cause) || (test.cause == "") != (d.Cause == "") {
					t.Errorf("cause is %q, want %q in it", d.Cause, test.cause)
				}
				if n := r.metric(t, "callbackd_delivery_attempts_total", "events", test.reason, test.verdict); n != 1 {
					t.Errorf("%v attempts counted as %s, %q", n, test.verdict, test.reason)
				}
				if n := r.metric(t, "callbackd_delivery_attempt_seconds", "events"); n != float64(test.attempts) {
					t.Errorf("%v durations observed for %d attempts", n, test.attempts)
				}
				lint(t, r.registry)
			})
		})
	}
}

func TestRetryAfterIsWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var at []time.Time
		b.append(1, "events")
		b.start(named("events", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error {
			at = append(at, time.Now())
			if d.Attempt == 1 {
				return handler.RetryAfter(5*time.Hour, errRefused)
			}
			return nil
		}))
		later(24 * time.Hour)
		if len(at) != 2 || at[1].Sub(at[0]).Round(time.Second) != 5*time.Hour {
			t.Errorf("attempts at %v, want two that are 5 h apart", at)
		}
	})
}

func TestAPanicLogsPlacesAndNoContent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.append(1, "events")
		r := b.start(named("events", dispatch.Policy{MaxAttempts: 1}, func(_ context.Context, d *handler.Delivery) error {
			return explode(d.Callback.Devices[0].Identifier, 4155550137)
		}))
		later(time.Second)
		r.stop()
		line := b.line("handler panicked")
		calls, _ := line["stack"].([]any)
		if len(calls) == 0 || !strings.Contains(fmt.Sprint(calls), "dispatch_test.explode ") || !strings.Contains(fmt.Sprint(calls), "dispatch_test.go:") {
			t.Errorf("stack is %v", calls)
		}
		if strings.Contains(b.logged(), fmt.Sprintf("%x", 4155550137)) {
			t.Error("the log holds an argument of the call that panicked")
		}
	})
}

//go:noinline
func explode(identifier string, number int) error {
	panic(fmt.Sprint(identifier, number))
}

// line is the one line of the log with this message.
func (b *bench) line(msg string) map[string]any {
	b.Helper()
	var found map[string]any
	for text := range strings.Lines(b.logged()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			b.Fatalf("log line %q: %v", text, err)
		}
		if line["msg"] == msg {
			if found != nil {
				b.Fatalf("two lines say %q:\n%s", msg, b.logged())
			}
			found = line
		}
	}
	if found == nil {
		b.Fatalf("no line says %q:\n%s", msg, b.logged())
	}
	return found
}

// TestOneEvent shows the one wide event of an attempt, whatever came of it.
func TestOneEvent(t *testing.T) {
	common := []string{"account", "attempt", "delivery", "handler", "kind", "lag", "level", "msg", "seq", "service", "took", "ts", "verdict"}
	for _, test := range []struct {
		msg, level string
		err        error
		extra      []string
	}{
		{"delivered", "debug", nil, nil},
		{"delivery buried", "error", handler.Permanent(errRefused), []string{"cause", "reason"}},
		{"delivery failed, will be made again", "warn", handler.RetryAfter(time.Hour, errRefused), []string{"cause", "due_at", "reason"}},
	} {
		t.Run(test.msg, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.append(1, "events")
				r := b.start(named("events", dispatch.Policy{}, func(context.Context, *handler.Delivery) error { return test.err }))
				later(time.Minute)
				r.stop()
				line := b.line(test.msg)
				var keys []string
				for k := range line {
					keys = append(keys, k)
				}
				slices.Sort(keys)
				want := append(slices.Clone(common), test.extra...)
				slices.Sort(want)
				if !slices.Equal(keys, want) || line["level"] != test.level {
					t.Errorf("event is %v\nkeys %v\nwant %v", line, keys, want)
				}
				if n := strings.Count(b.logged(), "\n"); n != 1 {
					t.Errorf("%d lines for one attempt:\n%s", n, b.logged())
				}
			})
		})
	}
}

func TestAStuckHandlerIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		letGo := make(chan struct{})
		seq := b.append(1, "events")
		r := b.start(named("events", dispatch.Policy{Timeout: 5 * time.Second}, func(context.Context, *handler.Delivery) error { <-letGo; return nil }))
		later(14 * time.Second)
		if err := r.Ready(); err != nil || r.metric(t, "callbackd_delivery_stuck_attempts", "events") != 0 {
			t.Errorf("called stuck before its time: %v", err)
		}
		later(2 * time.Second)
		if err := r.Ready(); err == nil || err.Error() != "events ignores its time-out in 1 of 1 places" {
			t.Errorf("readiness is %v", err)
		}
		if r.metric(t, "callbackd_delivery_stuck_attempts", "events") != 1 || r.metric(t, "callbackd_delivery_handler_ready", "events") != 0 {
			t.Error("the metrics do not show it")
		}
		b.line("handler ignores its time-out and keeps a place until it returns")
		close(letGo)
		later(time.Second)
		if err := r.Ready(); err != nil || r.metric(t, "callbackd_delivery_stuck_attempts", "events") != 0 || r.metric(t, "callbackd_delivery_handler_ready", "events") != 1 {
			t.Errorf("still called stuck: %v", err)
		}
		b.line("stuck handler has returned")
		b.wantState(seq, "events", "done", 1, "")
	})
}

func TestReadinessNamesAHandlerThatFailsRunning(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var verdict error
		r := b.start(named("events", dispatch.Policy{MaxAttempts: 1}, func(context.Context, *handler.Delivery) error { return verdict }),
			named("audit", dispatch.Policy{}, func(context.Context, *handler.Delivery) error { return nil }))
		for _, step := range []struct {
			verdict error
			ready   string
		}{
			{errRefused, ""}, {errRefused, ""}, {errRefused, "events has failed 3 times running"}, {errRefused, "events has failed 4 times running"},
			{handler.Permanent(errRefused), ""}, // it works: the callback is at fault
			{errRefused, ""}, {errRefused, ""}, {nil, ""}, {errRefused, ""},
		} {
			verdict = step.verdict
			b.append(1, "events", "audit")
			later(time.Second)
			got := ""
			if err := r.Ready(); err != nil {
				got = err.Error()
			}
			if got != step.ready || (r.metric(t, "callbackd_delivery_handler_ready", "events") == 1) != (step.ready == "") {
				t.Errorf("after %v: readiness is %q, want %q", step.verdict, got, step.ready)
			}
		}
	})
}

// wayward is a handler that knows that its destination is away.
type wayward struct {
	handlerFunc
	why atomic.Pointer[error]
}

func (h *wayward) Ready() error { return *h.why.Load() }

// TestAHandlerSaysItselfThatItIsNotReady: the words and the metric follow what it says, without a delivery in between.
func TestAHandlerSaysItselfThatItIsNotReady(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		h := &wayward{handlerFunc: func(context.Context, *handler.Delivery) error { return nil }}
		r := b.start(dispatch.Instance{Name: "events", Handler: h})
		for _, step := range []struct {
			says error
			want string
		}{
			{nil, ""}, {errors.New("no table orders: create it"), "events is not ready: no table orders: create it"}, {nil, ""},
		} {
			h.why.Store(&step.says)
			got := ""
			if err := r.Ready(); err != nil {
				got = err.Error()
			}
			if got != step.want || (r.metric(t, "callbackd_delivery_handler_ready", "events") == 1) != (step.says == nil) {
				t.Errorf("readiness is %q, want %q; the metric is %v", got, step.want, r.metric(t, "callbackd_delivery_handler_ready", "events"))
			}
		}
	})
}

// hung is a handler that breaks its promise to tell at once what it knows.
type hung struct {
	handlerFunc
	asked    atomic.Int32
	answered chan struct{}
}

func (h *hung) Ready() error { h.asked.Add(1); <-h.answered; return nil }

// TestAHandlerThatDoesNotSayHowItStandsHoldsUpNobody: a probe that waited for it would take the listeners out of service, a scrape would
// show nothing at all, and a watchdog would end all of callbackd for it, again and again.
func TestAHandlerThatDoesNotSayHowItStandsHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		h := &hung{handlerFunc: func(context.Context, *handler.Delivery) error { return nil }, answered: make(chan struct{})}
		r := b.start(dispatch.Instance{Name: "events", Handler: h})
		for range 3 {
			from := time.Now()
			if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "has not said") {
				t.Errorf("readiness is %v", err)
			}
			if took := time.Since(from); took > time.Second {
				t.Errorf("it was waited for %s", took)
			}
			if r.metric(t, "callbackd_delivery_handler_ready", "events") != 0 {
				t.Error("the metric says that it is ready")
			}
			r.Alive()
		}
		if n := h.asked.Load(); n != 1 {
			t.Errorf("it was asked %d times, before it had answered once", n)
		}
		close(h.answered)
		synctest.Wait()
		if err := r.Ready(); err != nil {
			t.Errorf("readiness is %v after it has answered", err)
		}
	})
}

// panicky is a handler that cannot be asked.
type panicky struct{ handlerFunc }

func (panicky) Ready() error { panic(phone) }

func TestAHandlerThatPanicsWhenItIsAskedIsNotReady(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.start(dispatch.Instance{Name: "events", Handler: panicky{func(context.Context, *handler.Delivery) error { return nil }}})
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "panics") || strings.Contains(err.Error(), phone) {
			t.Errorf("readiness is %v", err)
		}
	})
}

func TestASlowHandlerHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.append(500, "slow", "fast", "broken")
		fast := 0
		b.start(
			named("slow", dispatch.Policy{Timeout: time.Hour}, func(ctx context.Context, _ *handler.Delivery) error { <-ctx.Done(); return ctx.Err() }),
			named("broken", dispatch.Policy{}, func(context.Context, *handler.Delivery) error { panic("always") }),
			named("fast", dispatch.Policy{}, func(context.Context, *handler.Delivery) error { fast++; return nil }),
		)
		later(time.Second)
		if fast != 500 {
			t.Errorf("%d of 500 delivered beside a slow and a broken handler", fast)
		}
	})
}

func TestConcurrencyIsAsConfigured(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.append(40, "events")
		places := make(chan struct{}, 8)
		most := 0
		r := b.start(named("events", dispatch.Policy{Concurrency: 8}, func(context.Context, *handler.Delivery) error {
			select {
			case places <- struct{}{}:
			default:
				t.Error("more than 8 deliveries at once")
			}
			<-time.After(time.Second)
			<-places
			return nil
		}))
		from := time.Now()
		for len(places) > 0 || time.Since(from) == 0 {
			later(time.Second / 2)
			most = max(most, len(places))
		}
		r.stop()
		if took := time.Since(from); most != 8 || took > 6*time.Second {
			t.Errorf("%d at once at most, %s for 40", most, took)
		}
	})
}

func TestShutdown(t *testing.T) {
	const grace = 10 * time.Second
	for _, test := range []struct {
		rule     string
		handle   func(ctx context.Context, letGo <-chan struct{}) error
		within   time.Duration // of the stop, Run returns
		state    string
		attempts int
		log      string
	}{
		{"a delivery that ends within the grace counts", func(context.Context, <-chan struct{}) error { <-time.After(9 * time.Second); return nil },
			9 * time.Second, "done", 1, "delivered"},
		{"a failure within the grace counts", func(context.Context, <-chan struct{}) error { <-time.After(9 * time.Second); return errRefused },
			9 * time.Second, "pending", 1, "delivery failed, will be made again"},
		{"one that is cut off is no attempt", func(ctx context.Context, _ <-chan struct{}) error { <-ctx.Done(); return ctx.Err() },
			grace, "pending", 0, ""},
		{"one that is cut off and says Permanent is no attempt", func(ctx context.Context, _ <-chan struct{}) error { <-ctx.Done(); return handler.Permanent(ctx.Err()) },
			grace, "pending", 0, ""},
		{"one that is done when cut off is done", func(ctx context.Context, _ <-chan struct{}) error { <-ctx.Done(); return nil },
			grace, "done", 1, "delivered"},
		{"a handler that ignores its context is left behind", func(_ context.Context, letGo <-chan struct{}) error { <-letGo; return errRefused },
			grace + time.Second, "pending", 0, "handler ignores the end of its context, left behind: the delivery will be made again"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.grace = grace
				letGo, begun := make(chan struct{}), make(chan struct{}, 1)
				defer close(letGo)
				seq := b.append(1, "events")
				later1 := b.append(100, "events") // claimed ahead, and never begun
				r := b.start(named("events", dispatch.Policy{Timeout: time.Hour}, func(ctx context.Context, d *handler.Delivery) error {
					if d.Seq != seq {
						t.Errorf("delivery %d began after the stop", d.Seq)
					}
					begun <- struct{}{}
					return test.handle(ctx, letGo)
				}))
				<-begun
				from := time.Now()
				r.stop()
				if took := time.Since(from); took != test.within {
					t.Errorf("Run returned %s after the stop, want %s", took, test.within)
				}
				synctest.Wait()
				if err := b.store.Do(t.Context(), func() error { return nil }); err != nil { // behind the settlements
					t.Fatal(err)
				}
				if d := b.status(seq, "events"); d.State != test.state || d.Attempts != test.attempts {
					t.Errorf("delivery is %s after %d attempts, want %s, %d", d.State, d.Attempts, test.state, test.attempts)
				}
				b.wantState(later1, "events", "pending", 0, "")
				if test.log != "" {
					b.line(test.log)
				} else if b.logged() != "" {
					t.Errorf("logged %s", b.logged())
				}
				// Every claim has been let go: all that is due can be claimed again, as the attempt that it would have been.
				claimed, _, err := b.store.Claim(t.Context(), "events", 1000)
				if err != nil {
					t.Fatal(err)
				}
				want := 100
				if test.state == "pending" && test.attempts == 0 {
					want++
				}
				if len(claimed) < want || claimed[0].Attempt != 1 {
					t.Errorf("%d deliveries can be claimed after the stop, want %d", len(claimed), want)
				}
			})
		})
	}
}

func TestSchedulesSurviveARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var at []time.Time
		seq := b.append(1, "events")
		in := named("events", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error {
			at = append(at, time.Now())
			if d.Attempt == 1 {
				return handler.RetryAfter(6*time.Hour, errRefused)
			}
			return nil
		})
		for range 10 { // runs of an hour each
			r := b.start(in)
			later(time.Hour)
			r.stop()
			b.close()
			b.open()
		}
		if len(at) != 2 || at[1].Sub(at[0]).Round(time.Second) != 6*time.Hour {
			t.Errorf("attempts at %v, want two that are 6 h apart", at)
		}
		b.wantState(seq, "events", "done", 2, "")
	})
}

func TestWhatCannotBeDecodedIsBuried(t *testing.T) {
	for _, test := range []struct {
		rule   string
		decode func([]byte) (*callback.Callback, error)
		cause  string
	}{
		{"an error of the decoder", func([]byte) (*callback.Callback, error) { return nil, errors.New("line 1: no Body") }, "line 1: no Body"},
		{"a panic of the decoder", func([]byte) (*callback.Callback, error) { panic("index out of range") }, "index out of range"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.decode = test.decode
				seq := b.append(1, "events")
				seen := 0
				handle := func(context.Context, *handler.Delivery) error { seen++; return nil }
				r := b.start(named("events", dispatch.Policy{}, handle))
				later(time.Minute)
				r.stop()
				d := b.wantState(seq, "events", "dead", 1, "decode_failed")
				if seen != 0 || !strings.Contains(d.Cause, test.cause) {
					t.Errorf("handler saw %d, cause is %q", seen, d.Cause)
				}
				if r.metric(t, "callbackd_delivery_attempts_total", "events", "decode_failed", "bury") != 1 || r.Ready() != nil {
					t.Error("counted as the handler's failure")
				}

				// The decoder is mended by a deploy, and the dead letter made again.
				b.decode = decodeStored
				b.start(named("events", dispatch.Policy{}, handle))
				if n, err := b.store.Requeue(t.Context(), inbox.DeadQuery{Seqs: []int64{seq}, Handler: "events"}, false); err != nil || n.Deliveries != 1 {
					t.Fatalf("requeue: %+v, %v", n, err)
				}
				later(time.Minute)
				if b.status(seq, "events").State != "done" || seen != 1 {
					t.Errorf("after the requeue: %+v", b.status(seq, "events"))
				}
			})
		})
	}
}

func TestACorruptEntryIsBuriedAndTheOthersDelivered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		bad := b.append(1, "events")
		good := b.append(1, "events")
		b.close() // so that nothing of them is in memory any more
		db, err := sql.Open("sqlite", inboxFile(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(`UPDATE body SET data = replace(data, 'harbour', 'habrour') WHERE seq = ?`, bad); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		b.open()
		var seen []int64
		b.start(named("events", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error { seen = append(seen, d.Seq); return nil }))
		later(time.Minute)
		if d := b.status(bad, "events"); d.State != "dead" || d.Reason != "corrupt_entry" || !strings.Contains(d.Cause, "digest") {
			t.Errorf("the corrupt entry's delivery is %+v", d)
		}
		if !slices.Equal(seen, []int64{good}) {
			t.Errorf("delivered %v, want %d alone", seen, good)
		}
	})
}

func TestHandlersComeAndGo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		old := b.append(3, "removed")
		removed, err := b.store.Register(t.Context(), []string{"new"})
		if err != nil || removed["removed"] != 3 {
			t.Fatalf("register: %v, %v", removed, err)
		}
		b.wantState(old, "removed", "dead", 0, "handler_removed")

		var seen []*handler.Delivery
		b.start(named("new", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error { seen = append(seen, d); return nil }))
		first := b.append(1, "new")
		later(time.Minute)
		if len(seen) != 1 || seen[0].Seq != first {
			t.Fatalf("a new handler got %d deliveries: it starts at now", len(seen))
		}
		if _, err := b.store.Replay(t.Context(), sqlite.ReplayRequest{Entries: inbox.Query{Seqs: []int64{old}}, Handlers: []string{"new"}}); err != nil {
			t.Fatal(err)
		}
		later(time.Minute)
		if len(seen) != 2 || seen[1].Seq != old || !seen[1].Replay || seen[1].Attempt != 1 {
			t.Errorf("the replay came as %+v", seen[len(seen)-1])
		}
	})
}

func TestWithoutHandlersItRunsUntilStopped(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.start()
		later(time.Hour)
		select {
		case <-r.ended:
			t.Error("Run returned by itself")
		default:
		}
		from := time.Now()
		r.stop()
		if took := time.Since(from); took != 0 {
			t.Errorf("Run took %s to return, with nothing to wait for", took)
		}
	})
}

// faulty is a store whose claims fail.
type faulty struct {
	dispatch.Store
	claims []time.Time
	err    error
	wake   chan struct{}
}

func (f *faulty) Claim(context.Context, string, int) ([]inbox.Delivery, time.Time, error) {
	f.claims = append(f.claims, time.Now())
	return nil, time.Time{}, f.err
}
func (f *faulty) Wake(string) <-chan struct{} { return f.wake }

func TestAClaimThatFailsIsTriedAgainAfterAPause(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		f := &faulty{err: fmt.Errorf("%w: disk is full", inbox.ErrUnavailable), wake: make(chan struct{})}
		close(f.wake) // arrivals without end
		r := b.startOn(f, named("events", dispatch.Policy{}, nil))
		later(time.Minute + time.Second/2)
		r.stop()
		if len(f.claims) != 61 {
			t.Errorf("%d claims in a minute", len(f.claims))
		}
	})
}

// endless is a store in which so many deliveries are due at any time.
type endless struct {
	faulty
	body []byte
	due  int
	busy float64
}

func (e *endless) Claim(_ context.Context, name string, limit int) ([]inbox.Delivery, time.Time, error) {
	e.claims = append(e.claims, time.Now())
	list := make([]inbox.Delivery, min(e.due, limit))
	for i := range list {
		list[i] = inbox.Delivery{DeliveryKey: inbox.DeliveryKey{Seq: int64(i), Handler: name}, Attempt: 1, Entry: inbox.Entry{Body: e.body}}
	}
	return list, time.Time{}, nil
}
func (e *endless) Paused(string) bool                 { return false }
func (e *endless) Busy() float64                      { return e.busy }
func (e *endless) Settle(...inbox.Settlement)         {}
func (e *endless) ReleaseClaims(...inbox.DeliveryKey) {}

// TestClaimsArePacedButNotThoseOfABacklog: while few arrive, a claim for each would cost the acks; a backlog is handed out as fast as
// the handler takes it, here one each 10 us. While much arrives, a backlog is paced as well, and less on a machine with more processors;
// but never so that it grows.
func TestClaimsArePacedButNotThoseOfABacklog(t *testing.T) {
	for _, test := range []struct {
		rule   string
		due    int
		busy   float64
		claims int // in 50 ms; 0: as many as the handler takes, or more than arrive
	}{
		{"a trickle", 1, 0, 10},
		{"a backlog", 1000, 0, 0},
		{"a backlog while much arrives", 1000, 600, 1 + int((50*time.Millisecond-time.Microsecond)*time.Duration(runtime.GOMAXPROCS(0))/(20*time.Millisecond))},
		{"a backlog while more arrives than that", 1000, 20_000, 0},
	} {
		t.Run(test.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				e := &endless{body: b.message(), due: test.due, busy: test.busy}
				handled := 0
				r := b.startOn(e, named("events", dispatch.Policy{}, func(context.Context, *handler.Delivery) error {
					handled++
					<-time.After(10 * time.Microsecond)
					return nil
				}))
				later(50*time.Millisecond - time.Microsecond)
				r.stop()
				if claimed := 65 * float64(len(e.claims)-1); test.due > 1 && claimed < test.busy/20 {
					t.Errorf("%g were claimed in 50 ms, and %g arrived", claimed, test.busy/20)
				}
				if test.claims > 0 && len(e.claims) != test.claims {
					t.Errorf("%d claims in 50 ms, want %d", len(e.claims), test.claims)
				}
				if test.claims == 0 && test.busy == 0 && handled < 4999 {
					t.Errorf("%d deliveries handled in 50 ms, want one each 10 us", handled)
				}
			})
		})
	}
}

func TestABrokenInboxIsNotAskedAgain(t *testing.T) {
	for _, broken := range []error{inbox.ErrBroken, inbox.ErrClosed} {
		t.Run(broken.Error(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				f := &faulty{err: fmt.Errorf("claim: %w", broken)}
				r := b.startOn(f, named("events", dispatch.Policy{}, nil))
				later(time.Hour)
				select {
				case <-r.ended:
					t.Error("Run returned by itself: the inbox is the one to tell why")
				default:
				}
				if len(f.claims) != 1 || b.logged() != "" {
					t.Errorf("%d claims; log %s", len(f.claims), b.logged())
				}
			})
		})
	}
}

// erratic is a handler that answers at random, and watches how it is called. One call at a time.
type erratic struct {
	t        *testing.T
	name     string
	rng      *rand.Rand
	underway map[int64]bool
	attempts map[int64]int
	ended    map[int64]string // the state that the last verdict leads to
}

func (e *erratic) Handle(ctx context.Context, d *handler.Delivery) error {
	last := e.attempts[d.Seq]
	switch {
	case e.underway[d.Seq]:
		e.t.Errorf("%s: delivery %d is made twice at once", e.name, d.Seq)
	case e.ended[d.Seq] != "":
		e.t.Errorf("%s: delivery %d is made again after its end", e.name, d.Seq)
	case d.Attempt != last+1 && d.Attempt != last: // the same number again after a shutdown
		e.t.Errorf("%s: attempt %d of delivery %d follows %d", e.name, d.Attempt, d.Seq, last)
	}
	e.underway[d.Seq], e.attempts[d.Seq] = true, d.Attempt
	defer delete(e.underway, d.Seq)
	switch e.rng.IntN(6) {
	case 0:
		panic("at random")
	case 1:
		<-ctx.Done()
		return ctx.Err()
	case 2:
		return handler.RetryAfter(time.Minute, errRefused)
	case 3:
		return errRefused
	case 4:
		e.ended[d.Seq] = "dead"
		return handler.Permanent(errRefused)
	}
	e.ended[d.Seq] = "done"
	return nil
}

// TestEveryDeliveryComesToAnEnd lets three handlers answer at random, through restarts, and looks at what became of it all.
func TestEveryDeliveryComesToAnEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.grace = time.Second
		const entries, most = 45, 6
		names := []string{"a", "b", "c"}
		handlers := make(map[string]*erratic)
		var instances []dispatch.Instance
		for i, name := range names {
			handlers[name] = &erratic{t: t, name: name, rng: rand.New(rand.NewPCG(1, uint64(i))),
				underway: make(map[int64]bool), attempts: make(map[int64]int), ended: make(map[int64]string)}
			policy := dispatch.Policy{MaxAttempts: most, Timeout: 3 * time.Second}
			instances = append(instances, named(name, policy, handlers[name].Handle))
		}
		rng := rand.New(rand.NewPCG(2, 2))
		for round := range 12 {
			if round < 3 {
				b.append(entries/3, names...)
			}
			r := b.start(instances...)
			later(time.Duration(rng.IntN(40_000)) * time.Millisecond)
			r.stop()
			b.close()
			b.open()
		}
		r := b.start(instances...)
		later(24 * time.Hour)
		r.stop()
		for seq := int64(1); seq <= entries; seq++ {
			for _, name := range names {
				want := handlers[name].ended[seq]
				if want == "" {
					want = "dead" // after its last attempt
				}
				if d := b.status(seq, name); d.State != want || d.Attempts > most {
					t.Errorf("delivery %d to %s ended as %+v, want %s", seq, name, d, want)
				}
			}
		}
	})
}
