package registration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/callback"
)

// ProblemKind is what a problem of a URL is about.
type ProblemKind string

const (
	ProblemURL         ProblemKind = "url"         // it is none that can be registered
	ProblemPort        ProblemKind = "port"        // the platform refuses it
	ProblemHTTP        ProblemKind = "http"        // callbacks and their password would travel in the clear
	ProblemAddress     ProblemKind = "address"     // the platform cannot reach it
	ProblemCertificate ProblemKind = "certificate" // the platform would not trust it
)

// Problem is one thing wrong with a URL that is to be registered. One that is no Warning is a reason not to register it.
type Problem struct {
	Kind    ProblemKind
	Warning bool
	Message string // with what to do
}

func (p Problem) String() string { return string(p.Kind) + ": " + p.Message }

// CheckOptions are the surroundings of a check. The zero value is right outside tests.
type CheckOptions struct {
	Roots   *x509.CertPool // nil: those of the system
	Timeout time.Duration  // of all that the network does; 0: 10 s

	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error) // nil: by the system
}

const (
	checkTimeout = 10 * time.Second
	expiresSoon  = 14 * 24 * time.Hour
	longestURL   = 2048 // no limit is published; what is longer is a mistake
)

// CheckURL looks for what would keep callbacks from a URL: by its text, and by connecting as the platform would. That this machine
// cannot reach the URL is a warning alone, for the platform may. A URL without problems gives nil.
func CheckURL(ctx context.Context, text string, o CheckOptions) []Problem {
	u, problems := readURL(text)
	if u == nil {
		return problems
	}
	if o.Timeout <= 0 {
		o.Timeout = checkTimeout
	}
	if o.lookup == nil {
		o.lookup = net.DefaultResolver.LookupNetIP
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	problems = append(problems, checkPort(u)...)
	if u.Scheme == "http" {
		problems = append(problems, Problem{Kind: ProblemHTTP, Message: "plain http carries callbacks, and their password, in the clear: register an https URL"})
	}
	problems = append(problems, o.checkAddress(ctx, u.Hostname())...)
	if u.Scheme == "https" {
		problems = append(problems, checkCertificate(ctx, u, o.Roots)...)
	}
	return problems
}

// readURL gives a URL that can be looked at further, or nil. It quotes nothing of the text, which may hold a password.
func readURL(text string) (*url.URL, []Problem) {
	wrong := func(message string) (*url.URL, []Problem) {
		return nil, []Problem{{Kind: ProblemURL, Message: message}}
	}
	u, err := url.Parse(text)
	switch {
	case len(text) > longestURL:
		return wrong(fmt.Sprintf("is longer than %d bytes", longestURL))
	case err != nil:
		return wrong("cannot be read as a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return wrong("must begin with https://")
	case u.Hostname() == "":
		return wrong("has no host")
	case u.User != nil:
		return wrong("has a user name or password in it: the platform sends those that are registered, in the callback")
	case u.Fragment != "":
		return wrong("has a fragment (#), which no server ever sees")
	}
	return u, nil
}

// portOf is the port that the platform connects to.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

func checkPort(u *url.URL) []Problem {
	port, err := strconv.Atoi(portOf(u))
	if err == nil && callback.RegistrablePort(port) {
		return nil
	}
	return []Problem{{Kind: ProblemPort, Message: "the platform refuses port " + portOf(u) +
		": it takes 80, 443, 9001 to 9006, 28200 to 28220 and 50551 to 50559"}}
}

// checkAddress warns of a host that the Internet cannot reach. What a name stands for may differ outside, so it is never more.
func (o CheckOptions) checkAddress(ctx context.Context, host string) []Problem {
	warn := func(format string, args ...any) []Problem {
		return []Problem{{Kind: ProblemAddress, Warning: true, Message: fmt.Sprintf(format, args...)}}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if what := unreachable(addr); what != "" {
			return warn("%s is %s, which the platform cannot reach", addr, what)
		}
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if !strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost") || strings.HasSuffix(name, ".local") || strings.HasSuffix(name, ".internal") {
		return warn("%s is a name of this machine's network alone, which the platform cannot resolve: register a name of the public DNS", host)
	}
	addrs, err := o.lookup(ctx, "ip", name)
	if err != nil {
		return warn("%s does not resolve from here: %v", host, err)
	}
	for _, addr := range addrs {
		if what := unreachable(addr); what != "" {
			return warn("%s resolves to %s from here, %s: see that it resolves to a public address outside", host, addr.Unmap(), what)
		}
	}
	return nil
}

// unreachable says what kind of address this is, if the Internet does not reach it.
func unreachable(addr netip.Addr) string {
	addr = addr.Unmap()
	shared := netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, of carriers
	switch {
	case addr.IsLoopback():
		return "a loopback address"
	case addr.IsPrivate(), shared.Contains(addr):
		return "a private address"
	case addr.IsLinkLocalUnicast():
		return "a link-local address"
	case addr.IsUnspecified():
		return "no address of a machine"
	case addr.IsMulticast():
		return "a multicast address"
	}
	return ""
}

// checkCertificate connects as the platform would: with TLS 1.2, which is what it is published to speak (schemas/README.md, section 2),
// and without a certificate of its own.
func checkCertificate(ctx context.Context, u *url.URL, roots *x509.CertPool) []Problem {
	asked := false
	c := &tls.Config{
		RootCAs: roots, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil // none
		},
	}
	state, err := handshake(ctx, u, c)
	switch {
	case err == nil:
		return checkExpiry(state)
	case refusedByRemote(err) && asked:
		return []Problem{{Kind: ProblemCertificate,
			Message: "the listener asks its clients for a certificate, and the platform has none: let it in without, by its address and password"}}
	case !refusedByRemote(err):
		return []Problem{explain(u, err)}
	}
	c.MinVersion, c.MaxVersion = tls.VersionTLS13, 0
	if state, err = handshake(ctx, u, c); err != nil {
		return []Problem{explain(u, err)}
	}
	return append(checkExpiry(state), Problem{Kind: ProblemCertificate, Warning: true,
		Message: "the listener speaks TLS 1.3 alone, and the platform is published to speak 1.1 and 1.2: let it speak TLS 1.2 too"})
}

// refusedByRemote reports whether the other side ended the handshake with an alert.
func refusedByRemote(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// handshake connects, and verifies.
func handshake(ctx context.Context, u *url.URL, c *tls.Config) (tls.ConnectionState, error) {
	d := tls.Dialer{Config: c}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), portOf(u)))
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}

