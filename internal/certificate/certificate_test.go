package certificate_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/certificate"
	"callbackd/internal/certificate/certificatetest"
)

func TestWhatCannotBeServedIsToldWithWhatToDo(t *testing.T) {
	t.Parallel()
	root := certificatetest.New(t, "Root")
	leaf, key := root.Issue(t, "callbacks.example.com")
	_, otherKey := root.Issue(t, "other.example.com")
	block, _ := pem.Decode(leaf)
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("sealed")})
	for name, tc := range map[string]struct {
		certificate, key []byte
		about            error
		want             string
	}{
		"key of another":      {leaf, otherKey, certificate.ErrMismatch, "the key does not belong to the certificate, which is the certificate of callbacks.example.com"},
		"swapped certificate": {key, key, certificate.ErrCertificate, "are the two files swapped?"},
		"swapped key":         {leaf, leaf, certificate.ErrKey, "are the two files swapped?"},
		"leaf not first":      {slices.Concat(root.PEM, leaf), key, certificate.ErrCertificate, "which is the certificate of callbacks.example.com: put that first"},
		"DER":                 {block.Bytes, key, certificate.ErrCertificate, "openssl x509 -inform der"},
		"locked key":          {leaf, locked, certificate.ErrKey, "locked with a passphrase"},
		"empty certificate":   {nil, key, certificate.ErrCertificate, "is empty"},
		"empty key":           {leaf, nil, certificate.ErrKey, "is empty"},
		"cut off":             {leaf[:len(leaf)/2], key, certificate.ErrCertificate, "is not PEM"},
		"no key at all": {leaf, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("none")}), certificate.ErrKey,
			"is not a private key of RSA, ECDSA or Ed25519"},
		"no certificate at all": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("none")}), key, certificate.ErrCertificate,
			"certificate 1 of the file cannot be read"},
	} {
		_, err := certificate.New(tc.certificate, tc.key)
		if err == nil || !errors.Is(err, tc.about) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if pair, err := certificate.New(leaf, key); err != nil || pair.Leaf().DNSNames[0] != "callbacks.example.com" {
		t.Errorf("a pair that is good: %v", err)
	}
}

func TestFlaws(t *testing.T) {
	t.Parallel()
	root, strange := certificatetest.New(t, "Root"), certificatetest.New(t, "Strange")
	intermediate := root.Intermediate(t, "Intermediate")
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate)
	now := time.Now()
	const host = "callbacks.example.com"
	issue := func(a *certificatetest.Authority, until time.Time, behind ...[]byte) *certificate.Pair {
		leaf, key := a.IssueUntil(t, until, host)
		pair, err := certificate.New(bytes.Join(append([][]byte{leaf}, behind...), nil), key)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	later := now.AddDate(0, 3, 0)
	for name, tc := range map[string]struct {
		pair *certificate.Pair
		at   time.Time
		host string
		want string
	}{
		"good":               {issue(intermediate, later, intermediate.PEM), now, host, ""},
		"with its root":      {issue(intermediate, later, intermediate.PEM, root.PEM), now, host, ""},
		"straight from root": {issue(root, later), now, host, ""},
		"expired":            {issue(root, now.AddDate(0, 0, -1)), now, host, "expired"},
		"not yet":            {issue(root, later), now.AddDate(-2, 0, 0), host, "not_yet"},
		"alone":              {issue(intermediate, later), now, host, "incomplete"},
		"alone and expired":  {issue(intermediate, now.AddDate(0, 0, -1)), now, host, "expired incomplete"},
		"wrong order":        {issue(intermediate, later, root.PEM, intermediate.PEM), now, host, "disordered"},
		"of others":          {issue(intermediate, later, strange.PEM), now, host, "disordered untrusted"},
		"unknown root":       {issue(strange.Intermediate(t, "Between"), later, strange.PEM), now, "", "disordered untrusted"},
		"other name":         {issue(root, later), now, "other.example.com", "other_host"},
		"no name asked":      {issue(root, later), now, "", ""},
	} {
		var kinds []string
		for _, f := range tc.pair.Flaws(tc.at, tc.host, roots) {
			kinds = append(kinds, string(f.Kind))
		}
		if got := strings.Join(kinds, " "); got != tc.want {
			t.Errorf("%s: %q, not %q: %v", name, got, tc.want, tc.pair.Flaws(tc.at, tc.host, roots))
		}
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	root := certificatetest.New(t, "Root")
	_, key := root.Issue(t, "a.example.com")
	if pool, err := certificate.Authorities(root.PEM); err != nil || pool == nil {
		t.Errorf("an authority: %v", err)
	}
	for name, text := range map[string][]byte{"a key": key, "nothing": nil} {
		if _, err := certificate.Authorities(text); err == nil {
			t.Errorf("%s was taken for an authority", name)
		}
	}
}
