package registration

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	"go.uber.org/zap"
)

// Lister tells what the platform holds: a [Client].
type Lister interface {
	List(ctx context.Context, account string) ([]Registration, error)
}

// WatchOptions say what is watched.
type WatchOptions struct {
	Account  string   // by its name: for the platform and the log
	Label    string   // of its credentials: its name in metrics
	Wanted   []Wanted // those without a URL are not watched
	Platform Lister
	Interval time.Duration
	Metrics  *Metrics // nil counts nothing
	Log      *zap.Logger
}

// Watch looks again and again whether the platform still holds what the configuration wants. It changes nothing there: whoever took a
// service over may have had a reason.
type Watch struct {
	o       WatchOptions
	known   map[string]finding // by service
	failing failure
}

// finding is what a look found of a service.
type finding struct {
	held  bool
	other string // the URL that is held instead, if any
}

const (
	firstLook   = 5 * time.Second // after the start, at most: accounts do not all look at once
	lookTimeout = 2 * time.Minute
)

// NewWatch prepares a watch, and shows its metrics.
func NewWatch(o WatchOptions) *Watch {
	var watched []Wanted
	for _, w := range o.Wanted {
		if w.URL != "" {
			watched = append(watched, w)
		}
	}
	o.Wanted = watched
	o.Log = o.Log.Named("registration").With(zap.String("account", o.Account))
	o.Metrics.show(o.Label, o.Account, o.Wanted)
	return &Watch{o: o, known: make(map[string]finding)}
}

// Run looks until ctx ends, and returns nil. A log-in that the platform refuses ends the looking, and not Run: a receiver does not stop
// because nobody can look after its registrations.
func (w *Watch) Run(ctx context.Context) error {
	timer := time.NewTimer(rand.N(firstLook))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if !w.look(ctx) {
			<-ctx.Done()
			return nil
		}
		timer.Reset(w.o.Interval - w.o.Interval/10 + rand.N(w.o.Interval/5+1))
	}
}

// look reports whether to go on looking.
func (w *Watch) look(ctx context.Context) bool {
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	held, err := w.o.Platform.List(looking, w.o.Account)
	if ctx.Err() != nil {
		return true // a shutdown is no failure
	}
	if err != nil {
		return w.failed(err)
	}
	if w.failing != "" {
		w.o.Log.Info("can look again at what the platform holds")
		w.failing = ""
	}
	found := make(map[string]bool)
	for _, wanted := range w.o.Wanted {
		f := find(held, wanted)
		found[string(wanted.Service)] = f.held
		w.tell(wanted, f)
	}
	w.o.Metrics.seen(w.o.Label, w.o.Account, found)
	return true
}

// find compares what is held with what is wanted.
func find(held []Registration, wanted Wanted) finding {
	found := holding(held, string(wanted.Service))
	if len(found) == 0 || holds(found, string(wanted.Service), wanted.URL) {
		return finding{held: len(found) > 0}
	}
	return finding{other: shown(found[0].URL)}
}

// tell logs what has changed since the look before.
func (w *Watch) tell(wanted Wanted, f finding) {
	service := string(wanted.Service)
	before, known := w.known[service]
	w.known[service] = f
	if known && before == f {
		return
	}
	log := w.o.Log.With(zap.String("service", service), zap.String("public_url", shown(wanted.URL)))
	advice := zap.String("advice", "callbackd registrations plan --account "+w.o.Account)
	switch {
	case f.held && !known:
		log.Info("the platform holds our URL")
	case f.held:
		log.Info("the platform holds our URL again")
	case f.other != "":
		log.Warn("the platform holds another URL: callbacks go there", zap.String("held_url", f.other), advice)
	default:
		log.Warn("the platform does not hold our URL, nor any other: callbacks are lost", advice)
	}
}

func (w *Watch) failed(err error) (goOn bool) {
	reason := reasonOf(err)
	w.o.Metrics.countFailure(w.o.Label, reason)
	if reason == failedLogIn {
		w.o.Log.Error("the platform refused the log-in: what it holds is not looked at any more until callbackd is started anew", zap.Error(err))
		return false
	}
	if w.failing != reason {
		w.o.Log.Warn("cannot look at what the platform holds", zap.String("reason", string(reason)), zap.Error(err))
	}
	w.failing = reason
	return true
}

func reasonOf(err error) failure {
	var fault *Fault
	var network net.Error
	switch {
	case errors.Is(err, ErrLogInRefused):
		return failedLogIn
	case errors.As(err, &fault):
		return failedFault
	case errors.Is(err, ErrAnswer):
		return failedAnswer
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return failedTimeout
	case errors.As(err, &network): // *url.Error, which every failure of the transport comes in, is one
		return failedUnreachable
	}
	return failedOther
}

// shown is a URL as it goes into a log: without what may be secret, and bounded.
func shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a URL that cannot be read"
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return bounded(u.String())
}
