package dispatch

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"

	"go.uber.org/zap"
)

// attempt decodes the stored bytes and runs the handler.
func (r *runner) attempt(ctx context.Context, d inbox.Delivery) error {
	var cb *callback.Callback
	err := r.guard(d.ID, "decoder panicked", func() (err error) {
		cb, err = r.Decode(d.Entry.Body)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errDecode, err)
	}
	e := &d.Entry
	delivery := &handler.Delivery{
		ID: d.ID, Attempt: d.Attempt, Replay: d.Replay > 0,
		EntryID: e.ID, Seq: e.Seq, ReceivedAt: e.ReceivedAt, Service: callback.Service(e.Service), Account: e.Account,
		Flags: e.Flags(), Callback: cb,
	}
	ctx, cancel := context.WithTimeout(ctx, r.Policy.Timeout)
	defer cancel()
	defer r.watch(d)()
	err = r.guard(d.ID, "handler panicked", func() error { return r.Handler.Handle(ctx, delivery) })
	if err != nil && ctx.Err() != nil && !handler.IsPermanent(err) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// guard turns a panic into an error. The log gets the places in the code alone: a panic's value may quote the callback, and so may
// the arguments in a stack as the runtime prints it.
func (r *runner) guard(delivery, msg string, run func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error(msg, zap.String("delivery", delivery), zap.Strings("stack", stack()))
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return run()
}

// stack lists the calls that led to a panic, the innermost first, down to the guard.
func stack() []string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])]) // without Callers, stack and the deferred function
	var calls []string
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if strings.HasSuffix(f.Function, "(*runner).guard") {
			break
		}
		calls = append(calls, fmt.Sprintf("%s %s:%d", f.Function, f.File, f.Line))
	}
	return calls
}

// stuckAfter is how long after its time-out a handler is called stuck.
const stuckAfter = 10 * time.Second

// watch notes that the handler has the delivery, and tells when it does not return though its time-out has passed.
func (r *runner) watch(d inbox.Delivery) (returned func()) {
	from := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[d.DeliveryKey] = d.ID
	stuck, done := false, false
	timer := time.AfterFunc(r.Policy.Timeout+stuckAfter, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if done {
			return
		}
		stuck = true
		r.stuck++
		r.gauge()
		r.log.Error("handler ignores its time-out and keeps a place until it returns",
			zap.String("delivery", d.ID), zap.Int64("seq", d.Seq), zap.Duration("timeout", r.Policy.Timeout))
	})
	return func() {
		timer.Stop()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.busy, d.DeliveryKey)
		done = true
		if !stuck {
			return
		}
		r.stuck--
		r.gauge()
		r.log.Warn("stuck handler has returned", zap.String("delivery", d.ID), zap.Int64("seq", d.Seq), zap.Duration("took", time.Since(from)))
	}
}

// cause bounds the text that is kept of an error.
func cause(err error) string {
	const longest = 1 << 10
	if err == nil {
		return ""
	}
	s := err.Error()
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
