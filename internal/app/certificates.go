package app

import (
	"crypto/tls"
	"sync/atomic"

	"callbackd/internal/config"
)

// certificates are what the listeners show to their clients, by the name of the first service of each. A reload replaces them, and
// connections go on with those that they began with.
type certificates map[string]*atomic.Pointer[tls.Config]

// serve has a listener show what is in force when a client comes.
func (cs certificates) serve(service string, t *config.TLS) *tls.Config {
	current := new(atomic.Pointer[tls.Config])
	current.Store(t.Config())
	cs[service] = current
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load(), nil },
	}
}

// replace puts those of a configuration in force.
func (cs certificates) replace(c *config.Config) {
	for service, current := range cs {
		current.Store(c.Services[service].TLS.Config())
	}
}
