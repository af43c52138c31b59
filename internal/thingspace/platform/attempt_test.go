package platform_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace/platform"
)

// bubble is a simulator, and a listener that is registered with it, in time that passes at once: a real HTTP server over pipes, whose
// answers are scripted.
type bubble struct {
	*platform.Simulator
	pipes  *pipes
	answer func(request int) says

	mu   sync.Mutex
	from time.Time
	hits []hit
	open int // requests that are being answered
}

// says is how the listener answers. Without a status it breaks the connection off.
type says struct {
	after       time.Duration
	status      int
	contentType string
	body        string
}

// hit is one request.
type hit struct {
	at    time.Duration // since the start
	count string        // its CallbackCount
	open  int           // requests that were open with it, itself included
	body  string
}

func inBubble(t *testing.T, o platform.Options, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{pipes: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}, from: time.Now(),
			answer: func(int) says { return says{status: 200} }}
		o.Accounts = []platform.Account{{Name: account, Login: login}}
		var err error
		if b.Simulator, err = platform.New(o); err != nil {
			t.Fatal(err)
		}
		b.Dial(b.pipes.dial)
		for _, service := range []callback.Service{callback.DeviceUsage, callback.EnhancedConnectivityService} {
			if err := b.Register(account, service, "http://listener/"+string(service), listening); err != nil {
				t.Fatal(err)
			}
		}
		server := &http.Server{Handler: b}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(b.pipes) })
		running.Go(func() { _ = b.Run(ctx) })
		f(t, b)
		stop()
		_ = server.Close()
		running.Wait()
	})
}

func (b *bubble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.open++
	b.hits = append(b.hits, hit{time.Since(b.from), between(string(body), "<CallbackCount>", "<"), b.open, string(body)})
	answer := b.answer(len(b.hits))
	b.mu.Unlock()
	timer := time.NewTimer(answer.after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	b.mu.Lock()
	b.open--
	b.mu.Unlock()
	if answer.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", answer.contentType)
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

// requests are those that came until now.
func (b *bubble) requests() []hit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.hits)
}

func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

// pipes stand in for a network.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// listening is what the listeners were registered with.
var listening = platform.Credentials{Username: "listener", Password: "l1stener-pass"}

const (
	counted = `<r><Username/><Password/><RequestId>request-1</RequestId><Data><CallbackCount>1</CallbackCount></Data></r>`
	text    = `<SmsCallbackRequest><Username/><Password/><SmsMessage>x</SmsMessage></SmsCallbackRequest>`
)

func profile(name string) platform.Profile {
	for _, p := range platform.Profiles() {
		if p.Name == name {
			return p
		}
	}
	return platform.Profile{}
}

// one is the order to send one message as it is.
func one(message string) platform.Order {
	service := callback.DeviceUsage
	if message == text {
		service = callback.EnhancedConnectivityService
	}
	return platform.Order{Services: []callback.Service{service}, Message: message, Rate: 1, Count: 1}
}

// try is when a try is expected, within a span, and how.
type try struct {
	from, spread time.Duration
	count        string
	open         int
}

