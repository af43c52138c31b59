package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/dispatch"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The requests and answers of an operator's changes to entries. The answers are those of package sqlite.
type (
	// ReleaseRequest takes entries out of quarantine, or with Restored lets a restored inbox deliver again.
	ReleaseRequest struct {
		Seqs     []int64 `json:"seqs,omitempty"`
		Restored bool    `json:"restored,omitempty"`
		DryRun   bool    `json:"dry_run,omitempty"`
	}
	// Entries select entries, by all that is given. Those that are to change have to be selected by something, or All of them.
	Entries struct {
		Seqs      []int64     `json:"seqs,omitempty"`
		Since     time.Time   `json:"since,omitzero"` // of arrival, included
		Until     time.Time   `json:"until,omitzero"` // of arrival, excluded
		Service   string      `json:"service,omitempty"`
		Kind      string      `json:"kind,omitempty"`
		Account   string      `json:"account,omitempty"`
		RequestID string      `json:"request_id,omitempty"`
		Device    string      `json:"device,omitempty"` // by any of its identifiers
		State     inbox.State `json:"state,omitempty"`
		Test      *bool       `json:"test,omitempty"`
		All       bool        `json:"all,omitempty"`
	}
	// ReplayRequest delivers entries again; to the handlers named, or to those that the routes name.
	ReplayRequest struct {
		Entries
		Handlers []string `json:"handlers,omitempty"`
		// ID names the replay: a second request with it schedules nothing twice.
		ID string `json:"id,omitempty"`
		// Rate is how many a second are due to each handler; 0 is all at once.
		Rate   float64 `json:"rate,omitempty"`
		DryRun bool    `json:"dry_run,omitempty"`
	}
	// EraseRequest erases a device.
	EraseRequest struct {
		Device string `json:"device"`
		DryRun bool   `json:"dry_run"`
	}
)

// EntriesOf are the entries that q selects, as a request.
func EntriesOf(q inbox.Query, all bool) Entries {
	return Entries{Seqs: q.Seqs, Since: q.Since, Until: q.Until, Service: q.Service, Kind: q.Kind, Account: q.Account, RequestID: q.RequestID,
		Device: q.Device, State: q.State, Test: q.Test, All: all}
}

// query is the selection as the inbox takes it.
func (e *Entries) query() (inbox.Query, error) {
	q := inbox.Query{Seqs: e.Seqs, Since: e.Since, Until: e.Until, Service: e.Service, Kind: e.Kind, Account: e.Account, RequestID: e.RequestID,
		Device: e.Device, State: e.State, Test: e.Test}
	if _, ok := inbox.ParseState(string(e.State)); e.State != "" && !ok {
		return q, admin.Errorf(admin.Invalid, "state: is none of %v", inbox.States())
	}
	if err := catalogued(e.Service, e.Kind); err != nil {
		return q, err
	}
	if len(q.Seqs) == 0 {
		q.Seqs = nil
	}
	return q, selects(reflect.DeepEqual(q, inbox.Query{}), e.All)
}

// catalogued refuses a service or a kind that there is not: it would select nothing, which looks as if there were nothing.
func catalogued(service, kind string) error {
	if service != "" && !slices.ContainsFunc(callback.Catalogue(), func(i callback.Info) bool { return string(i.Service) == service }) {
		return admin.Errorf(admin.Invalid, "service: there is no %q", service)
	}
	if kind != "" && !slices.Contains(callback.Kinds(), callback.Kind(kind)) {
		return admin.Errorf(admin.Invalid, "kind: %q is none of %v", kind, callback.Kinds())
	}
	return nil
}

// selects refuses to take everything by an oversight.
func selects(everything, all bool) error {
	if everything != all {
		return admin.Errorf(admin.Invalid, "select by something, or take everything with all; not both")
	}
	return nil
}

// Operator carries out an operator's requests on an inbox.
type Operator struct {
	Store  *sqlite.Store
	Config *config.Config
	// Running says how the handlers stand; nil when no receiver runs.
	Running func() []dispatch.HandlerState
	// Self is what the receiver says of itself, if one runs.
	Self Status
	// Checks are what /readyz asks of it.
	Checks []admin.Check
	// By is who asks.
	By string

	reloader *reloader // nil when no receiver runs
}

// byCommand is who asks when no receiver runs.
const byCommand = "command"

