package e2e_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collector takes spans as OTLP over HTTP.
type collector struct {
	URL string

	mu       sync.Mutex
	requests []*collectorpb.ExportTraceServiceRequest
}

// collect starts a collector, and has what is started next export its spans to it.
func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.URL = server.URL
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20") // milliseconds
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	text, err := io.ReadAll(body)
	request := &collectorpb.ExportTraceServiceRequest{}
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(text, request) != nil {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, request)
}

// spans are those that have arrived, by their names.
func (c *collector) spans(name string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*tracepb.Span
	for _, request := range c.requests {
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					if span.Name == name {
						list = append(list, span)
					}
				}
			}
		}
	}
	return list
}

// text is everything that has arrived, as text.
func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, request := range c.requests {
		b.WriteString(request.String())
	}
	return b.String()
}

// wait returns the spans of a name once there are n.
func (c *collector) wait(t *testing.T, name string, n int) []*tracepb.Span {
	t.Helper()
	until(t, "the collector has the spans "+name, func() bool { return len(c.spans(name)) >= n })
	return c.spans(name)
}

// attribute is a span's attribute as text.
func attribute(span *tracepb.Span, key string) string {
	i := slices.IndexFunc(span.Attributes, func(kv *commonpb.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return ""
	}
	if v, ok := span.Attributes[i].Value.Value.(*commonpb.AnyValue_StringValue); ok {
		return v.StringValue
	}
	return span.Attributes[i].Value.String()
}

// TestTraces: a request is a span with its steps, a delivery is one that is linked to it across the inbox, and an endpoint is handed the
// delivery's. What the sender says of traces decides nothing.
func TestTraces(t *testing.T) {
	spans := collect(t)
	const foreign = "4bf92f3577b34da6a3ce929d0e0e4736"
	headers := make(chan http.Header, 8)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	defer endpoint.Close()
	in := start(t, base+services(callback.ResumeTrackingNotification)+`handlers:
  hook: {type: webhook, url: "`+endpoint.URL+`"}
  script: {type: exec, command: [sh, -c, 'echo $TRACEPARENT > "DIR/parent"']}
routes: [{handlers: [hook, script]}]
`)
	message := sample(t, "ResumeTrackingNotification")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.URL(callback.ResumeTrackingNotification), strings.NewReader(string(message)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml")
	request.Header.Set("traceparent", "00-"+foreign+"-00f067aa0ba902b7-00") // which asks not to be sampled
	request.Header.Set("tracestate", "sender=canary-state")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	received := spans.wait(t, "receive ResumeTrackingNotification", 1)[0]
	delivered := spans.wait(t, "deliver hook", 1)[0]

	if len(received.ParentSpanId) > 0 || hex.EncodeToString(received.TraceId) == foreign {
		t.Error("the sender chose the trace that its request is in")
	}
	if len(received.Links) != 1 || hex.EncodeToString(received.Links[0].TraceId) != foreign {
		t.Errorf("the request's links are %v", received.Links)
	}
	entry := in.list()[0]
	for key, want := range map[string]string{"callbackd.service": "ResumeTrackingNotification", "callbackd.outcome": "acked",
		"callbackd.kind": "Comment", "callbackd.request_id": entry.RequestID} {
		if got := attribute(received, key); got != want {
			t.Errorf("the request's %s is %q, want %q", key, got, want)
		}
	}
	for _, name := range []string{"read", "validate", "append"} {
		if step := spans.wait(t, name, 1)[0]; string(step.ParentSpanId) != string(received.SpanId) {
			t.Errorf("%s is no step of the request", name)
		}
	}
	if len(delivered.Links) != 1 || string(delivered.Links[0].SpanId) != string(received.SpanId) || string(delivered.Links[0].TraceId) != string(received.TraceId) {
		t.Errorf("the delivery's links are %v, and the request is %x of %x", delivered.Links, received.SpanId, received.TraceId)
	}
	if attribute(delivered, "callbackd.entry") != attribute(received, "callbackd.entry") || attribute(delivered, "callbackd.verdict") != "done" {
		t.Errorf("the delivery is %v", delivered.Attributes)
	}
	if got, want := (<-headers).Get("traceparent"), "00-"+hex.EncodeToString(delivered.TraceId)+"-"+hex.EncodeToString(delivered.SpanId)+"-01"; got != want {
		t.Errorf("the endpoint got the traceparent %q, want %q", got, want)
	}
	scripted := spans.wait(t, "deliver script", 1)[0]
	if parent, err := os.ReadFile(filepath.Join(in.Dir, "parent")); err != nil || !strings.Contains(string(parent), hex.EncodeToString(scripted.SpanId)) {
		t.Errorf("the program got the traceparent %q, %v, and its span is %x", parent, err, scripted.SpanId)
	}
	if !strings.Contains(in.Log.String(), `"trace_id":"`+hex.EncodeToString(received.TraceId)+`"`) {
		t.Error("the request's line of log does not name its trace")
	}
	if strings.Contains(spans.text(), "canary-state") {
		t.Error("what the sender chose is exported")
	}
	until(t, "the metric has all spans exported", func() bool {
		ended := in.metric("callbackd_spans_total")
		return ended >= 3 && in.metric("callbackd_spans_exported_total") == ended
	})
}

// grpcCollector takes spans as OTLP over gRPC.
type grpcCollector struct {
	collectorpb.UnimplementedTraceServiceServer
	*collector
}

func (c grpcCollector) Export(_ context.Context, request *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, request)
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// TestTracesOverGRPC: a collector that speaks gRPC alone gets the spans as well.
func TestTracesOverGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spans, server := &collector{}, grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, grpcCollector{collector: spans})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("collector: %v", err)
		}
	}()
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	in := start(t, base+services(callback.ResumeTrackingNotification)+logAndFile)
	in.post(callback.ResumeTrackingNotification, sample(t, "ResumeTrackingNotification"))
	in.settled()
	in.stop()
	if received, delivered := spans.spans("receive ResumeTrackingNotification"), spans.spans("deliver events"); len(received) != 1 || len(delivered) != 1 {
		t.Errorf("the collector has %d spans of requests and %d of deliveries", len(received), len(delivered))
	}
}

