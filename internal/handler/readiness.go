package handler

import (
	"sync"

	"go.uber.org/zap"
)

// Readiness is a [Readier] for a handler to embed: it keeps what is known of the destination, and the log tells when that changes. What is noted
// goes into the log and onto /readyz: it says what to do, and MUST NOT quote a callback.
type Readiness struct {
	Log *zap.Logger

	mu    sync.Mutex
	fault error
}

// Note notes why the destination takes nothing, or nil when it does.
func (r *Readiness) Note(fault error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case fault != nil && r.fault == nil:
		r.Log.Warn("not ready: deliveries wait until this is mended", zap.Error(fault))
	case fault == nil && r.fault != nil:
		r.Log.Info("ready again")
	}
	r.fault = fault
}

// Ready implements [Readier].
func (r *Readiness) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault
}