// TestTries follows each profile's rules.
func TestTries(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	always := func(r says) func(int) says { return func(int) says { return r } }
	inTurn := func(list ...says) func(int) says { return func(i int) says { return list[i-1] } }
	const soon, spread = 1150 * time.Millisecond, 540 * time.Millisecond
	for rule, test := range map[string]struct {
		profile string
		clock   float64
		answer  func(int) says
		tries   []try
		end     platform.Tally
	}{
		"an ack ends it": {"published", 1, always(says{status: 200}), []try{{0, 0, "1", 1}}, platform.Tally{Acked: 1}},
		"one just in time, too": {"observed", 1, always(says{after: platform.Timeout - time.Millisecond, status: 204}),
			[]try{{0, 0, "1", 1}}, platform.Tally{Acked: 1}},
		"published: a refusal has four tries, five minutes apart": {"published", 1, always(says{status: 503}),
			[]try{{0, 0, "1", 1}, {5 * time.Minute, 0, "2", 1}, {10 * time.Minute, 0, "3", 1}, {15 * time.Minute, 0, "4", 1}},
			platform.Tally{Refused: 1, Archived: 1, Repeats: 3}},
		"published: silence is broken off": {"published", 1, always(says{after: never, status: 200}),
			[]try{{0, 0, "1", 1}, {304 * time.Second, 0, "2", 1}, {608 * time.Second, 0, "3", 1}, {912 * time.Second, 0, "4", 1}},
			platform.Tally{Lost: 1, Archived: 1, Repeats: 3}},
		"published: the clock shortens the pause, not the time-out": {"published", 60, always(says{after: never, status: 200}),
			[]try{{0, 0, "1", 1}, {9 * time.Second, 0, "2", 1}, {18 * time.Second, 0, "3", 1}, {27 * time.Second, 0, "4", 1}},
			platform.Tally{Lost: 1, Archived: 1, Repeats: 3}},
		"published: a repeat may be acknowledged": {"published", 1, inTurn(says{status: 500}, says{status: 200}),
			[]try{{0, 0, "1", 1}, {5 * time.Minute, 0, "2", 1}}, platform.Tally{Acked: 1, Repeats: 1}},
		"observed: a refusal has one repeat, soon": {"observed", 1, always(says{status: 403}),
			[]try{{0, 0, "1", 1}, {soon, spread, "2", 1}}, platform.Tally{Refused: 1, Archived: 1, Repeats: 1}},
		"observed: the clock shortens it": {"observed", 100, always(says{status: 403}),
			[]try{{0, 0, "1", 1}, {soon / 100, spread / 100, "2", 1}}, platform.Tally{Refused: 1, Archived: 1, Repeats: 1}},
		"observed: a broken connection is as a refusal": {"observed", 1, always(says{}),
			[]try{{0, 0, "1", 1}, {soon, spread, "2", 1}}, platform.Tally{Lost: 1, Archived: 1, Repeats: 1}},
		"observed: silence has a twin, while the first is open": {"observed", 100, always(says{after: never, status: 200}),
			[]try{{0, 0, "1", 1}, {platform.Timeout, 0, "2", 2}}, platform.Tally{Lost: 1, Archived: 1, Repeats: 1, Extra: 1}},
		"observed: a late ack of the first does not count": {"observed", 1,
			inTurn(says{after: platform.Timeout + time.Second, status: 200}, says{after: 2 * time.Second, status: 503}),
			[]try{{0, 0, "1", 1}, {platform.Timeout, 0, "2", 2}}, platform.Tally{Refused: 1, Archived: 1, Repeats: 1, Extra: 1}},
		"observed: the twin is acknowledged": {"observed", 1,
			inTurn(says{after: platform.Timeout + time.Second, status: 200}, says{after: 2 * time.Second, status: 200}),
			[]try{{0, 0, "1", 1}, {platform.Timeout, 0, "2", 2}}, platform.Tally{Acked: 1, Repeats: 1, Extra: 1}},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			inBubble(t, platform.Options{Profile: profile(test.profile), Clock: test.clock}, func(t *testing.T, b *bubble) {
				b.answer = test.answer
				report, err := b.Send(t.Context(), one(counted), nil)
				if err != nil {
					t.Fatal(err)
				}
				test.end.Offered, test.end.Sent = 1, 1
				if report.Total.Tally != test.end {
					t.Errorf("tally is %+v, want %+v", report.Total.Tally, test.end)
				}
				if kept := len(b.Archive()); kept != test.end.Archived {
					t.Errorf("%d archived", kept)
				}
				checkTries(t, b.requests(), test.tries)
			})
		})
	}
}

func checkTries(t *testing.T, hits []hit, want []try) {
	t.Helper()
	if len(hits) != len(want) {
		t.Fatalf("requests %+v, want %+v", hits, want)
	}
	for i, h := range hits {
		if w := want[i]; h.at < w.from || h.at > w.from+w.spread || h.count != w.count || h.open != w.open {
			t.Errorf("request %d is %+v, want %+v", i+1, h, w)
		}
	}
}

