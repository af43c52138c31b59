package auth_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/auth"
)

const (
	proxy    = "127.0.0.2" // trusted; Linux has all of 127/8 on loopback
	stranger = "127.0.0.3"
	client   = "203.0.113.7"
)

var proxied = auth.Config{
	Mode: auth.Observe, Proxy: auth.ProxyProtocol, TrustedProxies: []string{proxy}, ProxyTimeout: time.Minute,
}

// serve answers each request with its RemoteAddr, over a listener that config's gate wraps.
func wrap(gate *auth.NetworkGate, l net.Listener) net.Listener {
	return auth.WrapListener(l, func() *auth.NetworkGate { return gate })
}

func serve(t *testing.T, config auth.Config, overTLS bool) (*httptest.Server, *prometheus.Registry, *observer.ObservedLogs) {
	t.Helper()
	reg := prometheus.NewRegistry()
	core, logs := observer.New(zap.DebugLevel)
	gate := newNetworkGate(t, config, auth.NewMetrics(reg), zap.New(core))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Listener = wrap(gate, srv.Listener)
	if overTLS {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv, reg, logs
}

func dial(t *testing.T, srv *httptest.Server, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends the header and a request from an address, and returns the body of the answer.
func ask(t *testing.T, srv *httptest.Server, from string, header []byte) (string, error) {
	t.Helper()
	c := dial(t, srv, from)
	_, _ = c.Write(header) // a refusal shows when reading
	if srv.TLS != nil {
		roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		secured := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "example.com"})
		if err := secured.Handshake(); err != nil {
			return "", err
		}
		c = secured
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func header(t testing.TB, version byte, source string) []byte {
	t.Helper()
	to := &net.TCPAddr{IP: net.ParseIP("192.0.2.2"), Port: 443}
	if strings.Contains(source, ":") {
		to.IP = net.ParseIP("2001:db8::2")
	}
	raw, err := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.ParseIP(source), Port: 4711}, to).Format()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// v2 is a header of version 2 in raw bytes.
func v2(command, family byte, address ...byte) []byte {
	return append([]byte("\r\n\r\n\x00\r\nQUIT\n"+string([]byte{command, family, 0, byte(len(address))})), address...)
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		from   string
		header []byte
		want   string // the source, as the server sees it; empty: refused
		reason string // for which
	}{
		{"v1", proxy, header(t, 1, client), client + ":4711", ""},
		{"v1 of IPv6", proxy, header(t, 1, "2001:db8::7"), "[2001:db8::7]:4711", ""},
		{"v2", proxy, header(t, 2, client), client + ":4711", ""},
		{"v2 of IPv6", proxy, header(t, 2, "2001:db8::7"), "[2001:db8::7]:4711", ""},
		{"v1 for the proxy itself", proxy, []byte("PROXY UNKNOWN\r\n"), proxy, ""},
		{"v2 for the proxy itself", proxy, v2(0x20, 0x00), proxy, ""},
		{"none, from a proxy", proxy, nil, "", "missing"},
		{"v1, from a stranger", stranger, header(t, 1, client), "", "unexpected"},
		{"v2, from a stranger", stranger, header(t, 2, client), "", "unexpected"},
		{"v2 for itself, from a stranger", stranger, v2(0x20, 0x00), "", "unexpected"},
		{"none, from a stranger", stranger, nil, stranger, ""},
		{"v1 without an address", proxy, []byte("PROXY TCP4 ? ? 1 1\r\n"), "", "malformed"},
		{"v1 of the wrong family", proxy, []byte("PROXY TCP4 ::1 ::1 1 1\r\n"), "", "malformed"},
		{"v1 without an end", proxy, []byte("PROXY TCP4 " + strings.Repeat("1", 200)), "", "malformed"},
		{"v2 of a Unix socket", proxy, v2(0x21, 0x31, make([]byte, 216)...), "", "malformed"},
		{"v2 of UDP", proxy, v2(0x21, 0x12, make([]byte, 12)...), "", "malformed"},
		{"v2 of an unknown command", proxy, v2(0x2f, 0x11, make([]byte, 12)...), "", "malformed"},
		{"v2 cut short", proxy, v2(0x21, 0x11, make([]byte, 4)...), "", "malformed"},
		{"malformed, from a stranger", stranger, []byte("PROXY TCP4 ? ? 1 1\r\n"), "", "malformed"},
	} {
		for _, overTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%t", c.name, overTLS), func(t *testing.T) {
				t.Parallel()
				srv, reg, logs := serve(t, proxied, overTLS)
				got, err := ask(t, srv, c.from, c.header)
				if (err != nil) != (c.want == "") || !strings.HasPrefix(got, c.want) {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
				wantRefused(t, reg, logs, c.reason)
			})
		}
	}
}

