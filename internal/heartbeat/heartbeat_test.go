package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/dispatch"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/receiver"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// patience bounds every wait; none is meant to come near it.
const patience = 30 * time.Second

// rig is a heart with a real inbox and a real dispatcher.
type rig struct {
	t          *testing.T
	registry   *prometheus.Registry
	logged     *observer.ObservedLogs
	store      *sqlite.Store
	heart      *Heart
	dispatcher *dispatch.Dispatcher
	shed       atomic.Pointer[error]
}

// failing is a store that says that nothing can be stored.
type failing struct {
	*sqlite.Store
	err *atomic.Pointer[error]
}

func (f failing) Status() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return f.Store.Status()
}

func newRig(t *testing.T, limit time.Duration) (*rig, *atomic.Pointer[error]) {
	t.Helper()
	core, logged := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	r := &rig{t: t, registry: prometheus.NewRegistry(), logged: logged}
	var err error
	r.store, err = sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Log: zap.NewNop(), Metrics: inbox.NewMetrics(r.registry)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opinion, err := thingspace.NewSecondOpinion()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Register(t.Context(), []string{Name}); err != nil {
		t.Fatal(err)
	}
	status := new(atomic.Pointer[error])
	r.heart, err = New(Options{
		Listener: l, Interval: 5 * time.Millisecond, Store: failing{r.store, status}, Gates: auth.NewMetrics(r.registry),
		Receiver: receiver.Options{SecondOpinion: opinion, Metrics: receiver.NewMetrics(r.registry), Shed: func() error {
			if err := r.shed.Load(); err != nil {
				return *err
			}
			return nil
		}},
		Metrics: NewMetrics(r.registry), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.heart.o.Limit = limit
	r.dispatcher = dispatch.New(dispatch.Options{Store: r.store, Instances: []dispatch.Instance{{Name: Name, Handler: r.heart}}, Decode: decode,
		Log: zap.NewNop(), Metrics: dispatch.NewMetrics(r.registry)})
	return r, status
}

func decode(body []byte) (*callback.Callback, error) {
	m, err := thingspace.ReadStored(body, soap.Limits{}.WithDefaults())
	if err != nil {
		return nil, err
	}
	return &m.Callback, nil
}

// run runs a part until the test ends.
func (r *rig) run(part func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("never came to pass: %s; lost is %v, and the log says %v", what, r.heart.Lost(), r.logged.All())
		}
	}
}

