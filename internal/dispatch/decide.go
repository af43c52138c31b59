package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/inbox"
)

// Policy says how deliveries to one handler are made. Zero fields mean the defaults.
type Policy struct {
	// Concurrency is how many are made at once; the default is the handler type's.
	Concurrency int
	// Rate bounds how many begin in a second; the default is no bound.
	Rate Rate
	// Timeout bounds one attempt; default 30 s.
	Timeout time.Duration
	// MaxAttempts is after how many the delivery is buried; default 500, which with the default backoff takes between one and two days.
	MaxAttempts int
	// Backoff is between the attempts.
	Backoff Backoff
	// Breaker keeps deliveries from a handler that is down.
	Breaker Breaker
}

// Rate bounds attempts: PerSecond on average, and Burst at once after a pause. Zero is no bound; the default of Burst is one second's worth.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Backoff is exponential with full jitter: before attempt n+1 passes a random time up to Min * 2^(n-1), and no more than Max.
type Backoff struct {
	Min time.Duration // default 1 s
	Max time.Duration // default 10 min
}

// WithDefaults sets the zero fields.
func (p Policy) WithDefaults() Policy {
	if p.Concurrency == 0 {
		p.Concurrency = 1
	}
	if p.Timeout == 0 {
		p.Timeout = 30 * time.Second
	}
	if p.MaxAttempts == 0 {
		p.MaxAttempts = 500
	}
	if p.Rate.Burst == 0 {
		p.Rate.Burst = int(math.Ceil(min(p.Rate.PerSecond, math.MaxInt32)))
	}
	p.Breaker = p.Breaker.withDefaults()
	if p.Backoff.Min == 0 {
		p.Backoff.Min = time.Second
	}
	if p.Backoff.Max == 0 {
		p.Backoff.Max = 10 * time.Minute
	}
	return p
}

// Reasons of a verdict that is not done.
const (
	reasonError     = "error"
	reasonTimeout   = "timeout"
	reasonPanic     = "panic"
	reasonPermanent = inbox.ReasonPermanent
	reasonExhausted = inbox.ReasonExhausted
	reasonDecode    = inbox.ReasonDecode
)

// errPanic and errDecode mark what is not the handler's own error.
var (
	errPanic  = errors.New("handler panicked")
	errDecode = errors.New("stored message cannot be decoded")
)

// decision is what becomes of a delivery after an attempt.
type decision struct {
	verdict inbox.Verdict
	reason  string
	dueAt   time.Time // of a retry
	// notBefore is set when the handler asked for a pause, which nothing makes shorter.
	notBefore bool
}

// longestRetryAfter bounds what a handler may ask for: a destination's nonsense must not postpone a delivery for good.
const longestRetryAfter = 24 * time.Hour

// decide is pure: random is in [0,1). A delay that the handler asks for is a lower bound; the backoff may be longer.
func decide(err error, attempt int, p Policy, now time.Time, random float64) decision {
	if err == nil {
		return decision{verdict: inbox.VerdictDone}
	}
	reason := reasonOf(err)
	switch {
	case reason == reasonPermanent || reason == reasonDecode:
		return decision{verdict: inbox.VerdictBury, reason: reason}
	case attempt >= p.MaxAttempts:
		return decision{verdict: inbox.VerdictBury, reason: reasonExhausted}
	}
	asked := handler.RetryDelay(err)
	delay := max(p.Backoff.delay(attempt, random), min(asked, longestRetryAfter))
	return decision{verdict: inbox.VerdictRetry, reason: reason, dueAt: now.Add(delay), notBefore: asked > 0}
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, errDecode):
		return reasonDecode
	case handler.IsPermanent(err):
		return reasonPermanent
	case errors.Is(err, errPanic):
		return reasonPanic
	case errors.Is(err, context.DeadlineExceeded):
		return reasonTimeout
	}
	return reasonError
}

func (b Backoff) delay(attempt int, random float64) time.Duration {
	ceiling := float64(b.Min) * math.Pow(2, float64(attempt-1))
	return time.Duration(random * min(ceiling, float64(b.Max)))
}

// mostConcurrency bounds the deliveries that one handler makes at once.
const mostConcurrency = 1024

// Validate reports what is wrong with a policy.
func (p Policy) Validate() []error {
	var errs []error
	for _, f := range []struct {
		name     string
		negative bool
	}{
		{"concurrency", p.Concurrency < 0}, {"timeout", p.Timeout < 0}, {"max_attempts", p.MaxAttempts < 0},
		{"rate.per_second", !(p.Rate.PerSecond >= 0)}, {"rate.burst", p.Rate.Burst < 0},
		{"backoff.min", p.Backoff.Min < 0}, {"backoff.max", p.Backoff.Max < 0},
	} {
		if f.negative {
			errs = append(errs, fmt.Errorf("%s: must not be negative", f.name))
		}
	}
	if p.Concurrency > mostConcurrency {
		errs = append(errs, fmt.Errorf("concurrency: %d is more than %d", p.Concurrency, mostConcurrency))
	}
	errs = append(errs, p.Breaker.validate()...)
	if d := p.WithDefaults(); d.Backoff.Min > d.Backoff.Max {
		errs = append(errs, fmt.Errorf("backoff.min: %s is more than the %s of backoff.max", d.Backoff.Min, d.Backoff.Max))
	}
	return errs
}
