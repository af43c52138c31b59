package handler_test

import (
	"context"
	"testing"

	"callbackd/internal/handler"

	"go.opentelemetry.io/otel/trace"
)

// TestTraceParent: the attempt's span is named where there is one.
func TestTraceParent(t *testing.T) {
	t.Parallel()
	if got := handler.TraceParent(t.Context()); got != "" {
		t.Errorf("while nothing is traced it is %q", got)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(context.Background(), span)
	if got, want := handler.TraceParent(ctx), "00-ab000000000000000000000000000000-cd00000000000000-01"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}
