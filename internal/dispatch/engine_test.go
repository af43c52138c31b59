package dispatch_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
)

// delivered are the entries that a handler was given and did not fail.
type delivered struct {
	seqs []int64
	at   []time.Time
}

func (g *delivered) add(d *handler.Delivery) {
	g.seqs, g.at = append(g.seqs, d.Seq), append(g.at, time.Now())
}

// TestAfterAnOutageTheBacklogComesInOrder: the handler fails for a day in which callbacks arrive. No attempts are used up but those that
// opened the breaker, the other handler is current, and when it works again all comes in the order of arrival.
func TestAfterAnOutageTheBacklogComesInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var down atomic.Bool
		down.Store(true)
		var got, other delivered
		var attempts atomic.Int64
		policy := dispatch.Policy{MaxAttempts: 15, Breaker: dispatch.Breaker{Open: dispatch.Backoff{Max: 10 * time.Minute}}}
		r := b.start(
			named("events", policy, func(_ context.Context, d *handler.Delivery) error {
				if attempts.Add(1); down.Load() {
					return errRefused
				}
				got.add(d)
				return nil
			}),
			named("audit", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error { other.add(d); return nil }))
		const hours, each = 24, 10
		var last int64
		for range hours {
			last = b.append(each, "events", "audit")
			later(time.Hour)
			if other.seqs[len(other.seqs)-1] != last {
				t.Fatalf("the other handler is at %d, want %d", other.seqs[len(other.seqs)-1], last)
			}
		}
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "events has failed") {
			t.Errorf("readiness is %v", err)
		}
		if r.metric(t, "callbackd_delivery_breaker_open", "events") != 1 || r.metric(t, "callbackd_delivery_breaker_openings_total", "events") != 1 {
			t.Error("the metrics do not show that the breaker is open")
		}
		if probes := int64(hours * 60 / 10); attempts.Load() > probes+20 {
			t.Errorf("%d attempts in a day, want a probe each 10 minutes", attempts.Load())
		}
		down.Store(false)
		later(11 * time.Minute)
		if len(got.seqs) != hours*each {
			t.Fatalf("%d of %d were delivered after the outage", len(got.seqs), hours*each)
		}
		if first := got.seqs[0]; !slices.IsSortedFunc(got.seqs[1:], func(a, b int64) int { return int(a - b) }) {
			t.Errorf("after the probe, which was %d, they came as %v", first, got.seqs[1:])
		}
		for seq := int64(1); seq <= last; seq++ {
			if d := b.status(seq, "events"); d.State != "done" || d.Attempts > 11 {
				t.Errorf("delivery %d is %s after %d attempts", seq, d.State, d.Attempts)
			}
		}
		if err := r.Ready(); err != nil || r.metric(t, "callbackd_delivery_breaker_open", "events") != 0 {
			t.Errorf("after the outage: %v", err)
		}
	})
}

// TestAnOpenBreakerIsTriedWithAnother: one callback that the handler never takes does not keep it from the others.
func TestAnOpenBreakerIsTriedWithAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		bad := b.append(1, "events")
		var got delivered
		b.start(named("events", dispatch.Policy{MaxAttempts: 30, Backoff: dispatch.Backoff{Min: 1, Max: 1}}, func(_ context.Context, d *handler.Delivery) error {
			if d.Seq == bad {
				return errRefused
			}
			got.add(d)
			return nil
		}))
		later(time.Hour)
		if d := b.status(bad, "events"); d.State != "pending" || d.Attempts != 10 {
			t.Errorf("alone, it is %s after %d attempts: probes are none of its attempts", d.State, d.Attempts)
		}
		for n := range 20 {
			want := b.append(1, "events")
			later(2 * time.Hour)
			if len(got.seqs) != n+1 || got.seqs[n] != want {
				t.Fatalf("delivered are %v, want %d at the end", got.seqs, want)
			}
		}
		b.wantState(bad, "events", "dead", 30, "attempts_exhausted")
	})
}

func TestRateIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.append(100, "events")
		var got delivered
		r := b.start(named("events", dispatch.Policy{Rate: dispatch.Rate{PerSecond: 2, Burst: 5}},
			func(_ context.Context, d *handler.Delivery) error { got.add(d); return nil }))
		later(10*time.Second + time.Millisecond)
		if len(got.seqs) != 25 {
			t.Errorf("%d in 10 s, want a burst of 5 and 20 more", len(got.seqs))
		}
		r.stop() // and what was claimed ahead is released
		if claimed, _, err := b.store.Claim(t.Context(), "events", 1000); err != nil || len(claimed) != 75 {
			t.Errorf("%d can be claimed after the stop, %v; want 75", len(claimed), err)
		}
	})
}

func TestAPausedHandlerIsGivenNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var got, other delivered
		events := named("events", dispatch.Policy{Rate: dispatch.Rate{PerSecond: 1, Burst: 1}}, func(_ context.Context, d *handler.Delivery) error { got.add(d); return nil })
		r := b.start(events, named("audit", dispatch.Policy{}, func(_ context.Context, d *handler.Delivery) error { other.add(d); return nil }))
		b.append(100, "events", "audit")
		later(10 * time.Second)
		if changed, err := b.store.Pause(t.Context(), "events", "ops"); err != nil || !changed {
			t.Fatalf("pause: %t, %v", changed, err)
		}
		before := len(got.seqs)
		later(time.Hour)
		if len(got.seqs) > before+1 || len(other.seqs) != 100 {
			t.Errorf("%d deliveries after the pause, and %d of the other handler", len(got.seqs)-before, len(other.seqs))
		}
		if err := r.Ready(); err == nil || err.Error() != "events is paused" {
			t.Errorf("readiness is %v", err)
		}
		if states := r.Handlers(); states[0].Unready != "is paused" || states[0].Breaker != dispatch.BreakerClosed || states[1].Unready != "" {
			t.Errorf("the handlers stand so: %+v", states)
		}

		r.stop() // a restart does not end it
		b.close()
		b.open()
		r = b.start(events)
		later(time.Hour)
		if len(got.seqs) > before+1 {
			t.Errorf("%d deliveries after a restart of a paused handler", len(got.seqs)-before)
		}
		list, err := b.store.Handlers(t.Context())
		i := slices.IndexFunc(list, func(h inbox.HandlerStatus) bool { return h.Name == "events" })
		if err != nil || list[i].PausedBy != "ops" || list[i].PausedAt.IsZero() || list[i].Pending != int64(100-len(got.seqs)) {
			t.Errorf("the inbox says %+v, %v", list, err)
		}
		if changed, err := b.store.Resume(t.Context(), "events"); err != nil || !changed {
			t.Fatalf("resume: %t, %v", changed, err)
		}
		later(2 * time.Minute)
		if len(got.seqs) != 100 || !slices.IsSorted(got.seqs) || r.Ready() != nil {
			t.Errorf("%d deliveries after the resumption, in order %t, %v", len(got.seqs), slices.IsSorted(got.seqs), r.Ready())
		}
	})
}

