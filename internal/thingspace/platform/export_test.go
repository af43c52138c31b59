package platform

import (
	"context"
	"net"
	"net/http"
	"time"

	"callbackd/internal/callback"
)

// Register registers a listener without a log-in.
func (s *Simulator) Register(account string, service callback.Service, url string, c Credentials) error {
	return s.registry.register(Registration{Account: account, Service: service, URL: url, Credentials: c}, s.options.Now())
}

// Unregister takes it back.
func (s *Simulator) Unregister(account string, service callback.Service) error {
	return s.registry.unregister(account, service, s.options.Now())
}

// Dial has the sender connect in another way than over TCP.
func (s *Simulator) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	for _, t := range s.sender.transports {
		t.DialContext = dial
	}
}

// Dial has the client connect in another way than over TCP.
func (r *Remote) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	r.http.Transport = &http.Transport{DialContext: dial}
}

// BoundArchive narrows the archive.
func (s *Simulator) BoundArchive(count, bytes int) {
	s.sender.archive.count, s.sender.archive.bytes = count, bytes
}

// BoundPending narrows what may be under way.
func (s *Simulator) BoundPending(messages int) { s.sender.pending.messages = messages }

// BoundLingering narrows how many tries stay open that nobody waits for.
func (s *Simulator) BoundLingering(tries int) { s.sender.lingering = make(chan struct{}, tries) }

// Linger is how long a try stays open that nobody waits for.
const Linger time.Duration = linger