// TestRepeatsSpread: the pause before a repeat is not always the same, and a seed decides it.
func TestRepeatsSpread(t *testing.T) {
	t.Parallel()
	at := func(seed uint64) (list []time.Duration) {
		inBubble(t, platform.Options{Profile: profile("observed")}, func(t *testing.T, b *bubble) {
			b.answer = func(int) says { return says{status: 503} }
			o := one(counted)
			o.Seed, o.Count, o.Rate = seed, 5, 0.1
			if _, err := b.Send(t.Context(), o, nil); err != nil {
				t.Fatal(err)
			}
			for i, h := range b.requests() {
				if i%2 == 1 {
					list = append(list, h.at-b.requests()[i-1].at)
				}
			}
		})
		return list
	}
	first := at(1)
	if slices.Sort(slices.Clone(first)); len(first) != 5 || len(slices.Compact(slices.Sorted(slices.Values(first)))) < 4 {
		t.Errorf("pauses are %v: want five that differ", first)
	}
	if again := at(1); !slices.Equal(first, again) {
		t.Errorf("the same seed gives %v and %v", first, again)
	}
	if other := at(2); slices.Equal(first, other) {
		t.Errorf("another seed gives the same: %v", other)
	}
}

// TestLingering: a try that nobody waits for stays open for a while, and then no longer.
func TestLingering(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("observed")}, func(t *testing.T, b *bubble) {
		b.answer = func(i int) says {
			if i == 1 {
				return says{after: time.Hour, status: 200}
			}
			return says{status: 200}
		}
		if _, err := b.Send(t.Context(), one(counted), nil); err != nil {
			t.Fatal(err)
		}
		<-time.After(platform.Linger - time.Second)
		if b.opened() != 1 {
			t.Error("the first try was broken off at once")
		}
		<-time.After(2 * time.Second)
		if b.opened() != 0 {
			t.Error("the first try stays open for ever")
		}
	})
}

// opened is how many requests are being answered when nothing moves any more.
func (b *bubble) opened() int {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// TestFewLinger: a listener that hangs does not use up the sockets of the sender.
func TestFewLinger(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("observed")}, func(t *testing.T, b *bubble) {
		const messages, lingering = 5, 2
		b.BoundLingering(lingering)
		b.answer = func(int) says { return says{after: time.Hour, status: 200} }
		order := one(counted)
		order.Count, order.Connections = messages, messages
		report, err := b.Send(t.Context(), order, func(p platform.Progress) {
			if open := b.opened(); p.Seconds == 6 && open != messages+lingering {
				t.Errorf("%d tries are open while each message has its second", open)
			}
		})
		if err != nil || report.Total.Lost != messages || report.Total.Extra != messages {
			t.Errorf("report is %+v, %v", report.Total.Tally, err)
		}
		if open := b.opened(); open != lingering {
			t.Errorf("%d tries linger", open)
		}
		<-time.After(platform.Linger)
		if open := b.opened(); open != 0 {
			t.Errorf("%d tries linger for ever", open)
		}
		order.Count = 1
		if _, err := b.Send(t.Context(), order, nil); err != nil || b.opened() != lingering {
			t.Errorf("%d tries linger when there is room again, %v", b.opened(), err)
		}
	})
}

// TestEachTryLooksUpTheListener: what is registered when a try begins decides where it goes and what it bears.
func TestEachTryLooksUpTheListener(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
		b.answer = func(i int) says {
			if err := b.Unregister(account, callback.DeviceUsage); err != nil {
				t.Error(err)
			}
			if i == 1 {
				if err := b.Register(account, callback.DeviceUsage, "http://elsewhere/", platform.Credentials{Username: "new", Password: "fresh"}); err != nil {
					t.Error(err)
				}
			}
			return says{status: 503}
		}
		report, err := b.Send(t.Context(), one(counted), nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := (platform.Tally{Offered: 1, Sent: 1, Lost: 1, Repeats: 1}); report.Total.Tally != want {
			t.Errorf("tally is %+v, want %+v: the listener went after the second try", report.Total.Tally, want)
		}
		hits := b.requests()
		if len(hits) != 2 || !strings.Contains(hits[0].body, listening.Password) || !strings.Contains(hits[1].body, "<Password>fresh</Password>") {
			t.Errorf("requests are %+v", hits)
		}
	})
}

