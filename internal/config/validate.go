package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/receiver"

	"go.uber.org/zap/zapcore"
)

func (c *Config) validate(d *decoder) {
	if c.DataDir == "" {
		d.at("data_dir", Fatal, "missing: the folder that holds the inbox, on a local disk")
	}
	if _, _, err := splitAddress(c.Admin.Listen); err != nil {
		d.at("admin.listen", Fatal, "%s", err)
	}
	oneOf(d, "ack", c.Ack, receiver.AckEnvelope, receiver.AckEmpty)
	oneOf(d, "log.format", c.Log.Format, "json", "console")
	if _, err := zapcore.ParseLevel(c.Log.Level); err != nil {
		d.at("log.level", Fatal, "%q is none of debug, info, warn, error", c.Log.Level)
	}
	c.validateLimits(d)
	c.validateServices(d)
	c.validateGates(d)
	c.validateHandlers(d)
	c.validateRoutes(d)
}

func oneOf[T ~string](d *decoder, path string, value T, known ...T) {
	if slices.Contains(known, value) {
		return
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	d.at(path, Fatal, "%q is none of %s", value, strings.Join(words, ", "))
}

func (c *Config) validateLimits(d *decoder) {
	const smallestMessage = 64 << 10
	if c.Limits.Message < smallestMessage {
		d.at("limits.message", Fatal, "%s is less than 64KiB: real callbacks would be refused", c.Limits.Message)
	}
	if c.Limits.InFlight < 4*c.Limits.Message {
		d.at("limits.in_flight", Fatal, "%s is less than four times limits.message: a few large callbacks would keep all others out", c.Limits.InFlight)
	}
	if c.Limits.Connections < 1 {
		d.at("limits.connections", Fatal, "must be at least 1")
	}
	if c.Limits.AckBudget <= 0 {
		d.at("limits.ack_budget", Fatal, "must be more than nothing; 3s is the default")
	}
	const platformTimeout = 4e9
	if c.Limits.AckBudget >= platformTimeout {
		d.at("limits.ack_budget", Warning, "the platform gives up after about 4 s: a callback acknowledged later than that is sent again")
	}
	if c.Inbox.KeyAge < c.Inbox.Retention.Age {
		d.at("inbox.key_age", Warning, "is less than inbox.retention.age; keys are kept as long as their entries anyhow")
	}
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", address)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	return host, port, nil
}

func (c *Config) validateServices(d *decoder) {
	if len(c.Services) == 0 {
		d.at("services", Fatal, "missing: name the callback services to receive, such as `DeviceUsage: {}`; known: %s", strings.Join(serviceNames(), ", "))
	}
	taken := make(map[string]string) // "address path" to the service there
	first := make(map[string]string) // address to the first service there
	for _, name := range sortedKeys(c.Services) {
		s, path := c.Services[name], "services."+name
		if _, ok := callback.Lookup(name); !ok {
			d.unknownWord(path, "service", name, serviceNames())
			continue
		}
		oneOf(d, path+".validation", s.Validation, receiver.Enforce, receiver.Quarantine, receiver.Observe)
		if !strings.HasPrefix(s.Path, "/") {
			d.at(path+".path", Fatal, "%q does not begin with /", s.Path)
		}
		if other, ok := taken[s.Listen+" "+s.Path]; ok && !strings.HasSuffix(s.Listen, ":0") {
			d.at(path, Fatal, "has the same address and path as %s: give each a port of its own, or a path", other)
		}
		taken[s.Listen+" "+s.Path] = name
		if other, ok := first[s.Listen]; ok && !sameTLS(c.Services[other].TLS, s.TLS) {
			d.at(path+".tls", Fatal, "differs from that of %s, which shares the address", other)
		} else if !ok {
			first[s.Listen] = name
		}
		c.validateTLS(d, path, s)
		c.validateURL(d, path, name, s)
	}
}

// unknownWord notes a word that is none of the known, with a suggestion.
func (d *decoder) unknownWord(path, what, word string, known []string) {
	if s := suggestion(word, known); s != "" {
		d.at(path, Fatal, "unknown %s %q; did you mean %q?", what, word, s)
		return
	}
	d.at(path, Fatal, "unknown %s %q; known: %s", what, word, strings.Join(known, ", "))
}

func serviceNames() []string {
	var names []string
	for _, info := range callback.Catalogue() {
		names = append(names, string(info.Service))
	}
	return names
}

func sameTLS(a, b *TLS) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func (c *Config) validateTLS(d *decoder, path string, s *Service) {
	if s.TLS == nil {
		return
	}
	for _, f := range []struct{ key, file string }{{"cert_file", s.TLS.CertFile}, {"key_file", s.TLS.KeyFile}} {
		if f.file == "" {
			d.at(path+".tls."+f.key, Fatal, "missing")
			continue
		}
		if _, err := os.Stat(f.file); err != nil {
			d.at(path+".tls."+f.key, Fatal, "%s", err)
		}
	}
}

// validateURL checks that the platform would register the service's URL.
func (c *Config) validateURL(d *decoder, path, name string, s *Service) {
	_, port, err := splitAddress(s.Listen)
	if err != nil {
		d.at(path+".listen", Fatal, "%s", err)
		return
	}
	if s.PublicURL == "" {
		if !callback.RegistrablePort(port) {
			d.at(path+".listen", Unregistrable, "the platform registers no URL with port %d: take 80, 443, 9001-9006, 28200-28220 or 50551-50559, "+
				"or set public_url if something in front maps the port", port)
		}
		return
	}
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		d.at(path+".public_url", Fatal, "is not a URL such as https://callbacks.example.com:28204/")
		return
	}
	public := map[string]int{"http": 80, "https": 443}[u.Scheme]
	if u.Port() != "" {
		public, _ = strconv.Atoi(u.Port()) // url.Parse has checked that it is a number
	}
	if !callback.RegistrablePort(public) {
		d.at(path+".public_url", Unregistrable, "the platform registers no URL with port %d: take 80, 443, 9001-9006, 28200-28220 or 50551-50559", public)
	}
}

