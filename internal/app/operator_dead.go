package app

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/config"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
)

// The requests about dead letters, and their answers.
type (
	// DeadFilter selects dead letters, by all that is given.
	DeadFilter struct {
		Seqs      []int64   `json:"seqs,omitempty"`
		Since     time.Time `json:"since,omitzero"` // of the callback's arrival, included
		Until     time.Time `json:"until,omitzero"` // of the callback's arrival, excluded
		Handler   string    `json:"handler,omitempty"`
		Service   string    `json:"service,omitempty"`
		Kind      string    `json:"kind,omitempty"`
		Account   string    `json:"account,omitempty"`
		RequestID string    `json:"request_id,omitempty"`
		Device    string    `json:"device,omitempty"` // by any of its identifiers
		Reason    string    `json:"reason,omitempty"` // one of [inbox.DeadReasons]
	}
	// DeadKey names a dead letter within the inbox.
	DeadKey struct {
		Seq     int64  `json:"seq"`
		Handler string `json:"handler"`
		Replay  int64  `json:"replay,omitempty"`
	}
	// ListDeadRequest lists dead letters, a page at a time.
	ListDeadRequest struct {
		DeadFilter
		After DeadKey `json:"after,omitzero"`  // the Next of the page before
		Limit int     `json:"limit,omitempty"` // at most 1,000, which is the default
	}
	// ListDeadAnswer is a page, by the callbacks' numbers.
	ListDeadAnswer struct {
		DeadLetters []DeadLetter `json:"dead_letters"`
		Next        *DeadKey     `json:"next,omitempty"` // absent from the last page
	}
	// ChangeDeadRequest requeues or discards dead letters. They have to be selected by something, or All of them.
	ChangeDeadRequest struct {
		DeadFilter
		All    bool `json:"all,omitempty"`
		DryRun bool `json:"dry_run,omitempty"`
	}
	// ChangeDeadAnswer says how many were, or in a dry run would be, changed.
	ChangeDeadAnswer struct {
		Deliveries int            `json:"deliveries"`
		Handlers   map[string]int `json:"handlers"`
		// Removed are those that were not requeued, because the configuration has no such handler any more.
		Removed map[string]int `json:"removed,omitempty"`
	}
)

// DeadLetter is a delivery that was given up, with its cause.
type DeadLetter struct {
	DeadKey
	ID         string    `json:"id"`     // of the delivery
	Reason     string    `json:"reason"` // one of [inbox.DeadReasons]
	Cause      string    `json:"cause,omitempty"`
	Attempts   int       `json:"attempts"`
	BuriedAt   time.Time `json:"buried_at"`
	AgeSeconds int64     `json:"age_seconds"` // since it was buried
	ReceivedAt time.Time `json:"received_at"`
	Service    string    `json:"service"`
	Kind       string    `json:"kind"`
	Account    string    `json:"account"`
	RequestID  string    `json:"request_id"`
}

// query is the selection as the inbox takes it.
func (f *DeadFilter) query() (inbox.DeadQuery, error) {
	q := inbox.DeadQuery{Seqs: f.Seqs, Since: f.Since, Until: f.Until, Handler: f.Handler, Service: f.Service, Kind: f.Kind, Account: f.Account,
		RequestID: f.RequestID, Device: f.Device, Reason: f.Reason}
	if f.Reason != "" && !slices.Contains(inbox.DeadReasons(), f.Reason) {
		return q, admin.Errorf(admin.Invalid, "reason: %q is none of %s", f.Reason, strings.Join(inbox.DeadReasons(), ", "))
	}
	return q, catalogued(f.Service, f.Kind)
}

func (r *ChangeDeadRequest) query() (inbox.DeadQuery, error) {
	q, err := r.DeadFilter.query()
	if err != nil {
		return q, err
	}
	if len(q.Seqs) == 0 {
		q.Seqs = nil
	}
	return q, selects(reflect.DeepEqual(q, inbox.DeadQuery{}), r.All)
}

// ListDead carries out a ListDeadRequest.
func (o *Operator) ListDead(ctx context.Context, r ListDeadRequest) (ListDeadAnswer, error) {
	return ListDead(ctx, o.Store.Reader, o.Config, r)
}

