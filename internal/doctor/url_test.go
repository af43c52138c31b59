package doctor_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/doctor"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	serial      int64
}

func ecdsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign has the authority certify a key; without an authority the certificate signs itself.
func (a *authority) sign(t *testing.T, template *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	parent, signer := template, key
	template.SerialNumber = big.NewInt(1)
	if a != nil {
		a.serial++
		parent, signer, template.SerialNumber = a.certificate, a.key, big.NewInt(a.serial+1)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// newAuthority is a root, or one that another has certified.
func newAuthority(t *testing.T, by *authority, called string) *authority {
	t.Helper()
	key := ecdsaKey(t)
	return &authority{certificate: by.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: called}, NotBefore: time.Now().AddDate(-1, 0, 0),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key), key: key}
}

// leaf is the template of a certificate for this machine, as a public authority would issue it.
func leaf() *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "callbacks"}, NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(0, 3, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: []byte{4, 0}}}}
}

func pool(certificates ...*x509.Certificate) *x509.CertPool {
	roots := x509.NewCertPool()
	for _, c := range certificates {
		roots.AddCert(c)
	}
	return roots
}

// files writes a chain and its key as PEM files into dir.
func files(t *testing.T, dir string, key crypto.Signer, chain ...*x509.Certificate) {
	t.Helper()
	var text []byte
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "tls.crt"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)); err != nil {
		t.Fatal(err)
	}
}

const overTLS = `services:
  DeviceUsage: {listen: '127.0.0.1:%d', public_url: 'https://127.0.0.1:%[1]d/', tls: {cert_file: tls.crt, key_file: tls.key}}` + tail

// TestACertificate examines what a callbackd has in its files and shows in its handshakes.
func TestACertificate(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, nil, "Root")
	between := newAuthority(t, root, "Between")
	stranger := newAuthority(t, nil, "Stranger")
	key := rsaKey(t, 2048)
	issued := func(by *authority, change func(*x509.Certificate)) *x509.Certificate {
		template := leaf()
		if change != nil {
			change(template)
		}
		return by.sign(t, template, key)
	}
	for name, test := range map[string]struct {
		key   crypto.Signer
		chain []*x509.Certificate
		roots *x509.CertPool
		level doctor.Level
		found string
	}{
		"complete":     {key, []*x509.Certificate{issued(between, nil), between.certificate}, nil, doctor.OK, `^the chain is complete, and leads to "Root"`},
		"root sent":    {key, []*x509.Certificate{issued(between, nil), between.certificate, root.certificate}, nil, doctor.OK, `^the chain is complete`},
		"incomplete":   {key, []*x509.Certificate{issued(between, nil)}, nil, doctor.Fail, `^no intermediate certificate comes with it, and CN=Between`},
		"known here":   {key, []*x509.Certificate{issued(between, nil)}, pool(between.certificate), doctor.Warn, `^the chain was completed with "Between"`},
		"self-signed":  {key, []*x509.Certificate{issued(nil, nil)}, nil, doctor.Fail, "is signed by itself$"},
		"private":      {key, []*x509.Certificate{issued(stranger, nil), stranger.certificate}, nil, doctor.Fail, `^no root that this machine knows stands behind .* ends at CN=Stranger$`},
		"no proof":     {key, []*x509.Certificate{issued(between, func(c *x509.Certificate) { c.ExtraExtensions = nil }), between.certificate}, nil, doctor.Warn, "no proof of transparency"},
		"out of order": {key, []*x509.Certificate{issued(between, nil), root.certificate, between.certificate}, nil, doctor.Warn, "^certificate 2, .*, did not issue certificate 1"},
		"other name": {key, []*x509.Certificate{issued(between, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"example.com"} }), between.certificate},
			nil, doctor.Fail, "is not for 127.0.0.1, by which the platform calls"},
		"expired": {key, []*x509.Certificate{issued(between, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), between.certificate},
			nil, doctor.Fail, " expired on 2"},
		"expires": {key, []*x509.Certificate{issued(between, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(72 * time.Hour) }), between.certificate},
			nil, doctor.Warn, `^"callbacks" expires on 2`},
		"not yet": {key, []*x509.Certificate{issued(between, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), between.certificate},
			nil, doctor.Fail, " is valid from 2"},
		"RSA": {key, []*x509.Certificate{issued(between, nil), between.certificate}, nil, doctor.OK, "^RSA key of 2048 bits$"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			files(t, dir, test.key, test.chain...)
			o := load(t, dir, head+fmt.Sprintf(overTLS, freePort(t)))
			if o.Roots = test.roots; o.Roots == nil {
				o.Roots = pool(root.certificate)
			}
			serve(t, o.Config)
			list := examine(t, o)
			inFile := test.level
			switch name {
			case "incomplete", "self-signed", "private", "other name":
				inFile = doctor.Warn // for a proxy may stand in front, with another
			}
			if f := list.has(t, "certificate files", inFile, test.found); f.Subject != filepath.Join(dir, "tls.crt") {
				t.Errorf("the subject is %q", f.Subject)
			}
			if f := list.has(t, "certificate", test.level, test.found); !strings.HasPrefix(f.Subject, "https://127.0.0.1:") {
				t.Errorf("the subject is %q", f.Subject)
			}
			list.has(t, "url", doctor.OK, "^callbackd answers there, from here$")
			if test.level == doctor.OK {
				list.fine(t, "certificate", "certificate files", "url")
			}
		})
	}
}