// explain turns the failure of a handshake into what the operator can do about it.
func explain(u *url.URL, err error) Problem {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	refuse := func(message string) Problem { return Problem{Kind: ProblemCertificate, Message: message} }
	switch {
	case errors.As(err, &verification):
		return refuse(explainChain(verification))
	case errors.As(err, &record):
		return refuse("what listens on port " + portOf(u) + " does not speak TLS: let it, or register an http URL")
	case refusedByRemote(err):
		return refuse(fmt.Sprintf("the listener refuses TLS 1.2 and 1.3: %v", err))
	}
	return Problem{Kind: ProblemCertificate, Warning: true,
		Message: fmt.Sprintf("the certificate could not be looked at, for the URL cannot be reached from here: %v", err)}
}

func explainChain(e *tls.CertificateVerificationError) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	if len(e.UnverifiedCertificates) == 0 {
		return bounded(e.Err.Error())
	}
	leaf := e.UnverifiedCertificates[0]
	switch {
	case errors.As(e.Err, &name):
		return fmt.Sprintf("the certificate is not for this host, but for %s", hosts(leaf))
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return fmt.Sprintf("the certificate of %s is not valid before %s: look at the clocks", subject(invalid.Cert), day(invalid.Cert.NotBefore))
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s expired on %s: renew it", subject(invalid.Cert), day(invalid.Cert.NotAfter))
	case errors.As(e.Err, &invalid):
		return bounded(e.Err.Error())
	}
	return explainAuthority(e.UnverifiedCertificates)
}

// explainAuthority says why a chain ends at no root that is known. A missing intermediate is the usual reason: browsers fetch it by
// themselves, and so hide it.
func explainAuthority(sent []*x509.Certificate) string {
	leaf, last := sent[0], sent[len(sent)-1]
	const advice = "the platform trusts certificates of public authorities alone"
	switch {
	case selfSigned(leaf):
		return "the certificate is self-signed: " + advice
	case selfSigned(last):
		return fmt.Sprintf("the certificate is issued by %s, which is no public authority: %s", issuer(last), advice)
	case len(sent) == 1:
		return fmt.Sprintf("the chain is incomplete: the listener sends its own certificate alone, without that of its issuer %s. "+
			"Let it send the full chain; if that is what it has, the issuer is no public authority, and %s", issuer(leaf), advice)
	}
	return fmt.Sprintf("the chain is incomplete, or of no public authority: the listener sends %d certificates, and the last is issued by %s, "+
		"which is not known here. Let it send the full chain; %s", len(sent), issuer(last), advice)
}

func selfSigned(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// checkExpiry warns of a certificate that ends soon: within two weeks, or the last third of a life that is short.
func checkExpiry(state tls.ConnectionState) []Problem {
	leaf := state.PeerCertificates[0]
	left, life := time.Until(leaf.NotAfter), leaf.NotAfter.Sub(leaf.NotBefore)
	if left >= min(expiresSoon, life/3) {
		return nil
	}
	return []Problem{{Kind: ProblemCertificate, Warning: true, Message: fmt.Sprintf("the certificate expires on %s: renew it", day(leaf.NotAfter))}}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// What a certificate says comes from outside, and is quoted no longer than this.
const mostQuoted = 120

func quote(text string) string {
	if len(text) > mostQuoted {
		text = strings.ToValidUTF8(text[:mostQuoted], "") + "…"
	}
	return strconv.Quote(text)
}

func issuer(c *x509.Certificate) string { return quote(c.Issuer.String()) }

func subject(c *x509.Certificate) string { return quote(c.Subject.String()) }

// hosts are the names and addresses that a certificate is for.
func hosts(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all (its subject, which no client looks at, is " + subject(c) + ")"
	}
	return quote(strings.Join(names, ", "))
}
