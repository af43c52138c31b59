package receiver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/receiver"
)

// status reads a status line by hand: an interim answer is no answer to net/http.
func (c *conn) status() string {
	c.t.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read status: %v", err)
	}
	return strings.TrimSpace(line)
}

// TestExpectContinue holds the gates before the invitation to send the body.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	t.Run("an acceptable request is told to go on", func(t *testing.T) {
		t.Parallel()
		c := start(t).dial()
		c.send("", usual(len(message()), "Expect: 100-continue")...)
		if got := c.status(); got != "HTTP/1.1 100 Continue" {
			t.Fatalf("got %q", got)
		}
		if got := c.status(); got != "" {
			t.Fatalf("got %q after 100 Continue", got)
		}
		c.send(message())
		if a := c.answer(); a.status != http.StatusOK {
			t.Errorf("status %d: %s", a.status, a.body)
		}
	})
	for _, tt := range []struct {
		name   string
		edit   func(*rig)
		head   []string
		status int
	}{
		{"not an address that is not allowed", func(r *rig) { r.network(auth.Config{Mode: auth.Enforce, Allow: []string{"192.0.2.1"}}) }, usual(1000), 403},
		{"not JSON", func(*rig) {}, usual(1000, "Content-Type: application/json"), 415},
		{"not what is too long", small, usual(1 << 20), 413},
		{"not an unknown coding", func(*rig) {}, usual(1000, "Content-Encoding: br"), 415},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := start(t, tt.edit).dial()
			c.send("", append(tt.head, "Expect: 100-continue")...)
			if a := c.answer(); a.status != tt.status || !a.closed {
				t.Errorf("status %d, closed %v; want %d at once and no 100 Continue, and the connection closed", a.status, a.closed, tt.status)
			}
			if err := c.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil { // less than a body may take
				t.Fatal(err)
			}
			c.ended()
		})
	}
}

// TestLengthAndChunksTogether sends what smugglers send. net/http goes by the chunks; nothing after them may be taken for a request.
func TestLengthAndChunksTogether(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := r.dial()
	smuggled := "POST /?smuggled HTTP/1.1\r\nHost: callbackd\r\nContent-Length: 0\r\n\r\n"
	c.send(chunked(message())+smuggled, usual(len(message())+len(smuggled), "Transfer-Encoding: chunked")...)
	if a := c.answer(); a.status != http.StatusOK || !a.closed {
		t.Errorf("status %d, closed %v; want 200 and the connection closed", a.status, a.closed)
	}
	c.ended()
	r.counted("ack")
}

