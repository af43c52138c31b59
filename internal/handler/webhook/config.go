package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"callbackd/internal/handler"

	"golang.org/x/net/http/httpguts"
)

// Type is the handler type "webhook".
func Type() handler.Type {
	return handler.Type{Name: "webhook", Concurrency: 8, Config: func() handler.Config {
		return &Config{Mode: Structured, ConnectTimeout: 5 * time.Second}
	}}
}

// Config of a webhook handler.
type Config struct {
	// URL is the endpoint.
	URL  string `yaml:"url"`
	Mode Mode   `yaml:"mode"`
	// SecretFiles hold the secrets that events are signed with, one each. The endpoint accepts an event if it knows any of them.
	SecretFiles []string `yaml:"secret_files,omitempty"`
	// AuthorizationFile holds the value of the Authorization header.
	AuthorizationFile string   `yaml:"authorization_file,omitempty"`
	Headers           []Header `yaml:"headers,omitempty"`
	// ConnectTimeout bounds the time to a connection, and that of its TLS handshake. An attempt as a whole has the delivery's time-out.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	TLS            *handler.TLS  `yaml:"tls,omitempty"`

	resolver *net.Resolver // nil: the system's
}

// Mode says how an event is put into a request.
type Mode string

// The content modes of CloudEvents: all of the event in the body, or its attributes in headers.
const (
	Structured Mode = "structured"
	Binary     Mode = "binary"
)

// Header is one more header of each request. Its value is in a file if it is a secret.
type Header struct {
	Name      string `yaml:"name"`
	Value     string `yaml:"value,omitempty"`
	ValueFile string `yaml:"value_file,omitempty"`
}

// Paths implements [handler.Files].
func (c *Config) Paths() map[string]*string {
	paths := map[string]*string{"authorization_file": &c.AuthorizationFile}
	for i := range c.SecretFiles {
		paths[fmt.Sprintf("secret_files[%d]", i)] = &c.SecretFiles[i]
	}
	for i := range c.Headers {
		paths[fmt.Sprintf("headers[%d].value_file", i)] = &c.Headers[i].ValueFile
	}
	maps.Copy(paths, c.TLS.Paths())
	return paths
}

// files lists what the configuration names.
func (c *Config) files() (list []string) {
	for _, path := range c.Paths() {
		if *path != "" {
			list = append(list, *path)
		}
	}
	slices.Sort(list)
	return list
}

// Validate implements [handler.Config].
func (c *Config) Validate() []error {
	const mostSecrets = 8
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	u, err := c.endpoint()
	if err != nil {
		bad("url: %w", err)
	}
	if c.Mode != Structured && c.Mode != Binary {
		bad("mode: must be structured or binary")
	}
	if len(c.SecretFiles) > mostSecrets {
		bad("secret_files: %d are more than the %d that an event is signed with: leave out those that the endpoint does not use any more",
			len(c.SecretFiles), mostSecrets)
	}
	for i, path := range c.SecretFiles {
		if path == "" {
			bad("secret_files[%d]: the name of the file is missing", i)
		}
	}
	if c.ConnectTimeout <= 0 {
		bad("connect_timeout: must be more than nothing; 5s is the default")
	}
	problems = append(problems, c.TLS.Validate()...)
	if c.TLS != nil && u != nil && u.Scheme == "http" {
		bad("tls: url is http, which is without TLS: write https, or leave this out")
	}
	return append(problems, c.validateHeaders()...)
}

// Warnings implements [handler.Warner].
func (c *Config) Warnings() (list []error) {
	u, err := c.endpoint()
	if err != nil {
		return nil
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		list = append(list, errors.New("url: events are posted over http: whoever is on the way reads them, and the headers; write https"))
	}
	for key, path := range c.Paths() {
		if *path != "" && key != "tls.ca_file" {
			return list
		}
	}
	return append(list, errors.New("secret_files: missing: events are not signed, and the endpoint cannot tell them from those of anybody; name a file with a secret, "+
		"which `echo whsec_$(openssl rand -base64 32)` makes"))
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// endpoint is the URL. No error quotes it, for its path and query may be secrets.
func (c *Config) endpoint() (*url.URL, error) {
	if c.URL == "" {
		return nil, errors.New("missing: where events are posted to, such as https://events.example.com/thingspace")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("is not an http or https URL with a host, such as https://events.example.com/thingspace")
	case u.User != nil:
		return nil, errors.New("holds a user name or password, which would be shown: write the Authorization header into a file, and name it in authorization_file")
	case u.Fragment != "":
		return nil, errors.New("has a fragment (#), which no request carries: leave it out, or write %23")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return u, allowed(addr)
	}
	return u, nil
}

func (c *Config) validateHeaders() (problems []error) {
	bad := func(i int, key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("headers[%d]%s: %s", i, key, fmt.Sprintf(format, args...)))
	}
	seen := map[string]bool{}
	for i, h := range c.Headers {
		name := strings.ToLower(h.Name)
		switch {
		case !httpguts.ValidHeaderFieldName(h.Name):
			bad(i, ".name", "is not the name of a header")
		case slices.Contains(ownHeaders(), name), strings.HasPrefix(name, "ce-"), strings.HasPrefix(name, "webhook-"):
			bad(i, ".name", "%s is not for the configuration to set", h.Name)
		case name == "authorization":
			bad(i, ".name", "write the value of Authorization into a file, and name it in authorization_file")
		case seen[name]:
			bad(i, ".name", "%s stands twice", h.Name)
		}
		seen[name] = true
		switch {
		case (h.Value == "") == (h.ValueFile == ""):
			bad(i, "", "give value, or value_file if it is a secret")
		case !httpguts.ValidHeaderFieldValue(h.Value):
			bad(i, ".value", "has a character that no header can carry")
		}
	}
	return problems
}

// ownHeaders are those that say how the request is to be read, or are about the connection.
func ownHeaders() []string {
	return []string{"content-type", "content-length", "content-encoding", "host", "connection", "keep-alive", "proxy-connection", "te", "trailer",
		"transfer-encoding", "upgrade", "expect", "idempotency-key", "x-idempotency-key"}
}

// Open implements [handler.Config].
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	return open(c, env)
}