func TestAnOlderCertificateIsServed(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, nil, "Root")
	key := rsaKey(t, 2048)
	older := leaf()
	older.NotBefore = older.NotBefore.AddDate(0, -1, 0)
	first, second := root.sign(t, older, key), root.sign(t, leaf(), key)
	const found = "an older certificate is served than that in "
	for name, test := range map[string]struct {
		inFile, served *x509.Certificate
		told           bool
	}{"renewed": {second, first, true}, "put back": {first, second, false}, "the same": {first, first, false}} {
		dir, port := t.TempDir(), freePort(t)
		answering(t, port, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{test.served.Raw}, PrivateKey: key}}}, 200, "")
		files(t, dir, key, test.inFile)
		o := load(t, dir, head+fmt.Sprintf(overTLS, port))
		o.Roots = pool(root.certificate)
		list := examine(t, o)
		if told := slices.ContainsFunc(list, func(f doctor.Finding) bool { return strings.HasPrefix(f.Found, found+dir) }); told != test.told {
			t.Errorf("%s: told is %t, not %t", name, told, test.told)
		}
	}
}

func TestAKeyThatNobodyTakes(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, nil, "Root")
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		key   crypto.Signer
		level doctor.Level
		found string
	}{
		"short":   {rsaKey(t, 1024), doctor.Fail, "^its RSA key has 1024 bits"},
		"ECDSA":   {ecdsaKey(t), doctor.OK, "^ECDSA key on P-256"},
		"Ed25519": {edwards, doctor.Fail, "Ed25519"},
	} {
		dir := t.TempDir()
		files(t, dir, test.key, root.sign(t, leaf(), test.key))
		o := load(t, dir, head+fmt.Sprintf(overTLS, 28204))
		o.Roots, o.Offline = pool(root.certificate), true
		t.Run(name, func(t *testing.T) { examine(t, o).has(t, "certificate files", test.level, test.found) })
	}
}

// answering runs a server at a port until the test ends.
func answering(t *testing.T, port int, c *tls.Config, status int, text string) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if c != nil {
		l = tls.NewListener(l, c)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	})}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
}

