package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/inbox"

	"pgregory.net/rapid"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	policy := Policy{MaxAttempts: 5, Backoff: Backoff{Min: time.Second, Max: time.Minute}}.WithDefaults()
	cause := errors.New("destination refused")
	for _, test := range []struct {
		rule    string
		err     error
		attempt int
		random  float64
		verdict inbox.Verdict
		reason  string
		delay   time.Duration
	}{
		{"no error is done", nil, 1, .5, inbox.VerdictDone, "", 0},
		{"no error at the last attempt is done", nil, 5, .5, inbox.VerdictDone, "", 0},
		{"an error is a retry", cause, 1, .5, inbox.VerdictRetry, "error", time.Second / 2},
		{"the delay doubles", cause, 2, .5, inbox.VerdictRetry, "error", time.Second},
		{"the delay doubles again", cause, 3, .5, inbox.VerdictRetry, "error", 2 * time.Second},
		{"jitter is full: it may be nothing", cause, 3, 0, inbox.VerdictRetry, "error", 0},
		{"the last attempt buries", cause, 5, .5, inbox.VerdictBury, "attempts_exhausted", 0},
		{"a policy made stricter buries what is past it", cause, 9, .5, inbox.VerdictBury, "attempts_exhausted", 0},
		{"Permanent buries at once", handler.Permanent(cause), 1, .5, inbox.VerdictBury, "permanent", 0},
		{"Permanent buries when wrapped", fmt.Errorf("post event: %w", handler.Permanent(cause)), 1, .5, inbox.VerdictBury, "permanent", 0},
		{"Permanent wins over RetryAfter", handler.RetryAfter(time.Hour, handler.Permanent(cause)), 1, .5, inbox.VerdictBury, "permanent", 0},
		{"RetryAfter is waited for", handler.RetryAfter(time.Hour, cause), 1, .5, inbox.VerdictRetry, "error", time.Hour},
		{"RetryAfter does not shorten the backoff", handler.RetryAfter(time.Millisecond, cause), 1, .5, inbox.VerdictRetry, "error", time.Second / 2},
		{"RetryAfter of the past changes nothing", handler.RetryAfter(-time.Hour, cause), 1, .5, inbox.VerdictRetry, "error", time.Second / 2},
		{"RetryAfter is bounded by a day", handler.RetryAfter(1000*time.Hour, cause), 1, .5, inbox.VerdictRetry, "error", 24 * time.Hour},
		{"RetryAfter adds no attempts", handler.RetryAfter(time.Hour, cause), 5, .5, inbox.VerdictBury, "attempts_exhausted", 0},
		{"a time-out is a retry", fmt.Errorf("%w: %w", context.DeadlineExceeded, cause), 1, .5, inbox.VerdictRetry, "timeout", time.Second / 2},
		{"a panic is a retry", fmt.Errorf("%w: index out of range", errPanic), 1, .5, inbox.VerdictRetry, "panic", time.Second / 2},
		{"what cannot be decoded is buried", fmt.Errorf("%w: %w", errDecode, cause), 1, .5, inbox.VerdictBury, "decode_failed", 0},
		{"a decoder's panic is no handler's", fmt.Errorf("%w: %w", errDecode, errPanic), 1, .5, inbox.VerdictBury, "decode_failed", 0},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			got := decide(test.err, test.attempt, policy, now, test.random)
			want := decision{verdict: test.verdict, reason: test.reason}
			if want.verdict == inbox.VerdictRetry {
				want.dueAt, want.notBefore = now.Add(test.delay), handler.RetryDelay(test.err) > 0
			}
			if got != want {
				t.Errorf("decided %+v, want %+v", got, want)
			}
		})
	}
}

