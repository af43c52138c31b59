package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"callbackd/internal/admin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// serve runs the admin listener until the test ends, and returns its URL.
func serve(t *testing.T, checks ...admin.Check) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(admin.Options{Listener: l, Registry: prometheus.NewRegistry(), Checks: checks})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// TestStopWaitsForNoSilence: a connection on which nothing was asked neither holds up the end nor makes it a failure.
func TestStopWaitsForNoSilence(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(admin.Options{Listener: l, Registry: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if status, _, _ := get(t, http.MethodGet, "http://"+l.Addr().String()+"/livez"); status != http.StatusOK { // the silent one came before
		t.Fatalf("livez answers %d", status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func get(t *testing.T, method, url string, header ...string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func passes(context.Context) error { return nil }
func fails(context.Context) error  { return errors.New("disk full") }

// TestReadyz fails for what stops acknowledging, and for nothing else.
func TestReadyz(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		checks []admin.Check
		status int
		text   string
	}{
		{"all is well", []admin.Check{{"inbox", true, passes}, {"handlers", false, passes}}, 200, "ready\ninbox: ok\nhandlers: ok\n"},
		{"something else is not", []admin.Check{{"inbox", true, passes}, {"handlers", false, fails}}, 200, "degraded\ninbox: ok\nhandlers: degraded: disk full\n"},
		{"nothing can be acknowledged", []admin.Check{{"inbox", true, fails}, {"handlers", false, passes}}, 503, "not ready\ninbox: failed: disk full\nhandlers: ok\n"},
		{"both", []admin.Check{{"handlers", false, fails}, {"inbox", true, fails}, {"drain", true, passes}}, 503, "not ready\nhandlers: degraded: disk full\ninbox: failed: disk full\ndrain: ok\n"},
		{"no checks", nil, 200, "ready\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, tt.checks...)
			status, header, text := get(t, http.MethodGet, url+"/readyz")
			if status != tt.status || text != tt.text {
				t.Errorf("%d, %q; want %d, %q", status, text, tt.status, tt.text)
			}
			if header.Get("Cache-Control") != "no-store" {
				t.Error("a proxy may keep the answer")
			}
			status, _, text = get(t, http.MethodHead, url+"/readyz")
			if status != tt.status || text != "" {
				t.Errorf("HEAD: %d, %q", status, text)
			}
			status, _, text = get(t, http.MethodGet, url+"/readyz", "Accept", "text/html, application/json")
			var answer struct {
				State  string
				Checks []struct {
					Name, Cause      string
					Ready, Essential bool
				}
			}
			if err := json.Unmarshal([]byte(text), &answer); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if first, _, _ := strings.Cut(tt.text, "\n"); status != tt.status || answer.State != first || len(answer.Checks) != len(tt.checks) {
				t.Errorf("as JSON: %d, %+v", status, answer)
			}
			for i, c := range answer.Checks {
				if want := tt.checks[i]; c.Name != want.Name || c.Essential != want.Essential || c.Ready != (c.Cause == "") {
					t.Errorf("as JSON: %+v, want that of %s", c, want.Name)
				}
			}
			if status, _, text := get(t, http.MethodGet, url+"/livez"); status != http.StatusOK || text != "alive\n" {
				t.Errorf("/livez: %d, %q", status, text)
			}
		})
	}
}

// TestAHangingCheckIsBounded gives a check only the time that its context has.
func TestAHangingCheckIsBounded(t *testing.T) {
	t.Parallel()
	url := serve(t, admin.Check{Name: "inbox", Essential: true, Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	if status, _, text := get(t, http.MethodGet, url+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "deadline exceeded") {
		t.Errorf("%d, %q", status, text)
	}
}

// TestMetricsSayWhatIsReady without anybody having asked /readyz.
func TestMetricsSayWhatIsReady(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	url := serve(t, admin.Check{Name: "inbox", Essential: true, Run: func(context.Context) error {
		if broken.Load() {
			return errors.New("broken")
		}
		return nil
	}}, admin.Check{Name: "handlers", Run: fails})
	for _, want := range []string{`callbackd_ready{check="inbox"} 1`, `callbackd_ready{check="inbox"} 0`} {
		status, _, text := get(t, http.MethodGet, url+"/metrics")
		if status != http.StatusOK || !strings.Contains(text, want) || !strings.Contains(text, `callbackd_ready{check="handlers"} 0`) {
			t.Errorf("%d without %s:\n%s", status, want, text)
		}
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
		broken.Store(true)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	url := serve(t)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/", 404}, {http.MethodGet, "/debug/vars", 404}, {http.MethodPost, "/debug/pprof/symbol", 405}, {http.MethodGet, "/v1/release", 404},
		{http.MethodPost, "/readyz", 405}, {http.MethodDelete, "/metrics", 405}, {http.MethodHead, "/metrics", 200}, {http.MethodHead, "/livez", 200},
	} {
		if status, _, _ := get(t, tt.method, url+tt.path); status != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, status, tt.status)
		}
	}
}

func TestAListenerThatFailsEndsTheServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(admin.Options{Listener: l, Registry: prometheus.NewRegistry()})
	_ = l.Close()
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "serve admin") {
		t.Errorf("error %v, want one that names the listener", err)
	}
}
