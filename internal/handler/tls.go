package handler

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// TLS is how a handler knows its destination, and shows who it is: the key tls of a configuration. All of it is in files.
type TLS struct {
	// CAFile holds the authorities that the other side's certificate may come from; default: those of the system.
	CAFile string `yaml:"ca_file,omitempty"`
	// CertFile and KeyFile are callbackd's own certificate.
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"`
}

// Paths are the files by their keys, for [Files].
func (t *TLS) Paths() map[string]*string {
	if t == nil {
		return nil
	}
	return map[string]*string{"tls.ca_file": &t.CAFile, "tls.cert_file": &t.CertFile, "tls.key_file": &t.KeyFile}
}

// Validate reports what is wrong without looking at the files.
func (t *TLS) Validate() []error {
	if t != nil && (t.CertFile == "") != (t.KeyFile == "") {
		return []error{errors.New("tls: cert_file and key_file go together: give both, or none")}
	}
	return nil
}

// Config reads the files, once. Of what is not named, nil included, the system's holds.
func (t *TLS) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t == nil {
		return config, nil
	}
	if t.CAFile != "" {
		var err error
		if config.RootCAs, err = t.Authorities(); err != nil {
			return nil, err
		}
	}
	if t.CertFile != "" {
		pair, err := t.Certificate()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{*pair}
	}
	return config, nil
}

// Authorities reads CAFile.
func (t *TLS) Authorities() (*x509.CertPool, error) {
	text, err := ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("tls.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls.ca_file: %s: holds no certificate in PEM", t.CAFile)
	}
	return pool, nil
}

// Certificate reads CertFile and KeyFile.
func (t *TLS) Certificate() (*tls.Certificate, error) {
	certificate, err := ReadFile(t.CertFile)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	key, err := ReadFile(t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %s with the key_file %s: %w", t.CertFile, t.KeyFile, err)
	}
	return &pair, nil
}
