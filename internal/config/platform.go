package config

import (
	"net/url"
	"regexp"
	"strings"
	"time"
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
	shortestWatch   = time.Minute // each look is two or three requests
	longestTimeout  = 10 * time.Minute
	longestURL      = 2048
	longestAction   = 1024
	operationInside = "{operation}"
)

func (c *Config) validatePlatform(d *decoder) {
	switch u, ok := webURL(c.Platform.URL); {
	case !ok:
		d.at("platform.url", Fatal, "is not a URL such as https://uws.apps.nphase.com/api/v2, with neither user, query nor fragment")
	case u.Scheme == "http" && !ip(u.Hostname()).IsLoopback():
		d.at("platform.url", Fatal, "is plain http, and the log-in would cross the network in clear: write https; http is for a simulator on loopback")
	}
	c.validateAction(d)
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

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// validateAction checks what becomes the text of a header, between quotes.
func (c *Config) validateAction(d *decoder) {
	action := c.Platform.SOAPAction
	if action == "" {
		return
	}
	for _, r := range action {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			d.at("platform.soap_action", Fatal, "has the character %q: a SOAPAction is printable ASCII, without spaces and backslashes; the quotes around it are written by callbackd", r)
			return
		}
	}
	if len(action) > longestAction {
		d.at("platform.soap_action", Fatal, "has %d bytes: at most %d", len(action), longestAction)
		return
	}
	if !strings.Contains(action, operationInside) {
		d.at("platform.soap_action", Fatal, "has no {operation}: the operations could not be told apart")
		return
	}
	rest := placeholder.ReplaceAllStringFunc(action, func(p string) string {
		if p == "{service}" || p == operationInside {
			return ""
		}
		return p
	})
	if strings.ContainsAny(rest, "{}") {
		d.at("platform.soap_action", Fatal, "%q: {service} and {operation} are all that braces can name", clip(action))
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
