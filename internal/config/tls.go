package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"time"

	"callbackd/internal/certificate"
)

// TLS of a listener. What its files held when the configuration was read is what [TLS.Config] serves.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile holds the authorities that clients' certificates are to come from. With it, a client without one is refused.
	ClientCAFile string     `yaml:"client_ca_file,omitempty"`
	MinVersion   TLSVersion `yaml:"min_version"`

	pair      *certificate.Pair
	clientCAs *x509.CertPool
	text      digest // of all files
}

// TLSVersion is the oldest version of TLS that is spoken.
type TLSVersion string

// The versions. What is older is broken.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// read reads the files, and notes what keeps them from being served.
func (t *TLS) read(d *decoder, path string) {
	if t.MinVersion == "" {
		t.MinVersion = TLS12
	}
	var texts [3][]byte
	complete := true
	for i, f := range []struct{ key, file string }{{".cert_file", t.CertFile}, {".key_file", t.KeyFile}, {".client_ca_file", t.ClientCAFile}} {
		var err error
		switch optional := i == 2; {
		case f.file == "" && optional:
			continue
		case f.file == "":
			d.at(path+f.key, Fatal, "missing: the PEM file")
		default:
			if texts[i], err = d.read(f.file); err == nil {
				continue
			}
			d.at(path+f.key, Unread, "%s: mend the path, or let the user that callbackd runs as read the file", err)
		}
		complete = false
	}
	if complete {
		t.parse(d, path, texts[0], texts[1], texts[2])
	}
}

func (t *TLS) parse(d *decoder, path string, certificates, key, authorities []byte) {
	pair, err := certificate.New(certificates, key)
	switch {
	case errors.Is(err, certificate.ErrCertificate):
		d.at(path+".cert_file", Fatal, "%s: %s", t.CertFile, err)
	case errors.Is(err, certificate.ErrKey):
		d.at(path+".key_file", Fatal, "%s: %s", t.KeyFile, err)
	case err != nil:
		d.at(path, Fatal, "%s and %s: %s", t.CertFile, t.KeyFile, err)
	}
	t.pair = pair
	if t.ClientCAFile != "" {
		if t.clientCAs, err = certificate.Authorities(authorities); err != nil {
			d.at(path+".client_ca_file", Fatal, "%s: %s", t.ClientCAFile, err)
		}
	}
	all := make(Sources)
	all.note("", slices.Concat(certificates, key, authorities))
	t.text = all[""]
}

// validate tells what clients will hold against the certificate. host is the name that they call it by.
func (t *TLS) validate(d *decoder, path, host string) {
	if t == nil {
		return
	}
	oneOf(d, path+".min_version", t.MinVersion, TLS12, TLS13)
	if t.pair == nil {
		return
	}
	for _, flaw := range t.pair.Flaws(time.Now(), host, nil) {
		severity := Warning
		switch flaw.Kind {
		case certificate.Untrusted:
			continue // it may well be served to a proxy, which trusts it
		case certificate.Expired, certificate.NotYet:
			severity = Unregistrable
		}
		d.at(path+".cert_file", severity, "%s: %s", t.CertFile, flaw)
	}
	if othersRead(t.KeyFile) {
		d.at(path+".key_file", Warning, "%s can be read by everybody on this machine: chmod 600", t.KeyFile)
	}
}

// Config is the configuration of a server. HTTP/2 is offered. The ciphers are those of Go, all of them with forward secrecy.
func (t *TLS) Config() *tls.Config {
	c := &tls.Config{
		Certificates: []tls.Certificate{t.pair.TLS}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
	if t.MinVersion == TLS13 {
		c.MinVersion = tls.VersionTLS13
	}
	if t.clientCAs != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, t.clientCAs
		// A session that is resumed has been verified by the authorities of the day that it began.
		c.SessionTicketsDisabled = true
	}
	return c
}

// Certificate is the one that is served; nil if the files could not be read, or are not of each other.
func (t *TLS) Certificate() *certificate.Pair { return t.pair }

// same reports whether two services that share an address can: it has one TLS.
func (t *TLS) same(other *TLS) bool {
	if t == nil || other == nil {
		return t == other
	}
	return t.CertFile == other.CertFile && t.KeyFile == other.KeyFile && t.ClientCAFile == other.ClientCAFile && t.MinVersion == other.MinVersion
}

// host is the name in the URL that is registered, if the platform is to find a certificate there.
func (s *Service) host() string {
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Scheme != "https" {
		return ""
	}
	return u.Hostname()
}
