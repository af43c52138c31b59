package receiver

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// requestTrace is the span of a request and what begins its steps; nil while nothing is traced. What stands in it is what stands in the
// request's line of log: nothing of what the message is about but its RequestId.
type requestTrace struct {
	tracer trace.Tracer
	ctx    context.Context
	span   trace.Span
}

// traced begins the span of a request. It is the root of its trace, whatever the request says: the sender is not one of ours, and a
// parent of its choice would decide what is recorded, and of which trace it is a part.
func (in *intake) traced(r *http.Request) *requestTrace {
	ctx, span := in.o.Tracer.Start(context.Background(), "receive "+string(in.service.Info.Service), trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("callbackd.service", string(in.service.Info.Service)), attribute.String("http.request.method", method(r))))
	return &requestTrace{in.o.Tracer, ctx, span}
}

// method is that of the request if it is one that HTTP knows: another is the sender's own text.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return r.Method
	}
	return "_OTHER"
}

// link notes the span that an admitted request says that it belongs to, such as that of a proxy in front. A link connects the two and
// leaves the rest to us.
func (t *requestTrace) link(r *http.Request) {
	if t == nil {
		return
	}
	from := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
	if remote := trace.SpanContextFromContext(from); remote.IsValid() {
		t.span.AddLink(trace.Link{SpanContext: remote.WithTraceState(trace.TraceState{})})
	}
}

// id is that of the trace, for the log.
func (t *requestTrace) id() string { return t.span.SpanContext().TraceID().String() }

// parent names the span, as a traceparent header does, for the deliveries that come of the request.
func (t *requestTrace) parent() string {
	if t == nil {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(t.ctx, carrier)
	return carrier["traceparent"]
}

// step is a part of a request's way.
type step struct{ span trace.Span }

func (t *requestTrace) step(name string) step {
	if t == nil {
		return step{}
	}
	_, span := t.tracer.Start(t.ctx, name)
	return step{span}
}

func (s step) end(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, classify(err).reason)
	}
	s.span.End()
}

// end tells how the request ended.
func (t *requestTrace) end(e *event) {
	if t == nil {
		return
	}
	status := http.StatusOK
	if e.outcome == refused {
		status = e.refusal.status
		t.span.SetAttributes(attribute.String("callbackd.reason", e.refusal.reason))
		t.span.SetStatus(codes.Error, e.refusal.reason)
	}
	t.span.SetAttributes(attribute.String("callbackd.outcome", e.outcome.String()), attribute.Int("http.response.status_code", status),
		attribute.Int("callbackd.bytes", e.bytes))
	if e.letter.requestID != "" {
		t.span.SetAttributes(attribute.String("callbackd.request_id", strings.ToValidUTF8(shown(e.letter.requestID), "")))
	}
	if e.message != nil {
		t.span.SetAttributes(attribute.String("callbackd.kind", string(e.message.Callback.Kind)))
	}
	if e.outcome == acked {
		t.span.SetAttributes(attribute.String("callbackd.entry", e.receipt.ID), attribute.Int64("callbackd.seq", e.receipt.Seq),
			attribute.StringSlice("callbackd.flags", e.flags()))
	}
	t.span.End()
}