// Release carries out a ReleaseRequest.
func (o *Operator) Release(ctx context.Context, r ReleaseRequest) (sqlite.Released, error) {
	if r.Restored == (len(r.Seqs) > 0) {
		return sqlite.Released{}, admin.Errorf(admin.Invalid, "name entries with seqs, or release all that a restore holds with restored; not both")
	}
	if r.Restored {
		held, err := o.Store.ReleaseDeliveries(ctx, r.DryRun)
		if err == nil && !held {
			err = admin.Errorf(admin.NotFound, "no deliveries are held")
		}
		return sqlite.Released{Entries: []int64{}}, err
	}
	return o.Store.Release(ctx, r.Seqs, o.routed, r.DryRun)
}

// The bounds of a replay's rate: its schedule is to end within lifetimes, and a faster one is none.
const (
	slowestReplay = 0.001
	fastestReplay = 1e6
)

// Validate reports what is wrong with the ID or the rate.
func (r *ReplayRequest) Validate() error {
	switch {
	case len(r.ID) > sqlite.MostReplayID:
		return admin.Errorf(admin.Invalid, "id: is longer than %d bytes", sqlite.MostReplayID)
	case r.Rate != 0 && !(r.Rate >= slowestReplay && r.Rate <= fastestReplay):
		return admin.Errorf(admin.Invalid, "rate: %v is not from %v to %.0f a second", r.Rate, slowestReplay, fastestReplay)
	}
	return nil
}

// Replay carries out a ReplayRequest.
func (o *Operator) Replay(ctx context.Context, r ReplayRequest) (sqlite.Replayed, error) {
	for _, name := range r.Handlers {
		if err := o.configured(name); err != nil {
			return sqlite.Replayed{}, err
		}
	}
	if err := r.Validate(); err != nil {
		return sqlite.Replayed{}, err
	}
	q, err := r.query()
	if err != nil {
		return sqlite.Replayed{}, err
	}
	return o.Store.Replay(ctx, sqlite.ReplayRequest{ID: r.ID, Entries: q, Handlers: slices.Compact(slices.Sorted(slices.Values(r.Handlers))),
		Route: o.routed, Except: string(callback.Heartbeat), Rate: r.Rate, DryRun: r.DryRun})
}

// configured refuses a name that no handler has: nobody would make its deliveries.
func (o *Operator) configured(name string) error {
	if o.Config.Handlers[name] == nil {
		return admin.Errorf(admin.NotFound, "no handler %q is configured: there are %s", name, strings.Join(o.Config.HandlerNames(), ", "))
	}
	return nil
}

// Erase carries out an EraseRequest.
func (o *Operator) Erase(ctx context.Context, r EraseRequest) (sqlite.Erased, error) {
	if r.Device == "" {
		return sqlite.Erased{}, admin.Errorf(admin.Invalid, "name the device by one of its identifiers")
	}
	return o.Store.Erase(ctx, r.Device, thingspace.Erase, r.DryRun)
}

func (o *Operator) routed(e *inbox.Entry) []string {
	service, kind := callback.Service(e.Service), callback.Kind(e.Kind)
	if e.Facts.Test {
		return o.Config.TestHandlers(service, kind)
	}
	return o.Config.HandlersFor(service, kind)
}

// The operations of the API, which have the names of their commands.
const (
	OpRelease     = "inbox/release"
	OpReplay      = "inbox/replay"
	OpErase       = "inbox/erase"
	OpDeadList    = "dead/list"
	OpDeadRequeue = "dead/requeue"
	OpDeadDiscard = "dead/discard"
	OpHandlerList = "handler/list"
	OpPause       = "handler/pause"
	OpResume      = "handler/resume"
	OpReload      = "reload"
	OpLogLevel    = "log-level"
	opAccepts     = "accepts"
	opStatus      = "status"
)

func (o *Operator) operations() map[string]admin.Operation {
	return map[string]admin.Operation{
		OpRelease:     operation(o, (*Operator).Release),
		OpReplay:      operation(o, (*Operator).Replay),
		OpErase:       operation(o, (*Operator).Erase),
		OpDeadList:    operation(o, (*Operator).ListDead),
		OpDeadRequeue: operation(o, (*Operator).RequeueDead),
		OpDeadDiscard: operation(o, (*Operator).DiscardDead),
		OpHandlerList: operation(o, (*Operator).ListHandlers),
		OpPause:       operation(o, (*Operator).Pause),
		OpResume:      operation(o, (*Operator).Resume),
		OpReload:      operation(o, (*Operator).Reload),
		OpLogLevel:    operation(o, (*Operator).SetLogLevel),
		// It could be asked about guessed passwords.
		opAccepts: {Do: operation(o, (*Operator).accepts).Do, SocketOnly: true},
		opStatus:  {Do: operation(o, (*Operator).status).Do, SocketOnly: true},
	}
}