// TestHTTPItself goes through what net/http refuses before there is a request: none of it reaches the inbox, all of it is counted.
func TestHTTPItself(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		text string
		want string // the status line; empty: the connection closes without a word
	}{
		{"no HTTP", "\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "HTTP/1.1 400 Bad Request"},
		{"a length that is none", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", "HTTP/1.1 400 Bad Request"},
		{"no host", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 400 Bad Request: missing required Host header"},
		{"another transfer coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "HTTP/1.1 501 Not Implemented"},
		{"a head that is too long", "POST / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"a head that does not end", "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(r *rig) {
				if tt.want == "" {
					r.options.Limits.Head = 50 * time.Millisecond
				}
			})
			c := r.dial()
			c.send(tt.text)
			if tt.want != "" {
				if got := c.status(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				_, _ = io.Copy(io.Discard, c.in) // to the end, however it ends
			}
			c.ended()
			r.eventually("the connection is counted", func() bool { return r.metric("callbackd_connections_without_request_total") == 1 })
			r.eventually("no connection is open", func() bool { return r.metric("callbackd_connections") == 0 })
			r.counted()
		})
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := r.dial()
	var all strings.Builder
	for _, text := range []string{message(), message(password, "guess"), soap12(message("2c90bd28", "00000002"))} {
		all.WriteString(strings.Join(usual(len(text)), "\r\n") + "\r\n\r\n" + text)
	}
	c.send(all.String())
	for i, want := range []int{200, 401, 200} {
		if a := c.answer(); a.status != want {
			t.Errorf("answer %d: status %d, want %d", i+1, a.status, want)
		}
	}
	r.counted("ack", "credentials", "ack")
}

func TestHTTP10(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := r.dial()
	c.send(message(), "POST / HTTP/1.0", fmt.Sprintf("Content-Length: %d", len(message())))
	if a := c.answer(); a.status != http.StatusOK {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	c.ended()
}

func TestALengthThatIsTooShort(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := r.dial()
	c.send(message(), usual(len(message())-20)...)
	if a := c.answer(); a.status != http.StatusBadRequest {
		t.Errorf("status %d, want 400", a.status)
	}
	// The rest is no request.
	if got := c.status(); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("what is left over gets %q", got)
	}
	r.counted("malformed")
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) { r.options.Limits.Idle = 20 * time.Millisecond })
	c := r.dial()
	c.send(message(), usual(len(message()))...)
	if a := c.answer(); a.status != http.StatusOK || a.closed {
		t.Fatalf("status %d, closed %v", a.status, a.closed)
	}
	c.ended()
	if got := r.metric("callbackd_connections_without_request_total"); got != 0 {
		t.Errorf("%v connections without a request, want 0", got)
	}
}

// TestConnectionsAreBounded fills a listener: the next connection waits for one to end, and is then served.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) { r.options.Limits.Connections = 2 })
	first, second, third := r.dial(), r.dial(), r.dial()
	for _, c := range []*conn{first, second} {
		c.send("", "GET / HTTP/1.1", "Host: callbackd")
		c.answer()
	}
	third.send("", "GET / HTTP/1.1", "Host: callbackd")
	if err := third.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := third.in.Peek(1); err == nil {
		t.Error("a third connection is served beside the two")
	}
	if open, most := r.metric("callbackd_connections"), r.metric("callbackd_connections_limit"); open != 2 || most != 2 {
		t.Errorf("%v connections open, of %v, want 2 of 2", open, most)
	}
	_ = first.Close()
	if err := third.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if a := third.answer(); a.status != http.StatusMethodNotAllowed {
		t.Errorf("once one has ended: status %d", a.status)
	}
}

// TestARefusalOutlivesTheUnreadRestOfItsRequest: what is sent meanwhile is not answered with a reset, which would take the refusal from
// the sender's hands. The connection ends as connections do.
func TestARefusalOutlivesTheUnreadRestOfItsRequest(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	r := start(t, func(r *rig) { r.options.Limits.Message.Bytes = limit })
	c := r.dial()
	c.send(strings.Repeat("x", 8*limit), usual(64*limit)...)
	if a := c.answer(); a.status != http.StatusRequestEntityTooLarge {
		t.Fatalf("status %d", a.status)
	}
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v, want the end", err)
	}
}

// TestAStalledListenerLeavesTheOthersAlone takes all the memory that one listener can get, and then posts to another the largest
// message that there may be, and a number of small ones.
func TestAStalledListenerLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	const largest = 64 << 10
	r := start(t, func(r *rig) {
		r.options.Limits.Message.Bytes, r.options.InFlight, r.options.AckBudget = largest, 16*largest, 4*time.Second
		r.options.Listeners = []receiver.Listener{listener(r.t, service(callback.DeviceUsage)), listener(r.t, service(callback.ResumeTrackingNotification))}
	})
	const can = 6 // of 8: the part of its own and all that is in common
	r.occupy(can, largest)
	blocked := make(chan answer, 1)
	go func() { blocked <- r.post(message()) }()
	r.eventually("the stalled listener waits for memory", func() bool { return r.metric("callbackd_in_flight_waits_total", `"DeviceUsage"`) == 1 })
	other := "http://" + r.addrs[1] + "/"
	padded := message() + strings.Repeat(" ", largest-len(message()))
	for i := range 20 {
		text := padded
		if i > 0 {
			text = message("2c90bd28", fmt.Sprintf("%08d", i))
		}
		from := time.Now()
		if a := r.do(http.MethodPost, other, text); a.status != http.StatusOK {
			t.Fatalf("message %d to the other listener: status %d: %s", i, a.status, a.body)
		}
		if took := time.Since(from); took > 500*time.Millisecond {
			t.Errorf("message %d to the other listener took %s", i, took)
		}
	}
	if got := r.metric("callbackd_in_flight_waits_total", `"ResumeTrackingNotification"`); got != 0 {
		t.Errorf("%v requests to the other listener waited", got)
	}
	if a := <-blocked; a.status != http.StatusServiceUnavailable {
		t.Errorf("the stalled listener answers %d, want 503 once its patience is over", a.status)
	}
}

