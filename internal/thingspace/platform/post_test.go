package platform_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/soap"
	"callbackd/internal/thingspace/platform"
)

func TestPost(t *testing.T) {
	t.Parallel()
	for rule, test := range map[string]struct {
		status int
		body   string
		acked  bool
		fault  string
	}{
		"an envelope acknowledges":         {200, string(soap.Ack(soap.V11)), true, ""},
		"no body acknowledges":             {204, "", true, ""},
		"any 2xx acknowledges":             {299, "thanks", true, ""},
		"a redirect is none, nor followed": {307, "", false, ""},
		"a SOAP 1.1 fault":                 {400, string(soap.Fault(soap.V11, soap.Client, `a <b> & "c"`)), false, `a <b> & "c"`},
		"a SOAP 1.2 fault":                 {503, string(soap.Fault(soap.V12, soap.Server, "later")), false, "later"},
		"a page that is no SOAP":           {502, "<html><hr><p>Bad Gateway", false, ""},
		"a fault that is cut":              {500, "<faultstring>half", false, ""},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != "<message/>" || r.Method != http.MethodPost || r.URL.Path != "/DeviceUsage" {
					t.Errorf("%s %s with %q, %v", r.Method, r.URL, body, err)
				}
				for name, want := range map[string]string{"Content-Type": "text/xml; charset=utf-8", "Soapaction": `""`, "Callbackd-Test": "store"} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			client := platform.Client{HTTP: server.Client(), Headers: http.Header{"Callbackd-Test": {"store"}}}
			answer, err := client.Post(t.Context(), server.URL+"/DeviceUsage", []byte("<message/>"))
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status != test.status || answer.Acked() != test.acked || answer.Fault != test.fault || answer.Took <= 0 {
				t.Errorf("answer is %+v, acked %v", answer, answer.Acked())
			}
		})
	}
}

func TestPostToNobody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	client := platform.Client{HTTP: http.DefaultClient}
	if _, err := client.Post(t.Context(), server.URL, nil); err == nil || errors.Is(err, platform.ErrNoAnswer) {
		t.Errorf("got %v, want a refused connection", err)
	}
	if _, err := client.Post(t.Context(), "://", nil); err == nil {
		t.Error("a URL that is none is taken")
	}
	attempts, err := client.Deliver(t.Context(), server.URL, []byte("<r/>"), platform.Retries{Tries: 2})
	if err != nil || len(attempts) != 2 || attempts[0].Err == nil || attempts[1].Err == nil {
		t.Errorf("attempts %+v, %v; want two that failed", attempts, err)
	}
}

// script is a listener in a synctest bubble: a real HTTP server over pipes, whose answers are scripted.
type script struct {
	*http.Client
	mu     sync.Mutex
	from   time.Time
	hits   []hit
	open   int // requests that are being answered
	answer func(try int) (after time.Duration, status int)
}

// hit is one request: when it came, since the start, the count that it bore, and how many were open with it.
type hit struct {
	at    time.Duration
	count string
	open  int
}

// play runs a script until f returns.
func play(t *testing.T, answer func(try int) (time.Duration, int), f func(t *testing.T, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{from: time.Now(), answer: answer}
		pipes := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: s}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(pipes) })
		transport := &http.Transport{DialContext: pipes.dial}
		s.Client = &http.Client{Transport: transport}
		f(t, s)
		transport.CloseIdleConnections()
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, count, _ := strings.Cut(string(body), "<CallbackCount>")
	count, _, _ = strings.Cut(count, "<")
	s.mu.Lock()
	s.open++
	s.hits = append(s.hits, hit{time.Since(s.from), count, s.open})
	after, status := s.answer(len(s.hits))
	s.mu.Unlock()
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	w.WriteHeader(status)
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

const counted = `<r><Data><CallbackCount>1</CallbackCount></Data></r>`