// ListDead carries out a ListDeadRequest for who reads the inbox.
func ListDead(ctx context.Context, reader *sqlite.Reader, c *config.Config, r ListDeadRequest) (ListDeadAnswer, error) {
	const most = 1000
	q, err := r.query()
	if err != nil {
		return ListDeadAnswer{}, err
	}
	if r.Limit < 0 || r.Limit > most {
		return ListDeadAnswer{}, admin.Errorf(admin.Invalid, "limit: is not from 1 to %d", most)
	}
	if err := heardOf(ctx, reader, c, r.Handler); err != nil {
		return ListDeadAnswer{}, err
	}
	q.After, q.Limit = inbox.DeliveryKey(r.After), r.Limit
	if q.Limit == 0 {
		q.Limit = most
	}
	list, err := reader.DeadLetters(ctx, q)
	if err != nil {
		return ListDeadAnswer{}, err
	}
	answer, now := ListDeadAnswer{DeadLetters: make([]DeadLetter, len(list))}, time.Now()
	for i, d := range list {
		answer.DeadLetters[i] = DeadLetter{DeadKey: DeadKey(d.DeliveryKey), ID: d.ID, Reason: d.Reason, Cause: d.Cause, Attempts: d.Attempts,
			BuriedAt: d.BuriedAt, AgeSeconds: int64(now.Sub(d.BuriedAt).Seconds()), ReceivedAt: d.ReceivedAt, Service: d.Service, Kind: d.Kind,
			Account: d.Account, RequestID: d.RequestID}
	}
	if len(list) == q.Limit {
		answer.Next = &answer.DeadLetters[len(list)-1].DeadKey
	}
	return answer, nil
}

// heardOf refuses the name of a handler that is not configured and never was: it would list nothing, which looks as if there were nothing.
func heardOf(ctx context.Context, reader *sqlite.Reader, c *config.Config, name string) error {
	if name == "" || c.Handlers[name] != nil {
		return nil
	}
	known, err := reader.Handlers(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known, func(h inbox.HandlerStatus) bool { return h.Name == name }) {
		return nil
	}
	return admin.Errorf(admin.NotFound, "no handler %q is configured, nor was: there are %s", name, strings.Join(c.HandlerNames(), ", "))
}

// RequeueDead makes dead letters pending again. Those of handlers that are configured no more are left, for nobody would make them.
func (o *Operator) RequeueDead(ctx context.Context, r ChangeDeadRequest) (ChangeDeadAnswer, error) {
	answer := ChangeDeadAnswer{Handlers: map[string]int{}}
	q, err := r.query()
	if err != nil {
		return answer, err
	}
	if r.Handler != "" {
		if err := o.configured(r.Handler); err != nil {
			return answer, err
		}
	}
	known, err := o.Store.Handlers(ctx)
	if err != nil {
		return answer, err
	}
	for _, h := range known {
		if h.Dead == 0 || r.Handler != "" && r.Handler != h.Name {
			continue
		}
		q.Handler = h.Name
		removed := o.Config.Handlers[h.Name] == nil
		changed, err := o.Store.Requeue(ctx, q, r.DryRun || removed)
		if err != nil {
			return answer, err
		}
		answer.add(h.Name, changed.Deliveries, removed)
	}
	return answer, nil
}

func (a *ChangeDeadAnswer) add(handler string, n int, removed bool) {
	switch {
	case n == 0:
	case removed:
		if a.Removed == nil {
			a.Removed = make(map[string]int)
		}
		a.Removed[handler] = n
	default:
		a.Deliveries += n
		a.Handlers[handler] = n
	}
}

// DiscardDead gives up dead letters: the entries stay, and the deliveries are marked.
func (o *Operator) DiscardDead(ctx context.Context, r ChangeDeadRequest) (ChangeDeadAnswer, error) {
	q, err := r.query()
	if err != nil {
		return ChangeDeadAnswer{}, err
	}
	changed, err := o.Store.Discard(ctx, q, o.By, r.DryRun)
	return ChangeDeadAnswer{Deliveries: changed.Deliveries, Handlers: changed.Handlers}, err
}
