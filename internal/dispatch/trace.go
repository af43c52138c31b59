package dispatch

import (
	"context"

	"callbackd/internal/inbox"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// attemptTrace is the span of an attempt; nil while nothing is traced. What stands in it is what stands in the attempt's line of log.
type attemptTrace struct{ span trace.Span }

// traced begins the span of an attempt, and ctx is the handler's. It is a trace of its own, for an attempt may come days after the request
// and more than once; a link leads to the request's.
func (r *runner) traced(ctx context.Context, d inbox.Delivery) (context.Context, *attemptTrace) {
	if r.Tracer == nil {
		return ctx, nil
	}
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("callbackd.handler", r.Name), attribute.String("callbackd.delivery", d.ID),
		attribute.String("callbackd.entry", d.Entry.ID), attribute.Int64("callbackd.seq", d.Seq),
		attribute.String("callbackd.service", d.Entry.Service), attribute.String("callbackd.kind", d.Entry.Kind),
		attribute.Int("callbackd.attempt", d.Attempt), attribute.Bool("callbackd.replay", d.Replay > 0))}
	arrival := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": d.Entry.Facts.Trace})
	if request := trace.SpanContextFromContext(arrival); request.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: request}))
	}
	ctx, span := r.Tracer.Start(ctx, "deliver "+r.Name, options...)
	return ctx, &attemptTrace{span}
}

// end tells what became of the attempt. The error's text stays in the inbox: it may quote the callback.
func (t *attemptTrace) end(result decision) {
	if t == nil {
		return
	}
	t.span.SetAttributes(attribute.Stringer("callbackd.verdict", result.verdict))
	if result.verdict != inbox.VerdictDone {
		t.span.SetAttributes(attribute.String("callbackd.reason", result.reason))
		t.span.SetStatus(codes.Error, result.reason)
	}
	t.span.End()
}

// release ends the span of an attempt that the end of the program cut short, which counts as none.
func (t *attemptTrace) release() {
	if t == nil {
		return
	}
	t.span.SetAttributes(attribute.String("callbackd.verdict", "released"))
	t.span.End()
}

// field names the trace in the log.
func (t *attemptTrace) field() zap.Field {
	if t == nil {
		return zap.Skip()
	}
	return zap.Stringer("trace_id", t.span.SpanContext().TraceID())
}
