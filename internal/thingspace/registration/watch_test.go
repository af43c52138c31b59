package registration_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// watched is a watch at work on a platform in memory, within a bubble.
type watched struct {
	*memory
	mu       sync.Mutex // held by a look, and by a change of what is looked at
	err      error      // of every list, if set
	looks    []time.Time
	registry *prometheus.Registry
	logs     *observer.ObservedLogs
}

func (w *watched) List(ctx context.Context, account string) ([]registration.Registration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = append(w.looks, time.Now())
	if w.err != nil {
		return nil, w.err
	}
	return w.memory.List(ctx, account)
}

// change changes what the next look finds.
func (w *watched) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

const interval = 15 * time.Minute

// watch starts one, and ends it with the test.
func watch(t *testing.T, m *memory, wanted ...registration.Wanted) *watched {
	t.Helper()
	w := &watched{memory: m, registry: prometheus.NewPedanticRegistry()}
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs = logs
	started := registration.NewWatch(registration.WatchOptions{
		Account: account, Label: "main", Wanted: wanted, Platform: w, Interval: interval,
		Metrics: registration.NewMetrics(w.registry), Log: zap.New(core),
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- started.Run(ctx) }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("the watch ended by itself: %v", err)
			return
		default:
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return w
}

// pass lets time pass until the watch has looked at least once more.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// metric is a value of a metric with these labels' values, in the labels' order.
func metric(t *testing.T, registry *prometheus.Registry, name string, values ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var got []string
			for _, label := range m.GetLabel() {
				got = append(got, label.GetValue())
			}
			if family.GetName() == name && slices.Equal(got, values) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	t.Errorf("no metric %s%q", name, values)
	return math.Inf(-1)
}

// said are the lines of the log since the last call, as "level message service".
func (w *watched) said() []string {
	var lines []string
	for _, e := range w.logs.TakeAll() {
		service, _ := e.ContextMap()["service"].(string)
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Level, e.Message, service)))
	}
	return lines
}

func TestWatchTellsEachChangeOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(listeners("DeviceUsage", ourURL, "NiddService", foreignURL)...)
		w := watch(t, m, want(callback.DeviceUsage, ourURL)[0], registration.Wanted{Service: callback.StateService})
		state := func() float64 { return metric(t, w.registry, "callbackd_registration_held", "main", "DeviceUsage") }
		if held := state(); !math.IsNaN(held) {
			t.Errorf("held is %v before anybody looked", held)
		}
		pass(5 * time.Second)
		if got := w.said(); !slices.Equal(got, []string{"info the platform holds our URL DeviceUsage"}) || state() != 1 {
			t.Errorf("after the first look held is %v and the log says %q", state(), got)
		}
		for _, step := range []struct {
			change func()
			held   float64
			says   []string
		}{
			{func() {}, 1, nil},
			{func() { delete(m.held, "DeviceUsage") }, 0, []string{"warn the platform does not hold our URL, nor any other: callbacks are lost DeviceUsage"}},
			{func() {}, 0, nil},
			{func() { m.held["DeviceUsage"] = listeners("DeviceUsage", foreignURL)[0] }, 0, []string{"warn the platform holds another URL: callbacks go there DeviceUsage"}},
			{func() {}, 0, nil},
			{func() { m.held["DeviceUsage"] = listeners("DeviceUsage", newURL)[0] }, 0, []string{"warn the platform holds another URL: callbacks go there DeviceUsage"}},
			{func() { w.err = errNetwork }, 0, []string{"warn cannot look at what the platform holds"}},
			{func() {}, 0, nil},
			{func() { w.err = nil }, 0, []string{"info can look again at what the platform holds"}},
			{func() {
				m.held["DeviceUsage"] = listeners("deviceusage", strings.Replace(ourURL, "callbacks", "CALLBACKS", 1))[0]
			}, 1,
				[]string{"info the platform holds our URL again DeviceUsage"}},
		} {
			looks := len(w.looks)
			w.change(step.change)
			pass(interval + interval/10 + time.Second)
			if got := w.said(); len(w.looks) == looks || !slices.Equal(got, step.says) || state() != step.held {
				t.Errorf("after %d looks held is %v and the log says %q, want %v and %q", len(w.looks), state(), got, step.held, step.says)
			}
		}
		if seen := metric(t, w.registry, "callbackd_registration_last_look_timestamp_seconds", "main"); seen != float64(w.looks[len(w.looks)-1].UnixMilli())/1000 {
			t.Errorf("last look is %v", seen)
		}
	})
}

func TestWatchLooksSoonAndThenEachInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := time.Now()
		w := watch(t, newMemory(), want(callback.DeviceUsage, ourURL)...)
		pass(10 * interval)
		if first := w.looks[0].Sub(from); first < 0 || first > 5*time.Second {
			t.Errorf("first look after %s", first)
		}
		different := false
		for i := 1; i < len(w.looks); i++ {
			pause := w.looks[i].Sub(w.looks[i-1])
			if pause < interval*9/10 || pause > interval*11/10 {
				t.Errorf("pause %d is %s", i, pause)
			}
			different = different || pause != interval
		}
		if len(w.looks) < 9 || !different {
			t.Errorf("%d looks, jitter: %t", len(w.looks), different)
		}
	})
}

func TestWatchStopsLookingWhenTheLogInIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, newMemory(), want(callback.DeviceUsage, ourURL)...)
		w.change(func() {
			w.err = fmt.Errorf("GetCallbackRegistrations: %w: %w", registration.ErrLogInRefused, &registration.Fault{Operation: "LogIn", Class: "INPUT_INVALID", Code: "X"})
		})
		pass(24 * time.Hour)
		want := []string{"error the platform refused the log-in: what it holds is not looked at any more until callbackd is started anew"}
		if got := w.said(); len(w.looks) != 1 || !slices.Equal(got, want) {
			t.Errorf("%d looks, log says %q", len(w.looks), got)
		}
		if n := metric(t, w.registry, "callbackd_registration_look_failures_total", "main", "login_refused"); n != 1 {
			t.Errorf("%v failures counted", n)
		}
		if stopped := metric(t, w.registry, "callbackd_registration_watch_stopped", "main"); stopped != 1 {
			t.Errorf("stopped is %v", stopped)
		}
	})
}

func TestWatchCountsFailuresByReason(t *testing.T) {
	t.Parallel()
	post := func(err error) error {
		return fmt.Errorf("GetCallbackRegistrations: %w", &url.Error{Op: "Post", URL: registration.DefaultURL, Err: err})
	}
	for _, test := range []struct {
		err    error
		reason string
	}{
		{&registration.Fault{Operation: "GetCallbackRegistrations", Class: "REQUEST_FAILED", Code: "AccountNotFound"}, "fault"},
		{fmt.Errorf("GetCallbackRegistrations: %w", registration.ErrAnswer), "answer"},
		{post(context.DeadlineExceeded), "timeout"},
		{post(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}), "timeout"},
		{post(&net.OpError{Op: "dial", Err: errNetwork}), "unreachable"},
		{errors.New("no space left on device"), "other"},
	} {
		t.Run(test.reason, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, newMemory(), want(callback.DeviceUsage, ourURL)...)
				w.change(func() { w.err = test.err })
				pass(5 * time.Second)
				for _, reason := range []string{"login_refused", "fault", "answer", "timeout", "unreachable", "other"} {
					n := metric(t, w.registry, "callbackd_registration_look_failures_total", "main", reason)
					if (n == 1) != (reason == test.reason) {
						t.Errorf("%v failures counted under %s", n, reason)
					}
				}
				if seen := metric(t, w.registry, "callbackd_registration_last_look_timestamp_seconds", "main"); seen != 0 {
					t.Errorf("last look is %v", seen)
				}
			})
		})
	}
}