func operation[Q, A any](o *Operator, do func(*Operator, context.Context, Q) (A, error)) admin.Operation {
	return admin.Operation{Do: func(ctx context.Context, by admin.Caller, raw json.RawMessage) (any, error) {
		var request Q
		// A field that is misspelt must not make the selection a larger one.
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&request); err != nil {
			return nil, admin.Errorf(admin.BadRequest, "read request: %w", err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, admin.Errorf(admin.BadRequest, "read request: there is more after its object")
		}
		if err := filled(raw); err != nil {
			return nil, err
		}
		operator := *o
		operator.By = string(by)
		if o.reloader != nil {
			operator.Config = o.reloader.current.Load()
		}
		answer, err := do(&operator, ctx, request)
		return answer, coded(err)
	}}
}

// filled refuses fields that are there and hold nothing: a script's variable that is empty must not make the selection a larger one.
func filled(raw json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return admin.Errorf(admin.BadRequest, "read request: it is no JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		list, isList := bytes.CutPrefix(value, []byte("["))
		if isList && string(bytes.TrimSpace(list)) == "]" || string(value) == `""` || string(value) == "null" {
			return admin.Errorf(admin.Invalid, "%s: is empty: leave it out, or give it a value", name)
		}
	}
	return nil
}

// coded gives an error its code, by the one table of them.
func coded(err error) error {
	if _, done := errors.AsType[*admin.Error](err); done || err == nil {
		return err
	}
	code := admin.Internal
	switch {
	case errors.Is(err, inbox.ErrNotFound):
		return &admin.Error{Code: admin.NotFound, Err: untitled{err}}
	case errors.Is(err, sqlite.ErrReplayID):
		code = admin.Conflict
	case errors.Is(err, context.Canceled), errors.Is(err, inbox.ErrClosed):
		return admin.Errorf(admin.Unavailable, "callbackd is stopping, and what was asked may be done in part: %w", err)
	case errors.Is(err, inbox.ErrUnavailable), errors.Is(err, inbox.ErrOverloaded), errors.Is(err, inbox.ErrBroken):
		code = admin.Unavailable
	}
	return &admin.Error{Code: code, Err: err}
}

// untitled is what was not found, without the words that the code says.
type untitled struct{ error }

func (u untitled) Error() string {
	return strings.TrimPrefix(u.error.Error(), inbox.ErrNotFound.Error()+": ")
}
func (u untitled) Unwrap() error { return u.error }

// Operate runs an operator's request: over the control socket of the callbackd that runs on the data directory, or by itself
// when none does.
func Operate[Q, A any](ctx context.Context, c *config.Config, log *zap.Logger, name string, request Q,
	do func(*Operator, context.Context, Q) (A, error)) (answer A, err error) {
	if _, err := os.Stat(filepath.Join(c.DataDir, sqlite.File)); errors.Is(err, os.ErrNotExist) {
		return answer, fmt.Errorf("%w: %s holds no inbox yet; it is created when `callbackd serve` starts", inbox.ErrNotFound, c.DataDir)
	}
	lock, err := sqlite.LockDir(c.DataDir)
	if errors.Is(err, sqlite.ErrInUse) {
		if err := admin.Call(ctx, c.DataDir, name, request, &answer); !unanswered(err) {
			return answer, err
		}
		return answer, fmt.Errorf("%w, and it does not answer: it is starting, stopping, or another command: try again", err)
	}
	if err != nil {
		return answer, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	options := storeOptions(c, log, inbox.NewMetrics(prometheus.NewRegistry()))
	options.NoReceiver = true
	store, err := sqlite.Open(ctx, options)
	if err != nil {
		return answer, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	answer, err = do(&Operator{Store: store, Config: c, By: byCommand}, ctx, request)
	return answer, coded(err)
}

// Ask asks the callbackd that runs on a data directory for what only a running one can do, and reports whether there is one.
func Ask(ctx context.Context, dataDir, name string, request, answer any) (running bool, err error) {
	err = admin.Call(ctx, dataDir, name, request, answer)
	return !unanswered(err), err
}

// unanswered reports whether nobody is at the control socket.
func unanswered(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
