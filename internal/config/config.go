// Package config reads the configuration file, strictly, and reports every problem at once with its place.
//
// The promise: what [Load] returns without an error is complete, with all defaults set and all secrets read. An unknown key is
// an error with a suggestion. No secret is ever printed.
//
// Relative paths are relative to the folder of the file.
package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
	"callbackd/internal/receiver"
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
	Limits   Limits              `yaml:"limits"`
	Inbox    Inbox               `yaml:"inbox"`
	Log      Log                 `yaml:"log"`
	Shutdown Shutdown            `yaml:"shutdown"`
}

// Admin is the listener for operators.
type Admin struct {
	Listen string `yaml:"listen"`
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
	// PublicURL is the URL that is registered with the platform, if something in front maps it to Listen.
	PublicURL string `yaml:"public_url,omitempty"`
}

// TLS of a listener.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
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
	Timeout     time.Duration `yaml:"timeout"`
	MaxAttempts int           `yaml:"max_attempts"`
	Backoff     Backoff       `yaml:"backoff"`
}

// Backoff between the attempts of a delivery.
type Backoff struct {
	Min time.Duration `yaml:"min"`
	Max time.Duration `yaml:"max"`
}

// Policy is the delivery policy as the dispatcher takes it.
func (d Delivery) Policy() dispatch.Policy {
	return dispatch.Policy{Concurrency: d.Concurrency, Timeout: d.Timeout, MaxAttempts: d.MaxAttempts,
		Backoff: dispatch.Backoff{Min: d.Backoff.Min, Max: d.Backoff.Max}}
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
		Admin:    Admin{Listen: "127.0.0.1:9400"},
		Ack:      receiver.AckEnvelope,
		Limits:   Limits{Message: 8 << 20, InFlight: 256 << 20, Connections: 1024, AckBudget: 3 * time.Second},
		Inbox:    Inbox{Retention: Retention{Age: 30 * day, Size: 10 << 30}, KeyAge: 35 * day, RepeatWindow: 15 * time.Minute},
		Log:      Log{Level: "info", Format: "json"},
		Shutdown: Shutdown{Drain: 10 * time.Second, Grace: 20 * time.Second},
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

// Load reads the file. The problems hold warnings too; err is set if one of them is worse than that, and is then a [*Invalid]
// unless the file could not be read.
func Load(path string, types []handler.Type) (*Config, Problems, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = errors.Join(err, errors.New("name the configuration with --config or $CALLBACKD_CONFIG; `callbackd demo` runs without one"))
		}
		return nil, nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	c, problems := Parse(path, filepath.Dir(abs), text, types)
	if problems.Worst() >= Fatal {
		return nil, problems, &Invalid{problems}
	}
	return c, problems, nil
}

// Parse reads the text of a configuration whose relative paths are relative to dir.
func Parse(name, dir string, text []byte, types []handler.Type) (*Config, Problems) {
	c := Default()
	d := &decoder{file: name, types: types}
	d.document(text, c)
	if d.problems.Worst() < Fatal {
		c.complete(d, dir)
	}
	if d.problems.Worst() < Fatal {
		c.validate(d)
	}
	d.problems.sort()
	return c, d.problems
}

// complete sets the defaults that depend on other keys, makes paths absolute and reads the secrets.
func (c *Config) complete(d *decoder, dir string) {
	absolute := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	absolute(&c.DataDir)
	for name, s := range c.Services {
		if s == nil {
			s = &Service{}
			c.Services[name] = s
		}
		info, ok := callback.Lookup(name)
		if ok && s.Listen == "" {
			s.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(info.Port)).String()
		}
		if s.Path == "" {
			s.Path = "/"
		}
		if s.Validation == "" {
			s.Validation = receiver.Quarantine
		}
		if s.TLS != nil {
			absolute(&s.TLS.CertFile)
			absolute(&s.TLS.KeyFile)
		}
	}
	for i := range c.Credentials {
		absolute(&c.Credentials[i].PasswordFile)
		c.Credentials[i].readPassword(d, i)
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