// TestOrderByDevice delivers to a handler that takes several at once and fails a third of the attempts: those of one device come one after
// the other in the order of arrival, over retries and restarts, and devices do not wait for each other.
func TestOrderByDevice(t *testing.T) {
	const devices, each, bad = 10, 20, 3 // the first of its device, which fails for good
	for order, rule := range map[inbox.Order]string{
		inbox.DeviceBlock: "a dead letter holds up its device until it is discarded", inbox.DeviceBury: "those behind a dead letter go on",
	} {
		t.Run(rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.register("events")
				if err := b.store.OrderBy(t.Context(), map[string]inbox.Order{"events": order}); err != nil {
					t.Fatal(err)
				}
				for n := range devices * each {
					b.appendOf(fmt.Sprint("device ", n%devices), "events")
				}
				w := &orderWatch{t: t, next: make(map[int64]int64), devices: devices}
				policy := dispatch.Policy{Concurrency: 8, MaxAttempts: 4, Breaker: dispatch.Breaker{Failures: dispatch.NoBreaker}}
				events := named("events", policy, func(_ context.Context, d *handler.Delivery) error {
					w.begin(d.Seq)
					<-time.After(10 * time.Millisecond)
					failed := d.Seq == bad || d.Attempt < 4 && (d.Seq*7+int64(d.Attempt))%3 == 0
					w.end(d.Seq, !failed || d.Attempt == 4)
					if failed {
						return errRefused
					}
					return nil
				})
				for range 5 {
					r := b.startOn(b.store, events)
					later(time.Second)
					r.stop()
				}
				b.startOn(b.store, events)
				later(time.Hour)
				b.wantState(bad, "events", "dead", 4, "attempts_exhausted")
				if order == inbox.DeviceBlock {
					if d := b.wantState(bad+devices, "events", "pending", 0, ""); !d.Blocked {
						t.Error("behind the dead letter a delivery is not blocked")
					}
					if changed, err := b.store.Discard(t.Context(), inbox.DeadQuery{Handler: "events"}, "ops", false); err != nil || changed.Deliveries != 1 {
						t.Fatalf("discard: %+v, %v", changed, err)
					}
					later(time.Hour)
					b.wantState(bad, "events", "discarded", 4, "attempts_exhausted")
				}
				if w.done != devices*each || w.most < 4 {
					t.Errorf("%d of %d deliveries have ended, %d at once at most", w.done, devices*each, w.most)
				}
			})
		})
	}
}

// orderWatch checks the order of deliveries whose entries are about one device after the other, around and around.
type orderWatch struct {
	t          *testing.T
	devices    int64
	mu         sync.Mutex
	next       map[int64]int64 // by device: how many have ended
	under      map[int64]bool
	done, most int
}

func (w *orderWatch) begin(seq int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	device := (seq - 1) % w.devices
	if w.under == nil {
		w.under = make(map[int64]bool)
	}
	if w.under[device] {
		w.t.Errorf("entry %d began beside another of its device", seq)
	}
	if want := device + 1 + w.next[device]*w.devices; seq != want {
		w.t.Errorf("entry %d began, and %d is the next of its device", seq, want)
	}
	w.under[device] = true
	w.most = max(w.most, len(w.under))
}

func (w *orderWatch) end(seq int64, forGood bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	device := (seq - 1) % w.devices
	delete(w.under, device)
	if forGood {
		w.next[device]++
		w.done++
	}
}

// TestWhatIsClaimedAheadIsBoundedInBytes: a handler that hangs keeps few large messages in memory, and many small ones.
func TestWhatIsClaimedAheadIsBoundedInBytes(t *testing.T) {
	for _, test := range []struct {
		rule   string
		size   int
		claims int // of one delivery each: the one that hangs, those in the queue, and one that waits for room in it
	}{
		{"small messages", 0, 1 + 64 + 1},
		{"messages of 1 MiB", 1 << 20, 1 + 3 + 1},
		{"messages of 7 MiB", 7 << 20, 1 + 1 + 1},
	} {
		t.Run(test.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				e := &endless{body: append(b.message(), bytes.Repeat([]byte(" "), test.size)...), due: 1}
				b.startOn(e, named("events", dispatch.Policy{Timeout: time.Hour}, func(ctx context.Context, _ *handler.Delivery) error {
					<-ctx.Done()
					return ctx.Err()
				}))
				later(time.Minute)
				if len(e.claims) != test.claims {
					t.Errorf("%d were claimed, want %d", len(e.claims), test.claims)
				}
			})
		})
	}
}
