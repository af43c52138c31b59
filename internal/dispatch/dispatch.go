// Package dispatch takes deliveries from the inbox to the handlers.
//
//	claim --> decode again from the stored bytes --> handler, under time-out and panic guard --> decide --> settle
//
// Each handler has a runner of its own, and a broken one costs the others nothing. The promise: every delivery is made until its
// handler says done, or it is buried with its cause; schedules are stored, not slept, so a restart changes nothing; a shutdown
// counts no attempt.
//
// The limits: order is that of the due times, and only with a concurrency of one. A handler that ignores its context keeps its
// place until it returns; a watchdog tells.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"

	"go.uber.org/zap"
)

// Store is the inbox as the dispatcher needs it.
type Store interface {
	Claim(ctx context.Context, handler string, limit int) (claimed []inbox.Delivery, next time.Time, err error)
	Settle(...inbox.Settlement)
	ReleaseClaims(...inbox.DeliveryKey)
	Wake(handler string) <-chan struct{}
}

// Instance is one configured handler.
type Instance struct {
	Name    string
	Handler handler.Handler
	Policy  Policy
}

// Options of a Dispatcher.
type Options struct {
	Store     Store
	Instances []Instance
	// Decode reads a stored body.
	Decode  func(body []byte) (*callback.Callback, error)
	Log     *zap.Logger
	Metrics *Metrics
	// Grace is how long deliveries under way may go on after Run's context has ended; default 20 s.
	Grace time.Duration
}

// Dispatcher runs the handlers.
type Dispatcher struct{ o Options }

// New returns a dispatcher for o.Instances, whose names the store knows.
func New(o Options) *Dispatcher {
	if o.Grace == 0 {
		o.Grace = 20 * time.Second
	}
	for i := range o.Instances {
		o.Instances[i].Policy = o.Instances[i].Policy.WithDefaults()
		o.Metrics.prepare(o.Instances[i].Name)
	}
	return &Dispatcher{o}
}

// Run delivers until ctx ends, and returns when nothing is under way any more or the grace period is over. Deliveries that were
// not finished then are made again.
func (d *Dispatcher) Run(ctx context.Context) error {
	hard, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(d.o.Grace, stop) })
	var runners sync.WaitGroup
	for i := range d.o.Instances {
		r := &runner{Options: &d.o, Instance: &d.o.Instances[i], log: d.o.Log.With(zap.String("handler", d.o.Instances[i].Name))}
		runners.Go(func() { r.run(ctx, hard) })
	}
	runners.Wait()
	return nil
}

// runner delivers to one handler.
type runner struct {
	*Options
	*Instance
	log *zap.Logger
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
	for ctx.Err() == nil {
		claimed, next, err := r.Store.Claim(ctx, r.Name, ahead+r.Policy.Concurrency)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, inbox.ErrBroken), errors.Is(err, inbox.ErrClosed):
			return // the inbox has told
		case err != nil:
			r.log.Warn("cannot claim deliveries, trying again", zap.Error(err))
			next = time.Now().Add(time.Second)
		}
		for i, delivery := range claimed {
			select {
			case queue <- delivery:
				continue
			case <-ctx.Done():
			}
			r.Store.ReleaseClaims(keys(claimed[i:])...)
			return
		}
		if len(claimed) == 0 {
			r.wait(ctx, next)
		}
	}
}

// wait returns when there may be something to claim.
func (r *runner) wait(ctx context.Context, next time.Time) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-r.Store.Wake(r.Name):
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
	r.Store.Settle(inbox.Settlement{
		DeliveryKey: d.DeliveryKey, Verdict: result.verdict, Attempts: d.Attempt, DueAt: result.dueAt, Reason: result.reason, Cause: cause(err),
	})
	r.report(d, result, now.Sub(from))
}

// report writes the delivery's one event. The error's text stays in the inbox: it may quote the callback.
func (r *runner) report(d inbox.Delivery, result decision, took time.Duration) {
	fields := []zap.Field{
		zap.String("delivery", d.ID), zap.Int64("seq", d.Seq), zap.Int("attempt", d.Attempt),
		zap.Stringer("verdict", result.verdict), zap.Duration("took", took),
	}
	switch result.verdict {
	case inbox.VerdictDone:
		r.log.Debug("delivered", fields...)
	case inbox.VerdictRetry:
		r.log.Warn("delivery failed, will be made again", append(fields, zap.String("reason", result.reason), zap.Time("due_at", result.dueAt),
			zap.String("cause", fmt.Sprintf("callbackd inbox show %d", d.Seq)))...)
	case inbox.VerdictBury:
		r.log.Error("delivery buried", append(fields, zap.String("reason", result.reason),
			zap.String("cause", fmt.Sprintf("callbackd inbox show %d", d.Seq)))...)
	}
}

// attempt runs the handler.
func (r *runner) attempt(ctx context.Context, d inbox.Delivery) error {
	cb, err := r.Decode(d.Entry.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", errDecode, err)
	}
	e := &d.Entry
	delivery := &handler.Delivery{
		ID: d.ID, Attempt: d.Attempt, Replay: d.Replay > 0,
		EntryID: e.ID, Seq: e.Seq, ReceivedAt: e.ReceivedAt, Service: callback.Service(e.Service), Account: e.Account,
		Flags: e.Flags(), Callback: cb,
	}
	ctx, cancel := context.WithTimeout(ctx, r.Policy.Timeout)
	defer cancel()
	defer r.watch(d)()
	return r.guarded(ctx, delivery)
}

// guarded calls the handler and turns a panic into an error. The stack goes to the log, where code is named and data is not.
func (r *runner) guarded(ctx context.Context, d *handler.Delivery) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("handler panicked", zap.String("delivery", d.ID), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	err = r.Handler.Handle(ctx, d)
	if err != nil && ctx.Err() != nil && !handler.IsPermanent(err) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// stuckAfter is how long after its time-out a handler is called stuck.
const stuckAfter = 10 * time.Second

// watch tells of a handler that does not return though its time-out has passed.
func (r *runner) watch(d inbox.Delivery) (stop func()) {
	var mu sync.Mutex
	stuck, stopped := false, false
	timer := time.AfterFunc(r.Policy.Timeout+stuckAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		stuck = true
		r.Metrics.stuck.WithLabelValues(r.Name).Inc()
		r.log.Error("handler ignores its time-out and keeps a place until it returns",
			zap.String("delivery", d.ID), zap.Int64("seq", d.Seq), zap.Duration("timeout", r.Policy.Timeout))
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		if stuck {
			r.Metrics.stuck.WithLabelValues(r.Name).Dec()
		}
	}
}

// cause bounds the text that is kept of an error.
func cause(err error) string {
	const longest = 1 << 10
	if err == nil {
		return ""
	}
	s := err.Error()
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return s
}

func keys(deliveries []inbox.Delivery) []inbox.DeliveryKey {
	list := make([]inbox.DeliveryKey, len(deliveries))
	for i := range deliveries {
		list[i] = deliveries[i].DeliveryKey
	}
	return list
}
