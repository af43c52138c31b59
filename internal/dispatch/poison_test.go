package dispatch_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
)

// TestPoisonKeepsNothingFromTheOthers: callbacks that the handler never takes stand before the others, more of them than open its breaker.
// Those others are made soon, each that arrives later too, and the poison is buried after as many attempts as it may have.
func TestPoisonKeepsNothingFromTheOthers(t *testing.T) {
	for _, test := range []struct {
		rule     string
		bad, max int
		soon     time.Duration
	}{
		{"two", 2, 30, time.Minute},
		{"more than open a breaker", 25, 8, 10 * time.Minute},
	} {
		t.Run(test.rule, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				const good = 100
				last := b.append(test.bad, "events")
				b.append(good, "events")
				var got delivered
				var down atomic.Bool
				down.Store(true)
				b.start(named("events", dispatch.Policy{MaxAttempts: test.max}, func(_ context.Context, d *handler.Delivery) error {
					if down.Load() || d.Seq <= last {
						return errRefused
					}
					got.add(d)
					return nil
				}))
				later(time.Hour)
				down.Store(false)
				later(time.Minute + test.soon)
				if len(got.seqs) != good {
					t.Fatalf("%d of %d were made within %s of the outage's end", len(got.seqs), good, time.Minute+test.soon)
				}
				const more = 30
				for range more {
					b.append(1, "events")
					later(10 * time.Minute)
				}
				if len(got.seqs) != good+more {
					t.Errorf("%d of those that arrived later were made", len(got.seqs)-good)
				}
				for seq := int64(1); seq <= last; seq++ {
					b.wantState(seq, "events", "dead", test.max, "attempts_exhausted")
				}
			})
		})
	}
}

// TestProbesUseUpNoAttemptForThreeDays: an outage of a long weekend buries nothing, though a single callback is all that there is to try;
// one that fails for longer, alone, is buried in the end.
func TestProbesUseUpNoAttemptForThreeDays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		seq := b.append(1, "events")
		var probes atomic.Int64
		policy := dispatch.Policy{MaxAttempts: 15, Breaker: dispatch.Breaker{Open: dispatch.Backoff{Max: time.Hour}}}
		b.start(named("events", policy, func(context.Context, *handler.Delivery) error { probes.Add(1); return errRefused }))
		later(71 * time.Hour)
		if d := b.status(seq, "events"); d.State != "pending" || d.Attempts != 10 || probes.Load() < 60 {
			t.Errorf("after 71 hours it is %s, with %d attempts in %d tries", d.State, d.Attempts, probes.Load())
		}
		later(8 * time.Hour)
		b.wantState(seq, "events", "dead", 15, "attempts_exhausted")
	})
}
