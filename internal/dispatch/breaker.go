package dispatch

import (
	"errors"
	"fmt"
	"time"
)

// Breaker says when a handler is given nothing for a while, because what it is given fails: it counts as down, and a delivery that is not
// made uses up none of its attempts. Zero fields mean the defaults.
type Breaker struct {
	// Failures running open it; default 10. NoBreaker is never.
	Failures int
	// Share of failures among the last attempts opens it as well, from 0, which is the default and never, to 1.
	Share float64
	// Open is how long it stays open before one delivery is tried: Min at first, twice as long after each that fails, and no longer than Max.
	// Default 1 s to 1 min.
	Open Backoff
}

// NoBreaker for [Breaker.Failures] leaves a handler without a breaker that counts failures running.
const NoBreaker = -1

// shareOf is over how many attempts the share of failures is taken.
const shareOf = 50

func (b Breaker) withDefaults() Breaker {
	if b.Failures == 0 {
		b.Failures = 10
	}
	if b.Open.Min == 0 {
		b.Open.Min = time.Second
	}
	if b.Open.Max == 0 {
		b.Open.Max = max(time.Minute, b.Open.Min)
	}
	return b
}

func (b Breaker) validate() []error {
	var errs []error
	if b.Failures < NoBreaker {
		errs = append(errs, errors.New("breaker.failures: must not be negative"))
	}
	if !(b.Share >= 0 && b.Share <= 1) {
		errs = append(errs, fmt.Errorf("breaker.share: %v is not from 0 to 1", b.Share))
	}
	if b.Open.Min < 0 || b.Open.Max < 0 {
		errs = append(errs, errors.New("breaker.open: must not be negative"))
	} else if d := b.withDefaults(); d.Open.Min > d.Open.Max {
		errs = append(errs, fmt.Errorf("breaker.open.min: %s is more than the %s of breaker.open.max", d.Open.Min, d.Open.Max))
	}
	return errs
}

// BreakerState is how a breaker stands.
type BreakerState string

// The states of a breaker.
const (
	BreakerClosed   BreakerState = "closed"    // deliveries are made
	BreakerOpen     BreakerState = "open"      // none is
	BreakerHalfOpen BreakerState = "half-open" // one is, as a probe
)

// breaker gates claims. A gate of calls, such as gobreaker, is asked when a delivery is already claimed, and cannot say until when nothing
// need be claimed; and it counts what a shutdown cut off, which says nothing of the handler. It is pure: the caller has the clock and
// the lock.
type breaker struct {
	Breaker
	running int           // failures since the last success
	recent  [shareOf]bool // whether the last attempts failed
	seen    int           // attempts in recent, since it was last closed

	until   time.Time     // while it is not closed: when a probe may be made
	open    time.Duration // how long it was open before that; 0 while it is closed
	since   time.Time     // when it opened
	missed  bool          // since then a probe has failed
	probing bool
}

func (b *breaker) closed() bool { return b.open == 0 }

// patience is how long a breaker is open before its probes are attempts of their deliveries: longer than an outage that begins on a Friday.
const patience = 72 * time.Hour

// impatient reports whether the probe of a delivery that fails is to count as an attempt.
func (b *breaker) impatient(now time.Time) bool { return now.Sub(b.since) >= patience }

// state is how it stands.
func (b *breaker) state(now time.Time) BreakerState {
	switch {
	case b.closed():
		return BreakerClosed
	case now.Before(b.until):
		return BreakerOpen
	}
	return BreakerHalfOpen
}

// admit says how many deliveries may be claimed now, of limit. One that it admits while it is not closed is a probe, which the caller MUST
// end by succeed, fail or drop. If it admits none, next is when to look again, or zero while a probe is under way.
func (b *breaker) admit(now time.Time, limit int) (n int, probe bool, next time.Time) {
	switch {
	case b.closed():
		return limit, false, time.Time{}
	case now.Before(b.until):
		return 0, false, b.until
	case b.probing:
		return 0, false, time.Time{}
	}
	b.probing = true
	return 1, true, time.Time{}
}

// succeed notes that the handler works. A success that began before it opened is none of its probes.
func (b *breaker) succeed(probe bool) {
	switch {
	case probe:
		*b = breaker{Breaker: b.Breaker}
	case b.closed():
		b.running = 0
		b.remember(false)
	}
}

// fail notes a failure, and reports whether it opened the breaker. The handler asked not to be tried before asked has passed.
func (b *breaker) fail(probe bool, now time.Time, asked time.Duration) (opened bool) {
	b.running++
	switch {
	case probe:
		b.probing, b.missed = false, true
		b.shut(now, min(2*b.open, b.Open.Max), asked)
		return false
	case !b.closed():
		return false // it began before
	}
	failures := b.remember(true)
	if b.Failures > 0 && b.running >= b.Failures || b.Share > 0 && b.seen >= shareOf && float64(failures) >= b.Share*shareOf {
		b.since = now
		b.shut(now, b.Open.Min, asked)
		return true
	}
	return false
}

// shut opens the breaker: nothing is let through for a while.
func (b *breaker) shut(now time.Time, open, asked time.Duration) {
	b.open = open
	b.until = now.Add(max(open, min(asked, longestRetryAfter)))
}

// drop ends a probe of which nothing was learnt.
func (b *breaker) drop(probe bool) {
	if probe {
		b.probing = false
	}
}

// remember counts the failures among the last attempts, this one included.
func (b *breaker) remember(failed bool) (failures int) {
	b.recent[b.seen%shareOf] = failed
	b.seen++
	for _, f := range b.recent[:min(b.seen, shareOf)] {
		if f {
			failures++
		}
	}
	return failures
}
