package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/inbox"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// runner delivers to one handler.
type runner struct {
	*Options
	Instance
	log      *zap.Logger
	counters *handlerMetrics
	standing asker
	limiter  *rate.Limiter
	drains   *atomic.Int32 // of all runners: those with a backlog
	// draining is set while this runner is one of them.
	draining bool
	changed  chan struct{} // the end of a probe
	room     chan struct{} // that the deliveries in the queue take

	mu      sync.Mutex
	busy    map[inbox.DeliveryKey]string // deliveries with the handler, and their IDs
	stuck   int                          // of them, those past their time-out
	breaker breaker
}

func newRunner(o *Options, in Instance, drains *atomic.Int32) *runner {
	limit := rate.Limit(in.Policy.Rate.PerSecond)
	if limit == 0 {
		limit = rate.Inf
	}
	return &runner{
		Options: o, Instance: in, log: o.Log.With(zap.String("handler", in.Name)), counters: o.Metrics.of(in.Name), drains: drains,
		limiter: rate.NewLimiter(limit, in.Policy.Rate.Burst), changed: make(chan struct{}, 1), room: make(chan struct{}, ahead),
		busy: make(map[inbox.DeliveryKey]string), breaker: breaker{Breaker: in.Policy.Breaker},
	}
}

// ahead is how many deliveries a runner claims beyond those being handled, and as many wait in its queue, so that handlers do not wait
// for the database. Large ones take the room of several there, each of roomBytes.
const (
	ahead     = 64
	roomBytes = 64 << 10
)

// run claims until ctx ends; what is under way may go on until hard ends.
func (r *runner) run(ctx, hard context.Context) {
	queue := make(chan assignment, ahead)
	var workers sync.WaitGroup
	for range r.Policy.Concurrency {
		workers.Go(func() {
			for a := range queue {
				for range a.room() {
					<-r.room
				}
				r.deliver(ctx, hard, a)
			}
		})
	}
	defer func() {
		close(queue)
		for a := range queue { // what no worker has taken
			r.drop(a.probe)
			r.Store.ReleaseClaims(a.delivery.DeliveryKey)
		}
		workers.Wait()
	}()
	for ctx.Err() == nil {
		limit, probe, next := r.admit(ahead + r.Policy.Concurrency)
		if limit == 0 {
			r.wait(ctx, next, r.changed)
			continue
		}
		from := time.Now()
		claimed, next, err := r.claim(ctx, limit, probe)
		if len(claimed) == 0 {
			r.drop(probe)
		}
		switch {
		case errors.Is(err, inbox.ErrBroken), errors.Is(err, inbox.ErrClosed):
			return // the inbox has told
		case err != nil && ctx.Err() == nil:
			r.log.Warn("cannot claim deliveries, trying again", zap.Error(err))
			r.wait(ctx, time.Now().Add(claimRetry), nil)
		case len(claimed) == 0:
			r.wait(ctx, next, r.Store.Wake(r.Name))
		default:
			r.hand(ctx, queue, claimed, probe)
			r.pace(ctx, from, len(claimed), len(claimed) == limit)
		}
	}
}

func (r *runner) claim(ctx context.Context, limit int, probe bool) ([]inbox.Delivery, time.Time, error) {
	if probe {
		return r.Store.Probe(ctx, r.Name)
	}
	return r.Store.Claim(ctx, r.Name, limit)
}

// pace keeps a pause between two claims. A backlog is taken as fast as the handler takes it, but while much arrives the acks go first: then
// all handlers with a backlog share what one may take, and none takes less than arrives, or it would fall behind for ever.
func (r *runner) pace(ctx context.Context, from time.Time, claimed int, backlog bool) {
	if backlog != r.draining {
		r.draining = backlog
		r.drains.Add(map[bool]int32{false: -1, true: 1}[backlog])
	}
	pause := claimEvery
	if backlog {
		arriving := r.Store.Busy()
		if arriving == 0 {
			return
		}
		keepsUp := time.Duration(float64(claimed) / (drainAtLeast * arriving) * float64(time.Second))
		pause = min(drainEvery*time.Duration(r.drains.Load())/time.Duration(runtime.GOMAXPROCS(0)), keepsUp)
	}
	r.wait(ctx, from.Add(pause), nil)
}

