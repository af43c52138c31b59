package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"
	"callbackd/internal/handler/webhook"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// Two secrets, as they are handed around.
const (
	secret      = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_b3RoZXItc2VjcmV0LW9mLTMyLWJ5dGVzLWxvbmchIQ=="
)

// subject is a handler under test, and what it is seen by.
type subject struct {
	handler.Handler
	registry *prometheus.Registry
	log      *observer.ObservedLogs
}

// config is the default one for an endpoint.
func config(url string) *webhook.Config {
	c := webhook.Type().Config().(*webhook.Config)
	c.URL = url
	return c
}

func openWith(t testing.TB, c *webhook.Config) subject {
	t.Helper()
	if problems := c.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	return openUnchecked(t, c)
}

func openUnchecked(t testing.TB, c *webhook.Config) subject {
	t.Helper()
	core, log := observer.New(zapcore.DebugLevel)
	s := subject{registry: prometheus.NewRegistry(), log: log}
	var err error
	if s.Handler, err = c.Open(t.Context(), handler.Env{Name: "erp", Log: zap.New(core), Registerer: s.registry}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s subject) ready() error { return s.Handler.(handler.Readier).Ready() }

// value is that of a metric without further labels, or of an answer.
func (s subject) value(t testing.TB, name, answer string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (answer == "" || m.GetLabel()[0].GetValue() == answer) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s %s", name, answer)
	return 0
}

// posted is a request that an endpoint got.
type posted struct {
	*http.Request
	body []byte
}

// endpoint records what it gets, and answers with its handler, 204 if it has none.
type endpoint struct {
	answer http.HandlerFunc

	mu   sync.Mutex
	list []posted
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	e.mu.Lock()
	e.list = append(e.list, posted{r, body})
	e.mu.Unlock()
	if e.answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	e.answer(w, r)
}

func (e *endpoint) got() []posted {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.list
}

// serve starts an endpoint that answers with a function.
func serve(t testing.TB, answer http.HandlerFunc) (*endpoint, *httptest.Server) {
	t.Helper()
	e := &endpoint{answer: answer}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return e, server
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func usage() *handler.Delivery { return handlertest.Delivery(callback.KindUsage) }

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	replace(t, path, text)
	return path
}

// replace puts a text into a file in one step, as whoever deploys secrets does.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	open := func(answer http.HandlerFunc) func(testing.TB, handler.Env) handler.Handler {
		_, server := serve(t, answer) // which goes on after a handler has closed
		return func(t testing.TB, env handler.Env) handler.Handler {
			c := config(server.URL)
			c.SecretFiles = []string{writeFile(t, "secret", secret)}
			h, err := c.Open(t.Context(), env)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
	}
	handlertest.Run(t, handlertest.Subject{Type: webhook.Type(), Open: open(nil), Broken: open(status(http.StatusInternalServerError))})
}

// TestTheVerdictOnEachAnswer: a 2xx is done, 410 is buried, and everything else is tried again.
func TestTheVerdictOnEachAnswer(t *testing.T) {
	t.Parallel()
	const done, retry, bury = "done", "retry", "bury"
	for _, test := range []struct {
		code          int
		retryAfter    string
		verdict, says string
		delay         time.Duration
		counted       string
	}{
		{200, "", done, "", 0, "2xx"}, {201, "", done, "", 0, "2xx"}, {202, "60", done, "", 0, "2xx"}, {204, "", done, "", 0, "2xx"}, {299, "", done, "", 0, "2xx"},
		{300, "", retry, "the endpoint answers 300 Multiple Choices, a redirect that is not followed", 0, "3xx"},
		{304, "", retry, "304 Not Modified", 0, "3xx"},
		{400, "", retry, "the endpoint answers 400 Bad Request", 0, "4xx"},
		{401, "", retry, "401 Unauthorized: look at the secret, the Authorization and the certificate that it expects, and at the clocks", 0, "4xx"},
		{403, "", retry, "403 Forbidden: look at the secret", 0, "4xx"},
		{404, "", retry, "404 Not Found", 0, "4xx"}, {405, "", retry, "405", 0, "4xx"}, {408, "", retry, "408", 0, "4xx"}, {409, "", retry, "409", 0, "4xx"},
		{410, "60", bury, "the endpoint answers 410 Gone: it wants no more events", 0, "410"},
		{413, "", retry, "413", 0, "4xx"}, {415, "", retry, "415", 0, "4xx"}, {422, "", retry, "422", 0, "4xx"}, {425, "", retry, "425", 0, "4xx"},
		{429, "", retry, "429 Too Many Requests", 0, "429"},
		{429, "120", retry, "429 Too Many Requests", 2 * time.Minute, "429"},
		{500, "120", retry, "500 Internal Server Error", 0, "5xx"},
		{502, "", retry, "502", 0, "5xx"},
		{503, "", retry, "503 Service Unavailable", 0, "5xx"},
		{503, "7", retry, "503 Service Unavailable", 7 * time.Second, "5xx"},
		{503, "99999999999999999999999999", retry, "503", 24 * time.Hour, "5xx"},
		{504, "", retry, "504", 0, "5xx"}, {599, "", retry, "the endpoint answers 599", 0, "5xx"},
		{700, "", retry, "the endpoint answers 700", 0, "other"},
	} {
		t.Run(fmt.Sprint(test.code, test.retryAfter), func(t *testing.T) {
			t.Parallel()
			_, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.retryAfter != "" {
					w.Header().Set("Retry-After", test.retryAfter)
				}
				w.WriteHeader(test.code)
			})
			s := openWith(t, config(server.URL))
			err := s.Handle(t.Context(), usage())
			verdict := map[bool]string{true: bury, false: retry}[handler.IsPermanent(err)]
			if err == nil {
				verdict = done
			}
			if verdict != test.verdict || handler.RetryDelay(err) != test.delay || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s after %s: %v; want %s after %s: %s", verdict, handler.RetryDelay(err), err, test.verdict, test.delay, test.says)
			}
			if n := s.value(t, "callbackd_webhook_answers_total", test.counted); n != 1 {
				t.Errorf("%v answers are counted as %s", n, test.counted)
			}
		})
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	for _, test := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0}, {"0", 0}, {"1", time.Second}, {"3600", time.Hour}, {"86400", 24 * time.Hour}, {"86401", 24 * time.Hour}, {"18446744073709551616", 24 * time.Hour},
		{"-1", 0}, {"+1", 0}, {"1.5", 0}, {"soon", 0}, {"1, 2", 0},
		{"Sat, 14 Mar 2026 15:10:26 GMT", time.Minute},
		{"Saturday, 14-Mar-26 15:10:26 GMT", time.Minute},
		{"Sat Mar 14 15:10:26 2026", time.Minute},
		{"Sat, 14 Mar 2026 15:09:25 GMT", 0},
		{"Sat, 14 Mar 2099 15:09:25 GMT", 24 * time.Hour},
	} {
		if got := webhook.RetryAfter(test.value, now); got != test.want {
			t.Errorf("%q is %s, want %s", test.value, got, test.want)
		}
	}
}

