package webhook

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"callbackd/internal/handler"

	"golang.org/x/net/http/httpguts"
)

// settings are what the files of a configuration hold, and the client that was made of it.
type settings struct {
	secrets [][]byte
	header  http.Header
	client  *http.Client
}

// load reads the files. Its errors name the key and the file, and quote nothing of what is in it.
func load(c *Config) (*settings, error) {
	s := &settings{header: http.Header{"User-Agent": {"callbackd"}}}
	for i, path := range c.SecretFiles {
		text, err := readLine(path)
		if err != nil {
			return nil, fmt.Errorf("secret_files[%d]: %w", i, err)
		}
		secret, err := parseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("secret_files[%d]: %s: %w", i, path, err)
		}
		s.secrets = append(s.secrets, secret)
	}
	if err := s.setHeaders(c); err != nil {
		return nil, err
	}
	config, err := c.TLS.Config()
	if err != nil {
		return nil, err
	}
	s.client = newClient(c, config)
	return s, nil
}

func (s *settings) setHeaders(c *Config) error {
	for _, h := range c.Headers {
		s.header.Set(h.Name, h.Value)
	}
	set := func(key, name, path string) error {
		if path == "" {
			return nil
		}
		value, err := readLine(path)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", key, err)
		case !httpguts.ValidHeaderFieldValue(value):
			return fmt.Errorf("%s: %s: has a character that no header can carry", key, path)
		}
		s.header.Set(name, value)
		return nil
	}
	for i, h := range c.Headers {
		if err := set(fmt.Sprintf("headers[%d].value_file", i), h.Name, h.ValueFile); err != nil {
			return err
		}
	}
	return set("authorization_file", "Authorization", c.AuthorizationFile)
}

// newClient makes the client. It uses no proxy, and keeps no cookies. It speaks HTTP/1.1 alone: a connection that has died without a word costs one
// attempt then, and not all that share it.
func newClient(c *Config, config *tls.Config) *http.Client {
	const (
		mostHead = 64 << 10
		mostIdle = 256
		idle     = time.Minute
	)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: c.ConnectTimeout, ControlContext: control, Resolver: c.resolver}
	return &http.Client{CheckRedirect: redirect, Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: c.ConnectTimeout, Protocols: &protocols,
		MaxIdleConns: mostIdle, MaxIdleConnsPerHost: mostIdle, IdleConnTimeout: idle, MaxResponseHeaderBytes: mostHead, DisableCompression: true,
	}}
}

// redirect lets an event be posted again on the same host alone, and never without the TLS that it began with. Where the method would become
// GET, the event would not be sent at all.
func redirect(to *http.Request, via []*http.Request) error {
	const most = 3
	from := via[len(via)-1].URL
	if to.Method != http.MethodPost || len(via) > most || !sameHost(from, to.URL) {
		return http.ErrUseLastResponse
	}
	return nil
}

func sameHost(from, to *url.URL) bool {
	upgraded := from.Scheme == "http" && to.Scheme == "https"
	return strings.EqualFold(from.Hostname(), to.Hostname()) && (upgraded || from.Scheme == to.Scheme && port(from) == port(to))
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// readLine reads the one line of a file, without spaces around it, which belong to no secret of these.
func readLine(path string) (string, error) {
	line, err := handler.ReadSecret(path)
	return strings.TrimSpace(line), err
}

// stamps tells whether files have changed.
func stamps(paths []string) []os.FileInfo {
	list := make([]os.FileInfo, len(paths))
	for i, path := range paths {
		list[i], _ = os.Stat(path) // nil if it is gone, which is a change too
	}
	return list
}

func sameStamps(a, b []os.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}
