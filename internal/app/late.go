package app

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"callbackd/internal/handler"
)

// lateHandler stands in for a handler that could not be opened at the start, because its disk or its peer was not there. Callbacks are
// received all the same: each delivery tries to open it, and fails and is made again while that fails.
type lateHandler struct {
	open func(context.Context) (handler.Handler, error)

	mu     sync.Mutex
	opened handler.Handler
	closed bool
}

// Handle implements [handler.Handler].
func (h *lateHandler) Handle(ctx context.Context, d *handler.Delivery) error {
	opened, err := h.get(ctx)
	if err != nil {
		return err
	}
	return opened.Handle(ctx, d)
}

func (h *lateHandler) get(ctx context.Context) (handler.Handler, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, errors.New("the handler is closed")
	case h.opened != nil:
		return h.opened, nil
	}
	opened, err := h.open(context.WithoutCancel(ctx)) // it outlives the attempt
	if err != nil {
		return nil, fmt.Errorf("open handler: %w", err)
	}
	h.opened = opened
	return opened, nil
}

// Ready implements [handler.Readier]. That the handler is not open is for the dispatcher to tell.
func (h *lateHandler) Ready() error {
	if !h.mu.TryLock() {
		return nil // it is being opened
	}
	defer h.mu.Unlock()
	if opened, ok := h.opened.(handler.Readier); ok {
		return opened.Ready()
	}
	return nil
}

// Close implements [handler.Handler].
func (h *lateHandler) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.opened == nil {
		return nil
	}
	return h.opened.Close()
}
