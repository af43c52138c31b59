package platform

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Account is a customer's account, and the log-in that may manage it. Accounts may share a log-in.
type Account struct {
	Name  string
	Login Credentials
}

// Options are what a simulator is made from.
type Options struct {
	Profile  Profile
	Accounts []Account
	// Seed decides what is random in the sending.
	Seed uint64
	// Clock is how many times faster pauses pass, such as the 5 minutes before a retry; 0 means 1. No time-out is shortened.
	Clock float64
	// Now is the time by which sessions and old passwords expire; nil means [time.Now].
	Now func() time.Time
	// RootCAs are trusted in listeners' certificates; nil means the system's.
	RootCAs *x509.CertPool
	// StrictPorts refuses a URL on loopback too whose port the platform would not take. Everywhere else it is refused anyway.
	StrictPorts bool
	// ListPasswords makes GetCallbackRegistrations answer with the passwords, as the platform's REST interface does.
	ListPasswords bool
	Log           *zap.Logger
}

// Simulator stands in for the platform: its SOAP services, and its sender. Its state is in memory alone.
type Simulator struct {
	options  Options
	log      *zap.Logger
	registry *registry
	// work is what [Simulator.Run] is to do.
	work chan func(context.Context)
}

// New builds a simulator. Nothing runs yet.
func New(o Options) (*Simulator, error) {
	if len(o.Accounts) == 0 {
		return nil, errors.New("simulator: it needs an account")
	}
	if o.Clock < 0 {
		return nil, fmt.Errorf("simulator: clock factor %g is negative", o.Clock)
	}
	o.Clock = cmp.Or(o.Clock, 1)
	o.Accounts = slices.Clone(o.Accounts)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Simulator{options: o, log: o.Log.Named("platform"), work: make(chan func(context.Context))}
	s.registry = newRegistry(s.pause(o.Profile.OldPassword))
	return s, nil
}

// pause is how long a pause of the platform's is by the simulator's clock.
func (s *Simulator) pause(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.options.Clock)
}

// Registrations are those that there are, in the order of account and service.
func (s *Simulator) Registrations() []Registration { return s.registry.list("") }

// Handler serves the SOAP services below /api/v2/ and the control interface below /control/.
func (s *Simulator) Handler() http.Handler { return http.NotFoundHandler() }

// Run owns what is sent without anybody waiting for it, until ctx ends. It returns when all of it has ended.
func (s *Simulator) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case f := <-s.work:
			running.Go(func() { f(ctx) })
		case <-ctx.Done():
			return nil
		}
	}
}

// start hands f to [Simulator.Run], with a context that ends with it. It reports false if ctx ended before Run took it.
func (s *Simulator) start(ctx context.Context, f func(context.Context)) bool {
	select {
	case s.work <- f:
		return true
	case <-ctx.Done():
		return false
	}
}
