package dispatch_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What the messages of these tests hold, and no log may.
const (
	phone  = "4155550137"
	secret = "meet me at the old harbour"
)

// bench is a real inbox and a dispatcher on it, in a synctest bubble: the clock is the bubble's.
type bench struct {
	*testing.T
	dir      string
	store    *sqlite.Store
	registry *prometheus.Registry
	log      *bytes.Buffer
	logMu    sync.Mutex
	decode   func([]byte) (*callback.Callback, error)
	grace    time.Duration
}

// inBubble runs a test in a bubble, with an open inbox.
func inBubble(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, dir: t.TempDir(), log: &bytes.Buffer{}, decode: decodeStored}
		b.open()
		t.Cleanup(func() { b.close() })
		test(t, b)
		for _, personal := range []string{phone, secret} {
			if strings.Contains(b.logged(), personal) {
				t.Errorf("the log holds personal data: %q", personal)
			}
		}
	})
}

func decodeStored(body []byte) (*callback.Callback, error) {
	m, err := thingspace.ReadStored(body, soap.Limits{}.WithDefaults())
	if err != nil {
		return nil, err
	}
	return &m.Callback, nil
}

func (b *bench) open() {
	b.Helper()
	var err error
	b.registry = prometheus.NewRegistry()
	// Maintenance would tick through the days that the bubble's clock leaps over.
	b.store, err = sqlite.Open(b.Context(), sqlite.Options{Dir: b.dir, Log: zap.NewNop(), Metrics: inbox.NewMetrics(b.registry), MaintenanceEvery: 1e5 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) close() {
	b.Helper()
	if err := b.store.Close(); err != nil {
		b.Error(err)
	}
}

// Write is the log.
func (b *bench) Write(p []byte) (int, error) {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged() string {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	return b.log.String()
}

func (b *bench) message() []byte {
	return []byte(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><SmsCallbackRequest xmlns="` + thingspace.Namespace + `">` +
		`<Username>acme</Username><Password>********</Password><Device><Kind>mdn</Kind><Identifier>` + phone + `</Identifier></Device>` +
		`<SmsMessage>` + secret + `</SmsMessage></SmsCallbackRequest></s:Body></s:Envelope>`)
}

// append stores n entries for the handlers, and returns the Seq of the last.
func (b *bench) append(n int, handlers ...string) (seq int64) {
	b.Helper()
	for range n {
		seq = b.appendOf(phone, handlers...)
	}
	return seq
}

// appendOf stores an entry about a device.
func (b *bench) appendOf(device string, handlers ...string) (seq int64) {
	b.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		b.Fatal(err)
	}
	receipt, err := b.store.Append(b.Context(), inbox.Arrival{Handlers: handlers, Entry: inbox.Entry{
		ID: id.String(), ReceivedAt: time.Now(), Service: "EnhancedConnectivityService", Kind: "SmsMessage", Account: "main", Body: b.message(),
		Facts: inbox.Facts{Devices: []inbox.Device{{Kind: "mdn", Identifier: device}}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	return receipt.Seq
}

// handlerFunc is a handler that is a function.
type handlerFunc func(ctx context.Context, d *handler.Delivery) error

func (f handlerFunc) Handle(ctx context.Context, d *handler.Delivery) error { return f(ctx, d) }
func (handlerFunc) Close() error                                            { return nil }

func named(name string, p dispatch.Policy, f handlerFunc) dispatch.Instance {
	return dispatch.Instance{Name: name, Handler: f, Policy: p}
}

// run is a dispatcher under way.
type run struct {
	*dispatch.Dispatcher
	stop     context.CancelFunc
	ended    chan struct{}
	registry *prometheus.Registry
}

// start runs a dispatcher over the instances, until stop or the test's end.
func (b *bench) start(instances ...dispatch.Instance) *run {
	b.Helper()
	var names []string
	for _, in := range instances {
		names = append(names, in.Name)
	}
	b.register(names...)
	return b.startOn(b.store, instances...)
}

func (b *bench) register(names ...string) {
	b.Helper()
	if _, err := b.store.Register(b.Context(), names); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) startOn(store dispatch.Store, instances ...dispatch.Instance) *run {
	b.Helper()
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(b), zapcore.DebugLevel)
	r := &run{ended: make(chan struct{}), registry: prometheus.NewRegistry()}
	r.Dispatcher = dispatch.New(dispatch.Options{
		Store: store, Instances: instances, Decode: b.decode, Log: zap.New(core), Metrics: dispatch.NewMetrics(r.registry), Grace: b.grace,
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		if err := r.Run(ctx); err != nil {
			b.Errorf("Run: %v", err)
		}
	}()
	r.stop = func() { cancel(); <-r.ended }
	b.Cleanup(r.stop)
	return r
}

// status is what the inbox knows of a delivery.
func (b *bench) status(seq int64, handler string) inbox.DeliveryStatus {
	b.Helper()
	list, err := b.store.Deliveries(b.Context(), seq)
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range list {
		if d.Handler == handler && d.Replay == 0 {
			return d
		}
	}
	b.Fatalf("entry %d has no delivery to %s", seq, handler)
	return inbox.DeliveryStatus{}
}

func (b *bench) wantState(seq int64, handler, state string, attempts int, reason string) inbox.DeliveryStatus {
	b.Helper()
	d := b.status(seq, handler)
	if d.State != state || d.Attempts != attempts || d.Reason != reason {
		b.Errorf("delivery %d to %s is %s after %d attempts, reason %q; want %s, %d, %q", seq, handler, d.State, d.Attempts, d.Reason, state, attempts, reason)
	}
	return d
}

// metric is the value of one sample.
func (r *run) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if fmt.Sprint(values) == fmt.Sprint(labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	t.Fatalf("no metric %s %v", name, labels)
	return 0
}

// later lets time pass, which in a bubble takes none, and everything settle.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func lint(t testing.TB, registry *prometheus.Registry) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
}

func inboxFile(b *bench) string { return filepath.Join(b.dir, sqlite.File) }