// TestTextsOfDevices: they have one try, and wait for StartSmsCallback then, as they do where there is no listener.
func TestTextsOfDevices(t *testing.T) {
	t.Parallel()
	for rule, registered := range map[string]bool{"refused": true, "no listener": false} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			inBubble(t, platform.Options{Profile: profile("published")}, func(t *testing.T, b *bubble) {
				b.answer = func(int) says { return says{status: 503} }
				want := platform.Tally{Offered: 1, Sent: 1, Refused: 1, Queued: 1}
				if !registered {
					if err := b.Unregister(account, callback.EnhancedConnectivityService); err != nil {
						t.Fatal(err)
					}
					want = platform.Tally{Offered: 1, Unregistered: 1, Queued: 1}
				}
				report, err := b.Send(t.Context(), one(text), nil)
				if err != nil || report.Total.Tally != want {
					t.Errorf("tally is %+v, %v, want %+v", report.Total.Tally, err, want)
				}
				if len(b.Archive()) != 0 || len(b.requests()) != want.Sent {
					t.Errorf("archive %+v, requests %+v", b.Archive(), b.requests())
				}
			})
		})
	}
}

// TestCountsWhereTheCounterStands: in either place, and nowhere else.
func TestCountsWhereTheCounterStands(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`<r><Data/><CallbackCount>1</CallbackCount></r>`:                      `<r><Data/><CallbackCount>2</CallbackCount></r>`,
		`<r><Data><CallbackCount>1</CallbackCount></Data></r>`:                `<r><Data><CallbackCount>2</CallbackCount></Data></r>`,
		`<r><Data><Usage><CallbackCount>1</CallbackCount></Usage></Data></r>`: `<r><Data><Usage><CallbackCount>1</CallbackCount></Usage></Data></r>`,
		`<r><Data/></r>`: `<r><Data/></r>`,
		`<r xmlns:i="` + soap.XSI + `"><Data/><CallbackCount i:nil="true"/></r>`: `<r xmlns:i="` + soap.XSI + `"><Data/><CallbackCount i:nil="true"/></r>`,
		"\ufeff<r/>": "\ufeff<r/>",
	} {
		inBubble(t, platform.Options{Profile: profile("observed")}, func(t *testing.T, b *bubble) {
			b.answer = func(int) says { return says{status: 503} }
			if _, err := b.Send(t.Context(), one(message), nil); err != nil {
				t.Fatal(err)
			}
			if hits := b.requests(); len(hits) != 2 || hits[0].body != message || hits[1].body != want {
				t.Errorf("%s was sent as %+v", message, hits)
			}
		})
	}
}

