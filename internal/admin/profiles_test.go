package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestWhoMayProfile: this machine, or who has the token, or who came past a web-config that knows everybody it lets in.
func TestWhoMayProfile(t *testing.T) {
	t.Parallel()
	api := NewAPI(nil, nil)
	const here, there = "127.0.0.1:4711", "192.0.2.1:4711"
	for _, tt := range []struct {
		name          string
		o             Options
		peer          string
		authorization string
		status        int
	}{
		{"this machine", Options{}, here, "", 200},
		{"this machine, by IPv6", Options{}, "[::1]:4711", "", 200},
		{"another", Options{}, there, "", 403},
		{"a token, and who has it", Options{Token: "secret", API: api}, there, "Bearer secret", 200},
		{"a token, and another", Options{Token: "secret", API: api}, there, "Bearer guess", 401},
		{"a token, and this machine", Options{Token: "secret", API: api}, here, "", 401},
		{"users, whom the web-config has let in", Options{Web: Web{Users: true}}, there, "", 200},
		{"client certificates", Options{Web: Web{Certificates: true}}, there, "", 200},
		{"TLS alone", Options{Web: Web{TLS: true}}, there, "", 403},
		{"users and a token", Options{Web: Web{Users: true}, Token: "secret", API: api}, there, "", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.o.Registry, tt.o.Listener = prometheus.NewRegistry(), none{}
			s := New(tt.o)
			r := httptest.NewRequest(http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
			r.RemoteAddr = tt.peer
			r.Header.Set("Authorization", tt.authorization)
			w := patient{httptest.NewRecorder()}
			s.http.Handler.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
		})
	}
}

type none struct{ net.Listener }

// patient is a connection that has no deadlines.
type patient struct{ *httptest.ResponseRecorder }

func (patient) SetReadDeadline(time.Time) error { return nil }

// TestProfile: a profile may take longer than any other answer, though not for ever, and there is one at a time.
func TestProfile(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Listener: l, Registry: prometheus.NewRegistry()})
	s.http.ReadTimeout, s.http.WriteTimeout = 300*time.Millisecond, 500*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	get := func(path string) (int, string) {
		response, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Error(err)
		}
		return response.StatusCode, string(text)
	}
	from := time.Now()
	longer := make(chan int)
	go func() {
		status := http.StatusTooManyRequests
		for status == http.StatusTooManyRequests { // the other has come first
			status, _ = get("/debug/pprof/profile?seconds=1")
		}
		longer <- status
	}()
	for {
		if status, _ := get("/debug/pprof/heap"); status == http.StatusTooManyRequests {
			break // the profile is being taken
		}
		select {
		case status := <-longer:
			t.Fatalf("two profiles were taken at once; the first ended with %d", status)
		default:
		}
	}
	if status := <-longer; status != http.StatusOK || time.Since(from) < time.Second {
		t.Errorf("a profile of a second took %s and ended with %d", time.Since(from), status)
	}
	for _, query := range []string{"profile?seconds=61", "trace?seconds=1e9", "trace?seconds=NaN", "heap?seconds=3600"} {
		if status, text := get("/debug/pprof/" + query); status != http.StatusBadRequest || !strings.Contains(text, "60") {
			t.Errorf("%s: %d, %s", query, status, text)
		}
	}
	if status, _ := get("/debug/pprof/nonsense"); status != http.StatusNotFound {
		t.Errorf("an unknown profile: %d", status)
	}
}

// TestProfilesFollowTheWebConfig: when it asks nobody for a user any more, whoever comes from elsewhere gets none.
func TestProfilesFollowTheWebConfig(t *testing.T) {
	t.Parallel()
	s := New(Options{Registry: prometheus.NewRegistry(), Listener: none{}, Web: Web{Users: true}})
	status := func() int {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
		r.RemoteAddr = "192.0.2.1:4711"
		w := patient{httptest.NewRecorder()}
		s.http.Handler.ServeHTTP(w, r)
		return w.Code
	}
	if code := status(); code != http.StatusOK {
		t.Errorf("with users: status %d", code)
	}
	s.SetWeb(Web{TLS: true})
	if code := status(); code != http.StatusForbidden {
		t.Errorf("without users any more: status %d", code)
	}
}
