package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"callbackd/internal/admin"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The requests and answers of an operator's changes. The answers of release, requeue, replay and erase are those of package sqlite.
type (
	// ReleaseRequest takes entries out of quarantine, or with Restored lets a restored inbox deliver again.
	ReleaseRequest struct {
		Seqs     []int64 `json:"seqs"`
		Restored bool    `json:"restored"`
		DryRun   bool    `json:"dry_run"`
	}
	// RequeueRequest makes dead letters pending again.
	RequeueRequest struct {
		Seqs    []int64 `json:"seqs"`
		Handler string  `json:"handler"`
		DryRun  bool    `json:"dry_run"`
	}
	// RequeueAnswer says how many there were.
	RequeueAnswer struct {
		Deliveries int `json:"deliveries"`
	}
	// ReplayRequest delivers entries again; to the handlers named, or to those that the routes name.
	ReplayRequest struct {
		Seqs     []int64  `json:"seqs"`
		Handlers []string `json:"handlers"`
		DryRun   bool     `json:"dry_run"`
	}
	// EraseRequest erases a device.
	EraseRequest struct {
		Device string `json:"device"`
		DryRun bool   `json:"dry_run"`
	}
)

// Operator carries out an operator's changes on an inbox.
type Operator struct {
	Store  *sqlite.Store
	Config *config.Config
}

// Release carries out a ReleaseRequest.
func (o *Operator) Release(ctx context.Context, r ReleaseRequest) (sqlite.Released, error) {
	if r.Restored {
		held, err := o.Store.ReleaseDeliveries(ctx, r.DryRun)
		if err == nil && !held {
			err = fmt.Errorf("%w: no deliveries are held", inbox.ErrNotFound)
		}
		return sqlite.Released{Entries: []int64{}}, err
	}
	return o.Store.Release(ctx, r.Seqs, o.routed, r.DryRun)
}

// Requeue carries out a RequeueRequest.
func (o *Operator) Requeue(ctx context.Context, r RequeueRequest) (RequeueAnswer, error) {
	if err := o.configured(r.Handler); err != nil {
		return RequeueAnswer{}, err
	}
	if len(r.Seqs) == 0 {
		return RequeueAnswer{}, nil
	}
	changed, err := o.Store.Requeue(ctx, inbox.DeadQuery{Seqs: r.Seqs, Handler: r.Handler}, r.DryRun)
	return RequeueAnswer{changed.Deliveries}, err
}

// Replay carries out a ReplayRequest.
func (o *Operator) Replay(ctx context.Context, r ReplayRequest) (sqlite.Replayed, error) {
	for _, name := range r.Handlers {
		if err := o.configured(name); err != nil {
			return sqlite.Replayed{}, err
		}
	}
	if len(r.Seqs) == 0 {
		return sqlite.Replayed{}, nil
	}
	return o.Store.Replay(ctx, sqlite.ReplayRequest{Entries: inbox.Query{Seqs: r.Seqs}, Handlers: r.Handlers, Route: o.routed, DryRun: r.DryRun})
}

// configured refuses a name that no handler has: nobody would make its deliveries. The empty name means all handlers.
func (o *Operator) configured(name string) error {
	if name != "" && o.Config.Handlers[name] == nil {
		return fmt.Errorf("no handler %q is configured", name)
	}
	return nil
}

// Erase carries out an EraseRequest.
func (o *Operator) Erase(ctx context.Context, r EraseRequest) (sqlite.Erased, error) {
	if r.Device == "" {
		return sqlite.Erased{}, errors.New("name the device by one of its identifiers")
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

// The names of the operations on the control socket.
const (
	OpRelease = "release"
	OpRequeue = "requeue"
	OpReplay  = "replay"
	OpErase   = "erase"
	opAccepts = "accepts"
)

func (o *Operator) operations() map[string]admin.Operation {
	return map[string]admin.Operation{
		OpRelease: operation(o.Release),
		OpRequeue: operation(o.Requeue),
		OpReplay:  operation(o.Replay),
		OpErase:   operation(o.Erase),
		opAccepts: operation(o.accepts),
	}
}

// outcome is what goes over the control socket: an answer, or that there was nothing to find, which has an exit code of its own.
type outcome[A any] struct {
	Answer   A      `json:"answer"`
	NotFound string `json:"not_found,omitempty"`
}

func operation[Q, A any](do func(context.Context, Q) (A, error)) admin.Operation {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var request Q
		if err := json.Unmarshal(raw, &request); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		answer, err := do(ctx, request)
		if errors.Is(err, inbox.ErrNotFound) {
			return outcome[A]{NotFound: strings.TrimPrefix(err.Error(), inbox.ErrNotFound.Error()+": ")}, nil
		}
		return outcome[A]{Answer: answer}, err
	}
}

// Operate runs an operator's change: over the control socket of the callbackd that runs on the data directory, or by itself
// when none does.
func Operate[Q, A any](ctx context.Context, c *config.Config, log *zap.Logger, name string, request Q,
	do func(*Operator, context.Context, Q) (A, error)) (answer A, err error) {
	if _, err := os.Stat(filepath.Join(c.DataDir, sqlite.File)); errors.Is(err, os.ErrNotExist) {
		return answer, fmt.Errorf("%w: %s holds no inbox yet; it is created when `callbackd serve` starts", inbox.ErrNotFound, c.DataDir)
	}
	lock, err := sqlite.LockDir(c.DataDir)
	if errors.Is(err, sqlite.ErrInUse) {
		return ask[Q, A](ctx, c.DataDir, name, request, err)
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
	return do(&Operator{Store: store, Config: c}, ctx, request)
}

// ask has the callbackd that holds the lock do it. inUse is the error of the lock.
func ask[Q, A any](ctx context.Context, dir, name string, request Q, inUse error) (answer A, err error) {
	var o outcome[A]
	err = admin.Call(ctx, dir, name, request, &o)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return answer, fmt.Errorf("%w, and it does not answer: it is starting, stopping, or another command: try again", inUse)
	case err == nil && o.NotFound != "":
		return answer, fmt.Errorf("%w: %s", inbox.ErrNotFound, o.NotFound)
	}
	return o.Answer, err
}