// TestTracesOfFailures: what is refused and what fails is told by the words of the metrics, and a drain exports what is left.
func TestTracesOfFailures(t *testing.T) {
	spans := collect(t)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "600000") // so that only the end exports
	in := start(t, base+services(callback.ResumeTrackingNotification)+`handlers:
  broken: {type: exec, command: ["false"], delivery: {max_attempts: 1}}
routes: [{handlers: [broken]}]
`)
	message := sample(t, "ResumeTrackingNotification")
	in.post(callback.ResumeTrackingNotification, message)
	in.post(callback.ResumeTrackingNotification, []byte(strings.ReplaceAll(string(message), credentials.Password, "wrong")))
	in.settled()
	in.stop()
	refused := 0
	for _, span := range spans.spans("receive ResumeTrackingNotification") {
		if span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			refused++
			if span.Status.Message != "credentials" || attribute(span, "callbackd.outcome") != "refused" || len(span.Links) > 0 {
				t.Errorf("the refused request is %v", span)
			}
		}
	}
	if refused != 1 {
		t.Errorf("%d refused requests are traced, want 1", refused)
	}
	failed := spans.spans("deliver broken")
	if len(failed) != 1 || failed[0].Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || attribute(failed[0], "callbackd.verdict") != "bury" {
		t.Errorf("the failed deliveries are %v", failed)
	}
}

// TestTracesAreSampledWhole: the deliveries of a request are sampled if it is, so that no link leads nowhere.
func TestTracesAreSampledWhole(t *testing.T) {
	spans := collect(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
	in := start(t, base+services(callback.DeviceUsage)+logAndFile)
	g := platform.NewGenerator(3, credentials)
	const requests = 64
	for range requests {
		in.post(callback.DeviceUsage, g.Message(callback.DeviceUsage))
	}
	in.settled()
	in.stop()
	received := spans.spans("receive DeviceUsage")
	if len(received) == 0 || len(received) == requests {
		t.Errorf("%d of %d requests are sampled", len(received), requests)
	}
	for _, name := range []string{"deliver audit", "deliver events"} {
		delivered := spans.spans(name)
		if len(delivered) != len(received) {
			t.Errorf("%d requests are sampled, and %d spans %s", len(received), len(delivered), name)
		}
		for _, span := range delivered {
			if !slices.ContainsFunc(received, func(r *tracepb.Span) bool { return string(r.SpanId) == string(span.Links[0].SpanId) }) {
				t.Errorf("%s leads to a request that is not there", name)
			}
		}
	}
}

// TestTracesWithoutCollector: a collector that cannot be reached is told once, and holds up neither callbacks nor the end.
func TestTracesWithoutCollector(t *testing.T) {
	spans := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100") // milliseconds
	in := start(t, base+services(callback.ResumeTrackingNotification)+logAndFile)
	if answer := in.post(callback.ResumeTrackingNotification, sample(t, "ResumeTrackingNotification")); answer.Status != http.StatusOK {
		t.Errorf("status %d", answer.Status)
	}
	in.settled()
	until(t, "the log tells that spans are lost", func() bool { return strings.Contains(in.Log.String(), "spans cannot be exported") })
	if ended, exported := in.metric("callbackd_spans_total"), in.metric("callbackd_spans_exported_total"); ended < 3 || exported != 0 {
		t.Errorf("of %v spans, says the metric, %v are exported", ended, exported)
	}
	in.stop()
	if len(spans.text()) > 0 {
		t.Error("spans have arrived all the same")
	}
}

// TestTracesAskedForWrongly: variables that make no sense are named, and cost no callback.
func TestTracesAskedForWrongly(t *testing.T) {
	for variable, value := range map[string]string{
		"OTEL_BSP_MAX_QUEUE_SIZE": "-4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9999999999999", "OTEL_BSP_SCHEDULE_DELAY": "5s",
		"OTEL_TRACES_EXPORTER": "jaeger", "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon", "OTEL_TRACES_SAMPLER": "sometimes",
	} {
		t.Run(variable, func(t *testing.T) {
			collect(t)
			t.Setenv(variable, value)
			in := start(t, base+services(callback.ResumeTrackingNotification)+logAndFile)
			if answer := in.post(callback.ResumeTrackingNotification, sample(t, "ResumeTrackingNotification")); answer.Status != http.StatusOK {
				t.Errorf("status %d", answer.Status)
			}
			if log := in.Log.String(); !strings.Contains(log, variable+`: \"`+value) {
				t.Errorf("the log does not tell of it:\n%s", log)
			}
		})
	}
}

// TestTracesOfVariablesWithSecrets: what the libraries cannot use is told in the log, and the value is not.
func TestTracesOfVariablesWithSecrets(t *testing.T) {
	collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary%zz")
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.crt")
	in := start(t, base+services(callback.ResumeTrackingNotification)+logAndFile)
	log := in.Log.String()
	if !strings.Contains(log, `"problem":"escape header value"`) || !strings.Contains(log, "open /nowhere/ca.crt") || strings.Contains(log, "canary") {
		t.Errorf("the log says\n%s", log)
	}
}