// TestMemoryIsWaitedFor has a request wait until another gives back what it needs.
func TestMemoryIsWaitedFor(t *testing.T) {
	t.Parallel()
	const largest = 64 << 10
	r := start(t, func(r *rig) {
		r.options.Limits.Message.Bytes, r.options.InFlight, r.options.AckBudget = largest, 4*largest, 4*patience
	})
	stalled := r.occupy(2, largest)
	done := make(chan answer, 1)
	go func() { done <- r.post(message()) }()
	r.eventually("it waits", func() bool { return r.metric("callbackd_in_flight_waits_total") == 1 })
	_ = stalled[0].Close()
	if a := <-done; a.status != http.StatusOK {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// TestDrain stops a receiver while a message is on its way to the disk.
func TestDrain(t *testing.T) {
	t.Parallel()
	queued, release := make(chan struct{}), make(chan struct{})
	r := start(t, wrap(func(ctx context.Context, a inbox.Arrival, next receiver.Store) (inbox.Receipt, error) {
		close(queued)
		<-release
		return next.Append(ctx, a)
	}))
	r.eventually("it receives", func() bool { return r.receiver.Status() == nil })
	idle, busy := r.dial(), r.dial()
	idle.send("", "GET / HTTP/1.1", "Host: callbackd")
	idle.answer()
	busy.send(message(), usual(len(message()))...)
	<-queued
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	idle.ended()
	if err := r.receiver.Status(); err == nil {
		t.Error("the status of a receiver that drains is nil")
	}
	r.eventually("new connections are refused", func() bool {
		c, err := net.Dial("tcp", r.addrs[0])
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("it has stopped with a request in flight: %v", err)
	default:
	}
	close(release)
	if a := busy.answer(); a.status != http.StatusOK || !a.closed {
		t.Errorf("the request in flight gets %d, closed %v; want its ack, and the connection closed", a.status, a.closed)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain: %v", err)
	}
	if n := len(r.entries()); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

// TestDrainTakesWhatIsJustBeingSent: a sender that writes on a connection which it keeps open, at the moment at which the receiver stops, is
// answered, and told that the connection ends.
func TestDrainTakesWhatIsJustBeingSent(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.eventually("it receives", func() bool { return r.receiver.Status() == nil })
	kept := r.dial()
	kept.send(message(), usual(len(message()))...)
	if a := kept.answer(); a.status != http.StatusOK || a.closed {
		t.Fatalf("status %d, closed %v", a.status, a.closed)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	r.eventually("it drains", func() bool { return r.receiver.Status() != nil })
	second := message("2c90bd28", "00000002")
	kept.send(second, usual(len(second))...)
	if a := kept.answer(); a.status != http.StatusOK || !a.closed {
		t.Errorf("while it drains: status %d, closed %v; want an ack, and the connection closed", a.status, a.closed)
	}
	if err := <-stopped; err != nil {
		t.Errorf("drain: %v", err)
	}
	if n := len(r.entries()); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

// TestDrainWaitsForNoSilence: connections on which nothing was ever asked hold up no stop.
func TestDrainWaitsForNoSilence(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.eventually("it receives", func() bool { return r.receiver.Status() == nil })
	silent := r.dial()
	r.eventually("the connection is there", func() bool { return r.metric("callbackd_connections") == 1 })
	from := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	const unused = 5 * time.Second // net/http's patience with them
	if took := time.Since(from); took > unused-time.Second {
		t.Errorf("the drain took %s", took)
	}
	silent.ended()
}

// TestDrainIsBounded ends a request that does not.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	r := start(t)
	o := r.options
	o.Listeners = []receiver.Listener{listener(t, service(callback.DeviceUsage))}
	second, err := receiver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx, time.Millisecond) }()
	c := dial(t, o.Listeners[0].Listener.Addr().String())
	c.send("<", usual(1000)...)
	r.eventually("the request is there", func() bool { return r.metric("callbackd_in_flight_bytes") >= 1000 })
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "drain") {
		t.Errorf("error %v, want one of the drain", err)
	}
	c.ended()
}

// TestAListenerThatFailsEndsTheReceiver takes a socket away.
func TestAListenerThatFailsEndsTheReceiver(t *testing.T) {
	t.Parallel()
	r := start(t)
	o := r.options
	o.Listeners = []receiver.Listener{listener(t, service(callback.DeviceUsage)), listener(t, service(callback.CarrierService))}
	second, err := receiver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if second.Status() == nil {
		t.Error("the status of a receiver that does not run is nil")
	}
	done := make(chan error, 1)
	go func() { done <- second.Run(t.Context(), patience) }()
	_ = o.Listeners[1].Listener.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), o.Listeners[1].Listener.Addr().String()) {
		t.Errorf("error %v, want one that names the listener", err)
	}
}

