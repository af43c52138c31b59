package platform

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/callback"

	"go.uber.org/zap"
)

// sender sends messages to the listeners that are registered, by the rules of a profile.
type sender struct {
	profile Profile // its pauses are as they are by the simulator's clock
	lookup  func(account string, service callback.Service) (Registration, bool)
	now     func() time.Time
	log     *zap.Logger
	seed    uint64
	orders  atomic.Uint64
	archive *archive
	sms     *smsQueue
	pending *room
	// open are the tries that are on their way, those included that nobody waits for any more.
	open sync.WaitGroup
	// lingering has room for those that nobody waits for; it is nil if the profile breaks them off.
	lingering chan struct{}
	// transports are the source addresses: the first is the system's choice.
	transports []*http.Transport
}

// newSender makes the sender of a simulator whose options are complete.
func newSender(o Options, registered *registry, sms *smsQueue) *sender {
	p := o.Profile
	faster := func(d *time.Duration) { *d = time.Duration(float64(*d) / o.Clock) }
	faster(&p.Pause)
	faster(&p.PauseSpread)
	faster(&p.Archive)
	s := &sender{profile: p, now: o.Now, log: o.Log.Named("sender"), seed: o.Seed, sms: sms,
		archive: &archive{keep: p.Archive, count: archiveCount, bytes: archiveBytes},
		pending: &room{messages: pendingMessages, bytes: pendingBytes}}
	if p.Overlap {
		s.lingering = make(chan struct{}, mostLingering)
	}
	s.lookup = func(account string, service callback.Service) (Registration, bool) {
		return registered.lookup(account, service, o.Now())
	}
	// Systems that have the whole block 127.0.0.0/8 on loopback, as Linux has, let a test see repeats from other addresses.
	for _, source := range []string{"", "127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		s.transports = append(s.transports, newTransport(net.ParseIP(source), o.RootCAs, p.MaxTLS))
	}
	return s
}

// newTransport makes the connections of one source address, as a .NET client does: HTTP/1.1, kept, and through no proxy.
func newTransport(source net.IP, roots *x509.CertPool, maxTLS uint16) *http.Transport {
	plain := &net.Dialer{}
	dial := plain.DialContext
	if source != nil {
		bound := &net.Dialer{LocalAddr: &net.TCPAddr{IP: source}}
		dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, err := net.SplitHostPort(address); err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback()) {
				if c, err := bound.DialContext(ctx, network, address); err == nil {
					return c, nil
				}
			}
			return plain.DialContext(ctx, network, address)
		}
	}
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, MaxVersion: maxTLS},
		MaxIdleConnsPerHost:    mostConnections,
		IdleConnTimeout:        100 * time.Second,
		ExpectContinueTimeout:  350 * time.Millisecond,
		MaxResponseHeaderBytes: longestAnswer,
	}
}

// close waits for what is on its way, whose context has ended, and lets go of the connections.
func (s *sender) close() {
	s.open.Wait()
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
}

// flight begins a sending. What it sends ends with run.
func (s *sender) flight(run context.Context, account string, connections int) *flight {
	return &flight{sender: s, account: account, run: run, busy: make(chan struct{}, connections)}
}

// sendOne sends one message by the rules. An error says that it was not acknowledged; it is kept nowhere then: that is up to the caller.
func (s *sender) sendOne(run context.Context, account string, m Message) error {
	f := s.flight(run, account, 1)
	if d := f.deliver(run, m, s.rng(s.orders.Add(1), 0)); d.end != acked {
		return errors.New(cmp.Or(d.failure, "the sending was stopped"))
	}
	return nil
}

// rng decides what is random about one message.
func (s *sender) rng(seed, message uint64) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed^seed, message))
}

// keep puts a message that was not acknowledged where the platform does: into the archive, or, a text from a device, into the queue that
// StartSmsCallback empties.
func (s *sender) keep(account string, m Message, d delivery) (queued bool) {
	if m.FromDevice {
		if s.sms.put(account, m.Body, false) {
			s.log.Warn("too many texts of devices wait for StartSmsCallback: the oldest is gone", zap.String("account", account))
		}
		return true
	}
	if dropped := s.archive.add(account, m, d, s.now()); dropped > 0 {
		s.log.Warn("the archive is full: its oldest messages are gone", zap.Int("messages", dropped))
	}
	return false
}

// Archive lists the messages that were never acknowledged, the oldest first.
func (s *Simulator) Archive() []Archived { return s.sender.archive.list(s.options.Now()) }

// Resend sends the archived messages of a RequestId again, with counters that start anew, and returns how many were acknowledged.
// The others are in the archive again; the error says how many.
func (s *Simulator) Resend(ctx context.Context, requestID string) (int, error) {
	return s.resend(ctx, func(a Archived) bool { return a.RequestID == requestID })
}

// ResendAll does as [Simulator.Resend] does, with all that is in the archive.
func (s *Simulator) ResendAll(ctx context.Context) (int, error) {
	return s.resend(ctx, func(Archived) bool { return true })
}

func (s *Simulator) resend(ctx context.Context, match func(Archived) bool) (int, error) {
	var sent, got int
	done := make(chan struct{})
	if err := s.start(ctx, func(run context.Context) {
		defer close(done)
		taken := s.sender.archive.take(s.options.Now(), match)
		sent, got = len(taken), s.sender.resend(ctx, run, taken)
	}); err != nil {
		return 0, err
	}
	<-done
	switch {
	case sent == 0:
		return 0, ErrNotArchived
	case got < sent:
		return got, fmt.Errorf("%d of %d were not acknowledged, and are in the archive again", sent-got, sent)
	}
	return got, nil
}

// resend sends what was taken out of the archive, and puts back what is not acknowledged. It returns how many are.
func (s *sender) resend(ctx, run context.Context, taken []archived) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(run, cancel)()
	flights := make(map[string]*flight)
	order := s.orders.Add(1)
	var got atomic.Int64
	var sending sync.WaitGroup
	for i, a := range taken {
		f := flights[a.Account]
		if f == nil {
			f = s.flight(run, a.Account, closedConnections)
			flights[a.Account] = f
		}
		sending.Go(func() {
			d := f.deliver(ctx, a.message, s.rng(order, uint64(i)))
			if d.end == acked {
				got.Add(1)
				return
			}
			if d.tries == 0 { // as it was
				d.tries, d.failure = a.Tries, cmp.Or(d.failure, a.Failure)
			}
			s.keep(a.Account, a.message, d)
		})
	}
	sending.Wait()
	return int(got.Load())
}

// room bounds what has been taken on and has not come to its end.
type room struct {
	messages, bytes int

	mu          sync.Mutex
	count, held int
}

const (
	pendingMessages = 50_000
	pendingBytes    = 256 << 20
)

// take reports false if there is no room for a message of that size.
func (r *room) take(size int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == r.messages || r.held+size > r.bytes {
		return false
	}
	r.count++
	r.held += size
	return true
}

func (r *room) give(size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count--
	r.held -= size
}

// errStopping says that the simulator ended before an order did.
var errStopping = errors.New("the simulator stops")