// AllOnLoopback reports whether no listener can be reached from another machine.
func (c *Config) AllOnLoopback() bool {
	for _, s := range c.Services {
		host, _, err := splitAddress(s.Listen)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

func (c *Config) validateGates(d *decoder) {
	for _, p := range c.Network.Validate(c.AllOnLoopback()) {
		d.at(join("network", p.Path), Fatal, "%s", p.Message)
	}
	gate, err := auth.NewCredentialGate(c.AuthCredentials(), c.AllowAnonymous, nil)
	for _, e := range unjoin(err) {
		var p auth.Problem
		if errors.As(e, &p) {
			d.at(join("credentials", p.Path), Fatal, "%s", p.Message)
		} else {
			d.at("credentials", Fatal, "%s", e)
		}
	}
	if gate == nil {
		return
	}
	for _, p := range gate.Warnings() {
		d.at(join("credentials", p.Path), Warning, "%s", p.Message)
	}
	for _, name := range sortedKeys(c.Services) {
		if !gate.Covers(callback.Service(name)) {
			d.at("services."+name, Fatal, "no credentials are valid for it, so every callback would be refused")
		}
	}
}

func join(section, path string) string {
	if path == "" || strings.HasPrefix(path, "[") {
		return section + path
	}
	return section + "." + path
}

func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// AuthCredentials are the credentials as the gate takes them.
func (c *Config) AuthCredentials() []auth.Credential {
	list := make([]auth.Credential, len(c.Credentials))
	for i, cred := range c.Credentials {
		list[i] = auth.Credential{Label: cred.Label, ID: cred.ID, Username: cred.Username,
			Password: auth.NewPassword(cred.Password.Reveal()), Services: cred.Services}
	}
	return list
}

// readPassword reads the password from its file.
func (cred *Credential) readPassword(d *decoder, i int) {
	path := fmt.Sprintf("credentials[%d]", i)
	if cred.PasswordFile == "" {
		return
	}
	if !cred.Password.IsZero() {
		d.at(path+".password_file", Fatal, "stands beside password: give one of the two")
		return
	}
	text, err := os.ReadFile(cred.PasswordFile)
	if err != nil {
		d.at(path+".password_file", Fatal, "%s", err)
		return
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		d.at(path+".password_file", Fatal, "%s is empty", cred.PasswordFile)
		return
	}
	if info, err := os.Stat(cred.PasswordFile); err == nil && info.Mode().Perm()&0o004 != 0 {
		d.at(path+".password_file", Warning, "%s can be read by everybody on this machine", cred.PasswordFile)
	}
	cred.Password = Secret{password}
}

func (c *Config) validateHandlers(d *decoder) {
	routed := make(map[string]bool)
	for _, r := range c.Routes {
		for _, name := range r.Handlers {
			routed[name] = true
		}
	}
	for _, name := range sortedKeys(c.Handlers) {
		h, path := c.Handlers[name], "handlers."+name
		if h == nil || h.Config == nil {
			d.at(path, Fatal, "type is missing")
			continue
		}
		if !isHandlerName(name) {
			d.at(path, Fatal, "a handler's name has letters, digits, - and _ alone, and at most 64 of them")
		}
		for _, err := range h.Config.Validate() {
			d.keyed(path, err)
		}
		for _, err := range h.Delivery.Policy().Validate() {
			d.keyed(path+".delivery", err)
		}
		if !routed[name] {
			d.at(path, Warning, "no route leads to it")
		}
	}
}

// keyed notes an error whose text begins with the key that it is about.
func (d *decoder) keyed(path string, err error) {
	key, msg, found := strings.Cut(err.Error(), ": ")
	if !found {
		d.at(path, Fatal, "%s", err)
		return
	}
	d.at(path+"."+key, Fatal, "%s", msg)
}

func isHandlerName(name string) bool {
	for _, r := range name {
		if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

func (c *Config) validateRoutes(d *decoder) {
	kinds := make([]string, 0)
	for _, k := range callback.Kinds() {
		kinds = append(kinds, string(k))
	}
	for i, r := range c.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		if len(r.Handlers) == 0 {
			d.at(path+".handlers", Fatal, "missing: the route leads nowhere")
		}
		for j, s := range r.Services {
			if !contains(serviceNames(), string(s)) {
				d.unknownWord(fmt.Sprintf("%s.services[%d]", path, j), "service", string(s), serviceNames())
			} else if c.Services[string(s)] == nil {
				d.at(fmt.Sprintf("%s.services[%d]", path, j), Warning, "%s is not among the services that are received", s)
			}
		}
		for j, k := range r.Kinds {
			if !contains(kinds, string(k)) {
				d.unknownWord(fmt.Sprintf("%s.kinds[%d]", path, j), "kind", string(k), kinds)
			}
		}
		for j, name := range r.Handlers {
			if c.Handlers[name] == nil {
				d.unknownWord(fmt.Sprintf("%s.handlers[%d]", path, j), "handler", name, sortedKeys(c.Handlers))
			}
		}
	}
	for _, name := range sortedKeys(c.Services) {
		if !c.routed(callback.Service(name)) {
			d.at("services."+name, Warning, "no route leads from it to a handler: its callbacks are stored, and go nowhere")
		}
	}
}

func (c *Config) routed(service callback.Service) bool {
	for _, k := range callback.Kinds() {
		if len(c.HandlersFor(service, k)) > 0 {
			return true
		}
	}
	return false
}
