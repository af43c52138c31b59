package registration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/thingspace/registration"
)

// certificate is a certificate with its key, and those that vouch for it.
type certificate struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// issue makes a certificate, which its issuer signs; without one it signs itself.
func issue(t *testing.T, issuer *certificate, change func(*x509.Certificate)) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "listener"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(80 * 24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
	}
	change(template)
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certificate{parsed, key}
}

func authority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.KeyUsage, c.DNSNames, c.IPAddresses = pkix.Name{CommonName: name}, true, x509.KeyUsageCertSign, nil, nil
	}
}

func unchanged(*x509.Certificate) {}

// listenTLS serves handshakes with a certificate and the chain that it is sent with, and returns the port.
func listenTLS(t *testing.T, c *tls.Config, chain ...*certificate) string {
	t.Helper()
	own := tls.Certificate{PrivateKey: chain[0].key}
	for _, link := range chain {
		own.Certificate = append(own.Certificate, link.Raw)
	}
	c.Certificates = []tls.Certificate{own}
	return listen(t, func(conn net.Conn) {
		_ = tls.Server(conn, c).Handshake()
	})
}

// listen serves connections on loopback, and returns the port.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// about are the problems of a kind.
func about(kind registration.ProblemKind, problems []registration.Problem) []registration.Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p registration.Problem) bool { return p.Kind != kind })
}

func TestTheCertificateIsJudgedAsThePlatformWould(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, authority("Public Root"))
	between := issue(t, root, authority("Public Intermediate"))
	private := issue(t, nil, authority("Our Own Root"))
	privateBetween := issue(t, private, authority("Our Own Intermediate"))
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate)
	good := issue(t, between, unchanged)
	for _, test := range []struct {
		rule    string
		host    string
		config  *tls.Config
		chain   []*certificate
		warning bool
		says    string // empty: no problem
	}{
		{"the full chain is right", "127.0.0.1", &tls.Config{}, []*certificate{good, between}, false, ""},
		{"so it is by name", "localhost", &tls.Config{}, []*certificate{good, between}, false, ""},
		{"a chain without the intermediate is incomplete", "127.0.0.1", &tls.Config{}, []*certificate{good}, false,
			`the chain is incomplete: the listener sends its own certificate alone, without that of its issuer "CN=Public Intermediate". Let it send the full chain`},
		{"a self-signed certificate is refused", "127.0.0.1", &tls.Config{}, []*certificate{issue(t, nil, unchanged)}, false, "self-signed"},
		{"a private root is refused", "127.0.0.1", &tls.Config{}, []*certificate{issue(t, private, unchanged), private}, false,
			`issued by "CN=Our Own Root", which is no public authority`},
		{"a chain to a root that is not sent nor known is refused", "127.0.0.1", &tls.Config{}, []*certificate{issue(t, privateBetween, unchanged), privateBetween}, false,
			`sends 2 certificates, and the last is issued by "CN=Our Own Root", which is not known here`},
		{"a certificate with a stranger behind it is incomplete all the same", "127.0.0.1", &tls.Config{}, []*certificate{good, good}, false, "the chain is incomplete"},
		{"another host's certificate is refused", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) {
				c.DNSNames, c.IPAddresses = []string{"www.example.com", "example.com"}, nil
			}), between}, false, `not for this host, but for "www.example.com, example.com"`},
		{"a certificate without names is refused", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }), between}, false, `for no name at all (its subject, which no client looks at, is "CN=listener")`},
		{"an expired certificate is refused", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
			}), between}, false, "expired on " + time.Now().Add(-24*time.Hour).UTC().Format("2006-01-02")},
		{"a certificate of the future is refused", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) }), between}, false, "is not valid before"},
		{"one that expires soon is warned of", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-77*24*time.Hour), time.Now().Add(13*24*time.Hour)
			}), between}, true, "expires on"},
		{"one of a short life is warned of in its last third", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-5*24*time.Hour), time.Now().Add(24*time.Hour)
			}), between}, true, "expires on"},
		{"one of a short life that is young is right", "127.0.0.1", &tls.Config{}, []*certificate{
			issue(t, between, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(6*24*time.Hour)
			}), between}, false, ""},
		{"TLS 1.3 alone is warned of", "127.0.0.1", &tls.Config{MinVersion: tls.VersionTLS13}, []*certificate{good, between}, true, "speaks TLS 1.3 alone"},
		{"TLS 1.3 alone does not hide a certificate", "127.0.0.1", &tls.Config{MinVersion: tls.VersionTLS13}, []*certificate{good}, false, "the chain is incomplete"},
		{"a listener that wants a certificate of the platform is refused", "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, []*certificate{good, between}, false,
			"the listener asks its clients for a certificate, and the platform has none"},
		{"a listener that would take a certificate is right", "127.0.0.1", &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven}, []*certificate{good, between}, false, ""},
		{"a listener of TLS 1.1 is refused", "127.0.0.1", &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, []*certificate{good, between}, false,
			"refuses TLS 1.2 and 1.3"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			port := listenTLS(t, test.config, test.chain...)
			got := about(registration.ProblemCertificate, registration.CheckURL(t.Context(), "https://"+net.JoinHostPort(test.host, port)+"/usage", registration.CheckOptions{Roots: roots}))
			switch {
			case test.says == "" && len(got) == 0:
			case test.says == "" || len(got) != 1 || got[0].Warning != test.warning || !strings.Contains(got[0].Message, test.says):
				t.Errorf("problems are %+v, want %q, a warning: %t", got, test.says, test.warning)
			}
		})
	}
}

func TestAListenerThatCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hanging := listen(t, func(net.Conn) { <-release })
	t.Cleanup(func() { close(release) }) // before the listener is waited for
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	_, closedPort, _ := net.SplitHostPort(closed.Addr().String())
	for _, test := range []struct {
		rule    string
		port    string
		warning bool
		says    string
	}{
		{"one that is not there is a warning", closedPort, true, "cannot be reached from here"},
		{"one that speaks plain http is refused", listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n") }), false, "does not speak TLS"},
		{"one that hangs is a warning, in bounded time", hanging, true, "cannot be reached from here"},
		{"one that hangs up is a warning", listen(t, func(net.Conn) {}), true, "cannot be reached from here"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			from := time.Now()
			got := about(registration.ProblemCertificate, registration.CheckURL(t.Context(), "https://127.0.0.1:"+test.port, registration.CheckOptions{Timeout: 200 * time.Millisecond}))
			if len(got) != 1 || got[0].Warning != test.warning || !strings.Contains(got[0].Message, test.says) {
				t.Errorf("problems are %+v", got)
			}
			if took := time.Since(from); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestURLThatCannotBeRegistered(t *testing.T) {
	t.Parallel()
	for rule, text := range map[string]string{
		"is empty":                         "",
		"has no scheme":                    "callbacks.example.com/usage",
		"has another scheme":               "ftp://callbacks.example.com/usage",
		"has no host":                      "https:///usage",
		"has a port and no host":           "https://:443/usage",
		"has a password":                   "https://user:hunter2@callbacks.example.com/usage",
		"has a fragment":                   "https://callbacks.example.com/usage#hunter2",
		"cannot be read":                   "https://callbacks.example.com:hunter2/usage",
		"is longer than any that is meant": "https://callbacks.example.com/" + strings.Repeat("a", 2048),
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			got := registration.CheckURL(t.Context(), text, registration.CheckOptions{}.WithLookup(func(context.Context, string, string) ([]netip.Addr, error) {
				t.Error("a name was looked up")
				return nil, nil
			}))
			if len(got) != 1 || got[0].Kind != registration.ProblemURL || got[0].Warning || strings.Contains(got[0].String(), "hunter2") {
				t.Errorf("problems are %+v", got)
			}
		})
	}
}

// TestURLIsCheckedByItsText uses plain http, for which nothing is connected to.
func TestURLIsCheckedByItsText(t *testing.T) {
	t.Parallel()
	resolve := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		switch host {
		case "callbacks.example.com":
			return []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2001:4860:4860::8888")}, nil
		case "inside.example.com":
			return []netip.Addr{netip.MustParseAddr("::ffff:10.1.2.3")}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, test := range []struct {
		host string // with its port
		want string // kinds, in order; a warning is in brackets
		says string // part of the last
	}{
		{"callbacks.example.com", "http", "in the clear"},
		{"callbacks.example.com:80", "http", ""}, {"callbacks.example.com:443", "http", ""}, {"callbacks.example.com:9001", "http", ""},
		{"callbacks.example.com:28220", "http", ""}, {"callbacks.example.com:50559", "http", ""},
		{"callbacks.example.com:8080", "port http", ""}, {"callbacks.example.com:28221", "port http", ""}, {"callbacks.example.com:9000", "port http", ""},
		{"8.8.8.8", "http", ""},
		{"127.0.0.1", "http [address]", "a loopback address"}, {"[::1]:80", "http [address]", "a loopback address"},
		{"192.168.1.5", "http [address]", "a private address"}, {"[fd00::1]", "http [address]", "a private address"},
		{"100.64.0.1", "http [address]", "a private address"}, {"[::ffff:100.64.0.1]", "http [address]", "a private address"}, {"169.254.0.9", "http [address]", "link-local"}, {"[fe80::1]", "http [address]", "link-local"},
		{"0.0.0.0", "http [address]", "no address of a machine"}, {"224.0.0.1", "http [address]", "multicast"},
		{"listener", "http [address]", "register a name of the public DNS"}, {"LOCALHOST", "http [address]", "public DNS"},
		{"callbackd.local.", "http [address]", "public DNS"}, {"callbackd.corp.internal", "http [address]", "public DNS"},
		{"inside.example.com", "http [address]", "resolves to 10.1.2.3 from here, a private address"},
		{"nowhere.example.com", "http [address]", "does not resolve from here"},
	} {
		t.Run(test.host, func(t *testing.T) {
			t.Parallel()
			got := registration.CheckURL(t.Context(), "http://"+test.host+"/usage", registration.CheckOptions{}.WithLookup(resolve))
			var kinds []string
			for _, p := range got {
				kind := string(p.Kind)
				if p.Warning {
					kind = "[" + kind + "]"
				}
				kinds = append(kinds, kind)
			}
			if text := strings.Join(kinds, " "); text != test.want || !strings.Contains(fmt.Sprint(got[len(got)-1]), test.says) {
				t.Errorf("problems are %+v, want %s", got, test.want)
			}
		})
	}
}