// TestAConnectionIsUsedAgain, whatever was answered on it, and although nobody looks at the answer.
func TestAConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"done": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("thanks "), 4<<10)) },
		"fail": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("no ", 4<<10), http.StatusBadGateway)
		},
	} {
		e := &endpoint{answer: answer}
		server, connections := counted(t, e)
		s := openWith(t, config(server.URL))
		for range 20 {
			if err := s.Handle(t.Context(), usage()); (err == nil) != (name == "done") {
				t.Fatal(err)
			}
		}
		if n := connections(); n != 1 || len(e.got()) != 20 {
			t.Errorf("%s: %d connections for %d events", name, n, len(e.got()))
		}
	}
}

// counted starts a server whose connections are counted.
func counted(t testing.TB, h http.Handler) (*httptest.Server, func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			n++
			mu.Unlock()
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestTheHeadersOfTheConfiguration: those in the file and those that are secrets go with each request, and no error or log shows them.
func TestTheHeadersOfTheConfiguration(t *testing.T) {
	t.Parallel()
	e, server := serve(t, status(http.StatusTeapot))
	c := config(server.URL + "/hook?sig=s3cret-query")
	c.SecretFiles = []string{writeFile(t, "secret", secret)}
	c.AuthorizationFile = writeFile(t, "authorization", "Bearer s3cret-bearer\n")
	c.Headers = []webhook.Header{{Name: "X-Site", Value: "berlin"}, {Name: "x-api-key", ValueFile: writeFile(t, "key", "s3cret-key\r\n")}, {Name: "User-Agent", Value: "own"}}
	s := openWith(t, c)
	err := s.Handle(t.Context(), usage())
	if len(e.got()) != 1 {
		t.Fatalf("%d requests: %v", len(e.got()), err)
	}
	got := e.got()[0]
	for name, want := range map[string]string{"Authorization": "Bearer s3cret-bearer", "X-Site": "berlin", "X-Api-Key": "s3cret-key", "User-Agent": "own",
		"Content-Type": "application/cloudevents+json", "Idempotency-Key": "", "Accept-Encoding": ""} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if got.Method != http.MethodPost || got.URL.RawQuery != "sig=s3cret-query" || got.ContentLength != int64(len(got.body)) {
		t.Errorf("%s %s of %d bytes", got.Method, got.URL, got.ContentLength)
	}
	server.Close()
	said := []string{err.Error(), fmt.Sprint(s.Handle(t.Context(), usage())), fmt.Sprintf("%v %+v %#v %s", s.Handler, s.Handler, s.Handler, s.Handler), fmt.Sprintf("%+v", s.log.All())}
	for _, text := range said {
		if strings.Contains(text, "s3cret") || strings.Contains(text, secret) || strings.Contains(text, "49 242 144 246 191 6") {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

// TestAnAttemptEndsWithItsContext although the endpoint does not answer, or does not take the event.
func TestAnAttemptEndsWithItsContext(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	end := make(chan struct{})
	_, server := serve(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-end })
	t.Cleanup(func() { close(end) }) // before the server closes
	s := openWith(t, config(server.URL))
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() { result <- s.Handle(ctx, usage()) }()
	<-arrived
	cancel(nil)
	if err := <-result; !errors.Is(err, context.Canceled) || handler.IsPermanent(err) {
		t.Errorf("error is %v", err)
	}
	over, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := s.Handle(over, usage()); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "post event: no answer in time: context deadline exceeded" {
		t.Errorf("error is %v", err)
	}
}

func TestAClosedHandlerTakesNothing(t *testing.T) {
	t.Parallel()
	e, server := serve(t, nil)
	s := openWith(t, config(server.URL))
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Handle(t.Context(), usage()); err == nil || handler.IsPermanent(err) || len(e.got()) > 0 {
		t.Errorf("%v, %d requests", err, len(e.got()))
	}
	if families, err := s.registry.Gather(); err != nil || len(families) > 0 {
		t.Errorf("%d metrics are left: %v", len(families), err)
	}
}
