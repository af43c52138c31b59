package platform_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// listener is a customer's, who answers as it is told.
type listener struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	got    []string
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{status: http.StatusOK}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.got = append(l.got, string(body))
		w.WriteHeader(l.status)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listener) answer(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = status
}

// received is what came since it was last asked.
func (l *listener) received() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

// serve is a simulator that runs, and its client.
func serve(t *testing.T, change ...func(*platform.Options)) (*instance, *platform.Remote) {
	t.Helper()
	in := simulate(t, change...)
	in.run()
	remote, err := platform.NewRemote(in.url + "/api/v2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)
	return in, remote
}

// TestRemoteSeesTheState: registrations without passwords, and the counts of log-ins.
func TestRemoteSeesTheState(t *testing.T) {
	t.Parallel()
	in, remote := serve(t)
	if list, err := remote.Registrations(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	in.register(in.logIn(login), "DeviceUsage", "http://127.0.0.1:1/?a&b", platform.Credentials{Username: "u", Password: "canary"})
	list, err := remote.Registrations(t.Context())
	want := []platform.Registration{{Account: account, Service: callback.DeviceUsage, URL: "http://127.0.0.1:1/?a&b",
		Credentials: platform.Credentials{Username: "u"}}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v; want %v", list, err, want)
	}
	if response := in.get("/control/registrations", "127.0.0.1", ""); strings.Contains(response, "canary") || !strings.Contains(response, `"username":"u"`) {
		t.Errorf("answers %s", response)
	}
	if l, err := remote.LogIns(t.Context()); err != nil || len(l.Users) != 2 || l.Users[0].Accepted != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// get asks under a name of the host's and for a page of an origin.
func (in *instance) get(path, host, origin string) string {
	in.Helper()
	request, err := http.NewRequestWithContext(in.Context(), http.MethodGet, in.url+path, nil)
	if err != nil {
		in.Fatal(err)
	}
	request.Host = host
	if origin != "" {
		request.Header.Set("Origin", origin)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		in.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		in.Fatal(err)
	}
	return response.Status + " " + string(text)
}

// TestTheControlInterfaceIsForThisMachine: no page from elsewhere gets at it, under whatever name it found it.
func TestTheControlInterfaceIsForThisMachine(t *testing.T) {
	t.Parallel()
	in, _ := serve(t)
	for _, c := range []struct {
		host, origin string
		allowed      bool
	}{
		{"127.0.0.1:28300", "", true},
		{"localhost:28300", "", true},
		{"LOCALHOST", "", true},
		{"[::1]:28300", "", true},
		{"127.0.0.1:28300", "http://127.0.0.1:28300", true},
		{"rebound.example.com:28300", "", false},
		{"127.0.0.1.example.com", "", false},
		{"10.0.0.1:28300", "", false},
		{"127.0.0.1:28300", "https://example.com", false},
		{"127.0.0.1:28300", "http://127.0.0.1:3000", false},
		{"127.0.0.1:28300", "null", false},
		{"rebound.example.com", "http://rebound.example.com", false},
	} {
		got := in.get("/control/log-ins", c.host, c.origin)
		if allowed := strings.HasPrefix(got, "200 "); allowed != c.allowed || !allowed && !strings.HasPrefix(got, "403 ") {
			t.Errorf("Host %s, Origin %s: %s", c.host, c.origin, got)
		}
	}
	// An address of another machine, as it would be with a listener that others reach.
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:28300/control/log-ins", nil)
	request.RemoteAddr = "192.0.2.7:1234"
	in.Handler().ServeHTTP(recorder, request)
	if recorder.Code != http.StatusForbidden {
		t.Errorf("another machine: %d", recorder.Code)
	}
}

// TestWhatTheControlInterfaceDoesNotTake is told in its answer.
func TestWhatTheControlInterfaceDoesNotTake(t *testing.T) {
	t.Parallel()
	in, remote := serve(t)
	for path, bodies := range map[string][]string{
		"sms":            {"", "{}{}", `{"acount": "x"}`, `{"account": "none", "mdn": "5125550100", "text": "x"}`, `[]`},
		"send":           {`{"account": "none"}`, `{"rate": -1}`, `{"unknown": 1}`},
		"archive/resend": {`{}`, `{"all": true, "request_id": "x"}`, `{"request_id": "none"}`},
	} {
		for _, body := range bodies {
			response, err := http.Post(in.url+"/control/"+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if response.StatusCode < 400 || response.StatusCode >= 500 || !strings.HasPrefix(string(text), `{"error":"`) {
				t.Errorf("%s %s: %s %s", path, body, response.Status, text)
			}
		}
	}
	if _, err := remote.Resend(t.Context(), platform.Selection{RequestID: "none"}); !errors.Is(err, platform.ErrNotArchived) {
		t.Errorf("resend of none: %v", err)
	}
	for name, m := range map[string]platform.SMS{
		"too long":               {Account: account, MDN: "5125550100", Text: strings.Repeat("x", 2001)},
		"a number of 21 digits":  {Account: account, MDN: strings.Repeat("5", 21), Text: "x"},
		"a control character":    {Account: account, MDN: "5125550100", Text: "\x01"},
		"an account that is not": {Account: "?", MDN: "5125550100", Text: "x"},
	} {
		if _, err := remote.SendSMS(t.Context(), m); err == nil || strings.Contains(err.Error(), "5125550100") {
			t.Errorf("SMS %s: %v", name, err)
		}
	}
	for _, url := range []string{"", "127.0.0.1:28300", "https://127.0.0.1:28300", "http://"} {
		if _, err := platform.NewRemote(url); err == nil {
			t.Errorf("NewRemote takes %q", url)
		}
	}
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	stranger, err := platform.NewRemote(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Close)
	if _, err := stranger.LogIns(t.Context()); err == nil || !strings.Contains(err.Error(), "is it a simulator?") {
		t.Errorf("of another server: %v", err)
	}
}

// TestRemoteSends an order, hears how it ends, and resends what was archived.
func TestRemoteSends(t *testing.T) {
	t.Parallel()
	in, remote := serve(t, func(o *platform.Options) { o.Clock = 1000 })
	l := listen(t)
	in.register(in.logIn(login), "DeviceUsage", l.URL, platform.Credentials{Username: "u", Password: "p"})
	order := platform.Order{Services: []callback.Service{callback.DeviceUsage}, Count: 3, Seed: 7}
	report, err := remote.Send(t.Context(), order, nil)
	if err != nil || report.Total.Acked != 3 || len(report.Services) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if got := l.received(); len(got) != 3 || !strings.Contains(got[0], "<Password>p</Password>") {
		t.Errorf("received %q", got)
	}
	l.answer(http.StatusServiceUnavailable)
	order.Seed = 8
	if report, err = remote.Send(t.Context(), order, nil); err != nil || report.Total.Refused != 3 {
		t.Errorf("refused: %+v, %v", report, err)
	}
	list, err := remote.Archive(t.Context())
	if err != nil || len(list) != 3 || list[0].Account != account {
		t.Fatalf("archive: %+v, %v", list, err)
	}
	if acked, err := remote.Resend(t.Context(), platform.Selection{All: true}); err == nil || acked != 0 {
		t.Errorf("resent to one that refuses: %d, %v", acked, err)
	}
	l.answer(http.StatusOK)
	if acked, err := remote.Resend(t.Context(), platform.Selection{RequestID: list[0].RequestID}); err != nil || acked == 0 {
		t.Errorf("resent one RequestId: %d, %v", acked, err)
	}
	for list, err = remote.Archive(t.Context()); len(list) > 0 && err == nil; list, err = remote.Archive(t.Context()) {
		if _, err := remote.Resend(t.Context(), platform.Selection{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestAnOrderIsStoppedAndReported: who has enough of an order gets the report of what was done.
func TestAnOrderIsStoppedAndReported(t *testing.T) {
	t.Parallel()
	in, remote := serve(t)
	l := listen(t)
	in.register(in.logIn(login), "DeviceUsage", l.URL, platform.Credentials{})
	ctx, stop := context.WithCancel(t.Context())
	told := 0
	report, err := remote.Send(ctx, platform.Order{Services: []callback.Service{callback.DeviceUsage}, Seconds: 3600, Rate: 20}, func(p platform.Progress) {
		told = p.Acked
		stop()
	})
	if got := len(l.received()); !errors.Is(err, context.Canceled) || told == 0 || report.Total.Acked < told || report.Total.Acked != got {
		t.Errorf("%d told, %d received, then %+v, %v", told, got, report.Total.Tally, err)
	}
	if _, err := remote.Send(ctx, platform.Order{}, nil); err == nil {
		t.Error("an order is carried out that was stopped before")
	}
}

// TestAnOrderIsLeftToASimulatorThatHangs: who has enough of it is kept no longer than an answer could take.
func TestAnOrderIsLeftToASimulatorThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		remote, err := platform.NewRemote("http://simulator")
		if err != nil {
			t.Fatal(err)
		}
		remote.Dial(func(context.Context, string, string) (net.Conn, error) {
			client, simulator := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, simulator) }() // until the client hangs up
			return client, nil
		})
		from := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := remote.Send(ctx, platform.Order{}, nil); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "/send") {
			t.Errorf("the order ended with %v", err)
		}
		if took := time.Since(from); took != time.Minute+platform.Timeout+time.Second {
			t.Errorf("it was left after %s", took)
		}
	})
}

// TestAnOrderEndsWithItsClient: who goes leaves no sender behind, and the name that the order had is free.
func TestAnOrderEndsWithItsClient(t *testing.T) {
	t.Parallel()
	in, _ := serve(t)
	l := listen(t)
	in.register(in.logIn(login), "DeviceUsage", l.URL, platform.Credentials{})
	order := func(ctx context.Context, body string) (status int) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/control/send/mine", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response.StatusCode
	}
	ctx, leave := context.WithCancel(t.Context())
	if got := order(ctx, `{"services": ["DeviceUsage"], "seconds": 3600, "rate": 20}`); got != http.StatusOK {
		t.Fatalf("the order is answered with %d", got)
	}
	const notTaken = `{"account": "none"}`
	if got := order(t.Context(), notTaken); got != http.StatusConflict {
		t.Errorf("a second order of the name is answered with %d", got)
	}
	leave()
	for got := http.StatusConflict; got != http.StatusUnprocessableEntity; {
		if got = order(t.Context(), notTaken); got != http.StatusConflict && got != http.StatusUnprocessableEntity {
			t.Fatalf("the next order is answered with %d", got)
		}
	}
}

// TestServeDrains: it answers, and ends without an error when it is told to, though an order is under way.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	s, err := platform.New(platform.Options{Accounts: []platform.Account{{Name: account, Login: login}}})
	if err != nil {
		t.Fatal(err)
	}
	l := listenLoopback(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	remote, err := platform.NewRemote("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	// There is no listener at port 1: each message is refused, and waits 5 minutes for its next try.
	in := &instance{T: t, Simulator: s, url: "http://" + l.Addr().String()}
	in.register(in.logIn(login), "DeviceUsage", "http://127.0.0.1:1/", platform.Credentials{})
	report, err := remote.Send(t.Context(), platform.Order{Services: []callback.Service{callback.DeviceUsage}, Count: 1}, func(platform.Progress) { stop() })
	if err == nil || err.Error() != "the simulator stops" || report.Total.Stopped != 1 {
		t.Errorf("the order ended with %+v, %v", report, err)
	}
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	// What is ordered now is not waited for.
	order := platform.Order{Services: []callback.Service{callback.DeviceUsage}, Count: 1}
	if _, err := s.Send(context.WithoutCancel(t.Context()), order, nil); err == nil {
		t.Error("an order is carried out after the end")
	}
	if _, err := s.ResendAll(context.WithoutCancel(t.Context())); err == nil || errors.Is(err, platform.ErrNotArchived) {
		t.Errorf("a resend after the end: %v", err)
	}
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
