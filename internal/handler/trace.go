package handler

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// TraceParent names the span of the attempt whose context ctx is, as the header traceparent of W3C Trace Context does, so that the destination's
// spans can stand beneath it. It is empty while nothing is traced.
func TraceParent(ctx context.Context) string {
	carrier := make(propagation.MapCarrier, 1)
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}
