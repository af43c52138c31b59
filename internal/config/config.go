// Package config reads the configuration file, strictly, and reports every problem at once with its place.
//
// The promise: what [Load] returns without an error is complete, with all defaults set and all secrets read. An unknown key is
// an error with a suggestion. No secret is ever printed.
//
// Relative paths are relative to the folder of the file. A key whose name ends in _file finds its file in $CREDENTIALS_DIRECTORY first, where
// systemd puts what LoadCredential= names.
//
// In a value, ${NAME} stands for an environment variable, which MUST be set, and $${ for the two characters ${. It is expanded once YAML has
// been read: what the variable holds is one value, a number or a duration as well as a text, and never YAML. Nothing is expanded in keys, nor in
// what a file holds that a key names. What a variable holds is not printed.
//
// A running callbackd reads its configuration again. [Config.Replaced] says what of it can be in force then, [Changes] what has changed, and
// [Sources] which files it came from.
package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/certificate"
	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/receiver"
	"callbackd/internal/thingspace/registration"
)

// Config is the configuration file. The yaml tags are its keys.
type Config struct {
	// DataDir holds the inbox.
	DataDir string `yaml:"data_dir"`
	Admin   Admin  `yaml:"admin"`
	// AllowAnonymous accepts callbacks without credentials.
	AllowAnonymous bool         `yaml:"allow_anonymous"`
	Network        auth.Config  `yaml:"network"`
	Credentials    []Credential `yaml:"credentials"`
	// Services are the callback services to receive, by their registered names.
	Services map[string]*Service `yaml:"services"`
	Handlers map[string]*Handler `yaml:"handlers"`
	Routes   []Route             `yaml:"routes"`
	Ack      receiver.Ack        `yaml:"ack"`
	// ValidationEngine says what judges messages by the schema.
	ValidationEngine receiver.Engine `yaml:"validation_engine"`
	Limits           Limits          `yaml:"limits"`
	Inbox            Inbox           `yaml:"inbox"`
	Heartbeat        Heartbeat       `yaml:"heartbeat"`
	Log              Log             `yaml:"log"`
	Shutdown         Shutdown        `yaml:"shutdown"`
	// Platform, Accounts and Registrations are for registering the listeners; receiving needs none of them.
	Platform      Platform      `yaml:"platform"`
	Accounts      []Account     `yaml:"accounts,omitempty"`
	Registrations Registrations `yaml:"registrations"`

	file    string
	places  map[string]place
	sources Sources
	// expanded has what the file says where the environment said the rest, by path.
	expanded map[string]string
}

// Admin is the listener for operators.
type Admin struct {
	Listen string `yaml:"listen"`
	// TokenFile holds the token of the API, which the listener has not without it.
	TokenFile string `yaml:"token_file,omitempty"`
	Token     Secret `yaml:"-"`
	// WebConfigFile is what Prometheus's exporters call by that name: TLS and users of the listener.
	WebConfigFile string    `yaml:"web_config_file,omitempty"`
	Web           admin.Web `yaml:"-"`

	certificate *certificate.Pair // of the web-config; nil if it has none
	webText     digest            // of the web-config, its certificate and key
}

// Credential is one pair that callbacks may carry.
type Credential struct {
	// Label names the account; it outlives a rotation. ID names the pair within it.
	Label        string             `yaml:"label"`
	ID           string             `yaml:"id,omitempty"`
	Username     string             `yaml:"username"`
	Password     Secret             `yaml:"password,omitempty"`
	PasswordFile string             `yaml:"password_file,omitempty"`
	Services     []callback.Service `yaml:"services,omitempty"`
}

// Service is one callback service.
type Service struct {
	// Listen is the address; default 0.0.0.0 and the service's own port. Services may share one, by path.
	Listen     string              `yaml:"listen"`
	Path       string              `yaml:"path"`
	Validation receiver.Validation `yaml:"validation"`
	TLS        *TLS                `yaml:"tls,omitempty"`
	// PublicURL is the URL that is registered with the platform, if something in front maps it to Listen. The rule on ports is then
	// about the URL's.
	PublicURL string `yaml:"public_url,omitempty"`
}

