package registration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/thingspace/registration"
)

// TestASessionThatEndedIsRenewedOnce: the request goes out again with the new token, and once only.
func TestASessionThatEndedIsRenewedOnce(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"UnifiedWebService.REQUEST_FAILED.SessionToken.Expired", "SessionService.INPUT_INVALID.SessionToken.Invalid", "UnifiedWebService.REQUEST_FAILED.SessionToken.Format"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c := newClient(t, options(t, s))
			s.answer("LogIn", output("LogIn", `<a:SessionToken>old</a:SessionToken>`), output("LogIn", `<a:SessionToken>new</a:SessionToken>`))
			ended := fault(http.StatusInternalServerError, code, "")
			s.answer("StartSmsCallback", ended, output("StartSmsCallback", ``))
			if err := c.StartSMS(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			if s.last().token != "new" {
				t.Errorf("the second try bears token %q", s.last().token)
			}
			s.answer("StartSmsCallback", ended)
			if err := c.StartSMS(t.Context(), account); !errors.Is(err, registration.ErrNoSession) {
				t.Errorf("got %v, want the end of the session", err)
			}
			want := []string{"LogIn", "StartSmsCallback", "LogIn", "StartSmsCallback", "StartSmsCallback", "LogIn", "StartSmsCallback"}
			if got := s.operations(); !slices.Equal(got, want) {
				t.Errorf("called %v, want %v", got, want)
			}
		})
	}
}

// TestASessionIsRenewedBeforeItIdlesOut: the platform ends one after 20 minutes without a call.
func TestASessionIsRenewedBeforeItIdlesOut(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer("StartSmsCallback", output("StartSmsCallback", ``))
	c := newClient(t, options(t, s))
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c.SetNow(func() time.Time { return now })
	for _, step := range []struct {
		rest   time.Duration
		logIns int
	}{{0, 1}, {18 * time.Minute, 1}, {18 * time.Minute, 1}, {19 * time.Minute, 2}, {time.Minute, 2}, {time.Hour, 3}} {
		now = now.Add(step.rest)
		if err := c.StartSMS(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		if got := s.count("LogIn"); got != step.logIns {
			t.Errorf("after %v of rest: %d log-ins, want %d", step.rest, got, step.logIns)
		}
	}
}

func (s *server) count(operation string) int {
	n := 0
	for _, o := range s.operations() {
		if o == operation {
			n++
		}
	}
	return n
}

// TestCallsAtOnceShareOneSession: also when it ends under all of them.
func TestCallsAtOnceShareOneSession(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var issued atomic.Int64
	s.answer("LogIn", func(w http.ResponseWriter, r *http.Request) {
		output("LogIn", fmt.Sprintf(`<a:SessionToken>%d</a:SessionToken>`, issued.Add(1)))(w, r)
	})
	var valid atomic.Int64
	valid.Store(1)
	s.answer("UnregisterCallback", func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(tokenKey{}) != fmt.Sprint(valid.Load()) {
			fault(http.StatusInternalServerError, "X.REQUEST_FAILED.SessionToken.Expired", "")(w, r)
			return
		}
		output("UnregisterCallback", ``)(w, r)
	})
	c := newClient(t, options(t, s))
	storm := func() {
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if err := c.Unregister(t.Context(), account, "DeviceUsage"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	storm()
	if got := issued.Load(); got != 1 {
		t.Errorf("%d log-ins for 20 calls", got)
	}
	valid.Store(2)
	storm()
	if got := issued.Load(); got != 2 {
		t.Errorf("%d log-ins after the session ended, want one more", got)
	}
}

func TestCloseLogsOutOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answer("StartSmsCallback", output("StartSmsCallback", ``))
	c := newClient(t, options(t, s))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Close(ended); err != nil || len(s.operations()) != 0 {
		t.Errorf("a client that never logged in: %v, called %v", err, s.operations())
	}
	if err := c.StartSMS(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(ended), c.Close(ended)); err != nil { // as after Ctrl-C
		t.Error(err)
	}
	if n := s.count("LogOut"); n != 1 || s.last().token != "token-1" {
		t.Errorf("%d log-outs, with token %q", n, s.last().token)
	}
	if err := c.StartSMS(t.Context(), account); err != nil || s.count("LogIn") != 2 {
		t.Errorf("after Close: %v, %d log-ins", err, s.count("LogIn"))
	}
}

func TestClosePassesOverASessionThatEnded(t *testing.T) {
	t.Parallel()
	for rule, test := range map[string]struct {
		answer http.HandlerFunc
		fails  bool
	}{
		"ended":         {fault(http.StatusInternalServerError, "X.REQUEST_FAILED.SessionToken.Expired", ""), false},
		"an empty body": {raw(http.StatusOK, xmlType, ``), false},
		"no content":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, false},
		"no platform":   {raw(http.StatusServiceUnavailable, "text/html", ``), true},
	} {
		s := newServer(t)
		s.answer("StartSmsCallback", output("StartSmsCallback", ``))
		s.answer("LogOut", test.answer)
		c := newClient(t, options(t, s))
		if err := c.StartSMS(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(t.Context()); (err != nil) != test.fails {
			t.Errorf("%s: %v", rule, err)
		}
		if n := s.count("LogIn"); n != 1 {
			t.Errorf("%s: %d log-ins", rule, n)
		}
	}
}

// TestACallEndsWithItsContext: while it waits for an answer, for the log-in of another call, and for the log-in of another process.
func TestACallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	entered, release := make(chan struct{}, 8), make(chan struct{})
	t.Cleanup(func() { close(release) })
	s.answer("LogIn", func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	o := options(t, s)
	first, second := newClient(t, o), newClient(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	go func() { done <- first.StartSMS(ctx, account) }()
	<-entered
	go func() { done <- first.StartSMS(ctx, account) }()
	go func() { done <- second.StartSMS(ctx, account) }()
	cancel()
	for range 3 {
		if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, registration.ErrUnreachable) {
			t.Errorf("got %v, want the end of the context", err)
		}
	}
}

// TestASilentPlatformTimesOut: the error says how long was waited, and nothing is refused for it.
func TestASilentPlatformTimesOut(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	release := make(chan struct{})
	s.answer("LogIn", func(http.ResponseWriter, *http.Request) { <-release }, output("LogIn", `<a:SessionToken>t</a:SessionToken>`))
	s.answer("StartSmsCallback", output("StartSmsCallback", ``))
	o := options(t, s)
	o.Timeout = 50 * time.Millisecond
	err := newClient(t, o).StartSMS(t.Context(), account)
	close(release)
	if !errors.Is(err, registration.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "no answer within 50ms: the platform or the way to it is slow") {
		t.Errorf("got %v", err)
	}
	o.Timeout = 0
	if err := newClient(t, o).StartSMS(t.Context(), account); err != nil {
		t.Errorf("after the time-out: %v", err)
	}
}

// TestATimeOutWhileTheAnswerTrickles: the time covers the answer to its last byte.
func TestATimeOutWhileTheAnswerTrickles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	release := make(chan struct{})
	s.answer("LogIn", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<a>"))
		_ = http.NewResponseController(w).Flush()
		<-release
	})
	o := options(t, s)
	o.Timeout = 50 * time.Millisecond
	err := newClient(t, o).StartSMS(t.Context(), account)
	close(release)
	if !errors.Is(err, registration.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("got %v", err)
	}
}

func TestAPlatformThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := options(t, s)
	s.Close()
	if err := newClient(t, o).StartSMS(t.Context(), account); !errors.Is(err, registration.ErrUnreachable) || !strings.Contains(err.Error(), "check the network") {
		t.Errorf("got %v", err)
	}
}

// TestTheCertificateIsVerified: with an authority of the caller's, never without one, and not below TLS 1.2.
func TestTheCertificateIsVerified(t *testing.T) {
	t.Parallel()
	plain := newServer(t)
	plain.answer("StartSmsCallback", output("StartSmsCallback", ``))
	s := httptest.NewUnstartedServer(plain)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // each refused handshake
	s.StartTLS()
	t.Cleanup(s.Close)
	o := options(t, plain)
	o.URL = s.URL
	err := newClient(t, o).StartSMS(t.Context(), account)
	if !errors.Is(err, registration.ErrUnreachable) || !strings.Contains(err.Error(), "does not trust the certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	if len(plain.operations()) != 0 {
		t.Fatal("the password went to a platform that nobody vouches for")
	}
	o.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if err := newClient(t, o).StartSMS(t.Context(), account); err != nil {
		t.Errorf("a known authority: %v", err)
	}
	old := httptest.NewUnstartedServer(plain)
	old.Config.ErrorLog = s.Config.ErrorLog
	old.TLS = s.TLS.Clone()
	old.TLS.MaxVersion = 0x0302 // TLS 1.1
	old.TLS.MinVersion = 0x0301
	old.StartTLS()
	t.Cleanup(old.Close)
	o.URL = old.URL
	if err := newClient(t, o).StartSMS(t.Context(), account); !errors.Is(err, registration.ErrUnreachable) || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// TestCloseLetsGoOfTheConnections, which a program that goes on would otherwise hold.
func TestCloseLetsGoOfTheConnections(t *testing.T) {
	t.Parallel()
	plain := newServer(t)
	plain.answer("StartSmsCallback", output("StartSmsCallback", ``))
	closed := make(chan struct{}, 8)
	s := httptest.NewUnstartedServer(plain)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	o := options(t, plain)
	o.URL = s.URL
	c := newClient(t, o)
	if err := errors.Join(c.StartSMS(t.Context(), account), c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open")
	}
}