func TestWatchBoundsALook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.latency = time.Hour
		w := watch(t, m, want(callback.DeviceUsage, ourURL)...)
		pass(2*time.Minute + 5*time.Second)
		if n := metric(t, w.registry, "callbackd_registration_look_failures_total", "main", "timeout"); n != 1 {
			t.Errorf("%v time-outs counted", n)
		}
	})
}

func TestAShutdownIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w *watched
		t.Cleanup(func() { // when the watch has ended
			if got := w.said(); len(w.looks) != 1 || len(got) > 0 {
				t.Errorf("a shutdown within look %d says %q", len(w.looks), got)
			}
		})
		m := newMemory()
		m.latency = time.Hour
		w = watch(t, m, want(callback.DeviceUsage, ourURL)...)
		pass(10 * time.Second)
	})
}

// TestTwoAccountsOfOneLabelShowTheWorse: metrics know labels alone.
func TestTwoAccountsOfOneLabelShowTheWorse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		metrics := registration.NewMetrics(registry)
		good, bad := &watched{memory: newMemory(listeners("DeviceUsage", ourURL)...)}, &watched{memory: newMemory(listeners("DeviceUsage", ourURL)...)}
		ctx, stop := context.WithCancel(t.Context())
		for name, w := range map[string]*watched{"0212345678-00001": good, "0212345678-00002": bad} {
			started := registration.NewWatch(registration.WatchOptions{Account: name, Label: "main", Wanted: want(callback.DeviceUsage, ourURL),
				Platform: w, Interval: interval, Metrics: metrics, Log: zap.NewNop()})
			go func() { _ = started.Run(ctx) }()
		}
		defer stop()
		bad.change(func() { bad.err = errNetwork })
		for _, step := range []struct {
			change func()
			right  func(float64) bool
		}{
			{func() {}, math.IsNaN},
			{func() { bad.err = nil }, func(v float64) bool { return v == 1 }},
			{func() { delete(bad.held, "DeviceUsage") }, func(v float64) bool { return v == 0 }},
			{func() { delete(good.held, "DeviceUsage"); bad.held = listenersByName("DeviceUsage", ourURL) }, func(v float64) bool { return v == 0 }},
			{func() { good.held = listenersByName("DeviceUsage", ourURL) }, func(v float64) bool { return v == 1 }},
		} {
			good.change(func() { bad.change(step.change) })
			pass(interval * 12 / 10)
			if held := metric(t, registry, "callbackd_registration_held", "main", "DeviceUsage"); !step.right(held) {
				t.Errorf("held is %v", held)
			}
		}
	})
}

func listenersByName(service, url string) map[string]registration.Registration {
	return map[string]registration.Registration{service: listeners(service, url)[0]}
}

func TestWatchLogsNothingThatIsSecretInAURL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, newMemory(listeners("DeviceUsage", "https://user:hunter2@production.example.com/usage?key=hunter2#hunter2\x00"+strings.Repeat("a", 1000))...),
			want(callback.DeviceUsage, ourURL+"?key=hunter2")...)
		pass(5 * time.Second)
		entries := w.logs.TakeAll()
		if len(entries) != 1 {
			t.Fatalf("log has %+v", entries)
		}
		text := fmt.Sprint(entries[0].ContextMap())
		if strings.Contains(text, "hunter2") || len(text) > 700 || !strings.Contains(text, "plan --account "+account) {
			t.Errorf("log says %s", text)
		}
	})
}

func TestMetricsOfWatchesAreWellNamed(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registration.NewWatch(registration.WatchOptions{Account: account, Label: "main", Wanted: want(callback.DeviceUsage, ourURL), Platform: newMemory(),
		Interval: interval, Metrics: registration.NewMetrics(registry), Log: zap.NewNop()})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 || len(families) != 4 {
		t.Errorf("%d metrics, problems %+v: %v", len(families), problems, err)
	}
}