// TestAckRules: what each kind of client takes for an ack.
func TestAckRules(t *testing.T) {
	t.Parallel()
	const xmlType = "text/xml; charset=utf-8"
	envelope := func(namespace, content string) string {
		return `<s:Envelope xmlns:s="` + namespace + `">` + content + `</s:Envelope>`
	}
	for answer, test := range map[string]struct {
		says
		any, envelope, empty bool
	}{
		"callbackd's envelope":       {says{status: 200, contentType: xmlType, body: string(soap.Ack(soap.V11))}, true, true, false},
		"an envelope with an answer": {says{status: 200, contentType: "text/xml", body: envelope(soap.Namespace11, `<s:Header/><s:Body><r/></s:Body>`)}, true, true, false},
		"an envelope with 202":       {says{status: 202, contentType: xmlType, body: string(soap.Ack(soap.V11))}, true, true, false},
		"nothing, with 200":          {says{status: 200}, true, false, true},
		"nothing, with 202":          {says{status: 202}, true, false, true},
		"nothing, with 204":          {says{status: 204}, true, false, true},
		"nothing, with 201":          {says{status: 201}, true, false, false},
		"an envelope of SOAP 1.2":    {says{status: 200, contentType: xmlType, body: string(soap.Ack(soap.V12))}, true, false, false},
		"another Content-Type":       {says{status: 200, contentType: "application/soap+xml", body: string(soap.Ack(soap.V11))}, true, false, false},
		"no Content-Type":            {says{status: 200, contentType: ";", body: string(soap.Ack(soap.V11))}, true, false, false},
		"a fault with 200":           {says{status: 200, contentType: xmlType, body: string(soap.Fault(soap.V11, soap.Server, "no"))}, true, false, false},
		"an envelope that is cut":    {says{status: 200, contentType: xmlType, body: `<s:Envelope xmlns:s="` + soap.Namespace11 + `"><s:Body/>`}, true, false, false},
		"an envelope without a Body": {says{status: 200, contentType: xmlType, body: envelope(soap.Namespace11, "")}, true, false, false},
		"an envelope of 65 KiB":      {says{status: 200, contentType: xmlType, body: string(soap.Ack(soap.V11)) + strings.Repeat(" ", 65<<10)}, true, false, false},
		"a page":                     {says{status: 200, contentType: "text/html", body: "<html></html>"}, true, false, false},
		"a redirect":                 {says{status: 302, contentType: xmlType, body: string(soap.Ack(soap.V11))}, false, false, false},
		"a refusal":                  {says{status: 500, contentType: xmlType, body: string(soap.Ack(soap.V11))}, false, false, false},
	} {
		for rule, want := range map[platform.AckRule]bool{platform.AckAny: test.any, platform.AckEnvelope: test.envelope, platform.AckEmpty: test.empty} {
			t.Run(string(rule)+": "+answer, func(t *testing.T) {
				t.Parallel()
				p := profile("observed")
				p.Ack = rule
				inBubble(t, platform.Options{Profile: p}, func(t *testing.T, b *bubble) {
					b.answer = func(int) says { return test.says }
					report, err := b.Send(t.Context(), one(counted), nil)
					if err != nil || report.Total.Acked+report.Total.Refused != 1 || (report.Total.Acked == 1) != want || report.Ack != rule {
						t.Errorf("report is %+v, %v; want an ack: %v", report, err, want)
					}
				})
			})
		}
	}
}

// sockets is a simulator, and what is registered with it listens on real sockets.
func sockets(t *testing.T, o platform.Options, url string) *platform.Simulator {
	t.Helper()
	o.Accounts = []platform.Account{{Name: account, Login: login}}
	s, err := platform.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Register(account, callback.DeviceUsage, url, listening); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return s
}

// TestWire looks at what arrives, over TLS.
func TestWire(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		action  string
		version uint16
	}{
		"published": {`"http://nphase.com/unifiedwebservice/v2/CallbackListener/CallbackRequest"`, tls.VersionTLS12},
		"observed":  {"", tls.VersionTLS13},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var requests []*http.Request
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				requests = append(requests, r)
			}))
			t.Cleanup(server.Close)
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			s := sockets(t, platform.Options{Profile: profile(name), RootCAs: roots}, server.URL+"/usage")
			o := one(counted)
			o.Rate, o.Count, o.Connections = 0, 3, 1
			if report, err := s.Send(t.Context(), o, nil); err != nil || report.Total.Acked != 3 {
				t.Fatalf("report is %+v, %v", report, err)
			}
			for i, r := range requests {
				expect := map[bool]string{true: "100-continue"}[i == 0]
				for header, want := range map[string]string{"Content-Type": "text/xml; charset=utf-8", "Soapaction": want.action, "Expect": expect, "User-Agent": ""} {
					if got := r.Header.Get(header); got != want {
						t.Errorf("request %d has %s %q, want %q", i+1, header, got, want)
					}
				}
				if r.TLS.Version != want.version || r.ProtoMajor != 1 || r.URL.Path != "/usage" || r.RemoteAddr != requests[0].RemoteAddr {
					t.Errorf("request %d is %s over %s to %s from %s", i+1, r.Proto, tls.VersionName(r.TLS.Version), r.URL, r.RemoteAddr)
				}
			}
		})
	}
}