// wantRefused wants one refusal, for the reason, or none if it is empty.
func wantRefused(t *testing.T, reg *prometheus.Registry, logs *observer.ObservedLogs, reason string) {
	t.Helper()
	want, logged := map[string]float64{"reason=missing": 0, "reason=unexpected": 0, "reason=malformed": 0, "reason=timeout": 0}, 0
	if reason != "" {
		want["reason="+reason], logged = 1, 1
	}
	said := func() int {
		return logs.FilterMessage("PROXY protocol refused").FilterField(zap.String("reason", reason)).Len()
	}
	// The peer may see its connection end before the refusal is written down.
	for deadline := time.Now().Add(5 * time.Second); said() < logged && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	wantSamples(t, reg, "callbackd_proxy_protocol_refused_total", want)
	if n := said(); n != logged {
		t.Errorf("logged %d times, want %d: %v", n, logged, logs.All())
	}
}

// TestNoProxyProtocolConfigured: the listener is left alone, and a header is what it is to HTTP: rubbish.
func TestNoProxyProtocolConfigured(t *testing.T) {
	t.Parallel()
	config := auth.Config{Mode: auth.Observe}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := wrap(newNetworkGate(t, config, nil, nil), l); got != l {
		t.Errorf("wrapped as %T", got)
	}
	srv, _, _ := serve(t, config, false)
	if got, err := ask(t, srv, stranger, nil); err != nil || !strings.HasPrefix(got, stranger+":") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ask(t, srv, proxy, header(t, 1, client)); err == nil && strings.Contains(got, client) {
		t.Errorf("a header is believed: %q", got)
	}
}

// TestSlowHeaderBlocksNobody: while one peer keeps its header back, others are served.
func TestSlowHeaderBlocksNobody(t *testing.T) {
	t.Parallel()
	srv, reg, logs := serve(t, proxied, false)
	for _, begun := range []string{"", "PRO", "\r\n\r\n\x00"} {
		if _, err := io.WriteString(dial(t, srv, proxy), begun); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ask(t, srv, proxy, header(t, 2, client)); err != nil || got != client+":4711" {
		t.Errorf("%q, %v", got, err)
	}
	wantRefused(t, reg, logs, "")
}

// TestSilentConnection: a load balancer that connects and closes, to see whether we are there, is not refused.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	gate, reg, logs := observed(t, proxied)
	near, far := net.Pipe()
	c := accept(t, gate, far, proxy)
	_ = near.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("read from a closed connection")
	}
	wantRefused(t, reg, logs, "")
}

