package webhook

import (
	"net"
	"net/netip"
	"time"
)

// WithResolver looks names up elsewhere than the system does.
func (c *Config) WithResolver(r *net.Resolver) { c.resolver = r }

// Allowed is what control asks of each address.
func Allowed(addr netip.Addr) error { return allowed(addr) }

// RetryAfter reads the header.
func RetryAfter(value string, now time.Time) time.Duration { return retryAfter(value, now) }

// Sign signs with secrets in their written form.
func Sign(secrets []string, id string, at time.Time, body []byte) (string, error) {
	keys := make([][]byte, len(secrets))
	for i, text := range secrets {
		var err error
		if keys[i], err = parseSecret(text); err != nil {
			return "", err
		}
	}
	return sign(keys, id, at, body), nil
}