// Handler is one handler instance. Its type's own keys stand beside these.
type Handler struct {
	Type     string         `yaml:"type"`
	Delivery Delivery       `yaml:"delivery"`
	Config   handler.Config `yaml:"-"`

	kind handler.Type
}

// Delivery says how deliveries to a handler are made.
type Delivery struct {
	Concurrency int           `yaml:"concurrency"`
	Rate        Rate          `yaml:"rate"`
	Timeout     time.Duration `yaml:"timeout"`
	MaxAttempts int           `yaml:"max_attempts"`
	Backoff     Backoff       `yaml:"backoff"`
	Breaker     Breaker       `yaml:"breaker"`
	OrderBy     OrderBy       `yaml:"order_by"`
	HeadOfLine  HeadOfLine    `yaml:"head_of_line"`
}

// Rate bounds the attempts that begin in a second; 0 is no bound.
type Rate struct {
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"`
}

// Backoff between the attempts of a delivery, and between the probes of a breaker.
type Backoff struct {
	Min time.Duration `yaml:"min"`
	Max time.Duration `yaml:"max"`
}

// Breaker says when a handler counts as down.
type Breaker struct {
	Failures int     `yaml:"failures"` // running; 0 is never
	Share    float64 `yaml:"share"`    // of failures among the last 50 attempts; 0 is never
	Open     Backoff `yaml:"open"`
}

// OrderBy is what deliveries are kept in order by.
type OrderBy string

// HeadOfLine says what a dead letter does to those behind it in their order.
type HeadOfLine string

// The words of order_by and head_of_line.
const (
	OrderByNone   OrderBy = "none"
	OrderByDevice OrderBy = "device"

	HeadOfLineBlock HeadOfLine = "block" // it holds them up until it is requeued or discarded
	HeadOfLineBury  HeadOfLine = "bury"  // they go on without it
)

// Order is the order as the inbox keeps it.
func (d Delivery) Order() inbox.Order {
	switch {
	case d.OrderBy != OrderByDevice:
		return inbox.Unordered
	case d.HeadOfLine == HeadOfLineBlock:
		return inbox.DeviceBlock
	}
	return inbox.DeviceBury
}

// Policy is the delivery policy as the dispatcher takes it.
func (d Delivery) Policy() dispatch.Policy {
	failures := d.Breaker.Failures
	if failures == 0 {
		failures = dispatch.NoBreaker
	}
	return dispatch.Policy{Concurrency: d.Concurrency, Timeout: d.Timeout, MaxAttempts: d.MaxAttempts, Backoff: dispatch.Backoff(d.Backoff),
		Rate:    dispatch.Rate(d.Rate),
		Breaker: dispatch.Breaker{Failures: failures, Share: d.Breaker.Share, Open: dispatch.Backoff(d.Breaker.Open)}}
}

// Route sends callbacks to handlers: those of the services, or of all; and of the kinds, or of all.
type Route struct {
	Services []callback.Service `yaml:"services,omitempty"`
	Kinds    []callback.Kind    `yaml:"kinds,omitempty"`
	Handlers []string           `yaml:"handlers"`
}

// Limits bound what comes from outside.
type Limits struct {
	Message     Bytes         `yaml:"message"`     // size of one message
	InFlight    Bytes         `yaml:"in_flight"`   // of all messages being received
	Connections int           `yaml:"connections"` // of one listener
	AckBudget   time.Duration `yaml:"ack_budget"`
}

// Inbox says how long and how much is kept.
type Inbox struct {
	Retention    Retention     `yaml:"retention"`
	KeyAge       time.Duration `yaml:"key_age"`
	RepeatWindow time.Duration `yaml:"repeat_window"`
	Disk         Disk          `yaml:"disk"`
}

// Retention bounds the inbox. Nothing undelivered is removed.
type Retention struct {
	Age  time.Duration `yaml:"age"`
	Size Bytes         `yaml:"size"`
}

// Log of callbackd itself.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // json, console
	// SampleReceived has one line tell of so many acknowledgements with nothing out of the ordinary.
	SampleReceived int `yaml:"sample_received"`
	// RefusalsPerMinute bounds the lines about refusals on one service for one reason; 0 is no bound.
	RefusalsPerMinute int `yaml:"refusals_per_minute"`
}

