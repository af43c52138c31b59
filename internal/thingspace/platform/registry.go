package platform

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"callbackd/internal/callback"
)

// Registration says where the callbacks of a service go, for one account. There is at most one for each service of an account.
type Registration struct {
	Account     string           `json:"account"`
	Service     callback.Service `json:"service"`
	URL         string           `json:"url"`
	Credentials Credentials      `json:"username"` // without the password
}

var (
	errHeld    = errors.New("the service has a listener already: unregister it first")
	errNotHeld = errors.New("the service has no listener")
)

// registry holds the registrations. What it holds is bounded by the accounts and the services, which are both given.
type registry struct {
	// keep draws how long messages bear the old credentials after a service was registered anew.
	keep func() time.Duration

	mu     sync.Mutex
	places map[place]*holding
}

// place is what can have one listener.
type place struct {
	account string
	service callback.Service
}

// holding is a registration and what is left of the one before it.
type holding struct {
	Registration
	held     bool
	Old      Credentials
	oldUntil time.Time     // messages bear Old before that
	gone     time.Time     // when the service was unregistered
	keep     time.Duration // how long its credentials are known from then on
}

// effective are the credentials that a message bears at this moment.
func (h *holding) effective(now time.Time) Credentials {
	if now.Before(h.oldUntil) {
		return h.Old
	}
	return h.Credentials
}

func newRegistry(keep func() time.Duration) *registry {
	return &registry{keep: keep, places: make(map[place]*holding)}
}

// register adds a registration. A service that has a listener keeps it: errHeld.
func (r *registry) register(n Registration, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := place{n.Account, n.Service}
	h := r.places[at]
	if h == nil {
		h = &holding{}
		r.places[at] = h
	} else if h.held {
		return errHeld
	} else if now.Before(h.gone.Add(h.keep)) {
		h.Old, h.oldUntil = h.effective(now), now.Add(h.keep)
	}
	h.Registration, h.held = n, true
	return nil
}

// unregister removes a registration, or answers errNotHeld.
func (r *registry) unregister(account string, service callback.Service, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.places[place{account, service}]
	if h == nil || !h.held {
		return errNotHeld
	}
	h.held, h.gone, h.keep = false, now, r.keep()
	return nil
}

// lookup is where a message goes at this moment, and the credentials that it bears: the old ones for a while after the service was
// registered anew.
func (r *registry) lookup(account string, service callback.Service, now time.Time) (Registration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.places[place{account, service}]
	if h == nil || !h.held {
		return Registration{}, false
	}
	n := h.Registration
	n.Credentials = h.effective(now)
	return n, true
}

// list are the registrations of an account, or of all if it is empty, as they were made, in the order of account and service.
func (r *registry) list(account string) []Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Registration{}
	for at, h := range r.places {
		if h.held && (account == "" || at.account == account) {
			list = append(list, h.Registration)
		}
	}
	slices.SortFunc(list, func(a, b Registration) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Service, b.Service))
	})
	return list
}
