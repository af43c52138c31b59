package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/handler"
	"callbackd/internal/receiver"

	"go.uber.org/zap/zapcore"
)

func (c *Config) validate(d *decoder) {
	if c.DataDir == "" {
		d.at("data_dir", Fatal, "missing: the folder that holds the inbox, on a local disk")
	} else if info, err := os.Stat(c.DataDir); err == nil && !info.IsDir() {
		d.at("data_dir", Fatal, "%s is not a folder", c.DataDir)
	}
	c.Admin.validate(d)
	oneOf(d, "ack", c.Ack, receiver.AckEnvelope, receiver.AckEmpty)
	oneOf(d, "validation_engine", c.ValidationEngine, receiver.Fast, receiver.Both)
	c.Log.validate(d)
	c.validateLimits(d)
	c.validateServices(d)
	c.validateGates(d)
	c.validateHandlers(d)
	c.validateRoutes(d)
	c.validatePlatform(d)
	c.validateAccounts(d)
}

func (l Log) validate(d *decoder) {
	oneOf(d, "log.format", l.Format, "json", "console")
	if _, err := zapcore.ParseLevel(l.Level); err != nil {
		d.at("log.level", Fatal, "%q is none of debug, info, warn, error", clip(l.Level))
	}
	if l.SampleReceived < 1 {
		d.at("log.sample_received", Fatal, "%d: write of how many acks one is told, 1 for each", l.SampleReceived)
	}
	if l.RefusalsPerMinute < 0 {
		d.at("log.refusals_per_minute", Fatal, "%d: write how many lines a minute one reason may have, 0 for no bound", l.RefusalsPerMinute)
	}
}

func oneOf[T ~string](d *decoder, path string, value T, known ...T) {
	if slices.Contains(known, value) {
		return
	}
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	d.at(path, Fatal, "%q is none of %s", clip(string(value)), strings.Join(words, ", "))
}

func (c *Config) validateLimits(d *decoder) {
	const (
		smallestMessage = 64 << 10
		largestMessage  = 1 << 30
		platformTimeout = 4 * time.Second
	)
	switch {
	case c.Limits.Message < smallestMessage:
		d.at("limits.message", Fatal, "%s is less than 64KiB: real callbacks would be refused", c.Limits.Message)
	case c.Limits.Message > largestMessage:
		d.at("limits.message", Fatal, "%s is more than 1GiB: 8MiB, the default, holds a message of 2,000 devices", c.Limits.Message)
	case c.Limits.InFlight < 4*c.Limits.Message:
		d.at("limits.in_flight", Fatal, "%s is less than four times limits.message: a few large callbacks would keep all others out", c.Limits.InFlight)
	}
	c.validateAmounts(d)
	c.Inbox.Disk.validate(d)
	c.Heartbeat.validate(d)
	if c.Limits.AckBudget >= platformTimeout {
		d.at("limits.ack_budget", Warning, "the platform gives up after about 4 s: a callback acknowledged later than that is sent again")
	}
	if c.Inbox.KeyAge < c.Inbox.Retention.Age {
		d.at("inbox.key_age", Warning, "is less than inbox.retention.age; keys are kept as long as their entries anyhow")
	}
}

// validateAmounts refuses nothing at all where nothing would mean that the default is taken after all, or that no callback is.
func (c *Config) validateAmounts(d *decoder) {
	for _, a := range []struct {
		path     string
		positive bool
		least    string
	}{
		{"limits.connections", c.Limits.Connections > 0, "write how many one listener takes; 1024 is the default"},
		{"limits.ack_budget", c.Limits.AckBudget > 0, "write how long an ack may take; 3s is the default"},
		{"inbox.retention.age", c.Inbox.Retention.Age > 0, "write how long entries are kept, at most 36500d; 30d is the default"},
		{"inbox.retention.size", c.Inbox.Retention.Size > 0, "write how much is kept; 10GiB is the default"},
		{"inbox.key_age", c.Inbox.KeyAge > 0, "write how long duplicates are known; 35d is the default"},
		{"inbox.repeat_window", c.Inbox.RepeatWindow > 0, "write within what time a repeat is flagged, 1s for next to never; 15m is the default"},
		{"shutdown.drain", c.Shutdown.Drain > 0, "write how long requests under way may take; 10s is the default"},
		{"shutdown.grace", c.Shutdown.Grace > 0, "write how long deliveries under way may take; 20s is the default"},
	} {
		if !a.positive {
			d.at(a.path, Fatal, "must be more than nothing: %s", a.least)
		}
	}
}

