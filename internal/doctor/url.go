package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"callbackd/internal/config"
	"callbackd/wsdl"
)

// patience bounds each step over the network. The platform waits no longer for an answer.
const patience = 5 * time.Second

// mostAddresses bounds how many addresses of one name are tried.
const mostAddresses = 8

const fromOutside = "from a machine outside, such as a phone's network, `curl -i '%s?wsdl'` should show a status and not time out: 403 is good too, for it comes " +
	"from callbackd. What a firewall admits from Verizon alone cannot be seen from anywhere else: the first callback is the proof"

// urls: each public_url answers as a callbackd does, as far as this machine can see.
func (p *patient) urls(ctx context.Context) []Finding {
	if p.Offline {
		return []Finding{{Level: Skipped, Found: "--offline"}}
	}
	names := sorted(p.c.Services)
	probed := make([][]Finding, len(names))
	var wait sync.WaitGroup
	for i, name := range names {
		if p.c.Services[name].PublicURL != "" {
			wait.Go(func() { probed[i] = p.probe(ctx, p.c.Services[name]) })
		}
	}
	wait.Wait()
	var findings []Finding
	example := ""
	for i, name := range names {
		if public := p.c.Services[name].PublicURL; public != "" && example == "" {
			example = public
		}
		findings = append(findings, probed[i]...)
	}
	if example == "" {
		return []Finding{{Level: Skipped, Found: "no service has a public_url", Advice: "write the URL that is registered for each service, as public_url"}}
	}
	if p.c.Platform.OnLoopback() {
		return findings
	}
	return append(findings, Finding{Subject: "from Verizon", Level: Skipped,
		Found: "what this machine reaches, Verizon may not, and the reverse", Advice: fmt.Sprintf(fromOutside, example)})
}

// probe tries the URL of a service at each address of its name.
func (p *patient) probe(ctx context.Context, s *config.Service) []Finding {
	public := s.PublicURL
	u, err := url.Parse(public)
	if err != nil {
		return []Finding{{Subject: public, Level: Fail, Found: err.Error()}}
	}
	looking, cancel := context.WithTimeout(ctx, patience)
	addrs, err := net.DefaultResolver.LookupNetIP(looking, "ip", u.Hostname())
	cancel()
	if err != nil || len(addrs) == 0 {
		return []Finding{{Subject: public, Level: Fail, Found: fmt.Sprintf("DNS has no address for %s: %v", u.Hostname(), err),
			Advice: "have an A record made for it that has the public address; `dig +short " + u.Hostname() + " @1.1.1.1` shows what the world sees"}}
	}
	var findings []Finding
	if u.Scheme == "http" && !p.c.Platform.OnLoopback() {
		findings = append(findings, Finding{Level: Warn, Found: "plain HTTP: the password in every callback can be read on the way",
			Advice: "get a certificate, and register an https URL"})
	}
	for _, addr := range addrs[:min(len(addrs), mostAddresses)] {
		addr = addr.Unmap()
		if f := p.private(addr); f != nil {
			findings = append(findings, *f)
		}
		findings = append(findings, p.reach(ctx, s, u, addr)...)
	}
	for i := range findings {
		if findings[i].Subject == "" {
			findings[i].Subject = public
		}
	}
	return findings
}

// shared is the network that providers put their customers in, behind an address of theirs.
var shared = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)

// private tells of an address that nobody outside can reach.
func (p *patient) private(addr netip.Addr) *Finding {
	if p.c.Platform.OnLoopback() || !addr.IsLoopback() && !addr.IsPrivate() && !addr.IsLinkLocalUnicast() && !shared.Contains(addr) {
		return nil
	}
	return &Finding{Level: Warn, Found: fmt.Sprintf("DNS says %s here, an address that Verizon cannot reach", addr),
		Advice: "have the record name the public address; if DNS answers otherwise outside, nothing is wrong: see with `dig +short NAME @1.1.1.1`"}
}

// reach tries one address: TCP, TLS, and the WSDL.
func (p *patient) reach(ctx context.Context, s *config.Service, u *url.URL, addr netip.Addr) []Finding {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	to := net.JoinHostPort(addr.String(), port)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", to)
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return []Finding{p.unreached(to, addr, err)}
	}
	_ = conn.Close()
	var findings []Finding
	if u.Scheme == "https" {
		var ok bool
		if findings, ok = p.handshake(ctx, s, u.Hostname(), dial); !ok {
			return findings
		}
	}
	return append(findings, p.ask(ctx, u, to, dial))
}

// unreached judges a connection that was not made. Whether Verizon would fare better depends on what stands between.
func (p *patient) unreached(to string, addr netip.Addr, err error) Finding {
	f := Finding{Level: Warn, Found: fmt.Sprintf("no connection to %s from here: %v", to, err),
		Advice: "does a firewall or a security group let the port through, and does the router or load balancer pass it on to this machine? " +
			"From here it may fail although it works: a firewall that admits Verizon alone refuses this machine too, and many routers do not let " +
			"a machine behind them reach their own public address (hairpin NAT)"}
	switch {
	case !ownAddress(addr):
	case !p.running:
		f.Advice = "no callbackd runs here yet: start it, and run doctor again"
	default:
		f.Level, f.Advice = Fail, "it is an address of this machine, and nothing listens on the port: public_url has another port than listen, or a firewall on this machine refuses it"
	}
	return f
}