func TestAURLThatOthersAnswerAt(t *testing.T) {
	t.Parallel()
	root := newAuthority(t, nil, "Root")
	key := rsaKey(t, 2048)
	pair := tls.Certificate{Certificate: [][]byte{root.sign(t, leaf(), key).Raw}, PrivateKey: key}
	const fault = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><Fault/></Body></Envelope>`
	for name, test := range map[string]struct {
		scheme string
		tls    *tls.Config
		status int
		text   string
		check  string
		level  doctor.Level
		found  string
	}{
		"another program":   {"http", nil, 200, "It works!", "url", doctor.Fail, `answers with 200, as no callbackd does: "It works!"`},
		"a proxy alone":     {"http", nil, 502, "", "url", doctor.Fail, "answers with 502, as a proxy does"},
		"refused":           {"http", nil, 403, fault, "url", doctor.OK, "refuses this machine, which is not in network.allow"},
		"refused elsewhere": {"http", nil, 403, "Forbidden", "url", doctor.Fail, "answers with 403, as no callbackd does"},
		"another path":      {"http", nil, 404, fault, "url", doctor.Fail, `knows no path "/"`},
		"another version":   {"http", nil, 200, `<definitions targetNamespace="http://nphase.com/unifiedwebservice/v2"/>`, "url", doctor.Warn, "another configuration or version"},
		"plain":             {"https", nil, 200, "", "url", doctor.Fail, "^no TLS handshake: "},
		"TLS unexpected":    {"http", &tls.Config{Certificates: []tls.Certificate{pair}}, 200, "", "url", doctor.Fail, "answers with 400|does not answer"},
		"TLS 1.3 alone": {"https", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}, 200, "", "url", doctor.Warn,
			"^TLS 1.3 alone is spoken there"},
		"of the client": {"https", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}, 200, "", "url", doctor.Fail, "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := freePort(t)
			o := load(t, t.TempDir(), head+fmt.Sprintf("services: {DeviceUsage: {listen: '127.0.0.1:28204', public_url: '%s://127.0.0.1:%d/'}}", test.scheme, port)+tail)
			o.Roots = pool(root.certificate)
			answering(t, port, test.tls, test.status, test.text)
			examine(t, o).has(t, test.check, test.level, test.found)
		})
	}
}

func TestAURLThatIsNotReached(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	o := load(t, t.TempDir(), head+fmt.Sprintf("services: {DeviceUsage: {listen: '127.0.0.1:0', public_url: 'http://127.0.0.1:%d/'}}", port)+tail)
	if f := examine(t, o).has(t, "url", doctor.Warn, "no connection to 127.0.0.1:.*refused"); !strings.Contains(f.Advice, "no callbackd runs here yet") {
		t.Errorf("%+v", f)
	}
	serve(t, o.Config)
	if f := examine(t, o).has(t, "url", doctor.Fail, "no connection to 127.0.0.1:.*refused"); !strings.Contains(f.Advice, "nothing listens on the port") {
		t.Errorf("%+v", f)
	}

	// For the platform itself: what lies behind the address of another network may be as it should.
	production := strings.Replace(head, "http://127.0.0.1:1/api/v2", "https://uws.apps.nphase.com/api/v2", 1)
	o = load(t, t.TempDir(), production+`services:
  DeviceUsage: {listen: '127.0.0.1:0', public_url: 'https://nobody.invalid/'}
  PromoChange: {listen: '127.0.0.1:0', public_url: 'http://127.0.0.1:28208/'}
  StateService: {listen: '127.0.0.1:0', public_url: 'https://255.255.255.255/'}`+tail)
	list := examine(t, o)
	if f := list.has(t, "url", doctor.Fail, "DNS has no address for nobody.invalid"); f.Subject != "https://nobody.invalid/" {
		t.Errorf("%+v", f)
	}
	list.has(t, "url", doctor.Warn, "DNS says 127.0.0.1 here, an address that Verizon cannot reach")
	list.has(t, "url", doctor.Warn, "plain HTTP")
	if f := list.has(t, "url", doctor.Warn, "^no connection to 255.255.255.255:443 from here"); !strings.Contains(f.Advice, "hairpin NAT") {
		t.Errorf("%+v", f)
	}
	if f := list.has(t, "url", doctor.Skipped, "what this machine reaches, Verizon may not"); f.Subject != "from Verizon" || !strings.Contains(f.Advice, "https://nobody.invalid/?wsdl") {
		t.Errorf("%+v", f)
	}
}