func (c *Config) validateHandlers(d *decoder) {
	routed := make(map[string]bool)
	for _, r := range c.Routes {
		for _, name := range r.Handlers {
			routed[name] = true
		}
	}
	owners := make(map[[3]string]string) // of what no two handlers can share
	for _, name := range sortedKeys(c.Handlers) {
		h, path := c.Handlers[name], "handlers."+name
		if h == nil || h.Config == nil {
			d.at(path, Fatal, "type is missing: write {type: log}, or another type with its keys")
			continue
		}
		if !isHandlerName(name) {
			d.at(path, Fatal, "a handler's name has letters, digits, - and _ alone, and at most 64 of them")
		}
		if name == HeartbeatHandler {
			d.at(path, Fatal, "is where callbackd's own heartbeats end: choose another name")
		}
		for _, err := range h.Config.Validate() {
			d.keyed(path, err)
		}
		if unwise, ok := h.Config.(handler.Warner); ok {
			for _, err := range unwise.Warnings() {
				d.keyedAs(Warning, path, err)
			}
		}
		if sole, ok := h.Config.(handler.Sole); ok {
			key, value := sole.Sole()
			what := [3]string{h.Type, key, value}
			if owner := owners[what]; owner != "" {
				d.at(path+"."+key, Fatal, "%s belongs to the handler %s: no two can share it", clip(value), owner)
			}
			if value != "" {
				owners[what] = name
			}
		}
		h.Delivery.validate(d, path+".delivery")
		if !routed[name] {
			d.at(path, Warning, "no route leads to it")
		}
	}
}

func (delivery Delivery) validate(d *decoder, path string) {
	const most = 1024
	before := len(d.problems)
	for _, a := range []struct {
		key  string
		good bool
		rule string
	}{
		{".concurrency", delivery.Concurrency >= 1 && delivery.Concurrency <= most, fmt.Sprintf("must be 1 to %d", most)},
		{".timeout", delivery.Timeout > 0, "must be more than nothing; 30s is the default"},
		{".max_attempts", delivery.MaxAttempts >= 1, "must be at least 1; 500 is the default"},
		{".backoff.min", delivery.Backoff.Min > 0, "must be more than nothing; 1s is the default"},
		{".backoff.max", delivery.Backoff.Max > 0, "must be more than nothing; 10m is the default"},
		{".breaker.failures", delivery.Breaker.Failures >= 0, "must not be negative; 0 is never, 10 is the default"},
		{".breaker.open.min", delivery.Breaker.Open.Min > 0, "must be more than nothing; 1s is the default"},
		{".breaker.open.max", delivery.Breaker.Open.Max > 0, "must be more than nothing; 1m is the default"},
		{".order_by", contains([]OrderBy{OrderByNone, OrderByDevice}, delivery.OrderBy), "must be none or device"},
		{".head_of_line", contains([]HeadOfLine{HeadOfLineBlock, HeadOfLineBury}, delivery.HeadOfLine), "must be block or bury"},
	} {
		if !a.good {
			d.at(path+a.key, Fatal, "%s", a.rule)
		}
	}
	if len(d.problems) > before {
		return // nothing would be taken for the default
	}
	for _, err := range delivery.Policy().Validate() {
		d.keyed(path, err)
	}
}

// keyed notes an error whose text begins with the key that it is about.
func (d *decoder) keyed(path string, err error) { d.keyedAs(Fatal, path, err) }

func (d *decoder) keyedAs(s Severity, path string, err error) {
	key, msg, found := strings.Cut(err.Error(), ": ")
	if !found {
		d.at(path, s, "%s", err)
		return
	}
	d.at(path+"."+key, s, "%s", msg)
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
		if r.Services != nil && len(r.Services) == 0 {
			d.at(path+".services", Fatal, "is an empty list: leave it out to mean all services")
		}
		if r.Kinds != nil && len(r.Kinds) == 0 {
			d.at(path+".kinds", Fatal, "is an empty list: leave it out to mean all kinds")
		}
		for j, s := range r.Services {
			if !contains(serviceNames(), string(s)) {
				d.at(fmt.Sprintf("%s.services[%d]", path, j), Fatal, "%s", unknownWord("service", string(s), serviceNames()))
			} else if c.Services[string(s)] == nil {
				d.at(fmt.Sprintf("%s.services[%d]", path, j), Warning, "%s is not among the services that are received", s)
			}
		}
		for j, k := range r.Kinds {
			if !contains(kinds, string(k)) {
				d.at(fmt.Sprintf("%s.kinds[%d]", path, j), Fatal, "%s", unknownWord("kind", string(k), kinds))
			}
		}
		for j, name := range r.Handlers {
			if c.Handlers[name] == nil {
				d.at(fmt.Sprintf("%s.handlers[%d]", path, j), Fatal, "%s", unknownWord("handler", name, sortedKeys(c.Handlers)))
			}
		}
	}
	for _, name := range sortedKeys(c.Services) {
		if !c.routed(callback.Service(name)) {
			d.at("services."+name, Warning, "no route leads from it to a handler: its callbacks are stored and acknowledged, and go nowhere")
		}
	}
}

// routed reports whether what the service is for goes to a handler.
func (c *Config) routed(service callback.Service) bool {
	info, ok := callback.Lookup(string(service))
	if !ok {
		return true // it has a worse problem
	}
	kinds := info.Payloads
	if len(kinds) == 0 {
		kinds = callback.Kinds() // nobody knows which it will bring
	}
	return slices.ContainsFunc(kinds, func(k callback.Kind) bool { return len(c.HandlersFor(service, k)) > 0 })
}