// ownAddress reports whether an interface of this machine has the address.
func ownAddress(addr netip.Addr) bool {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range interfaces {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && (prefix.Addr().Unmap() == addr || addr.IsLoopback()) {
			return true
		}
	}
	return false
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// handshake examines what the server shows of itself. It is false if nothing can be asked over TLS.
func (p *patient) handshake(ctx context.Context, s *config.Service, host string, dial dialer) ([]Finding, bool) {
	state, err := shake(ctx, host, dial, 0)
	if err != nil {
		return []Finding{{Level: Fail, Found: "no TLS handshake: " + err.Error(), Advice: tlsAdvice(err)}}, false
	}
	findings := p.judge(host, state.PeerCertificates)
	if s.TLS != nil && s.TLS.Certificate() != nil && renewed(s.TLS.Certificate().Leaf(), state.PeerCertificates[0]) {
		findings = append(findings, Finding{Check: "certificate", Level: Warn, Found: "an older certificate is served than that in " + s.TLS.CertFile,
			Advice: "callbackd reload; where systemd hands the files over, restart callbackd"})
	}
	if state.Version == tls.VersionTLS13 {
		if _, err := shake(ctx, host, dial, tls.VersionTLS12); err != nil {
			findings = append(findings, Finding{Level: Warn, Found: "TLS 1.3 alone is spoken there: " + err.Error(),
				Advice: "let it speak 1.2 as well: the platform's documents name that, and only some of its senders were seen to speak 1.3"})
		}
	}
	return findings, true
}

// renewed reports whether the one in the file has come after the one that is served. A proxy in front has one of other names, as a rule.
func renewed(inFile, served *x509.Certificate) bool {
	return slices.Equal(inFile.DNSNames, served.DNSNames) && inFile.NotBefore.After(served.NotBefore) && !inFile.Equal(served)
}

func shake(ctx context.Context, host string, dial dialer, most uint16) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx, "", "")
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	client := tls.Client(conn, unverified(host, most))
	if err := client.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return client.ConnectionState(), nil
}

// unverified leaves the certificate to judge, which says what is wrong with it where a handshake says only that something is.
func unverified(host string, most uint16) *tls.Config {
	return &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: most}
}

// ask fetches the WSDL, which every listener of callbackd serves, and no other program.
func (p *patient) ask(ctx context.Context, u *url.URL, to string, dial dialer) Finding {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	transport := &http.Transport{DialContext: dial, TLSClientConfig: unverified(u.Hostname(), 0), DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String()+"?wsdl", nil)
	if err != nil {
		return Finding{Level: Fail, Found: err.Error()}
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return Finding{Level: Fail, Found: fmt.Sprintf("%s takes a connection and does not answer: %v", to, err), Advice: answerAdvice(err)}
	}
	defer response.Body.Close()
	const mostText = 1 << 20
	body, err := io.ReadAll(io.LimitReader(response.Body, mostText))
	if err != nil {
		return Finding{Level: Fail, Found: fmt.Sprintf("the answer of %s broke off: %v", to, err), Advice: answerAdvice(err)}
	}
	return p.answered(u, to, response.StatusCode, body)
}

func answerAdvice(err error) string {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
		return "whatever has the port breaks the connection off: is it https that is spoken there, or is a PROXY header expected?"
	}
	return tlsAdvice(err)
}

// answered judges the answer to ?wsdl.
func (p *patient) answered(u *url.URL, to string, status int, body []byte) Finding {
	own, err := wsdl.Listener(u.String())
	if err != nil {
		return Finding{Level: Fail, Found: err.Error()}
	}
	fault := bytes.Contains(body, []byte("http://schemas.xmlsoap.org/soap/envelope/")) && bytes.Contains(body, []byte("Fault"))
	switch {
	case status == http.StatusOK && bytes.Equal(body, own):
		return Finding{Level: OK, Found: "callbackd answers there, from here"}
	case status == http.StatusOK && bytes.Contains(body, []byte("http://nphase.com/unifiedwebservice/v2")):
		return Finding{Level: Warn, Found: fmt.Sprintf("%s answers as a callbackd of another configuration or version", to),
			Advice: "if it is this one, restart it with this configuration; else look where public_url leads"}
	case status == http.StatusForbidden && fault:
		return Finding{Level: OK, Found: "callbackd answers there, and refuses this machine, which is not in network.allow"}
	case status == http.StatusNotFound && fault:
		return Finding{Level: Fail, Found: fmt.Sprintf("callbackd answers at %s, and knows no path %q", to, u.EscapedPath()),
			Advice: "write the service's path into public_url, or let what stands in front pass the path on as it is"}
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable && !fault, status == http.StatusGatewayTimeout:
		return Finding{Level: Fail, Found: fmt.Sprintf("%s answers with %d, as a proxy does that does not reach callbackd", to, status),
			Advice: "look at the address that the proxy or load balancer passes requests to, and at its health check: callbackd answers GET with 405 and GET ?wsdl with 200"}
	}
	return Finding{Level: Fail, Found: fmt.Sprintf("%s answers with %d, as no callbackd does%s", to, status, starts(body)),
		Advice: "another program has the address, or a router shows its own pages: look where public_url leads"}
}

// starts shows the first words of an answer.
func starts(body []byte) string {
	const most = 60
	text := strings.Join(strings.Fields(string(body[:min(len(body), most)])), " ")
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %q", text)
}
