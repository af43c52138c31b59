// Package certificatetest makes certificates for tests, real ones of authorities that nobody knows.
package certificatetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Authority issues certificates.
type Authority struct {
	Certificate *x509.Certificate
	// PEM is the certificate's.
	PEM []byte

	key    crypto.Signer
	issued atomic.Int64
}

// New makes a root.
func New(t testing.TB, name string) *Authority { return (&Authority{}).authority(t, name) }

// Intermediate makes an authority that a stands behind.
func (a *Authority) Intermediate(t testing.TB, name string) *Authority { return a.authority(t, name) }

func (a *Authority) authority(t testing.TB, name string) *Authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}
	made := &Authority{}
	made.Certificate, made.PEM, made.key = a.sign(t, template)
	return made
}

// Issue makes a certificate for names or addresses, of a listener or of a client, and its key, in PEM.
func (a *Authority) Issue(t testing.TB, names ...string) (certificate, key []byte) {
	t.Helper()
	return a.IssueUntil(t, time.Now().Add(90*24*time.Hour), names...)
}

// IssueUntil is Issue for a certificate that expires at a time, or has expired.
func (a *Authority) IssueUntil(t testing.TB, until time.Time, names ...string) (certificate, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		NotBefore: until.Add(-365 * 24 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	_, certificate, signer := a.sign(t, template)
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// sign makes a certificate with a key of its own; an authority without one has it sign itself.
func (a *Authority) sign(t testing.TB, template *x509.Certificate) (*x509.Certificate, []byte, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(a.issued.Add(1))
	parent, signer := a.Certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}
