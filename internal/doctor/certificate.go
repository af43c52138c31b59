package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"callbackd/internal/certificate"
)

// expiresSoon is when a certificate should have been renewed: authorities that renew by themselves do it 30 days before the end.
const expiresSoon = 14 * 24 * time.Hour

// transparency is the extension that every certificate of a public authority has, for browsers insist on it.
var transparency = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}

const fullChain = "put the certificate and after it all intermediate ones into one file (certbot calls it fullchain.pem), and name it as cert_file, " +
	"or to whatever ends TLS in front"

// judge examines a certificate and what was sent with it, as the platform might, for a host; an empty one is not compared.
func (p *patient) judge(host string, chain []*x509.Certificate) []Finding {
	findings := []Finding{judgeKey(chain)}
	trusted, valid := true, true
	for _, flaw := range certificate.Flaws(chain, p.Now(), host, p.Roots) {
		level := Fail
		switch flaw.Kind {
		case certificate.Disordered:
			level = Warn // only some programs insist
		case certificate.Expired, certificate.NotYet:
			valid = false
		case certificate.Incomplete, certificate.Untrusted:
			trusted = false
		}
		findings = append(findings, Finding{Level: level, Found: flaw.Msg, Advice: flaw.Advice, kind: flaw.Kind})
	}
	if trusted && valid {
		findings = append(findings, p.judgeTrust(chain))
	}
	if valid {
		findings = append(findings, p.judgeTime(chain))
	}
	for i := range findings {
		findings[i].Check = "certificate"
	}
	return findings
}

// judgeTrust tells what a chain that this machine trusts rests on, for others may not have it.
func (p *patient) judgeTrust(chain []*x509.Certificate) Finding {
	leaf := chain[0]
	sent := x509.NewCertPool()
	for _, c := range chain[1:] {
		sent.AddCert(c)
	}
	trusted, err := leaf.Verify(x509.VerifyOptions{Roots: p.Roots, Intermediates: sent, CurrentTime: p.Now()})
	if err != nil {
		return Finding{Level: Fail, Found: err.Error(), Advice: "have the certificate issued anew by a public authority"}
	}
	var root *x509.Certificate
	for _, path := range trusted {
		if root = path[len(path)-1]; selfSigned(root) {
			break
		}
	}
	switch {
	case !selfSigned(root):
		return Finding{Level: Warn, Found: fmt.Sprintf("the chain was completed with %q, which this machine knows and others may not", name(root)), Advice: fullChain}
	case !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(transparency) }):
		return Finding{Level: Warn, Found: fmt.Sprintf("%q is trusted here, but the certificate has no proof of transparency, as those of public authorities have", name(root)),
			Advice: "if the authority is your own, installed on this machine, get a certificate from a public one: the platform refuses others"}
	}
	return Finding{Level: OK, Found: fmt.Sprintf("the chain is complete, and leads to %q, which is trusted", name(root))}
}

func (p *patient) judgeTime(chain []*x509.Certificate) Finding {
	for _, c := range chain {
		if p.Now().Add(expiresSoon).After(c.NotAfter) {
			return Finding{Level: Warn, Found: fmt.Sprintf("%q expires on %s", name(c), c.NotAfter.UTC().Format(time.DateOnly)),
				Advice: "renew it, and see to it that it is renewed by itself"}
		}
	}
	return Finding{Level: OK, Found: "valid until " + chain[0].NotAfter.UTC().Format(time.DateOnly)}
}

// judgeKey looks for what old programs cannot use: the platform's documents are of their age.
func judgeKey(chain []*x509.Certificate) Finding {
	const anew = "have one issued with an RSA key of 2048 bits or more, which everybody takes"
	for _, c := range chain {
		if selfSigned(c) {
			continue // nobody verifies a root's own signature
		}
		switch c.SignatureAlgorithm {
		case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
			return Finding{Level: Fail, Found: fmt.Sprintf("%q is signed with %s, which nobody takes any more", name(c), c.SignatureAlgorithm), Advice: anew}
		}
	}
	switch key := chain[0].PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 {
			return Finding{Level: Fail, Found: fmt.Sprintf("its RSA key has %d bits, and fewer than 2048 are refused", bits), Advice: anew}
		}
		return Finding{Level: OK, Found: fmt.Sprintf("RSA key of %d bits", key.N.BitLen())}
	case *ecdsa.PublicKey:
		return Finding{Level: OK, Found: fmt.Sprintf("ECDSA key on %s; should the platform's handshakes fail, one with RSA is what everybody takes", key.Curve.Params().Name)}
	case ed25519.PublicKey:
		return Finding{Level: Fail, Found: "its key is of Ed25519, which public authorities do not certify and many programs do not take", Advice: anew}
	}
	return Finding{Level: Warn, Found: fmt.Sprintf("its key is a %T", chain[0].PublicKey), Advice: anew}
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func name(c *x509.Certificate) string {
	if c.Subject.CommonName == "" {
		return c.Subject.String()
	}
	return c.Subject.CommonName
}

// files: the certificates of listeners that end TLS themselves.
func (p *patient) files(context.Context) []Finding {
	var findings []Finding
	for _, service := range sorted(p.c.Services) {
		s := p.c.Services[service]
		if s.TLS == nil {
			continue
		}
		if s.TLS.Certificate() == nil {
			findings = append(findings, Finding{Subject: s.TLS.CertFile, Level: Skipped, Found: "it cannot be read whole here, with its key"})
			continue
		}
		host := ""
		if u, err := url.Parse(s.PublicURL); err == nil && u.Scheme == "https" {
			host = u.Hostname()
		}
		for _, f := range p.judge(host, s.TLS.Certificate().Chain) {
			f.Check, f.Subject = "", s.TLS.CertFile
			if f.kind == certificate.Untrusted || f.kind == certificate.Incomplete || f.kind == certificate.OtherHost {
				f.Level = Warn // a proxy in front may have what the platform is to see: its handshake tells
			}
			findings = append(findings, f)
		}
	}
	if findings == nil {
		return []Finding{{Level: Skipped, Found: "no listener has tls: what stands in front has to end it, or public_url is http"}}
	}
	return findings
}

// tlsAdvice is what to do when a handshake fails.
func tlsAdvice(err error) string {
	var record tls.RecordHeaderError
	switch text := err.Error(); {
	case errors.As(err, &record):
		return "plain HTTP is spoken there: give the listener tls, or write http:// into public_url"
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"):
		return "the listener asks for a certificate of the client: does the platform send one? If not, take client_ca_file away"
	case strings.Contains(text, "protocol version"):
		return "the listener speaks no TLS that is asked for: set min_version to 1.2"
	}
	return "look at whatever ends TLS there, and its log"
}
