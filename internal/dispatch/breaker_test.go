package dispatch

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// step is something that a breaker lives through.
type step struct {
	rule  string
	after time.Duration // since the step before
	do    func(b *breaker, now time.Time)
	want  BreakerState
}

func failed(b *breaker, now time.Time) {
	if n, probe, _ := b.admit(now, 1); n > 0 {
		b.fail(probe, now, 0)
	}
}

func succeeded(b *breaker, now time.Time) {
	if n, probe, _ := b.admit(now, 1); n > 0 {
		b.succeed(probe)
	}
}

func nothing(*breaker, time.Time) {}

func times(n int, do func(*breaker, time.Time)) func(*breaker, time.Time) {
	return func(b *breaker, now time.Time) {
		for range n {
			do(b, now)
		}
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	three := Breaker{Failures: 3, Open: Backoff{Min: time.Second, Max: 3 * time.Second}}
	for _, test := range []struct {
		rule   string
		policy Breaker
		steps  []step
	}{
		{"failures running open it, and a probe that succeeds closes it", three, []step{
			{"two failures do not", 0, times(2, failed), BreakerClosed},
			{"a success begins the count anew", 0, succeeded, BreakerClosed},
			{"two more do not", 0, times(2, failed), BreakerClosed},
			{"the third running does", 0, failed, BreakerOpen},
			{"it stays open for its time", time.Second - 1, nothing, BreakerOpen},
			{"then a probe may be made", 1, nothing, BreakerHalfOpen},
			{"and closes it", 0, succeeded, BreakerClosed},
			{"with nothing left of the failures", 0, times(2, failed), BreakerClosed},
		}},
		{"probes that fail double the time, up to the most", three, []step{
			{"opened", 0, times(3, failed), BreakerOpen},
			{"first probe", time.Second, failed, BreakerOpen},
			{"1 s is not enough any more", 2*time.Second - 1, nothing, BreakerOpen},
			{"2 s are", 1, failed, BreakerOpen},
			{"4 s would be more than the most", 3 * time.Second, failed, BreakerOpen},
			{"which it stays at", 3 * time.Second, succeeded, BreakerClosed},
			{"opened again", 0, times(3, failed), BreakerOpen},
			{"it begins with the least", time.Second, nothing, BreakerHalfOpen},
		}},
		{"a share opens it once there are enough attempts", Breaker{Failures: NoBreaker, Share: 0.5, Open: Backoff{Min: time.Second, Max: time.Second}}, []step{
			{"not with too few", 0, times(shareOf-1, failed), BreakerClosed},
			{"but with enough", 0, failed, BreakerOpen},
			{"closed", time.Second, succeeded, BreakerClosed},
			{"half of them succeed, and a little more", 0, times(shareOf/2+1, succeeded), BreakerClosed},
			{"and the others fail", 0, times(shareOf/2-1, failed), BreakerClosed},
			{"the oldest success is no longer counted", 0, failed, BreakerOpen},
		}},
		{"without failures and share it never opens", Breaker{Failures: NoBreaker, Open: Backoff{Min: 1, Max: 1}}, []step{
			{"whatever fails", 0, times(1000, failed), BreakerClosed},
		}},
		{"one probe at a time", three, []step{
			{"opened", 0, times(3, failed), BreakerOpen},
			{"a second is not begun", time.Second, func(b *breaker, now time.Time) {
				if n, probe, _ := b.admit(now, 5); !probe || n != 1 {
					panic("not one probe is admitted")
				}
				if n, _, next := b.admit(now, 5); n != 0 || !next.IsZero() {
					panic("one is admitted beside the probe")
				}
			}, BreakerHalfOpen},
			{"and one that is dropped makes room", 0, func(b *breaker, now time.Time) {
				b.drop(true)
				if n, probe, _ := b.admit(now, 5); n != 1 || !probe {
					panic("no other is admitted")
				}
			}, BreakerHalfOpen},
		}},
		{"what began before it opened changes nothing", three, []step{
			{"opened", 0, times(3, failed), BreakerOpen},
			{"a success", 0, func(b *breaker, _ time.Time) { b.succeed(false) }, BreakerOpen},
			{"failures", 0, func(b *breaker, now time.Time) {
				times(5, func(b *breaker, now time.Time) { b.fail(false, now, 0) })(b, now)
			}, BreakerOpen},
			{"the time is the same", time.Second, nothing, BreakerHalfOpen},
		}},
		{"the handler's own wish is waited for, within a day", three, []step{
			{"opened", 0, func(b *breaker, now time.Time) {
				times(3, func(b *breaker, now time.Time) { b.fail(false, now, time.Hour) })(b, now)
			}, BreakerOpen},
			{"for an hour", time.Hour - 1, nothing, BreakerOpen},
			{"and no longer", 1, func(b *breaker, now time.Time) { _, probe, _ := b.admit(now, 1); b.fail(probe, now, 1e4*time.Hour) }, BreakerOpen},
			{"for a day at most", 24 * time.Hour, nothing, BreakerHalfOpen},
		}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			b, now := breaker{Breaker: test.policy}, time.Unix(0, 0)
			for _, s := range test.steps {
				now = now.Add(s.after)
				s.do(&b, now)
				if got := b.state(now); got != s.want {
					t.Fatalf("%s: it is %s, want %s", s.rule, got, s.want)
				}
			}
		})
	}
}

// TestBreakerProperties states what holds whatever a breaker lives through: it never wedges, and never lets two probes through.
func TestBreakerProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := Breaker{Failures: rapid.IntRange(NoBreaker, 20).Draw(t, "failures"), Share: rapid.Float64Range(0, 1).Draw(t, "share"),
			Open: Backoff{Min: time.Duration(rapid.IntRange(0, 5).Draw(t, "min")) * time.Second}}.withDefaults()
		if errs := policy.validate(); len(errs) > 0 {
			t.Fatal(errs)
		}
		b, now := breaker{Breaker: policy}, time.Unix(0, 0)
		var under []bool // attempts under way: whether each is a probe
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			if len(under) == 0 || rapid.Bool().Draw(t, "begin") {
				closed := b.closed()
				n, probe, next := b.admit(now, 7)
				switch {
				case n == 0 && next.IsZero() && !b.probing, n == 0 && !next.IsZero() && !next.After(now):
					t.Fatalf("nothing is admitted, and the next look is at %v with a probe under way %t", next, b.probing)
				case n > 0 && probe == closed:
					t.Fatalf("admitted as a probe %t, with the breaker closed %t", probe, closed)
				case n > 0:
					under = append(under, probe)
				}
			} else {
				probe := under[0]
				under = under[1:]
				switch rapid.IntRange(0, 2).Draw(t, "end") {
				case 0:
					b.succeed(probe)
				case 1:
					b.fail(probe, now, 0)
				default:
					b.drop(probe)
				}
			}
			probes := 0
			for _, probe := range under {
				if probe {
					probes++
				}
			}
			if probes > 1 || (probes == 1) != b.probing {
				t.Fatalf("%d probes are under way, and it knows of one: %t", probes, b.probing)
			}
			if !b.closed() && b.until.After(now.Add(policy.Open.Max)) {
				t.Fatalf("open for longer than %s", policy.Open.Max)
			}
		}
	})
}