// TestUntrustedCertificate: a listener whose certificate no public authority signed gets nothing.
func TestUntrustedCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a message arrived") }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	s := sockets(t, platform.Options{Profile: profile("observed"), Clock: 1000, RootCAs: x509.NewCertPool()}, server.URL)
	report, err := s.Send(t.Context(), one(counted), nil)
	if err != nil || report.Total.Lost != 1 {
		t.Errorf("report is %+v, %v", report, err)
	}
	if list := s.Archive(); len(list) != 1 || !strings.Contains(list[0].Failure, "certificate") {
		t.Errorf("archive is %+v", list)
	}
}

// TestRepeatsFromOtherAddresses: first tries come from one address, and some repeats from another.
func TestRepeatsFromOtherAddresses(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	first, repeats := make(map[string]int), make(map[string]int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		defer mu.Unlock()
		if between(string(body), "<CallbackCount>", "<") == "1" {
			first[host]++
		} else {
			repeats[host]++
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	s := sockets(t, platform.Options{Profile: profile("observed"), Clock: 1000}, server.URL)
	o := one(counted)
	o.Rate, o.Count, o.Seed = 0, 100, 7
	if report, err := s.Send(t.Context(), o, nil); err != nil || report.Total.Refused != 100 {
		t.Fatalf("report is %+v, %v", report, err)
	}
	if len(first) != 1 || first["127.0.0.1"] != 100 {
		t.Errorf("first tries came from %v", first)
	}
	others := 100 - repeats["127.0.0.1"]
	if runtime.GOOS == "linux" && (others < 15 || others > 50) || runtime.GOOS != "linux" && repeats["127.0.0.1"] == 0 {
		t.Errorf("repeats came from %v, want 5 in 17 from another address", repeats)
	}
}

// TestNobodyListens: a refused connection is tried again, and tells why.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	s := sockets(t, platform.Options{Profile: profile("published"), Clock: 1e6}, server.URL)
	report, err := s.Send(t.Context(), one(counted), nil)
	if want := (platform.Tally{Offered: 1, Sent: 1, Lost: 1, Archived: 1, Repeats: 3}); err != nil || report.Total.Tally != want {
		t.Errorf("report is %+v, %v", report, err)
	}
	if list := s.Archive(); len(list) != 1 || list[0].Tries != 4 || !strings.Contains(list[0].Failure, "refused") {
		t.Errorf("archive is %+v", list)
	}
}

// TestGeneratedMessagesArriveWhole: what is sent is well-formed, bears the registered credentials, and is of the service.
func TestGeneratedMessagesArriveWhole(t *testing.T) {
	t.Parallel()
	inBubble(t, platform.Options{}, func(t *testing.T, b *bubble) {
		report, err := b.Send(t.Context(), platform.Order{Count: 60, Seed: 3}, nil)
		if err != nil || report.Total.Acked != 60 || len(report.Services) != 2 || !report.ClosedLoop {
			t.Fatalf("report is %+v, %v", report, err)
		}
		for _, h := range b.requests() {
			var m struct {
				Body struct {
					Inner []byte `xml:",innerxml"`
				}
			}
			if err := xml.Unmarshal([]byte(strings.TrimPrefix(h.body, "\ufeff")), &m); err != nil || len(m.Body.Inner) == 0 {
				t.Errorf("%v in\n%s", err, h.body)
			}
			if cmp.Or(between(h.body, "<Password>", "<"), "?") != listening.Password {
				t.Errorf("no password in\n%s", h.body)
			}
		}
	})
}
