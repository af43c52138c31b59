package platform

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"callbackd/internal/callback"
)

// load is an order that is being carried out.
type load struct {
	*flight
	order Order
	from  time.Time

	mu          sync.Mutex
	counters    map[callback.Service]*counter
	pendingNow  int
	late        int
	first, last time.Time // when first tries began
}

// item is a message and its place in the order.
type item struct {
	Message
	number int
}

func (l *load) send(ctx context.Context, next func() Message, progress func(Progress)) Report {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.run, cancel)()
	for _, service := range l.order.Services {
		l.counters[service] = newCounter()
	}
	l.from = time.Now()
	var parts sync.WaitGroup
	const ahead = 64
	items := make(chan item, ahead)
	parts.Go(func() {
		defer close(items)
		for i := 0; l.order.Count == 0 || i < l.order.Count; i++ {
			select {
			case items <- item{next(), i}:
			case <-ctx.Done():
				return
			}
		}
	})
	over := make(chan struct{})
	parts.Go(func() { l.tell(over, progress) })
	if l.order.Rate > 0 {
		l.openLoop(ctx, items)
	} else {
		l.closedLoop(ctx, items)
	}
	close(over)
	cancel()
	parts.Wait()
	return l.report()
}

// tell reports the progress each second.
func (l *load) tell(over <-chan struct{}, progress func(Progress)) {
	if progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			progress(l.progress())
		case <-over:
			return
		}
	}
}

// openLoop sends each message when it is due, whatever became of those before it.
func (l *load) openLoop(ctx context.Context, items <-chan item) {
	var sending sync.WaitGroup
	defer sending.Wait()
	spacing := rand.New(rand.NewPCG(l.order.Seed, 0xa991))
	due := l.from
	for i := range items {
		if l.over(due) || !wait(ctx, time.Until(due)) {
			return
		}
		if l.offer(i.Message) {
			since := due // which goes on to the next message
			sending.Go(func() {
				defer l.pending.give(len(i.Body))
				l.settle(i.Message, l.deliver(ctx, i.Message, l.rng(l.order.Seed, uint64(i.number))), since)
			})
		}
		if l.order.Poisson {
			due = due.Add(seconds(spacing.ExpFloat64() / l.order.Rate))
		} else {
			due = l.from.Add(seconds(float64(i.number+1) / l.order.Rate))
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// over reports whether the order's time is up at a moment.
func (l *load) over(at time.Time) bool {
	return l.order.Seconds > 0 && at.Sub(l.from) >= seconds(l.order.Seconds)
}

// closedLoop has each connection send a message when the one before has come to its end.
func (l *load) closedLoop(ctx context.Context, items <-chan item) {
	var connections sync.WaitGroup
	defer connections.Wait()
	for range l.order.Connections {
		connections.Go(func() {
			for i := range items {
				if l.over(time.Now()) || ctx.Err() != nil {
					return
				}
				if l.offer(i.Message) {
					l.settle(i.Message, l.deliver(ctx, i.Message, l.rng(l.order.Seed, uint64(i.number))), time.Time{})
					l.pending.give(len(i.Body))
				}
			}
		})
	}
}

// offer takes a message on, if there is room.
func (l *load) offer(m Message) bool {
	room := l.pending.take(len(m.Body))
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counters[m.Service]
	c.Offered++
	if room {
		l.pendingNow++
	} else {
		c.Unsent++
	}
	return room
}

// settle counts a message at its end, and keeps it if it was not acknowledged. One that had no listener is lost, as it is with the platform,
// unless it is a text from a device. A message that was never due, in a closed loop, was due when it was sent.
func (l *load) settle(m Message, d delivery, due time.Time) {
	keep := d.end != acked && d.end != unregistered && d.tries > 0 || d.end == unregistered && m.FromDevice
	queued := keep && l.keep(l.account, m, d)
	if due.IsZero() {
		due = d.first
	}
	took := time.Since(due)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pendingNow--
	c := l.counters[m.Service]
	c.settled(d, took)
	switch {
	case queued:
		c.Queued++
	case keep:
		c.Archived++
	}
	if d.tries == 0 {
		return
	}
	const late = 100 * time.Millisecond
	if d.first.Sub(due) > late {
		l.late++
	}
	if l.first.IsZero() || d.first.Before(l.first) {
		l.first = d.first
	}
	if d.first.After(l.last) {
		l.last = d.first
	}
}

func (l *load) progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Progress{Seconds: time.Since(l.from).Seconds(), Of: l.order.Count, Pending: l.pendingNow}
	for _, c := range l.counters {
		p.Tally.add(c.Tally)
	}
	return p
}

func (l *load) report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.order
	r := Report{Account: o.Account, Profile: l.profile.Name, Ack: l.profile.Ack, Seed: o.Seed, ClosedLoop: o.Rate == 0,
		Connections: o.Connections, AskedRate: o.Rate, Seconds: time.Since(l.from).Seconds(), Late: l.late}
	total := newCounter()
	for _, info := range callback.Catalogue() {
		if c := l.counters[info.Service]; c != nil {
			r.Services = append(r.Services, c.report(info.Service))
			total.add(c.Tally)
			total.latency.Merge(c.latency)
		}
	}
	r.Total = total.report("")
	if span := l.last.Sub(l.first).Seconds(); r.ClosedLoop && r.Seconds > 0 {
		r.Rate = float64(r.Total.Sent) / r.Seconds
	} else if span > 0 {
		r.Rate = float64(r.Total.Sent-1) / span // n messages have n-1 gaps
	}
	return r
}
