package platform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

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