// flaky is a socket whose first accept fails, as when no file descriptor is left.
type flaky struct {
	net.Listener
	failed atomic.Bool
}

type noDescriptors struct{ error }

func (noDescriptors) Temporary() bool { return true }
func (noDescriptors) Timeout() bool   { return false }

func (f *flaky) Accept() (net.Conn, error) {
	if f.failed.CompareAndSwap(false, true) {
		return nil, noDescriptors{errors.New("accept: too many open files")}
	}
	return f.Listener.Accept()
}

func TestAnAcceptThatFailsIsToldAndGotOver(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) {
		l := listener(r.t, service(callback.ResumeTrackingNotification))
		l.Listener = &flaky{Listener: l.Listener}
		r.options.Listeners = []receiver.Listener{l}
	})
	if a := r.post(message()); a.status != http.StatusOK {
		t.Errorf("status %d", a.status)
	}
	if got := r.metric("callbackd_accept_errors_total"); got != 1 {
		t.Errorf("%v errors counted, want 1", got)
	}
	if lines := r.log.lines("too many open files"); len(lines) != 1 || !strings.Contains(lines[0], `"level":"warn"`) {
		t.Errorf("the log has %q, want one warning", lines)
	}
}

// secured puts TLS on the first listener, and returns a client's configuration for it.
func secured(t *testing.T) (func(*rig), *tls.Config) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	certificates := server.TLS.Certificates
	return func(r *rig) {
		l := listener(r.t, service(callback.ResumeTrackingNotification))
		l.TLS = &tls.Config{Certificates: certificates}
		r.options.Listeners = []receiver.Listener{l}
	}, &tls.Config{RootCAs: roots}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	edit, config := secured(t)
	r := start(t, edit)
	url := "https://" + r.addrs[0] + "/"
	for _, protocol := range []struct {
		name string
		h2   bool
	}{{"HTTP/1.1", false}, {"HTTP/2.0", true}} {
		transport := &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: protocol.h2}
		client := &http.Client{Transport: transport}
		response, err := client.Post(url, "text/xml", strings.NewReader(message("2c90bd28", "0000000"+protocol.name[5:6])))
		if err != nil {
			t.Fatalf("%s: %v", protocol.name, err)
		}
		if a := read(t, response); a.status != http.StatusOK || response.Proto != protocol.name {
			t.Errorf("%s gets %d over %s", protocol.name, a.status, response.Proto)
		}
		if a := r.doWith(client, http.MethodGet, url+"?wsdl", ""); !strings.Contains(a.body, `location="`+url+`"`) {
			t.Errorf("%s: the WSDL does not name %s", protocol.name, url)
		}
		if a := r.doWith(client, http.MethodPost, url, message(password, "guess")); a.status != http.StatusUnauthorized {
			t.Errorf("%s: a wrong password gets %d", protocol.name, a.status)
		}
		if a := r.doWith(client, http.MethodPost, url, `{}`, "Content-Type", "application/json"); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("%s: JSON gets %d", protocol.name, a.status)
		}
		transport.CloseIdleConnections()
	}
	if n := len(r.entries()); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

