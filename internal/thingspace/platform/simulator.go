package platform

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"
)

// Account is a customer's account, and the log-in that may manage it. Accounts may share a log-in.
type Account struct {
	Name  string
	Login Credentials
}

// Options are what a simulator is made from.
type Options struct {
	Profile  Profile // none means the one that is published
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
	sessions *sessions
	sms      *smsQueue
	sender   *sender
	// stops are what stops the orders that have a name: a [context.CancelFunc] each.
	stops sync.Map
	// work is what [Simulator.Run] is to do.
	work chan func(context.Context)
	// ended is closed when it does nothing any more.
	ended chan struct{}
}

// New builds a simulator. Nothing runs yet.
func New(o Options) (*Simulator, error) {
	if err := checkAccounts(o.Accounts); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	if o.Clock = cmp.Or(o.Clock, 1); !(o.Clock > 0) || math.IsInf(o.Clock, 0) {
		return nil, fmt.Errorf("simulator: clock factor %g is not a number above 0", o.Clock)
	}
	o.Accounts = slices.Clone(o.Accounts)
	if o.Profile == (Profile{}) {
		o.Profile = Profiles()[0]
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Simulator{options: o, log: o.Log.Named("platform"), work: make(chan func(context.Context)), ended: make(chan struct{}),
		sessions: newSessions(o.Accounts), sms: newSMSQueue(o.Accounts)}
	rng := rand.New(rand.NewPCG(o.Seed, 0x01dc0de))
	s.registry = newRegistry(func() time.Duration {
		return s.pause(o.Profile.OldPassword + time.Duration(rng.Int64N(int64(o.Profile.OldPasswordSpread)+1)))
	})
	s.sender = newSender(o, s.registry, s.sms)
	return s, nil
}

// checkAccounts wants accounts that differ in name, and one password for each user.
func checkAccounts(accounts []Account) error {
	if len(accounts) == 0 {
		return errors.New("it needs an account")
	}
	passwords, names := make(map[string]string), make(map[string]bool)
	for _, a := range accounts {
		if a.Name == "" || a.Login.Username == "" || a.Login.Password == "" {
			return errors.New("an account needs a name, and a log-in with a user name and a password")
		}
		if names[a.Name] {
			return fmt.Errorf("account %s is there twice", a.Name)
		}
		names[a.Name] = true
		if p, ok := passwords[a.Login.Username]; ok && p != a.Login.Password {
			return fmt.Errorf("user %s has two passwords", a.Login.Username)
		}
		passwords[a.Login.Username] = a.Login.Password
	}
	return nil
}

// pause is how long a pause of the platform's is by the simulator's clock.
func (s *Simulator) pause(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.options.Clock)
}

// Registrations are those that there are, in the order of account and service.
func (s *Simulator) Registrations() []Registration { return s.registry.list("") }

// Handler serves the SOAP services below /api/v2/ and the control interface below /control/.
func (s *Simulator) Handler() http.Handler {
	router := chi.NewRouter()
	for _, service := range []soapService{s.sessionService(), s.registrationService(), s.connectivityService()} {
		router.HandleFunc("/api/v2/"+service.name+".svc", s.serve(service))
	}
	router.Get("/api/schemas/{name}", s.schema)
	router.Route("/control", s.control)
	return router
}

// Run owns what is sent, until ctx ends; without it nothing is. It returns when all of it has ended. It MUST be called once at most.
func (s *Simulator) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer func() {
		close(s.ended)
		running.Wait()
		s.sender.close()
	}()
	for {
		select {
		case f := <-s.work:
			running.Go(func() { f(ctx) })
		case <-ctx.Done():
			return nil
		}
	}
}

// start hands f to [Simulator.Run], with a context that ends with it. It is an error if ctx or Run ended before Run took it.
func (s *Simulator) start(ctx context.Context, f func(context.Context)) error {
	select {
	case s.work <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		return errStopping
	}
}
