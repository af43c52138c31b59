// Package dispatch takes deliveries from the inbox to the handlers.
//
//	claim --> decode again from the stored bytes --> handler, under time-out and panic guard --> decide --> settle
//
// Each handler has a runner of its own: one that is slow, stuck or broken costs the others nothing. The promise: every delivery is
// made until its handler says done, or it is buried with its cause. Schedules are stored, not slept, so a restart changes nothing.
// A shutdown is bounded whatever the handlers do, and counts no attempt.
//
// Delivery is at least once: after a crash, or when a shutdown overtakes a handler, what was under way is made again under the same
// delivery ID.
//
// Deliveries begin in the order of arrival, but a retry does not hold up those behind it, and with a concurrency of more than one they
// overtake each other. A handler whose order is by device gets the deliveries of one device one after the other, whatever fails.
//
// A handler that is down is not worn out: after some failures its breaker opens, and it is given a probe now and then, of another delivery
// each time. When one succeeds after others did not, what failed before goes first, so that a day's backlog comes in the order of arrival.
//
// A probe that fails tells of the handler, and is none of its delivery's attempts. Once the breaker has been open for three days it is one,
// so that a delivery which fails though the handler works is buried in the end even if there is no other.
//
// The limits: a handler that ignores its context keeps its place until it returns; a watchdog tells, and so does [Dispatcher.Ready].
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Store is the inbox as the dispatcher needs it.
type Store interface {
	Claim(ctx context.Context, handler string, limit int) (claimed []inbox.Delivery, next time.Time, err error)
	// Probe claims one delivery, which shows whether the handler works again.
	Probe(ctx context.Context, handler string) (claimed []inbox.Delivery, next time.Time, err error)
	Settle(...inbox.Settlement)
	ReleaseClaims(...inbox.DeliveryKey)
	Wake(handler string) <-chan struct{}
	// Hasten has what failed before claimed at once.
	Hasten(ctx context.Context, handler string) error
	Paused(handler string) bool
	// Busy says how many callbacks arrive a second if they are many, else 0: the acks go first then.
	Busy() (perSecond float64)
}

// Instance is one configured handler.
type Instance struct {
	Name    string
	Handler handler.Handler
	Policy  Policy
	// Unopened is set for a handler that could not be opened: it is unready until a delivery succeeds.
	Unopened bool
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
	// Tracer makes a span of each attempt; nil makes none.
	Tracer trace.Tracer
}

// Dispatcher runs the handlers.
type Dispatcher struct {
	o       Options
	runners []*runner
	drains  atomic.Int32
}

// New returns a dispatcher for o.Instances, whose names the store knows.
func New(o Options) *Dispatcher {
	if o.Grace == 0 {
		o.Grace = 20 * time.Second
	}
	d := &Dispatcher{o: o}
	for _, in := range o.Instances {
		in.Policy = in.Policy.WithDefaults()
		r := newRunner(&d.o, in, &d.drains)
		r.gauge()
		o.Metrics.ready.watch(in.Name, r.fault)
		d.runners = append(d.runners, r)
	}
	return d
}

// lastWord is how long handlers have to return once the grace period has ended their context.
const lastWord = time.Second

// Run delivers until ctx ends. It then claims no more, gives deliveries under way the grace period, ends their context, and returns
// within a second of that, whether or not the handlers have. What was not finished counts as no attempt and is delivered again.
func (d *Dispatcher) Run(ctx context.Context) error {
	hard, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var runners sync.WaitGroup
	for _, r := range d.runners {
		runners.Go(func() { r.run(ctx, hard) })
	}
	idle := make(chan struct{})
	go func() { // ends with the runners; only a handler that never returns keeps it
		runners.Wait()
		close(idle)
	}()
	<-ctx.Done()
	if within(d.o.Grace, idle) {
		return nil
	}
	stop()
	if within(lastWord, idle) {
		return nil
	}
	for _, r := range d.runners {
		r.abandon()
	}
	return nil
}

func within(limit time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// Ready names the handlers that are not taking deliveries: those that ignore a time-out, those that say so themselves, those that have failed
// several times running, and those that an operator has paused. It MUST NOT decide whether callbacks are received: a broken handler never costs a callback.
func (d *Dispatcher) Ready() error {
	var unready []string
	for _, r := range d.runners {
		if why := r.unready(); why != "" {
			unready = append(unready, fmt.Sprintf("%s %s", r.Name, why))
		}
	}
	if len(unready) == 0 {
		return nil
	}
	return errors.New(strings.Join(unready, "; "))
}

// HandlerState is how a handler stands.
type HandlerState struct {
	Name string
	// Unready says why it is not taking deliveries; empty if it is.
	Unready string
	Breaker BreakerState
	// Until is when an open breaker lets a probe through.
	Until time.Time
	// Failures counts the attempts that failed since the last that did not, UnderWay those being made, and Stuck those of them whose time-out
	// has passed.
	Failures, UnderWay, Stuck int
}

// Alive returns at once, unless a runner has got stuck with its lock. No handler is asked anything.
func (d *Dispatcher) Alive() {
	for _, r := range d.runners {
		r.alive()
	}
}

// Handlers says how each handler stands.
func (d *Dispatcher) Handlers() []HandlerState {
	var list []HandlerState
	for _, r := range d.runners {
		list = append(list, r.state())
	}
	return list
}