// Shutdown bounds its steps.
type Shutdown struct {
	// LameDuck is how long requests are still taken after readiness has gone off, so that a load balancer notices.
	LameDuck time.Duration `yaml:"lame_duck"`
	// Drain bounds the requests under way, Grace the deliveries.
	Drain time.Duration `yaml:"drain"`
	Grace time.Duration `yaml:"grace"`
}

// Default is a configuration with all defaults that do not depend on other keys.
func Default() *Config {
	const day = 24 * time.Hour
	return &Config{
		Admin:            Admin{Listen: "127.0.0.1:9400"},
		Ack:              receiver.AckEnvelope,
		ValidationEngine: receiver.Fast,
		Limits:           Limits{Message: 8 << 20, InFlight: 256 << 20, Connections: 1024, AckBudget: 3 * time.Second},
		Inbox:            Inbox{Retention: Retention{Age: 30 * day, Size: 10 << 30}, KeyAge: 35 * day, RepeatWindow: 15 * time.Minute, Disk: Disk{WarnFree: 2 << 30, ShedFree: 512 << 20}},
		Heartbeat:        Heartbeat{Interval: time.Minute},
		Log:              Log{Level: "info", Format: "json", SampleReceived: 1, RefusalsPerMinute: 60},
		Shutdown:         Shutdown{Drain: 10 * time.Second, Grace: 20 * time.Second},
		Platform:         Platform{URL: registration.DefaultURL, SOAPAction: registration.DefaultSOAPAction, Timeout: registration.DefaultTimeout},
	}
}

// SystemFile is where the configuration is looked for when nothing else is said.
const SystemFile = "/etc/callbackd/callbackd.yaml"

// Path is the file to read: the one that was asked for, that of $CALLBACKD_CONFIG, or the system's.
func Path(asked string) string {
	if asked != "" {
		return asked
	}
	if path := os.Getenv("CALLBACKD_CONFIG"); path != "" {
		return path
	}
	return SystemFile
}

// mostText bounds the size of the file.
const mostText = 1 << 20

// Load reads the file. The problems hold warnings too; err is set if one of them is worse than that, and is then a [*Invalid]
// unless the file could not be read.
func Load(path string, types []handler.Type) (*Config, Problems, error) {
	text, err := readBounded(path, mostText)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: name the configuration with --config or $CALLBACKD_CONFIG; `callbackd demo` runs without one", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	c, problems := parse(path, filepath.Dir(abs), text, types, othersRead(path))
	c.sources.note(abs, text)
	switch invalid := (&Invalid{Problems: problems, Sources: c.sources, DataDir: c.DataDir}); problems.Worst() {
	case Unread:
		invalid.Readable = c
		return nil, problems, invalid
	case Fatal:
		return nil, problems, invalid
	}
	return c, problems, nil
}

