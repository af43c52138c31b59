package config

import (
	"net/url"
	"strings"
	"time"

	"callbackd/internal/thingspace/registration"
)

// Platform is ThingSpace's own SOAP interface, where listeners are registered.
type Platform struct {
	// URL is that of the services, without the name of one.
	URL string `yaml:"url"`
	// SOAPAction is the header of each request, with {service} and {operation} in their places. Empty: the header is.
	SOAPAction string        `yaml:"soap_action"`
	Timeout    time.Duration `yaml:"timeout"` // of one request
}

// OnLoopback reports whether a simulator on this machine stands in for the platform.
func (p Platform) OnLoopback() bool {
	u, ok := webURL(p.URL)
	return ok && ip(u.Hostname()).IsLoopback()
}

// Registrations is what a running callbackd does about what is registered.
type Registrations struct {
	// Watch is how often it looks whether the platform still holds its URLs. 0: never.
	Watch time.Duration `yaml:"watch"`
}

const (
	shortestWatch  = time.Minute // each look is two or three requests
	longestTimeout = 10 * time.Minute
	longestURL     = 2048
)

func (c *Config) validatePlatform(d *decoder) {
	if err := registration.CheckEndpoint(c.Platform.URL); err != nil {
		d.at("platform.url", Fatal, "%s", err)
	}
	if err := registration.CheckSOAPAction(c.Platform.SOAPAction); err != nil {
		d.at("platform.soap_action", Fatal, "%s", err)
	}
	if t := c.Platform.Timeout; t <= 0 || t > longestTimeout {
		d.at("platform.timeout", Fatal, "must be more than nothing, and at most %s; 30s is the default", longestTimeout)
	}
	switch w := c.Registrations.Watch; {
	case w == 0:
	case w < shortestWatch:
		d.at("registrations.watch", Fatal, "%s is too often for the platform: write 1m or more, or 0s for never", w)
	case len(c.Accounts) == 0 && !d.isSpoiled("accounts"):
		d.at("registrations.watch", Warning, "there is nothing to watch: name an account under accounts")
	}
}

// webURL reads an absolute http or https URL of a server and a path, and of nothing else.
func webURL(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	if err != nil || len(text) > longestURL || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#") {
		return nil, false
	}
	return u, true
}