// TestFailedHandshakes come from anyone, so they are counted and flood no log.
func TestFailedHandshakes(t *testing.T) {
	t.Parallel()
	edit, config := secured(t)
	r := start(t, edit)
	old := config.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if c, err := tls.Dial("tcp", r.addrs[0], old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is taken")
	}
	if c, err := tls.Dial("tcp", r.addrs[0], &tls.Config{}); err == nil {
		_ = c.Close()
		t.Error("the client trusts the certificate, so this test shows nothing")
	}
	garbage := r.dial()
	garbage.send("hello, is this TLS?\r\n")
	_, _ = io.Copy(io.Discard, garbage.in) // to the end, however it ends
	plain := r.dial()
	plain.send("", "GET / HTTP/1.1", "Host: callbackd")
	if got := plain.status(); got != "HTTP/1.0 400 Bad Request" {
		t.Errorf("plain HTTP to the port of TLS gets %q", got)
	}
	r.eventually("the handshakes are counted", func() bool { return r.metric("callbackd_tls_handshake_failures_total") == 4 })
	r.eventually("the connections are counted", func() bool { return r.metric("callbackd_connections_without_request_total") == 4 })
	for _, line := range r.log.lines("handshake") {
		if !strings.Contains(line, `"level":"debug"`) {
			t.Errorf("the log has %s", line)
		}
	}
	r.counted()
}

// TestTheProxyProtocolStandsBeneathTLS speaks it to a listener with TLS, as a load balancer in TCP mode does.
func TestTheProxyProtocolStandsBeneathTLS(t *testing.T) {
	t.Parallel()
	edit, config := secured(t)
	r := start(t, edit, func(r *rig) {
		r.network(auth.Config{Mode: auth.Enforce, Allow: []string{"203.0.113.7"}, Proxy: auth.ProxyProtocol, TrustedProxies: []string{"loopback"}})
	})
	config.ServerName = "127.0.0.1"
	send := func(header string) (answer, error) {
		c := r.dial()
		c.send(header)
		secure := tls.Client(c.Conn, config)
		if err := secure.Handshake(); err != nil {
			return answer{}, err
		}
		c.Conn = secure
		c.in.Reset(secure)
		c.send(message(), usual(len(message()))...)
		return c.answer(), nil
	}
	if a, err := send("PROXY TCP4 203.0.113.7 127.0.0.1 56324 443\r\n"); err != nil || a.status != http.StatusOK {
		t.Errorf("an allowed address gets %d, %v", a.status, err)
	}
	if a, err := send("PROXY TCP4 203.0.113.8 127.0.0.1 56324 443\r\n"); err != nil || a.status != http.StatusForbidden {
		t.Errorf("another address gets %d, %v", a.status, err)
	}
	if a, err := send(""); err == nil {
		t.Errorf("without a header: %d", a.status)
	}
	if e := r.entries(); len(e) != 1 || e[0].Facts.Source != "203.0.113.7" {
		t.Errorf("entries %+v, want one from 203.0.113.7", e)
	}
	if got := r.metric("callbackd_proxy_protocol_refused_total", `reason="missing"`); got != 1 {
		t.Errorf("%v connections without the header counted, want 1", got)
	}
	r.counted("ack", "network")
}

func TestXForwardedForOfATrustedProxy(t *testing.T) {
	t.Parallel()
	r := start(t, func(r *rig) {
		r.network(auth.Config{Mode: auth.Enforce, Allow: []string{"203.0.113.7"}, Proxy: auth.XForwardedFor, TrustedProxies: []string{"loopback"}})
	})
	if a := r.post(message(), "X-Forwarded-For", "198.51.100.1, 203.0.113.7"); a.status != http.StatusOK {
		t.Errorf("an allowed address gets %d", a.status)
	}
	if a := r.post(message(), "X-Forwarded-For", "203.0.113.7, 198.51.100.1"); a.status != http.StatusForbidden {
		t.Errorf("an address that claims to be an allowed one gets %d", a.status)
	}
	if e := r.entries(); len(e) != 1 || e[0].Facts.Source != "203.0.113.7" {
		t.Errorf("entries %+v, want one from 203.0.113.7", e)
	}
}