// metric is the sum of a metric's samples that have the value among their labels.
func (r *rig) metric(name, label string) (sum float64) {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && strings.Contains(fmt.Sprint(m.GetLabel()), `"`+label+`"`) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (r *rig) entries() int {
	r.t.Helper()
	entries, err := r.store.Find(r.t.Context(), inbox.Query{})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(entries)
}

// TestHeartbeatsGoThroughThePipeAndLeaveNothing: each is received, stored, delivered and removed, and none counts as a real service's.
func TestHeartbeatsGoThroughThePipeAndLeaveNothing(t *testing.T) {
	t.Parallel()
	r, _ := newRig(t, patience)
	r.run(r.dispatcher.Run)
	r.run(r.heart.Run)
	r.eventually("ten heartbeats", func() bool { return r.metric("callbackd_heartbeats_total", "ok") >= 10 })
	for _, name := range []string{"callbackd_acks_total", "callbackd_requests_total", "callbackd_credential_matches_total"} {
		if n := r.metric(name, Name); n < 10 {
			t.Errorf("%s of heartbeats is %v", name, n)
		}
	}
	if n := r.metric("callbackd_delivery_attempts_total", "done"); n < 9 {
		t.Errorf("%v deliveries are done", n)
	}
	for _, info := range callback.Catalogue() {
		if n := r.metric("callbackd_requests_total", string(info.Service)); n != 0 {
			t.Errorf("%v requests of %s", n, info.Service)
		}
	}
	r.eventually("the inbox is empty between two", func() bool { return r.entries() == 0 })
	if r.heart.Lost() != nil || r.metric("callbackd_heartbeats_total", "failed") != 0 || r.heart.age() > patience.Seconds() {
		t.Errorf("lost is %v, and the last was seen %v s ago", r.heart.Lost(), r.heart.age())
	}
	if n := r.logged.FilterLevelExact(zapcore.InfoLevel).Len(); n != 0 {
		t.Errorf("what goes well is told in %d lines", n)
	}
}

// TestALostHeartbeatSaysWhereItEnded, once until they arrive again.
func TestALostHeartbeatSaysWhereItEnded(t *testing.T) {
	t.Parallel()
	unavailable, full := fmt.Errorf("%w: the disk is full", inbox.ErrUnavailable), error(receiver.ErrDiskFull)
	for _, tt := range []struct {
		name  string
		limit time.Duration
		spoil func(r *rig, status *atomic.Pointer[error])
		mend  func(r *rig, status *atomic.Pointer[error])
		want  string
	}{
		{"not delivered", time.Second, func(*rig, *atomic.Pointer[error]) {}, func(r *rig, _ *atomic.Pointer[error]) { r.run(r.dispatcher.Run) }, "its handler has not got it"},
		{"refused", patience, func(r *rig, _ *atomic.Pointer[error]) { r.run(r.dispatcher.Run); r.shed.Store(&full) },
			func(r *rig, _ *atomic.Pointer[error]) { r.shed.Store(nil) }, "refused with status 503"},
		{"not stored", patience, func(r *rig, status *atomic.Pointer[error]) { r.run(r.dispatcher.Run); status.Store(&unavailable) },
			func(_ *rig, status *atomic.Pointer[error]) { status.Store(nil) }, "not sent, for nothing can be stored"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, status := newRig(t, tt.limit)
			tt.spoil(r, status)
			r.run(r.heart.Run)
			r.eventually("two are lost", func() bool { return r.metric("callbackd_heartbeats_total", "failed") >= 2 })
			r.eventually(tt.want, func() bool { err := r.heart.Lost(); return err != nil && strings.Contains(err.Error(), tt.want) })
			if told := r.logged.FilterMessageSnippet("a heartbeat was lost").All(); len(told) != 1 {
				t.Errorf("told in %d lines: %v", len(told), told)
			}
			tt.mend(r, status)
			r.eventually("they arrive again", func() bool { return r.heart.Lost() == nil })
			if n := r.logged.FilterMessageSnippet("heartbeats arrive again").Len(); n < 1 {
				t.Error("that they arrive again is not told")
			}
			r.eventually("none but the one under way is in the inbox", func() bool { return r.entries() <= 1 })
		})
	}
}

// TestNobodyElseCanSendAHeartbeat: the port refuses other pairs, and no other gate knows this one.
func TestNobodyElseCanSendAHeartbeat(t *testing.T) {
	t.Parallel()
	r, _ := newRig(t, patience)
	r.run(r.dispatcher.Run)
	r.run(r.heart.Run)
	url := "http://" + r.heart.o.Listener.Addr().String() + "/"
	for _, pair := range [][2]string{{"", ""}, {"acme", "s3cret-pass"}, {r.heart.username, "guess"}} {
		answer, err := http.Post(url, "text/xml", strings.NewReader(fmt.Sprintf(message, pair[0], pair[1], "1")))
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("the pair of user %q gets %d", pair[0], answer.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if n := r.metric("callbackd_credential_failures_total", Name); n != 3 {
		t.Errorf("%v failures are counted", n)
	}
	gate, err := auth.NewCredentialGate([]auth.Credential{{Label: "main", Username: "acme", Password: auth.NewPassword("s3cret-pass")}}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range callback.Catalogue() {
		if _, err := gate.Check(info.Service, r.heart.username, r.heart.password); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%s takes the pair of the heartbeats: %v", info.Service, err)
		}
	}
	if other, _ := newRig(t, patience); other.heart.password == r.heart.password || len(r.heart.password) < 20 {
		t.Error("two starts have the same password, or a short one")
	}
}
