package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/disk"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	simulator "callbackd/internal/thingspace/platform"

	dto "github.com/prometheus/client_model/go"
)

// patience bounds every wait; none is meant to come near it.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never came to pass: %s", what)
		}
	}
}

// running runs a until the test ends, or stop is called.
func running(t *testing.T, a *App) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

// text is a log that is read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// scrape gathers what Prometheus would, as values by metric and labels; of a histogram how much it observed.
func scrape(t *testing.T, a *App) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for _, f := range families(t, a) {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			values[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func families(t *testing.T, a *App) []*dto.MetricFamily {
	t.Helper()
	list, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ask gets a page of the admin listener.
func ask(t *testing.T, a *App, path string) (status int, page string) {
	t.Helper()
	answer, err := http.Get("http://" + a.Addresses().Admin.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// post sends a message to DeviceUsage.
func post(t *testing.T, a *App, message []byte) (acked bool, status int) {
	t.Helper()
	client := &simulator.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	answer, err := client.Post(t.Context(), "http://"+a.Addresses().Services[callback.DeviceUsage].String()+"/", message)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Acked(), answer.Status
}

// TestAScrapeAndAProbeAskTheInboxNothing: when its database is closed they show what they showed, each series of it, with every check as
// it was.
func TestAScrapeAndAProbeAskTheInboxNothing(t *testing.T) {
	t.Parallel()
	a := newApp(t, "handlers: {audit: {type: log}}\nroutes: [{handlers: [audit]}]\n", io.Discard)
	t.Cleanup(func() {
		if err := a.teardown.run(a.log); err != nil {
			t.Error(err)
		}
	})
	before := scrape(t, a)
	a.teardown.drop("inbox")
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.store.Reader.DeliveriesHeld(t.Context()); err == nil {
		t.Fatal("the closed inbox answers, so that this test shows nothing")
	}
	after := scrape(t, a)
	for series, value := range before {
		now, ok := after[series]
		if !ok {
			t.Errorf("%s is shown no more", series)
		}
		if strings.HasPrefix(series, "callbackd_ready") && now != value {
			t.Errorf("%s was %v and is %v", series, value, now)
		}
	}
	if len(after) != len(before) || len(before) < 200 {
		t.Errorf("%d series, and then %d", len(before), len(after))
	}
	for _, check := range a.checks() {
		if err := check.Run(t.Context()); err != nil && check.Name != "listeners" { // which do not run yet
			t.Errorf("the check %s says %v", check.Name, err)
		}
	}
}

// TestEverySeriesIsThereFromTheStart, so that zero shows and a rate has its first point: what traffic of all kinds brings about changes
// values alone. Every histogram of callbackd's is a classic and a native one.
func TestEverySeriesIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	a := newApp(t, `handlers: {audit: {type: log}, events: {type: ndjson, path: events.ndjson}, bad: {type: exec, command: ["false"], delivery: {max_attempts: 2, backoff: {min: 1ms, max: 1ms}}}}
routes: [{handlers: [audit, events, bad]}]
heartbeat: {interval: 1s}
`, io.Discard)
	running(t, a)
	before := scrape(t, a)
	message := simulator.NewGenerator(1, simulator.Credentials{}).Message(callback.DeviceUsage)
	off := bytes.Replace(message, []byte("</Data>"), []byte("text</Data>"), 1)
	wrong := simulator.NewGenerator(1, simulator.Credentials{Username: "somebody", Password: "guess"}).Message(callback.DeviceUsage)
	for _, m := range [][]byte{message, message, off, wrong, []byte("no XML")} {
		post(t, a, m)
	}
	eventually(t, "deliveries, a dead letter and a heartbeat", func() bool {
		now := scrape(t, a)
		return now["callbackd_inbox_dead_letters{handler=bad}"] >= 1 && now["callbackd_heartbeats_total{result=ok}"] >= 1 &&
			now["callbackd_duplicates_total{service=DeviceUsage}"] >= 1 && now["callbackd_quarantined_total{service=DeviceUsage}"] == 1 &&
			now["callbackd_credential_failures_total{service=DeviceUsage}"] == 1
	})
	for _, series := range slices.Sorted(maps.Keys(scrape(t, a))) {
		if _, ok := before[series]; !ok && strings.HasPrefix(series, "callbackd_") {
			t.Errorf("%s was not there before it was needed", series)
		}
	}
	for _, f := range families(t, a) {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil && strings.HasPrefix(f.GetName(), "callbackd_") && (len(h.GetBucket()) == 0 || h.Schema == nil) {
				t.Errorf("%s is not both a classic and a native histogram", f.GetName())
			}
		}
	}
}

// TestNoRouteCatchesAHeartbeat: a handler that gets everything gets none, and the inbox does not show any.
func TestNoRouteCatchesAHeartbeat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "events.ndjson")
	a := newApp(t, fmt.Sprintf("handlers: {events: {type: ndjson, path: %s}}\nroutes: [{handlers: [events]}]\nheartbeat: {interval: 1s}\nlog: {sample_received: 10}\n", file), io.Discard)
	stop := running(t, a)
	if acked, status := post(t, a, simulator.NewGenerator(1, simulator.Credentials{}).Message(callback.DeviceUsage)); !acked {
		t.Fatalf("status %d", status)
	}
	eventually(t, "two heartbeats", func() bool { return scrape(t, a)["callbackd_heartbeats_total{result=ok}"] >= 2 })
	if n := scrape(t, a)["callbackd_log_suppressed_total{message=received,reason=sampled}"]; n != 0 {
		t.Errorf("%v lines about heartbeats count as left out", n)
	}
	if _, page := ask(t, a, "/readyz"); !strings.Contains(page, "heartbeat: ok\n") {
		t.Errorf("/readyz says\n%s", page)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if events, err := os.ReadFile(file); err != nil || bytes.Count(events, []byte("\n")) != 1 || bytes.Contains(events, []byte("heartbeat")) {
		t.Errorf("the handler of everything got, with %v,\n%s", err, events)
	}
	reader, err := sqlite.OpenReader(t.Context(), a.c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if stats, err := reader.Stats(t.Context()); err != nil || stats.Entries != 1 || len(stats.Services) != 1 || len(stats.Pending) != 0 {
		t.Errorf("the inbox has %+v, %v", stats, err)
	}
}

// TestADiskThatGetsFullRefusesBeforeItIs and takes callbacks again by itself; what it cost is noted.
func TestADiskThatGetsFullRefusesBeforeItIs(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	var free atomic.Int64
	free.Store(3000 * mega)
	log := &text{}
	a := newAppWith(t, "handlers: {audit: {type: log}}\nroutes: [{handlers: [audit]}]\n", log, func(o *Options) {
		o.measureDisk = func(string) (disk.Room, error) { return disk.Room{Free: free.Load(), Size: 100_000 * mega}, nil }
	})
	stop := running(t, a)
	g := simulator.NewGenerator(1, simulator.Credentials{})
	for _, step := range []struct {
		free          int64
		status, ready int
		page          string
	}{
		{3000, 200, 200, "disk_full: ok\ndisk: ok\n"},
		{2000, 200, 200, "disk: degraded: 2000 MiB of 100000 MiB are free, and inbox.disk.warn_free wants 2048 MiB"},
		{500, 503, 503, "disk_full: failed: 500 MiB of 100000 MiB are free, and inbox.disk.shed_free wants 512 MiB"},
		{600, 503, 503, "disk_full: failed"},
		{3000, 200, 200, "disk_full: ok\ndisk: ok\n"},
	} {
		free.Store(step.free * mega)
		eventually(t, step.page, func() bool {
			status, page := ask(t, a, "/readyz")
			return status == step.ready && strings.Contains(page, step.page)
		})
		if _, status := post(t, a, g.Message(callback.DeviceUsage)); status != step.status {
			t.Errorf("with %d MiB a callback gets %d, want %d", step.free, status, step.status)
		}
	}
	if n := scrape(t, a)["callbackd_refusals_total{reason=disk_full,service=DeviceUsage}"]; n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	reader, err := sqlite.OpenReader(t.Context(), a.c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	stats, err := reader.Stats(t.Context())
	if err != nil || !slices.ContainsFunc(stats.WithoutAcks, func(o inbox.Outage) bool { return o.Refused == 2 && strings.Contains(o.Reason, "nearly full") }) {
		t.Errorf("the times without acks are %+v, %v", stats.WithoutAcks, err)
	}
}
