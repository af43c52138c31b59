package app

import (
	"context"
	"slices"
	"strings"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/config"
	"callbackd/internal/dispatch"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
)

// The requests about handlers, and their answers.
type (
	// ListHandlersRequest lists the handlers.
	ListHandlersRequest struct{}
	// ListHandlersAnswer are the handlers that are configured, and those that were and have dead letters, by name.
	ListHandlersAnswer struct {
		Handlers []HandlerStatus `json:"handlers"`
	}
	// PauseRequest pauses or resumes a handler.
	PauseRequest struct {
		Handler string `json:"handler"`
	}
	// PauseAnswer says how the handler is now, and whether it was otherwise before.
	PauseAnswer struct {
		Handler string `json:"handler"`
		Paused  bool   `json:"paused"`
		Changed bool   `json:"changed"`
	}
)

// HandlerState says in one word how a handler stands.
type HandlerState string

// The states of a handler.
const (
	HandlerReady   HandlerState = "ready"   // it takes deliveries
	HandlerUnready HandlerState = "unready" // it does not, and Unready says why
	HandlerPaused  HandlerState = "paused"  // an operator has paused it
	HandlerHeld    HandlerState = "held"    // no handler is given anything since a restore
	HandlerStopped HandlerState = "stopped" // no receiver runs
	HandlerRemoved HandlerState = "removed" // the configuration has it no more
)

// HandlerStatus is how a handler stands.
type HandlerStatus struct {
	Name    string       `json:"name"`
	Type    string       `json:"type,omitempty"` // of one that is configured
	State   HandlerState `json:"state"`
	Unready string       `json:"unready,omitempty"`
	// Breaker is closed, open or half-open, and BreakerUntil when one that is open lets a probe through. They are absent when no receiver
	// runs, and the counts beside them are 0.
	Breaker      dispatch.BreakerState `json:"breaker,omitempty"`
	BreakerUntil time.Time             `json:"breaker_until,omitzero"`
	Failures     int                   `json:"failures"`  // attempts since the last that did not fail
	UnderWay     int                   `json:"under_way"` // deliveries
	Stuck        int                   `json:"stuck"`     // of them, past their time-out

	Pending int64 `json:"pending"`
	Blocked int64 `json:"blocked"` // of them, behind an earlier one of their device
	Dead    int64 `json:"dead"`
	// OldestPending is when the oldest callback arrived that is still to be delivered, and LagSeconds how long ago that is.
	OldestPending time.Time `json:"oldest_pending,omitzero"`
	LagSeconds    int64     `json:"lag_seconds"`
	PausedAt      time.Time `json:"paused_at,omitzero"`
	PausedBy      string    `json:"paused_by,omitempty"`
}

// ListHandlers carries out a ListHandlersRequest.
func (o *Operator) ListHandlers(ctx context.Context, _ ListHandlersRequest) (ListHandlersAnswer, error) {
	return listHandlers(ctx, o.Store.Reader, o.Config, o.Running)
}

// Handlers asks the callbackd that runs on the data directory how its handlers stand, or reads what the inbox knows of them when none does.
func Handlers(ctx context.Context, c *config.Config) (answer ListHandlersAnswer, err error) {
	if err := admin.Call(ctx, c.DataDir, OpHandlerList, ListHandlersRequest{}, &answer); !unanswered(err) {
		return answer, err
	}
	reader, err := sqlite.OpenReader(ctx, c.DataDir)
	if err != nil {
		return answer, err
	}
	defer reader.Close()
	return listHandlers(ctx, reader, c, nil)
}

func listHandlers(ctx context.Context, reader *sqlite.Reader, c *config.Config, running func() []dispatch.HandlerState) (ListHandlersAnswer, error) {
	known, err := reader.Handlers(ctx)
	if err != nil {
		return ListHandlersAnswer{}, err
	}
	held, err := reader.DeliveriesHeld(ctx)
	if err != nil {
		return ListHandlersAnswer{}, err
	}
	var live []dispatch.HandlerState
	if running != nil {
		live = running()
	}
	answer, now := ListHandlersAnswer{Handlers: []HandlerStatus{}}, time.Now()
	for _, name := range c.HandlerNames() { // one that the inbox does not know yet begins with nothing
		if !slices.ContainsFunc(known, func(h inbox.HandlerStatus) bool { return h.Name == name }) {
			known = append(known, inbox.HandlerStatus{Name: name})
		}
	}
	slices.SortFunc(known, func(a, b inbox.HandlerStatus) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range known {
		configured := c.Handlers[h.Name]
		if configured == nil && (h.Pending == 0 && h.Dead == 0 || h.Name == config.HeartbeatHandler) {
			continue
		}
		s := statusOf(h, now)
		if i := slices.IndexFunc(live, func(l dispatch.HandlerState) bool { return l.Name == h.Name }); i >= 0 {
			s.live(live[i])
		}
		if configured != nil {
			s.Type = configured.Type
		}
		s.State = stateOf(&s, held, running != nil)
		answer.Handlers = append(answer.Handlers, s)
	}
	return answer, nil
}

func statusOf(h inbox.HandlerStatus, now time.Time) HandlerStatus {
	s := HandlerStatus{Name: h.Name, Pending: h.Pending, Blocked: h.Blocked, Dead: h.Dead, OldestPending: h.OldestPending,
		PausedAt: h.PausedAt, PausedBy: h.PausedBy}
	if !h.OldestPending.IsZero() {
		s.LagSeconds = int64(now.Sub(h.OldestPending).Seconds())
	}
	return s
}

func (s *HandlerStatus) live(l dispatch.HandlerState) {
	s.Unready, s.Breaker, s.BreakerUntil = l.Unready, l.Breaker, l.Until
	s.Failures, s.UnderWay, s.Stuck = l.Failures, l.UnderWay, l.Stuck
}

// stateOf is the state that tells most: what an operator did goes before what is wrong.
func stateOf(s *HandlerStatus, held, running bool) HandlerState {
	switch {
	case s.Type == "":
		return HandlerRemoved
	case !s.PausedAt.IsZero():
		return HandlerPaused
	case held:
		return HandlerHeld
	case !running:
		return HandlerStopped
	case s.Unready != "":
		return HandlerUnready
	}
	return HandlerReady
}

// Pause keeps a handler from being given deliveries, until it is resumed; a restart changes nothing about it.
func (o *Operator) Pause(ctx context.Context, r PauseRequest) (PauseAnswer, error) {
	if err := o.configured(r.Handler); err != nil {
		return PauseAnswer{}, err
	}
	changed, err := o.Store.Pause(ctx, r.Handler, o.By)
	return PauseAnswer{r.Handler, true, changed}, err
}

// Resume ends a pause.
func (o *Operator) Resume(ctx context.Context, r PauseRequest) (PauseAnswer, error) {
	if err := o.configured(r.Handler); err != nil {
		return PauseAnswer{}, err
	}
	changed, err := o.Store.Resume(ctx, r.Handler)
	return PauseAnswer{r.Handler, false, changed}, err
}
