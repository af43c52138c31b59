// Package certificate reads the certificates of a TLS listener and tells what is wrong with them before a client does.
//
// The promise: what [New] returns can be served, and everything that clients will hold against it is among its [Pair.Flaws]. Every error
// says what to do, and quotes nothing of a key.
//
// The limits: revocation is not looked at, and whether a client knows a private authority cannot be told from here.
package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Pair is a certificate with those that lead from it to its authority, and its key.
type Pair struct {
	TLS tls.Certificate
	// Chain is what the file holds: the leaf first.
	Chain []*x509.Certificate
}

// Leaf is the certificate of the listener itself.
func (p *Pair) Leaf() *x509.Certificate { return p.Chain[0] }

// The files that an error of New can be about.
var (
	ErrCertificate = errors.New("certificate")
	ErrKey         = errors.New("key")
	ErrMismatch    = errors.New("certificate and key")
)

// fault is an error about one of the files. Its text leaves the file to the caller, who knows its name.
type fault struct {
	about error
	msg   string
}

func (f *fault) Error() string { return f.msg }
func (f *fault) Unwrap() error { return f.about }

// New reads a certificate with its chain, and its key, both PEM. Its error is [ErrCertificate], [ErrKey] or [ErrMismatch].
func New(certificate, key []byte) (*Pair, error) {
	chain, err := parse(certificate)
	if err != nil {
		return nil, &fault{ErrCertificate, err.Error()}
	}
	if err := looksLikeKey(key); err != nil {
		return nil, &fault{ErrKey, err.Error()}
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, mismatch(chain, key, err)
	}
	return &Pair{TLS: pair, Chain: chain}, nil
}

// mismatch says why the library did not take the two together.
func mismatch(chain []*x509.Certificate, key []byte, err error) error {
	for _, c := range chain[1:] {
		alone := pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Raw})
		if _, err := tls.X509KeyPair(alone, key); err == nil {
			return &fault{ErrCertificate, fmt.Sprintf("the first of the file is not what the key belongs to, which is %s: put that first, then the one that issued it, and so on", name(c))}
		}
	}
	if strings.Contains(err.Error(), "does not match") {
		return &fault{ErrMismatch, fmt.Sprintf("the key does not belong to the certificate, which is %s: name the two that were made together", name(chain[0]))}
	}
	return &fault{ErrKey, "is not a private key of RSA, ECDSA or Ed25519 in PEM"}
}

const certificateBlock = "CERTIFICATE"

// parse reads all certificates of a file.
func parse(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	other := ""
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateBlock {
			other = block.Type
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file cannot be read: %w", len(list)+1, err)
		}
		list = append(list, c)
	}
	switch {
	case len(list) > 0:
		return list, nil
	case strings.HasSuffix(other, "PRIVATE KEY"):
		return nil, errors.New("holds a key and no certificate: are the two files swapped?")
	case other != "":
		return nil, fmt.Errorf("holds a PEM block %q and no certificate", other)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("is empty: write the certificate into it, in PEM")
	}
	return nil, errors.New("is not PEM, which begins with -----BEGIN CERTIFICATE-----: `openssl x509 -inform der -in FILE` makes PEM of DER")
}

// looksLikeKey finds what the library would tell in words that help nobody.
func looksLikeKey(text []byte) error {
	certificates := false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		encrypted := block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
		switch {
		case encrypted:
			return errors.New("is locked with a passphrase, and nobody is there to type it: `openssl pkey -in FILE -out NEW` writes it without")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil
		}
		certificates = certificates || block.Type == certificateBlock
	}
	switch {
	case certificates:
		return errors.New("holds a certificate and no key: are the two files swapped?")
	case len(bytes.TrimSpace(text)) == 0:
		return errors.New("is empty: write the key into it, in PEM")
	}
	return errors.New("is not PEM, which begins with -----BEGIN PRIVATE KEY-----: `openssl pkey -inform der -in FILE` makes PEM of DER")
}

// Authorities reads the certificates of the authorities that clients' certificates are to come from, or the clients' own.
func Authorities(text []byte) (*x509.CertPool, error) {
	list, err := parse(text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool, nil
}

// Kind of a flaw.
type Kind string

// The kinds of flaws.
const (
	Expired    Kind = "expired"    // every client that checks refuses it
	NotYet     Kind = "not_yet"    // the same, until later
	Disordered Kind = "disordered" // the file's certificates do not follow from each other
	Incomplete Kind = "incomplete" // intermediate certificates are missing
	OtherHost  Kind = "other_host" // it is for other names
	Untrusted  Kind = "untrusted"  // no root that this machine knows stands behind it
)

// Flaw is something that clients may hold against a certificate, and what to do about it.
type Flaw struct {
	Kind        Kind
	Msg, Advice string
}

func (f Flaw) String() string { return f.Msg + ": " + f.Advice }

// Flaws lists what clients will hold against the pair at a time. host is the name that they call it by; empty: not looked at. roots are
// those that they know; nil: this machine's.
func (p *Pair) Flaws(now time.Time, host string, roots *x509.CertPool) []Flaw {
	return Flaws(p.Chain, now, host, roots)
}

// Flaws does the same for what a server sends: its certificate, and those that lead from it to its authority.
func Flaws(chain []*x509.Certificate, now time.Time, host string, roots *x509.CertPool) []Flaw {
	var flaws []Flaw
	add := func(k Kind, advice, format string, args ...any) {
		flaws = append(flaws, Flaw{k, fmt.Sprintf(format, args...), advice})
	}
	leaf := chain[0]
	switch {
	case now.After(leaf.NotAfter):
		add(Expired, "the platform refuses it; put a new one in its place", "%s expired on %s", name(leaf), day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		add(NotYet, "look at the clock of this machine too", "%s is valid from %s on, and the platform refuses it before", name(leaf), day(leaf.NotBefore))
	}
	if host != "" {
		if err := leaf.VerifyHostname(host); err != nil {
			add(OtherHost, "it refuses it, unless something in front has another", "%s is not for %s, by which the platform calls", name(leaf), host)
		}
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			add(Disordered, "put the leaf first, then the one that issued it, and so on", "certificate %d, %s, did not issue certificate %d, %s",
				i+2, name(chain[i+1]), i+1, name(c))
			break
		}
	}
	if trusted(chain, now, roots) {
		return flaws
	}
	const public = "the platform takes those of public authorities alone"
	switch {
	case selfIssued(leaf):
		add(Untrusted, public, "%s is signed by itself", name(leaf))
	case len(chain) == 1:
		add(Incomplete, "put the intermediate certificates of the authority behind the leaf (the file that is often called fullchain.pem)",
			"no intermediate certificate comes with it, and %s, which issued %s, is no root that this machine knows", issuer(leaf), name(leaf))
	default:
		add(Untrusted, public, "no root that this machine knows stands behind %s, whose chain ends at %s", name(leaf), issuer(chain[len(chain)-1]))
	}
	return flaws
}

// trusted reports whether the chain leads to a root while the leaf is valid, which is told apart.
func trusted(chain []*x509.Certificate, at time.Time, roots *x509.CertPool) bool {
	leaf := chain[0]
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	} else if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at})
	return err == nil
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// name is what a certificate is for.
func name(c *x509.Certificate) string {
	switch {
	case len(c.DNSNames) > 0:
		return "the certificate of " + c.DNSNames[0]
	case c.Subject.CommonName != "":
		return "the certificate of " + c.Subject.CommonName
	}
	return "the certificate"
}

func issuer(c *x509.Certificate) string {
	if text := c.Issuer.String(); text != "" {
		return text
	}
	return "its issuer"
}
