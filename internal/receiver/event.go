package receiver

import (
	"net/http"
	"net/netip"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// event gathers what is worth telling of one request: it becomes one line of log, and the request's counts.
type event struct {
	from        time.Time
	service     callback.Service
	request     *http.Request
	source      netip.Addr
	contentType string
	bytes       int
	version     soap.Version
	message     *thingspace.Message

	account, credential string
	violations          []thingspace.Violation
	held, misrouted     bool
	receipt             inbox.Receipt

	err     error
	refusal refusal
}

// lastTry reports whether the platform will not send the message again by itself.
func (e *event) lastTry() bool {
	if e.message == nil {
		return false
	}
	cb := &e.message.Callback
	return cb.MaxCallbackThreshold > 0 && cb.CallbackCount >= cb.MaxCallbackThreshold
}

// finish counts and logs. It runs in a defer, whatever happened.
func (in *intake) finish(e *event) {
	took := time.Since(e.from)
	if e.err != nil {
		in.counters.refused(e.refusal.reason, e.lastTry())
		in.o.Log.Warn("refused", append(e.fields(took), zap.Int("status", e.refusal.status), zap.String("reason", e.refusal.reason), zap.Error(e.err))...)
		return
	}
	in.counters.acked(e.from, took)
	in.o.Log.Info("received", append(e.fields(took), e.stored()...)...)
}

// fields tell what arrived. A refused message that had a RequestId is told with all that the platform's support needs to send it
// again.
func (e *event) fields(took time.Duration) []zapcore.Field {
	fields := []zapcore.Field{
		zap.String("service", string(e.service)), zap.Stringer("source", e.source), zap.Int("bytes", e.bytes), zap.Duration("took", took),
	}
	if e.message == nil {
		return fields
	}
	cb := &e.message.Callback
	fields = append(fields, zap.String("kind", string(cb.Kind)), zap.String("request_id", cb.RequestID))
	if cb.CallbackCount > 0 {
		fields = append(fields, zap.Int("callback_count", cb.CallbackCount), zap.Int("max_callback_threshold", cb.MaxCallbackThreshold))
	}
	return fields
}

// stored tells what became of a message that was acknowledged.
func (e *event) stored() []zapcore.Field {
	fields := []zapcore.Field{
		zap.String("account", e.account), zap.String("credential", e.credential), zap.Int64("seq", e.receipt.Seq),
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"duplicate", e.receipt.Duplicate}, {"repeat", e.receipt.RepeatOf != 0}, {"quarantined", e.held}, {"misrouted", e.misrouted},
	} {
		if f.set {
			fields = append(fields, zap.Bool(f.name, true))
		}
	}
	if n := len(e.violations); n > 0 {
		fields = append(fields, zap.Int("violations", n), zap.Stringer("first_violation", e.violations[0]))
	}
	if n := e.message.ExtensionCount; n > 0 {
		fields = append(fields, zap.Int("extensions", n), zap.Strings("extension_paths", e.message.Extensions))
	}
	return fields
}