// TestDecideProperties states what holds for every policy, attempt, error and random number.
func TestDecideProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		minimum := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "min"))
		policy := Policy{
			MaxAttempts: rapid.IntRange(1, 2000).Draw(t, "max attempts"),
			Backoff:     Backoff{Min: minimum, Max: minimum + time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "max-min"))},
		}.WithDefaults()
		attempt := rapid.OneOf(rapid.IntRange(1, 3000), rapid.Just(math.MaxInt)).Draw(t, "attempt")
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		asked := time.Duration(rapid.Int64().Draw(t, "retry after"))
		now := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 0)
		err := rapid.SampledFrom([]error{
			nil, errors.New("refused"), handler.Permanent(errors.New("gone")), handler.RetryAfter(asked, errors.New("busy")),
			fmt.Errorf("%w: slow", context.DeadlineExceeded), fmt.Errorf("%w: nil map", errPanic), fmt.Errorf("%w: cut", errDecode),
		}).Draw(t, "error")

		got := decide(err, attempt, policy, now, random)
		if again := decide(err, attempt, policy, now, random); again != got {
			t.Fatalf("not pure: %+v, then %+v", got, again)
		}
		switch {
		case (got.verdict == inbox.VerdictDone) != (err == nil):
			t.Fatalf("verdict %s on error %v", got.verdict, err)
		case (got.reason == "") != (err == nil):
			t.Fatalf("reason %q on error %v", got.reason, err)
		case handler.IsPermanent(err) && got.verdict != inbox.VerdictBury:
			t.Fatalf("a permanent error came to %s", got.verdict)
		case attempt >= policy.MaxAttempts && got.verdict == inbox.VerdictRetry:
			t.Fatalf("attempt %d of %d is to be made again", attempt, policy.MaxAttempts)
		case got.verdict != inbox.VerdictRetry && !got.dueAt.IsZero():
			t.Fatalf("%s has a due time", got.verdict)
		}
		if got.verdict != inbox.VerdictRetry {
			return
		}
		delay := got.dueAt.Sub(now)
		longest := max(policy.Backoff.Max, min(handler.RetryDelay(err), longestRetryAfter))
		if delay < 0 || delay > longest {
			t.Fatalf("delay %s is not between 0 and %s", delay, longest)
		}
		if wanted := min(handler.RetryDelay(err), longestRetryAfter); delay < wanted {
			t.Fatalf("delay %s is shorter than the %s that the handler asked for", delay, wanted)
		}
		if handler.RetryDelay(err) <= 0 && attempt < 20 && delay > min(policy.Backoff.Min<<(attempt-1), policy.Backoff.Max) {
			t.Fatalf("delay %s is longer than the backoff of attempt %d", delay, attempt)
		}
	})
}

// TestJitterIsFull draws many delays of one attempt: they fill the whole span and not only its end.
func TestJitterIsFull(t *testing.T) {
	t.Parallel()
	b := Backoff{Min: time.Second, Max: time.Hour}
	const attempt, ceiling, draws, parts = 5, 16 * time.Second, 1600, 16
	var seen [parts]int
	for i := range draws {
		d := b.delay(attempt, (float64(i)+.5)/draws)
		if d < 0 || d >= ceiling {
			t.Fatalf("delay %s of attempt %d is not within %s", d, attempt, ceiling)
		}
		seen[int(d*parts/ceiling)]++
	}
	for i, n := range seen {
		if n != draws/parts {
			t.Errorf("part %d of the span got %d draws, want %d", i, n, draws/parts)
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   string
		policy Policy
		want   string // of the problems, joined; empty for none
	}{
		{"nothing set is valid", Policy{}, ""},
		{"the most", Policy{Concurrency: mostConcurrency}, ""},
		{"negative values are named by key", Policy{Concurrency: -1, Timeout: -1, MaxAttempts: -1, Backoff: Backoff{Min: -1, Max: -1}},
			"concurrency: must not be negative; timeout: must not be negative; max_attempts: must not be negative; " +
				"backoff.min: must not be negative; backoff.max: must not be negative"},
		{"concurrency is bounded", Policy{Concurrency: 1 << 20}, "concurrency: 1048576 is more than 1024"},
		{"min above max", Policy{Backoff: Backoff{Min: time.Hour, Max: time.Minute}}, "backoff.min: 1h0m0s is more than the 1m0s of backoff.max"},
		{"min above the default max", Policy{Backoff: Backoff{Min: time.Hour}}, "backoff.min: 1h0m0s is more than the 10m0s of backoff.max"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, err := range test.policy.Validate() {
				got = append(got, err.Error())
			}
			if s := strings.Join(got, "; "); s != test.want {
				t.Errorf("problems %q, want %q", s, test.want)
			}
		})
	}
}

func TestCauseIsBounded(t *testing.T) {
	t.Parallel()
	long := cause(errors.New(strings.Repeat("é", 5000)))
	if len(long) > 1100 || !strings.HasSuffix(long, "...") || strings.ToValidUTF8(long, "") != long {
		t.Errorf("cause of %d bytes ends in %q", len(long), long[len(long)-8:])
	}
	if got := cause(nil); got != "" {
		t.Errorf("cause of no error is %q", got)
	}
}