// read reads a file that is a source of the configuration.
func (d *decoder) read(path string) ([]byte, error) {
	text, err := readBounded(path, mostText)
	d.sources.note(path, text)
	return text, err
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %s: is it the right file?", path, Bytes(most))
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// othersRead reports whether everybody on this machine can read the file.
func othersRead(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0
}

// Parse reads the text of a configuration whose relative paths are relative to dir.
func Parse(name, dir string, text []byte, types []handler.Type) (*Config, Problems) {
	return parse(name, dir, text, types, false)
}

func parse(name, dir string, text []byte, types []handler.Type, public bool) (*Config, Problems) {
	c := Default()
	d := &decoder{file: name, types: types, sources: make(Sources), expanded: make(map[string]string)}
	if d.document(text, c) {
		c.complete(d, dir)
		c.validate(d)
		for i := range c.Credentials {
			path := fmt.Sprintf("credentials[%d].password", i)
			if public && c.Credentials[i].PasswordFile == "" && !c.Credentials[i].Password.IsZero() && d.expanded[path] == "" {
				d.at(path, Warning, "everybody on this machine can read this file: chmod 600, or use password_file")
			}
		}
	}
	for i := range d.problems {
		d.problems[i].Msg = d.conceal(d.problems[i])
	}
	d.problems.sort()
	c.file, c.places, c.sources, c.expanded = d.file, d.places, d.sources, d.expanded
	return c, d.problems
}

// Place is where the configuration speaks of a path such as "services.DeviceUsage.listen", as FILE:LINE.
func (c *Config) Place(path string) string {
	d := decoder{places: c.places}
	return fmt.Sprintf("%s:%d", c.file, d.placeOfPath(path).line)
}

// complete sets the defaults that depend on other keys, makes paths absolute and reads the secrets.
func (c *Config) complete(d *decoder, dir string) {
	resolve := func(at string, path *string) {
		if strings.HasPrefix(*path, "~") {
			d.at(at, Fatal, "%q: ~ is the shell's, and nothing else knows whose home it is: write the path out", clip(*path))
			d.spoil(at)
		}
		*path = absolute(at, *path, dir)
	}
	resolve("data_dir", &c.DataDir)
	resolve("admin.token_file", &c.Admin.TokenFile)
	resolve("admin.web_config_file", &c.Admin.WebConfigFile)
	c.Admin.readToken(d)
	c.Admin.readWebConfig(d)
	for name, s := range c.Services {
		s.complete(name)
		if s.TLS != nil {
			path := "services." + name + ".tls"
			resolve(path+".cert_file", &s.TLS.CertFile)
			resolve(path+".key_file", &s.TLS.KeyFile)
			resolve(path+".client_ca_file", &s.TLS.ClientCAFile)
			s.TLS.read(d, path)
		}
	}
	for name, h := range c.Handlers {
		if files, ok := h.Config.(interface{ Paths() map[string]*string }); ok {
			for key, path := range files.Paths() {
				resolve("handlers."+name+"."+key, path)
			}
		}
	}
	for i := range c.Credentials {
		path := fmt.Sprintf("credentials[%d].password_file", i)
		resolve(path, &c.Credentials[i].PasswordFile)
		c.Credentials[i].readPassword(d, path)
	}
	for i := range c.Accounts {
		path := fmt.Sprintf("accounts[%d]", i)
		resolve(path+".uws_password_file", &c.Accounts[i].PasswordFile)
		c.Accounts[i].readPassword(d, path)
	}
	if n := &c.Network; n.Mode == "" && n.Proxy == auth.Direct && c.AllOnLoopback() {
		n.Mode, n.Allow = auth.Enforce, append(n.Allow, "loopback")
	}
	if c.Network.ProxyTimeout == 0 {
		c.Network.ProxyTimeout = auth.DefaultProxyTimeout
	}
}

func (s *Service) complete(name string) {
	if s.Listen == "" {
		info, _ := callback.Lookup(name) // an unknown one is reported later
		s.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(info.Port)).String()
	}
	if host, port, err := splitAddress(s.Listen); err == nil {
		s.Listen = net.JoinHostPort(host, strconv.Itoa(port)) // one spelling, for services that share it
	}
	if s.Path == "" {
		s.Path = "/"
	}
	if s.Validation == "" {
		s.Validation = receiver.Quarantine
	}
}

// HandlerNames lists the handlers by name.
func (c *Config) HandlerNames() []string { return sortedKeys(c.Handlers) }

// HandlersFor lists the handlers that a callback goes to, each once, in the order of the routes.
func (c *Config) HandlersFor(service callback.Service, kind callback.Kind) []string {
	var names []string
	for _, r := range c.Routes {
		if r.Matches(service, kind) {
			for _, name := range r.Handlers {
				if !contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// TestHandlers lists the handlers among those of HandlersFor that take tests, or all that do if none of them does.
func (c *Config) TestHandlers(service callback.Service, kind callback.Kind) []string {
	var routed, all []string
	for _, name := range sortedKeys(c.Handlers) {
		if c.Handlers[name].kind.TakesTests {
			all = append(all, name)
			if contains(c.HandlersFor(service, kind), name) {
				routed = append(routed, name)
			}
		}
	}
	if len(routed) > 0 {
		return routed
	}
	return all
}

// Matches reports whether the route takes the callback.
func (r Route) Matches(service callback.Service, kind callback.Kind) bool {
	return (len(r.Services) == 0 || contains(r.Services, service)) && (len(r.Kinds) == 0 || contains(r.Kinds, kind))
}
