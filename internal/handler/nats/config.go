package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"callbackd/internal/handler"
)

// Type is the handler type "nats".
func Type() handler.Type {
	return handler.Type{Name: "nats", Concurrency: 64, Config: func() handler.Config {
		return &Config{Mode: Structured, reconnectWait: 2 * time.Second, askEvery: 15 * time.Second}
	}}
}

// Config of a nats handler.
type Config struct {
	// Servers are those to begin with, each as nats://HOST:PORT or tls://HOST:PORT. They tell of the others of their cluster.
	Servers []string `yaml:"servers"`
	// Subject is one, or a template of many: {service}, {kind} and {account} stand for those of the delivery.
	Subject string `yaml:"subject"`
	// Stream is the one that has to take the messages; empty for whichever does.
	Stream string `yaml:"stream,omitempty"`
	Mode   Mode   `yaml:"mode"`
	// TLS is insisted on where it is given.
	TLS  *handler.TLS `yaml:"tls,omitempty"`
	Auth *Auth        `yaml:"auth,omitempty"`

	reconnectWait time.Duration // between two rounds through the servers
	askEvery      time.Duration // how often JetStream is asked for the streams of the subjects
}

// Mode says how an event is put into a message.
type Mode string

// The content modes of CloudEvents: all of the event in the payload, or its attributes in headers alone.
const (
	Structured Mode = "structured"
	Binary     Mode = "binary"
)

// Auth says who callbackd is, in one of four ways.
type Auth struct {
	// CredsFile holds a user's JWT and its nkey seed, as nsc writes it.
	CredsFile string `yaml:"creds_file,omitempty"`
	// NkeyFile holds the seed of a user's nkey.
	NkeyFile     string `yaml:"nkey_file,omitempty"`
	Username     string `yaml:"username,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
	TokenFile    string `yaml:"token_file,omitempty"`
}

// Paths implements [handler.Files].
func (c *Config) Paths() map[string]*string {
	paths := map[string]*string{}
	maps.Copy(paths, c.TLS.Paths())
	if c.Auth != nil {
		paths["auth.creds_file"], paths["auth.nkey_file"] = &c.Auth.CredsFile, &c.Auth.NkeyFile
		paths["auth.password_file"], paths["auth.token_file"] = &c.Auth.PasswordFile, &c.Auth.TokenFile
	}
	return paths
}

// Validate implements [handler.Config].
func (c *Config) Validate() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.Servers) == 0 {
		bad("servers: missing: one or some of the cluster's, such as [nats://nats-1.example.com:4222]")
	}
	for i, server := range c.Servers {
		if err := checkServer(server); err != nil {
			bad("servers[%d]: %w", i, err)
		}
	}
	if err := checkSubject(c.Subject); err != nil {
		bad("subject: %w", err)
	}
	if err := checkStream(c.Stream); err != nil {
		bad("stream: %w", err)
	}
	if c.Mode != Structured && c.Mode != Binary {
		bad("mode: must be structured or binary; structured is the default")
	}
	problems = append(problems, c.TLS.Validate()...)
	if c.Auth != nil {
		problems = append(problems, c.Auth.validate()...)
	}
	return problems
}

// checkServer quotes nothing of a server, for what is wrong with it may be a password.
func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" {
		return errors.New("is not nats://HOST:PORT or tls://HOST:PORT, such as nats://nats-1.example.com:4222")
	}
	if u.User != nil {
		return errors.New("has a user in it, which logs would show: give it by the keys of auth")
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(server, ", ?#") {
		return errors.New("has more to it than nats://HOST:PORT or tls://HOST:PORT: write one server to an element, and nothing behind the port")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("has no port from 1 to 65535: write nats://HOST:PORT, such as nats://nats-1.example.com:4222")
		}
	}
	return nil
}

func checkStream(name string) error {
	const longest = 255
	invalid := func(r rune) bool {
		return strings.ContainsRune(`.*>/\`, r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	if len(name) > longest || strings.ContainsFunc(name, invalid) {
		return fmt.Errorf("is no name of a stream, which has %d characters at most, and neither spaces nor any of . * > / \\", longest)
	}
	return nil
}

func (a *Auth) validate() (problems []error) {
	ways := 0
	for _, given := range []bool{a.CredsFile != "", a.NkeyFile != "", a.Username != "" || a.PasswordFile != "", a.TokenFile != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return []error{errors.New("auth: give one of creds_file, nkey_file, token_file, or username with password_file")}
	}
	if a.Username == "" && a.PasswordFile != "" {
		problems = append(problems, errors.New("auth.username: missing: the user that the servers know callbackd by"))
	}
	if a.Username != "" && a.PasswordFile == "" {
		problems = append(problems, errors.New("auth.password_file: missing: the file that holds the password and nothing else"))
	}
	return problems
}

// Warnings implements [handler.Warner].
func (c *Config) Warnings() []error {
	if c.Auth == nil || c.Auth.PasswordFile == "" && c.Auth.TokenFile == "" || c.secure() {
		return nil
	}
	for _, server := range c.Servers {
		u, err := url.Parse(server)
		if err != nil {
			continue // Validate tells
		}
		if addr, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !addr.IsLoopback()) {
			return []error{errors.New("auth: goes over the network as it is, for anybody there to read: add tls, or take creds_file or nkey_file, " +
				"which show no secret")}
		}
	}
	return nil
}

// secure reports whether TLS is insisted on.
func (c *Config) secure() bool {
	for _, server := range c.Servers {
		if strings.HasPrefix(strings.ToLower(server), "tls:") {
			return true
		}
	}
	return c.TLS != nil
}

// Open implements [handler.Config]. It needs the files, and not yet the servers.
func (c *Config) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	return open(c, env)
}

// address is that of a server, with the port that is NATS's when there is none.
func address(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	port := u.Port()
	if port == "" {
		port = "4222"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
