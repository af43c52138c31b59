package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// flushLimit is how long the spans that are left get at the end of the program.
const flushLimit = 5 * time.Second

// startTraces has requests and deliveries traced if the OTEL_* variables of OpenTelemetry ask for it. Variables that make no sense are
// told, and nothing is traced then: that is no reason to receive nothing.
func (a *App) startTraces(ctx context.Context) {
	log, counts := a.log.Named("traces"), newSpanMetrics(a.registry)
	tellTraces(log)
	exporter, err := spanExporter(ctx)
	if err != nil {
		log.Error("nothing is traced", zap.Error(err))
		return
	}
	if exporter == nil {
		return
	}
	sampler, err := spanSampler()
	if err = errors.Join(err, checkBatches()); err != nil {
		log.Error("nothing is traced", zap.Error(err))
		return
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "callbackd"), attribute.String("service.version", a.o.Version)), resource.WithFromEnv())
	if err != nil {
		log.Warn("not all of OTEL_RESOURCE_ATTRIBUTES can be used", zap.Error(err))
	}
	batches := sdktrace.NewBatchSpanProcessor(&watchedExporter{SpanExporter: exporter, log: log, exported: counts.exported})
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(countedSpans{SpanProcessor: batches, ended: counts.ended}),
		sdktrace.WithSampler(sampler), sdktrace.WithResource(about))
	a.tracer = provider.Tracer("callbackd")
	a.teardown.push("traces", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not exported", zap.Error(err))
		}
		return nil
	})
	log.Info("requests and deliveries are traced", zap.String("sampler", sampler.Description()))
}

// spanExporter is what the environment asks for; nil for nothing. It is asked for by OTEL_TRACES_EXPORTER=otlp or, without that, by an
// endpoint; all else of it, such as headers and certificates, the exporters read themselves.
func spanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil
	}
	switch name := os.Getenv("OTEL_TRACES_EXPORTER"); name {
	case "otlp":
	case "none":
		return nil, nil
	case "":
		if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
			return nil, nil
		}
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is neither otlp nor none", name)
	}
	variable := "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	if os.Getenv(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	switch protocol := os.Getenv(variable); protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return nil, fmt.Errorf("%s: %q is neither http/protobuf nor grpc", variable, protocol)
	}
}

// checkBatches looks at the variables of the batches, with some values of which the library ends the process.
func checkBatches() error {
	const most = 1 << 20
	for _, variable := range []string{"OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT"} {
		text := os.Getenv(variable)
		if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 1 || n > most) {
			return fmt.Errorf("%s: %q is no number from 1 to %d, of spans or of milliseconds", variable, text, most)
		}
	}
	return nil
}

// spanSampler is the sampler of OTEL_TRACES_SAMPLER, by which an attempt is sampled as its request was: a link to a span that was never
// recorded leads nowhere. No span has a parent from elsewhere, so that those named parentbased_ are the same as the others.
func spanSampler() (sdktrace.Sampler, error) {
	const variable, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	name := os.Getenv(variable)
	switch strings.TrimPrefix(name, "parentbased_") {
	case "", "always_on":
		return sdktrace.ParentBased(linked{sdktrace.AlwaysSample()}), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "traceidratio":
		ratio, err := strconv.ParseFloat(os.Getenv(argument), 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("%s: %q is no number from 0 to 1, which %s=%s takes", argument, os.Getenv(argument), variable, name)
		}
		return sdktrace.ParentBased(linked{sdktrace.TraceIDRatioBased(ratio)}), nil
	}
	return nil, fmt.Errorf("%s: %q is none of always_on, always_off, traceidratio, with or without parentbased_ before it", variable, name)
}

// linked samples what begins with links as what they lead to was.
type linked struct{ sdktrace.Sampler }

func (s linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if len(p.Links) == 0 {
		return s.Sampler.ShouldSample(p)
	}
	decision := sdktrace.Drop
	if slices.ContainsFunc(p.Links, func(l trace.Link) bool { return l.SpanContext.IsSampled() }) {
		decision = sdktrace.RecordAndSample
	}
	return sdktrace.SamplingResult{Decision: decision}
}

// watchedExporter tells when spans can no longer be exported, and when they can again: once each, however long it lasts.
type watchedExporter struct {
	sdktrace.SpanExporter
	log      *zap.Logger
	exported prometheus.Counter
	failing  atomic.Bool
}

// ExportSpans never fails, for the failure has been told.
func (e *watchedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.exported.Add(float64(len(spans)))
	}
	if e.failing.Swap(err != nil) == (err != nil) {
		return nil
	}
	if err != nil {
		e.log.Warn("spans cannot be exported and are lost until they can", zap.Error(err))
	} else {
		e.log.Info("spans are exported again")
	}
	return nil
}

// countedSpans counts what is to be exported, also of that which finds no room in the queue.
type countedSpans struct {
	sdktrace.SpanProcessor
	ended prometheus.Counter
}

func (c countedSpans) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		c.ended.Inc()
	}
	c.SpanProcessor.OnEnd(span)
}