// assignment is what a worker gets.
type assignment struct {
	delivery inbox.Delivery
	probe    bool
}

// room is how much of the queue's room it takes.
func (a *assignment) room() int { return min(1+len(a.delivery.Entry.Body)/roomBytes, ahead) }

// admit says how many deliveries the breaker lets through, of limit, whether it is a probe, and when to look again if it is none.
func (r *runner) admit(limit int) (n int, probe bool, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaker.admit(time.Now(), limit)
}

// claimEvery is the least time between two claims while arrivals come in: each transaction of theirs wakes the runner, and a claim for each
// would cost the acks more than it is worth.
const claimEvery = 5 * time.Millisecond

// drainEvery is the least time between two claims of a backlog for each processor while much arrives: some 7,000 deliveries a second on
// two, which leaves the acks four fifths and more of their rate.
const drainEvery = 20 * time.Millisecond

// drainAtLeast is how many deliveries of a backlog are claimed for each callback that arrives meanwhile.
const drainAtLeast = 1.1

// claimRetry is the pause after a claim that failed. New arrivals do not cut it short: they would make it no pause at all.
const claimRetry = time.Second

// hand gives claimed deliveries to the workers, at the handler's rate. Those that nobody has taken when ctx ends, or when the handler is
// paused or its breaker opens, are released.
func (r *runner) hand(ctx context.Context, queue chan<- assignment, claimed []inbox.Delivery, probe bool) {
	for i, delivery := range claimed {
		if r.limiter.Wait(ctx) == nil && !r.refuses(probe) && r.enqueue(ctx, queue, assignment{delivery, probe}) {
			continue
		}
		r.drop(probe)
		r.Store.ReleaseClaims(keys(claimed[i:])...)
		return
	}
}