// TestHeaderTimeout on a synthetic clock.
func TestHeaderTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		from    string
		sent    string
		timeout time.Duration
		want    time.Duration
		refused bool
	}{
		{"nothing, by default", proxy, "", 0, 5 * time.Second, true},
		{"nothing", proxy, "", time.Second, time.Second, true},
		{"a part of v1", proxy, "PRO", time.Second, time.Second, true},
		{"a part of v2's signature", proxy, "\r\n\r\n\x00", time.Second, time.Second, true},
		{"a part of v2", proxy, string(v2(0x21, 0x11, make([]byte, 12)...)[:20]), time.Second, time.Second, true},
		{"a part of v2, from a stranger", stranger, string(v2(0x21, 0x11, make([]byte, 12)...)[:20]), time.Second, time.Second, true},
		{"nothing, from a stranger", stranger, "", time.Second, time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				config := proxied
				config.ProxyTimeout = c.timeout
				gate, reg, logs := observed(t, config)
				near, far := net.Pipe()
				defer near.Close()
				conn := accept(t, gate, far, c.from)
				if c.sent != "" {
					go func() { _, _ = io.WriteString(near, c.sent) }()
				}
				start := time.Now()
				if got := conn.RemoteAddr().String(); got != c.from+":9" {
					t.Errorf("remote address %s", got)
				}
				if waited := time.Since(start); waited != c.want {
					t.Errorf("waited %s, want %s", waited, c.want)
				}
				if !c.refused {
					wantRefused(t, reg, logs, "")
					return
				}
				wantRefused(t, reg, logs, "timeout")
				if _, err := near.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("the peer reads %v, want the end", err)
				}
				if _, err := conn.Write([]byte("x")); err == nil {
					t.Error("wrote to a refused connection")
				}
			})
		})
	}
}

func observed(t *testing.T, config auth.Config) (*auth.NetworkGate, *prometheus.Registry, *observer.ObservedLogs) {
	t.Helper()
	reg := prometheus.NewRegistry()
	core, logs := observer.New(zap.DebugLevel)
	return newNetworkGate(t, config, auth.NewMetrics(reg), zap.New(core)), reg, logs
}

// accept passes one connection, as if from an address, through the gate's listener.
func accept(t *testing.T, gate *auth.NetworkGate, c net.Conn, from string) net.Conn {
	t.Helper()
	accepted, err := wrap(gate, oneConn{from: from, conn: c}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	return accepted
}

type oneConn struct {
	net.Listener
	from string
	conn net.Conn
}

func (l oneConn) Accept() (net.Conn, error) { return fromConn{l.conn, l.from}, nil }

type fromConn struct {
	net.Conn
	from string
}

func (c fromConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 9} }

// TestCloseWrite: net/http half-closes, so that its refusal of a request outlives the unread rest of it.
func TestCloseWrite(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gate, _, _ := observed(t, proxied)
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := wrap(gate, l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	half, ok := far.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		t.Fatalf("%T cannot half-close", far)
	}
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer reads %v, want the end", err)
	}
	if _, err := io.WriteString(near, "x"); err != nil {
		t.Errorf("the peer cannot write on: %v", err)
	}
}

// TestAcceptError: what is wrong with the listener is told, not swallowed.
func TestAcceptError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	gate, _, _ := observed(t, proxied)
	if _, err := wrap(gate, l).Accept(); err == nil {
		t.Error("accepted from a closed listener")
	}
}

// TestAReloadReplacesTheTrustedProxies: a listener that there is asks the gate that is in force.
func TestAReloadReplacesTheTrustedProxies(t *testing.T) {
	t.Parallel()
	gate := func(trusted string) *auth.NetworkGate {
		return newNetworkGate(t, auth.Config{Mode: auth.Observe, Proxy: auth.ProxyProtocol, TrustedProxies: []string{trusted}}, nil, nil)
	}
	var current atomic.Pointer[auth.NetworkGate]
	current.Store(gate("192.0.2.1"))
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close() })
	l := auth.WrapListener(oneConn{from: "192.0.2.2", conn: far}, current.Load)
	current.Store(gate("192.0.2.2"))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() { _, _ = near.Write(header(t, 1, "198.51.100.7")) }()
	if got := c.RemoteAddr().String(); !strings.HasPrefix(got, "198.51.100.7:") {
		t.Errorf("the proxy that is trusted now is taken for %s", got)
	}
}
