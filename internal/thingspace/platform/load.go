package platform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"callbackd/internal/callback"

	"go.uber.org/zap"
)

// Order says what to send.
type Order struct {
	// Account is whose listeners get it; empty means the first account's.
	Account string `json:"account,omitempty"`
	// Services are served in turn; none means all that have a listener.
	Services []callback.Service `json:"services,omitempty"`
	// Devices are how many each request is for that the messages answer: as many messages under one RequestId, or one with all of them,
	// where the service answers so. 0 leaves it to chance.
	Devices int `json:"devices,omitempty"`
	// Count and Seconds end it, whichever is reached first. Without either, each service gets one message.
	Count   int     `json:"count,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Rate is how many messages are due in a second, whatever becomes of them: an open loop. With 0, each connection sends a message when
	// it has the answer to the one before: a closed loop.
	Rate float64 `json:"rate,omitempty"`
	// Poisson spaces messages as independent senders would, and not evenly.
	Poisson bool `json:"poisson,omitempty"`
	// Connections are the tries that may be on their way at once; 0 means 256, or 16 in a closed loop.
	Connections int `json:"connections,omitempty"`
	// Seed decides what is generated, and every other choice; 0 means another for each order.
	Seed uint64 `json:"seed,omitempty"`
	// Sample is the name of a published callback, or Message one in full, to be sent as it is but for the credentials.
	Sample  string `json:"sample,omitempty"`
	Message string `json:"message,omitempty"`
}

// The bounds of an order.
const (
	mostMessages      = 100_000_000
	mostRate          = 100_000
	mostConnections   = 4096
	openConnections   = 256
	closedConnections = 16
)

// ErrOrder says that an order cannot be carried out as it is.
var ErrOrder = errors.New("the order cannot be carried out")

func orderError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrOrder}, args...)...)
}

// complete checks an order and fills in what it leaves open.
func (s *Simulator) complete(o Order) (Order, error) {
	o.Account = cmp.Or(o.Account, s.options.Accounts[0].Name)
	switch {
	case !slices.ContainsFunc(s.options.Accounts, func(a Account) bool { return a.Name == o.Account }):
		return o, orderError("there is no account %q", o.Account)
	case o.Count < 0 || o.Count > mostMessages:
		return o, orderError("the count is not within 0 and %d", mostMessages)
	case !(o.Seconds >= 0 && o.Seconds <= 7*24*3600):
		return o, orderError("the time is not within 0 and 7 days")
	case !(o.Rate >= 0 && o.Rate <= mostRate):
		return o, orderError("the rate is not within 0 and %d in a second", mostRate)
	case o.Connections < 0 || o.Connections > mostConnections:
		return o, orderError("the connections are not within 0 and %d", mostConnections)
	case o.Devices < 0 || o.Devices > MaxDevices:
		return o, orderError("the devices of a request are not within 0 and %d", MaxDevices)
	case o.Devices > 0 && (o.Sample != "" || o.Message != ""):
		return o, orderError("the devices are those of generated messages, and it has a message of its own")
	case o.Sample != "" && o.Message != "":
		return o, orderError("it names a sample and has a message")
	}
	if err := o.completeMessage(); err != nil {
		return o, err
	}
	if len(o.Services) == 0 {
		for _, r := range s.registry.list(o.Account) {
			o.Services = append(o.Services, r.Service)
		}
	}
	if len(o.Services) == 0 {
		return o, orderError("account %s has no listener: register one, with `callbackd registrations apply`", o.Account)
	}
	return s.defaults(o), nil
}

// completeMessage checks the services, and finds the message of a sample and the service that it is of.
func (o *Order) completeMessage() error {
	if o.Sample != "" {
		i := slices.IndexFunc(Samples(), func(sample Sample) bool { return sample.Name == o.Sample })
		if i < 0 {
			return orderError("there is no sample %q", o.Sample)
		}
		o.Message = string(Samples()[i].Body)
		if len(o.Services) == 0 {
			o.Services = []callback.Service{Samples()[i].Service}
		}
	}
	for _, service := range o.Services {
		if _, ok := callback.Lookup(string(service)); !ok {
			return orderError("there is no service %q", service)
		}
	}
	if o.Message != "" && len(o.Services) != 1 {
		return orderError("name the one service that the message is for")
	}
	return nil
}

func (s *Simulator) defaults(o Order) Order {
	if o.Count == 0 && o.Seconds == 0 {
		o.Count = len(o.Services)
	}
	o.Connections = cmp.Or(o.Connections, map[bool]int{true: closedConnections, false: openConnections}[o.Rate == 0])
	if o.Seed == 0 {
		o.Seed = cmp.Or(rand.New(rand.NewPCG(s.sender.seed, s.sender.orders.Add(1))).Uint64()>>1, 1)
	}
	return o
}

// Send carries out an order, and tells of its progress each second. It returns when each message has come to its end, or soon after ctx
// has ended, which is an error; the report holds what was done until then.
func (s *Simulator) Send(ctx context.Context, o Order, progress func(Progress)) (Report, error) {
	o, err := s.complete(o)
	if err != nil {
		return Report{}, err
	}
	next, err := s.messages(o)
	if err != nil {
		return Report{}, err
	}
	var report Report
	done := make(chan struct{})
	if notStarted := s.start(ctx, func(run context.Context) {
		l := &load{flight: s.sender.flight(run, o.Account, o.Connections), order: o, counters: make(map[callback.Service]*counter)}
		report = l.send(ctx, next, progress)
		l.log.Info("order", zap.String("account", o.Account), zap.Uint64("seed", o.Seed), zap.Int("offered", report.Total.Offered),
			zap.Int("acked", report.Total.Acked), zap.Int("refused", report.Total.Refused), zap.Int("lost", report.Total.Lost))
		if err = ctx.Err(); run.Err() != nil {
			err = errStopping
		}
		close(done)
	}); notStarted != nil {
		return Report{}, notStarted
	}
	<-done
	return report, err
}

// messages are those of an order, one after the other.
func (s *Simulator) messages(o Order) (func() Message, error) {
	if o.Message == "" {
		g, turn := NewGenerator(o.Seed, Credentials{}), -1 // each try fills in those of the moment
		return func() Message {
			turn = (turn + 1) % len(o.Services)
			return g.NextOf(o.Services[turn], o.Devices)
		}, nil
	}
	m, err := describe(o.Services[0], []byte(o.Message))
	if err != nil {
		return nil, orderError("the message cannot be read: %w", err)
	}
	return func() Message { return m }, nil
}

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