// enqueue waits for room in the queue, unless ctx ends.
func (r *runner) enqueue(ctx context.Context, queue chan<- assignment, a assignment) bool {
	for range a.room() {
		select {
		case r.room <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	queue <- a // which has as much room
	return true
}

// refuses reports whether what was claimed is not to be begun after all: the handler was paused, or its breaker has opened.
func (r *runner) refuses(probe bool) bool {
	if r.Store.Paused(r.Name) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !probe && !r.breaker.closed()
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

// deliver makes one attempt and settles it, unless ctx has ended. The attempt may go on until hard does.
func (r *runner) deliver(ctx, hard context.Context, a assignment) {
	d, probe := a.delivery, a.probe
	if ctx.Err() != nil || r.refuses(probe) {
		r.drop(probe)
		r.Store.ReleaseClaims(d.DeliveryKey)
		return
	}
	from := time.Now()
	traced, trace := r.traced(hard, d)
	err := r.attempt(traced, d)
	if err != nil && hard.Err() != nil {
		trace.release()
		r.drop(probe)
		r.Store.ReleaseClaims(d.DeliveryKey) // our doing, not the handler's
		return
	}
	now := time.Now()
	policy, made := r.Policy, d.Attempt
	spared := probe && !r.impatient(now)
	if spared { // its failure tells of the handler, and not of the delivery
		policy.MaxAttempts = math.MaxInt
	}
	result := decide(err, d.Attempt, policy, now, rand.Float64())
	trace.end(result)
	r.counters.attempt(result, now.Sub(from), now.Sub(d.Entry.ReceivedAt))
	r.note(hard, result, probe, err)
	if spared && result.verdict == inbox.VerdictRetry {
		made--
	}
	r.Store.Settle(inbox.Settlement{
		DeliveryKey: d.DeliveryKey, Verdict: result.verdict, Attempts: made, DueAt: result.dueAt, NotBefore: result.notBefore,
		Reason: result.reason, Cause: cause(err),
	})
	if probe {
		r.probed()
	}
	r.report(d, result, now.Sub(from), trace.field())
}

// report writes the attempt's one event; that of a success is for debugging, for the metrics count it. The error's text stays in the
// inbox: it may quote the callback.
func (r *runner) report(d inbox.Delivery, result decision, took time.Duration, trace zap.Field) {
	if result.verdict == inbox.VerdictDone && !r.log.Core().Enabled(zap.DebugLevel) {
		return // most attempts end here
	}
	fields := []zap.Field{
		zap.String("delivery", d.ID), zap.Int64("seq", d.Seq), zap.String("service", d.Entry.Service), zap.String("kind", d.Entry.Kind),
		zap.String("account", d.Entry.Account), zap.Int("attempt", d.Attempt), zap.Stringer("verdict", result.verdict),
		zap.Duration("took", took), zap.Duration("lag", time.Since(d.Entry.ReceivedAt)),
		trace,
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

func (r *runner) impatient(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaker.impatient(now)
}

// wasDown reports whether a probe has failed since the breaker opened. If not, what opened it was no outage but deliveries that fail for
// reasons of their own, and those keep to their backoff.
func (r *runner) wasDown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaker.missed
}

// note tells the breaker of an attempt's end. A permanent error is about the callback and not the handler, which has worked.
func (r *runner) note(ctx context.Context, result decision, probe bool, err error) {
	works := result.reason == "" || result.reason == reasonPermanent
	if probe && works && r.wasDown() {
		// Before anything else is claimed, so that what failed comes first.
		if err := r.Store.Hasten(ctx, r.Name); err != nil {
			r.log.Warn("what failed before is not made sooner", zap.Error(err))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case works:
		r.Unopened = false
		r.breaker.succeed(probe)
		if probe {
			r.log.Info("handler works again: its breaker has closed")
		}
	case result.reason == reasonDecode: // the handler has not seen it
		r.breaker.drop(probe)
	case r.breaker.fail(probe, time.Now(), handler.RetryDelay(err)):
		r.counters.openings.Inc()
		r.log.Warn("handler fails: its breaker has opened, and it is given a probe now and then", zap.Int("failures", r.breaker.running),
			zap.Time("until", r.breaker.until))
	}
	r.gauge()
}

// drop ends an attempt that came to nothing.
func (r *runner) drop(probe bool) {
	if !probe {
		return
	}
	r.mu.Lock()
	r.breaker.drop(probe)
	r.mu.Unlock()
	r.probed()
}

// probed has the runner look again.
func (r *runner) probed() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// unready says why the handler is unready; empty if it is not.
func (r *runner) unready() string { return r.state().Unready }

func (r *runner) state() HandlerState {
	paused, fault := r.Store.Paused(r.Name), r.fault()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := HandlerState{Name: r.Name, Unready: fault, Breaker: r.breaker.state(time.Now()), Failures: r.breaker.running, UnderWay: len(r.busy), Stuck: r.stuck}
	if s.Breaker != BreakerClosed {
		s.Until = r.breaker.until
	}
	if s.Unready == "" && paused {
		s.Unready = "is paused"
	}
	return s
}

func (r *runner) alive() {
	r.mu.Lock()
	defer r.mu.Unlock()
}

// fault says what is wrong with the handler; empty if nothing is.
func (r *runner) fault() string {
	var own error
	if h, ok := r.Handler.(handler.Readier); ok {
		own = r.standing.ask(h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stuck > 0:
		return fmt.Sprintf("ignores its time-out in %d of %d places", r.stuck, r.Policy.Concurrency)
	case r.Unopened:
		return "cannot be opened; the log says why"
	case own != nil:
		return "is not ready: " + cause(own)
	case r.breaker.running >= failuresUnready:
		return fmt.Sprintf("has failed %d times running", r.breaker.running)
	}
	return ""
}

// gauge shows how the handler stands. r.mu is held.
func (r *runner) gauge() {
	open := 0.0
	if !r.breaker.closed() {
		open = 1
	}
	r.counters.stuck.Set(float64(r.stuck))
	r.counters.breaker.Set(open)
}

func keys(deliveries []inbox.Delivery) []inbox.DeliveryKey {
	list := make([]inbox.DeliveryKey, len(deliveries))
	for i := range deliveries {
		list[i] = deliveries[i].DeliveryKey
	}
	return list
}
