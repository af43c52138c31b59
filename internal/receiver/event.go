package receiver

import (
	"net/netip"
	"strings"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// event gathers what is worth telling of one request: it becomes one line of log, and the request's counts.
type event struct {
	from        time.Time
	source      netip.Addr
	contentType string
	unfamiliar  bool // the Content-Type is missing, or says something else than XML
	bytes       int
	version     soap.Version
	message     *thingspace.Message // nil unless it was read to its end
	letter      letter

	account, credential string
	violations          []thingspace.Violation
	opinion             inbox.Opinion
	entry               inbox.Entry
	held, misrouted     bool
	receipt             inbox.Receipt

	trace   *requestTrace // nil while nothing is traced
	outcome outcome
	unheard bool // the sender had gone before it was acknowledged
	err     error
	refusal refusal
}

// outcome is how a request ended.
type outcome uint8

const (
	refused   outcome = iota
	acked             // stored, and told so
	described         // the WSDL was asked for
)

func (o outcome) String() string { return [...]string{"refused", "acked", "described"}[o] }

// finish counts and logs. It runs in a defer, whatever happened.
func (in *intake) finish(e *event) {
	took := time.Since(e.from)
	in.counters.count(e, took)
	e.trace.end(e)
	switch e.outcome {
	case acked:
		flags := e.flags()
		if !in.tells(flags) {
			break
		}
		if line := in.log.Check(zapcore.InfoLevel, msgReceived); line != nil {
			line.Write(append(e.fields(took), e.stored(flags)...)...)
		}
	case described:
		in.log.Debug("described", e.fields(took)...)
	case refused:
		if e.letter.last() || in.quiet.allows(flood{string(in.service.Info.Service), msgRefused, e.refusal.reason}, in.o.LogRefusals) {
			in.log.Warn(msgRefused, append(e.fields(took),
				zap.Int("status", e.refusal.status), zap.String("reason", e.refusal.reason), zap.String("error", shown(told(e.err))))...)
		}
	}
}

// tells reports whether an acknowledgement gets a line of log: one with anything out of the ordinary always does, of the others one in so many.
func (in *intake) tells(flags []string) bool {
	if len(flags) > 0 || in.ordinary.Add(1)%uint64(in.o.LogOneAckIn) == 1%uint64(in.o.LogOneAckIn) {
		return true
	}
	in.o.Metrics.suppressed.WithLabelValues(msgReceived, reasonSampled).Inc()
	return false
}

// fields tell what arrived: in a refusal, all that the platform's support needs to send it again. What comes from the sender is
// shortened, and is none of what the message is about: no identifier, text or name but the request's.
func (e *event) fields(took time.Duration) []zapcore.Field {
	const most = 20 // as far as is known now
	fields := append(make([]zapcore.Field, 0, most), zap.String("source", e.sourceText()), zap.Duration("took", took))
	if e.trace != nil {
		fields = append(fields, zap.String("trace_id", e.trace.id()))
	}
	if e.outcome == described {
		return fields
	}
	fields = append(fields, zap.Int("bytes", e.bytes), zap.String("content_type", shown(e.contentType)))
	if e.message != nil {
		fields = append(fields, zap.Stringer("soap", e.version), zap.String("kind", string(e.message.Callback.Kind)))
	}
	if e.letter.requestID != "" {
		fields = append(fields, zap.String("request_id", shown(e.letter.requestID)))
	}
	if e.letter.count > 0 {
		fields = append(fields, zap.Int("callback_count", e.letter.count))
	}
	if e.letter.most > 0 {
		fields = append(fields, zap.Int("max_callback_threshold", e.letter.most))
	}
	if e.account != "" {
		fields = append(fields, zap.String("account", e.account), zap.String("credential", e.credential))
	}
	if n := len(e.violations); n > 0 {
		fields = append(fields, zap.Int("violations", n), zap.String("first_violation", shown(e.violations[0].String())))
	}
	return fields
}

// stored tells what became of a message that was acknowledged.
func (e *event) stored(flags []string) []zapcore.Field {
	fields := []zapcore.Field{zap.Int64("seq", e.receipt.Seq), zap.String("entry", e.receipt.ID)}
	if len(flags) > 0 {
		fields = append(fields, zap.Strings("flags", flags))
	}
	if n := e.message.ExtensionCount; n > 0 {
		const most = 4
		paths := make([]string, 0, most)
		for _, path := range e.message.Extensions[:min(len(e.message.Extensions), most)] {
			paths = append(paths, shown(path))
		}
		fields = append(fields, zap.Int("extensions", n), zap.Strings("extension_paths", paths))
	}
	return fields
}

// flags are those of the entry, and what only its arrival knows.
func (e *event) flags() []string {
	entry := e.entry
	entry.RepeatOf = e.receipt.RepeatOf
	flags := entry.Flags()
	for _, f := range []struct {
		set  bool
		word string
	}{{e.held, "quarantined"}, {e.receipt.Duplicate, "duplicate"}, {e.unheard, "unheard"}} {
		if f.set {
			flags = append(flags, f.word)
		}
	}
	return flags
}

func (e *event) sourceText() string {
	if !e.source.IsValid() {
		return ""
	}
	return e.source.String()
}

// shown shortens what a sender chose to what a line of log bears.
func shown(text string) string {
	const longest = 200
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "..."
}
