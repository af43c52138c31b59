package auth

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"
)

// WrapListener applies the PROXY protocol to l, and returns l itself when that is not configured. Wrap before TLS:
//
//	tls.NewListener(auth.WrapListener(l, current.Load), config)
//
// A trusted peer MUST send a header, v1 or v2; the connection's RemoteAddr is then the address in it, or the peer's own where
// the proxy speaks for itself (LOCAL, UNKNOWN), as in its health checks. From any other peer a header is refused, and without
// one it stands for itself. What is refused is closed without an answer, and counted.
//
// Accept never waits for the header: the connection's first Read, Write, RemoteAddr or LocalAddr does, at most as long as
// proxy_timeout. So ConnContext and ConnState of an [net/http.Server], which run within the accept loop, MUST NOT call them.
//
// gate is asked at each connection, so that a reload can replace it by another. Whether there is a PROXY protocol MUST stay as it is.
func WrapListener(l net.Listener, gate func() *NetworkGate) net.Listener {
	if gate().proxy != ProxyProtocol {
		return l
	}
	return &proxyListener{l, gate}
}

// proxyListener stands in place of proxyproto.Listener, whose Accept fails for good when closing a refused connection does,
// and whose connections do not say that they were refused.
type proxyListener struct {
	net.Listener
	gate func() *NetworkGate
}

func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.gate().newProxyConn(c), nil
}

// proxyConn is a connection that may begin with a PROXY header.
type proxyConn struct {
	net.Conn // a *proxyproto.Conn over raw
	raw      *rawConn
	gate     *NetworkGate
	peer     netip.Addr
	trusted  bool
	begin    sync.Once
}

func (g *NetworkGate) newProxyConn(c net.Conn) *proxyConn {
	peer, err := readHost(c.RemoteAddr().String()) // an unreadable one is the invalid Addr, which nothing contains
	trusted := err == nil && contains(g.trusted, peer)
	policy := proxyproto.REJECT
	if trusted {
		policy = proxyproto.REQUIRE
	}
	raw := &rawConn{Conn: c}
	conn := proxyproto.NewConn(raw, proxyproto.WithPolicy(policy), proxyproto.ValidateHeader(namesTCP),
		proxyproto.SetReadHeaderTimeout(g.proxyTimeout))
	return &proxyConn{Conn: conn, raw: raw, gate: g, peer: peer, trusted: trusted}
}

// namesTCP refuses a header that tells of a Unix socket or of UDP: no such client can have come through a TCP proxy, and
// there would be no address to judge.
func namesTCP(h *proxyproto.Header) error {
	if h.Command.IsProxy() && h.TransportProtocol != proxyproto.TCPv4 && h.TransportProtocol != proxyproto.TCPv6 {
		return errors.New("PROXY header names no TCP address")
	}
	return nil
}

// header reads the header at the first call, and closes the connection if it is refused.
func (c *proxyConn) header() {
	c.begin.Do(func() {
		_, err := c.Conn.Read(nil) // handles the header alone; if it is refused, every later call returns the same error
		c.raw.begun = true
		if err == nil {
			return
		}
		_ = c.Close() // the error that matters is err, which every Read and Write returns
		if c.raw.silent() {
			return
		}
		reason := c.reason(err)
		c.gate.metrics.countRefused(reason)
		c.gate.logOnce(&c.gate.refused, c.peer, "PROXY protocol refused",
			zap.Stringer("peer", c.peer), zap.String("reason", string(reason)), zap.Error(err), zap.Bool("trusted", c.trusted),
			zap.String("hint", "a peer in network.trusted_proxies must send a PROXY header, v1 or v2, and nobody else may"))
	})
}

func (c *proxyConn) reason(err error) refusal {
	switch {
	case c.raw.timedOut:
		return refusedTimeout
	case errors.Is(err, proxyproto.ErrNoProxyProtocol):
		return refusedMissing
	case errors.Is(err, proxyproto.ErrSuperfluousProxyHeader):
		return refusedUnexpected
	}
	return refusedMalformed
}

func (c *proxyConn) Read(b []byte) (int, error) {
	c.header()
	return c.Conn.Read(b)
}

func (c *proxyConn) Write(b []byte) (int, error) {
	c.header()
	return c.Conn.Write(b)
}

func (c *proxyConn) RemoteAddr() net.Addr {
	c.header()
	return c.Conn.RemoteAddr()
}

func (c *proxyConn) LocalAddr() net.Addr {
	c.header()
	return c.Conn.LocalAddr()
}

// CloseWrite lets net/http deliver its answer to a request that it has not read to the end.
func (c *proxyConn) CloseWrite() error {
	if w, ok := c.raw.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// rawConn notes what proxyproto's errors do not tell: whether the peer sent anything, and whether the time was up.
type rawConn struct {
	net.Conn
	begun, sent, timedOut bool
}

func (c *rawConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil // the end of header's Read(nil): what a connection does with it is its own affair
	}
	n, err := c.Conn.Read(b)
	if !c.begun {
		c.sent = c.sent || n > 0
		c.timedOut = errors.Is(err, os.ErrDeadlineExceeded)
	}
	return n, err
}

// silent reports whether the peer went without a byte, as the probes of load balancers do. That is no refusal.
func (c *rawConn) silent() bool { return !c.sent && !c.timedOut }
