package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"callbackd/internal/inbox"

	"go.uber.org/zap"
)

// runner delivers to one handler.
type runner struct {
	*Options
	Instance
	log *zap.Logger

	mu       sync.Mutex
	busy     map[inbox.DeliveryKey]string // deliveries with the handler, and their IDs
	stuck    int                          // of them, those past their time-out
	failures int                          // attempts that failed since the last that did not
}

// ahead is how many claims a runner holds beyond those being handled, so that handlers do not wait for the database.
const ahead = 64

// run claims until ctx ends; what is under way may go on until hard ends.
func (r *runner) run(ctx, hard context.Context) {
	queue := make(chan inbox.Delivery)
	var workers sync.WaitGroup
	for range r.Policy.Concurrency {
		workers.Go(func() {
			for d := range queue {
				r.deliver(hard, d)
			}
		})
	}
	defer workers.Wait()
	defer close(queue)
	limit := ahead + r.Policy.Concurrency
	for ctx.Err() == nil {
		from := time.Now()
		claimed, next, err := r.Store.Claim(ctx, r.Name, limit)
		switch {
		case errors.Is(err, inbox.ErrBroken), errors.Is(err, inbox.ErrClosed):
			return // the inbox has told
		case err != nil && ctx.Err() == nil:
			r.log.Warn("cannot claim deliveries, trying again", zap.Error(err))
			r.wait(ctx, time.Now().Add(claimRetry), nil)
		case len(claimed) == 0:
			r.wait(ctx, next, r.Store.Wake(r.Name))
		default:
			r.hand(ctx, queue, claimed)
			if len(claimed) < limit { // no backlog
				r.wait(ctx, from.Add(claimEvery), nil)
			}
		}
	}
}

// claimEvery is the least time between two claims while arrivals come in: each transaction of theirs wakes the runner, and a claim for each
// would cost the acks more than it is worth.
const claimEvery = 5 * time.Millisecond

// claimRetry is the pause after a claim that failed. New arrivals do not cut it short: they would make it no pause at all.
const claimRetry = time.Second

// hand gives claimed deliveries to the workers. Those that nobody has taken when ctx ends are released.
func (r *runner) hand(ctx context.Context, queue chan<- inbox.Delivery, claimed []inbox.Delivery) {
	for i, delivery := range claimed {
		select {
		case queue <- delivery:
		case <-ctx.Done():
			r.Store.ReleaseClaims(keys(claimed[i:])...)
			return
		}
	}
}

// wait returns when ctx ends, at the time of next unless that is zero, or at a signal.
func (r *runner) wait(ctx context.Context, next time.Time, signal <-chan struct{}) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-signal:
	case <-due:
	}
}

// deliver makes one attempt and settles it.
func (r *runner) deliver(hard context.Context, d inbox.Delivery) {
	if hard.Err() != nil {
		r.Store.ReleaseClaims(d.DeliveryKey)
		return
	}
	from := time.Now()
	err := r.attempt(hard, d)
	if err != nil && hard.Err() != nil {
		r.Store.ReleaseClaims(d.DeliveryKey) // our doing, not the handler's
		return
	}
	now := time.Now()
	result := decide(err, d.Attempt, r.Policy, now, rand.Float64())
	r.Metrics.attempt(r.Name, result, now.Sub(from), now.Sub(d.Entry.ReceivedAt))
	r.note(result)
	r.Store.Settle(inbox.Settlement{
		DeliveryKey: d.DeliveryKey, Verdict: result.verdict, Attempts: d.Attempt, DueAt: result.dueAt, Reason: result.reason, Cause: cause(err),
	})
	r.report(d, result, now.Sub(from))
}

// report writes the attempt's one event; that of a success is for debugging, for the metrics count it. The error's text stays in the
// inbox: it may quote the callback.
func (r *runner) report(d inbox.Delivery, result decision, took time.Duration) {
	fields := []zap.Field{
		zap.String("delivery", d.ID), zap.Int64("seq", d.Seq), zap.String("service", d.Entry.Service), zap.String("kind", d.Entry.Kind),
		zap.String("account", d.Entry.Account), zap.Int("attempt", d.Attempt), zap.Stringer("verdict", result.verdict),
		zap.Duration("took", took), zap.Duration("lag", time.Since(d.Entry.ReceivedAt)),
	}
	if d.Replay > 0 {
		fields = append(fields, zap.Int64("replay", d.Replay))
	}
	if result.verdict == inbox.VerdictDone {
		r.log.Debug("delivered", fields...)
		return
	}
	fields = append(fields, zap.String("reason", result.reason), zap.String("cause", fmt.Sprintf("see `callbackd inbox show %d`", d.Seq)))
	if result.verdict == inbox.VerdictRetry {
		r.log.Warn("delivery failed, will be made again", append(fields, zap.Time("due_at", result.dueAt))...)
		return
	}
	r.log.Error("delivery buried", fields...)
}

// abandon gives up the deliveries that the handler still has after all its time: the program ends without it.
func (r *runner) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, id := range r.busy {
		r.log.Error("handler ignores the end of its context, left behind: the delivery will be made again",
			zap.String("delivery", id), zap.Int64("seq", key.Seq))
		r.Store.ReleaseClaims(key)
	}
}

// failuresUnready is how many failures running make a handler unready.
const failuresUnready = 3

// note keeps count of failures running. A permanent error is about the callback and not the handler, which has worked.
func (r *runner) note(result decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch result.reason {
	case "", reasonPermanent:
		r.failures, r.Unopened = 0, false
	case reasonDecode: // the handler has not seen it
	default:
		r.failures++
	}
	r.gauge()
}

// unready says why the handler is unready; empty if it is not.
func (r *runner) unready() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stuck > 0:
		return fmt.Sprintf("ignores its time-out in %d of %d places", r.stuck, r.Policy.Concurrency)
	case r.Unopened:
		return "cannot be opened; the log says why"
	case r.failures >= failuresUnready:
		return fmt.Sprintf("has failed %d times running", r.failures)
	}
	return ""
}

// gauge shows readiness. r.mu is held.
func (r *runner) gauge() {
	ready := 1.0
	if r.stuck > 0 || r.Unopened || r.failures >= failuresUnready {
		ready = 0
	}
	r.Metrics.ready.WithLabelValues(r.Name).Set(ready)
	r.Metrics.stuck.WithLabelValues(r.Name).Set(float64(r.stuck))
}

func keys(deliveries []inbox.Delivery) []inbox.DeliveryKey {
	list := make([]inbox.DeliveryKey, len(deliveries))
	for i := range deliveries {
		list[i] = deliveries[i].DeliveryKey
	}
	return list
}