// TestDeliver follows the platform's rules in time that passes at once.
func TestDeliver(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	at := func(d time.Duration, status int) func(int) (time.Duration, int) {
		return func(int) (time.Duration, int) { return d, status }
	}
	for rule, test := range map[string]struct {
		retries  platform.Retries
		answer   func(try int) (time.Duration, int)
		hits     []hit
		statuses []int // 0: no answer
		took     time.Duration
	}{
		"an acknowledgement ends it": {platform.Published(), at(0, 200), []hit{{0, "1", 1}}, []int{200}, 0},
		"one just in time, too":      {platform.Published(), at(platform.Timeout-time.Millisecond, 204), []hit{{0, "1", 1}}, []int{204}, platform.Timeout - time.Millisecond},
		"a refusal is tried again, as published": {platform.Published(), at(0, 503),
			[]hit{{0, "1", 1}, {5 * time.Minute, "2", 1}, {10 * time.Minute, "3", 1}, {15 * time.Minute, "4", 1}}, []int{503, 503, 503, 503}, 15 * time.Minute},
		"a refusal is tried again, as observed": {platform.Observed(), at(0, 403), []hit{{0, "1", 1}, {1400 * time.Millisecond, "2", 1}}, []int{403, 403}, 1400 * time.Millisecond},
		"a refusal, then an acknowledgement": {platform.Published(), func(try int) (time.Duration, int) { return 0, map[int]int{1: 500, 2: 200}[try] },
			[]hit{{0, "1", 1}, {5 * time.Minute, "2", 1}}, []int{500, 200}, 5 * time.Minute},
		"silence is followed by a twin while the first is open": {platform.Observed(), at(never, 200),
			[]hit{{0, "1", 1}, {platform.Timeout, "2", 2}}, []int{0, 0}, 2 * platform.Timeout},
		"a late answer does not call the twin back": {platform.Observed(), func(try int) (time.Duration, int) {
			if try == 1 {
				return platform.Timeout + time.Second, 200
			}
			return 2 * time.Second, 200
		}, []hit{{0, "1", 1}, {platform.Timeout, "2", 2}}, []int{0, 200}, platform.Timeout + 2*time.Second},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			play(t, test.answer, func(t *testing.T, s *script) {
				client := platform.Client{HTTP: s.Client}
				from := time.Now()
				attempts, err := client.Deliver(t.Context(), "http://listener/", []byte(counted), test.retries)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(from); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
				s.check(t, test.hits)
				if len(attempts) != len(test.statuses) {
					t.Fatalf("attempts %+v, want %v", attempts, test.statuses)
				}
				for i, a := range attempts {
					if a.Status != test.statuses[i] || errors.Is(a.Err, platform.ErrNoAnswer) != (a.Status == 0) {
						t.Errorf("attempt %d is %+v, want status %d", i+1, a, test.statuses[i])
					}
				}
			})
		})
	}
}

func (s *script) check(t *testing.T, want []hit) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hits) != len(want) {
		t.Fatalf("requests %+v, want %+v", s.hits, want)
	}
	for i, h := range s.hits {
		if h != want[i] {
			t.Errorf("request %d is %+v, want %+v", i+1, h, want[i])
		}
	}
}

// TestDeliverStopsWithItsContext: neither a pause nor an open request outlives it.
func TestDeliverStopsWithItsContext(t *testing.T) {
	t.Parallel()
	for rule, answer := range map[string]func(int) (time.Duration, int){
		"during a pause":   func(int) (time.Duration, int) { return 0, 503 },
		"during a request": func(int) (time.Duration, int) { return time.Hour, 200 },
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			play(t, answer, func(t *testing.T, s *script) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				from := time.Now()
				client := platform.Client{HTTP: s.Client}
				_, err := client.Deliver(ctx, "http://listener/", []byte(counted), platform.Published())
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(from) != time.Second {
					t.Errorf("got %v after %s", err, time.Since(from))
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.hits) != 1 {
					t.Errorf("requests %+v, want one", s.hits)
				}
			})
		})
	}
}

// TestPostWaitsAsLongAsThePlatform tells the platform's patience from the caller's.
func TestPostWaitsAsLongAsThePlatform(t *testing.T) {
	t.Parallel()
	never := func(int) (time.Duration, int) { return time.Hour, 200 }
	play(t, never, func(t *testing.T, s *script) {
		client := platform.Client{HTTP: s.Client}
		from := time.Now()
		_, err := client.Post(t.Context(), "http://listener/", []byte(counted))
		if !errors.Is(err, platform.ErrNoAnswer) || time.Since(from) != platform.Timeout {
			t.Errorf("got %v after %s", err, time.Since(from))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err = client.Post(ctx, "http://listener/", []byte(counted)); errors.Is(err, platform.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the caller's own deadline", err)
		}
	})
}

// TestDeliverCountsWhereTheCounterStands: in either place, and nowhere else.
func TestDeliverCountsWhereTheCounterStands(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`<r><Data/><CallbackCount>1</CallbackCount></r>`:                      `<r><Data/><CallbackCount>2</CallbackCount></r>`,
		`<r><Data><CallbackCount>1</CallbackCount></Data></r>`:                `<r><Data><CallbackCount>2</CallbackCount></Data></r>`,
		`<r><Data><Usage><CallbackCount>1</CallbackCount></Usage></Data></r>`: `<r><Data><Usage><CallbackCount>1</CallbackCount></Usage></Data></r>`,
		`<r><Data/></r>`: `<r><Data/></r>`,
	} {
		var last string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			last = string(body)
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		client := platform.Client{HTTP: server.Client()}
		if _, err := client.Deliver(t.Context(), server.URL, []byte(message), platform.Retries{Tries: 2}); err != nil {
			t.Error(err)
		}
		server.Close()
		if last != want {
			t.Errorf("%s was sent as %s", message, last)
		}
	}
	client := platform.Client{HTTP: http.DefaultClient}
	if _, err := client.Deliver(t.Context(), "http://127.0.0.1/", []byte("no XML"), platform.Observed()); !errors.Is(err, soap.ErrMalformed) {
		t.Errorf("got %v, want a refusal of what is no message", err)
	}
}
