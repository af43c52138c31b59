package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"callbackd/internal/callback"
)

const (
	mostForwarded = 32   // entries of X-Forwarded-For that are looked at
	mostEntry     = 96   // bytes of one entry
	mostSeen      = 1024 // addresses remembered, so that each is logged once
)

// NetworkGate tells where a request comes from, and whether that address may call.
type NetworkGate struct {
	network
	metrics *Metrics
	log     *zap.Logger

	// Each remembers on its own, so that filling one silences no other.
	unknown, untold, unheeded, refused memory
}

// NewNetworkGate builds the gate, or reports every [Problem] at once, joined. metrics may be nil.
func NewNetworkGate(c Config, allListenersOnLoopback bool, metrics *Metrics, log *zap.Logger) (*NetworkGate, error) {
	n, problems := c.read(allListenersOnLoopback)
	if len(problems) > 0 {
		return nil, join(problems)
	}
	metrics.showMode(n.mode)
	return &NetworkGate{network: n, metrics: metrics, log: log.Named("auth")}, nil
}

// Mode is the mode that applies, after defaults.
func (g *NetworkGate) Mode() Mode { return g.mode }

// Warnings are what the gate was built in spite of.
func (g *NetworkGate) Warnings() []Problem { return slices.Clone(g.warnings) }

// Origin is where an admitted or refused request comes from.
type Origin struct {
	// Addr is the client's address. It is the invalid Addr when it could not be told.
	Addr  netip.Addr
	Known bool // Addr is in network.allow
}

// Admit decides on one request, before its body is read: an error, which wraps [ErrNetwork], refuses it. remoteAddr and
// xForwardedFor are RemoteAddr and Header["X-Forwarded-For"] of the request.
//
// An unknown address, and one that could not be told, are counted. In observe they pass and are logged, once for each address;
// in enforce the error tells, and the caller logs.
func (g *NetworkGate) Admit(service callback.Service, remoteAddr string, xForwardedFor []string) (Origin, error) {
	peer, err := readHost(remoteAddr)
	if err != nil {
		err = fmt.Errorf("%w: read remote address: %w", ErrNetwork, err)
	}
	var origin Origin
	if err == nil {
		g.warnUnheeded(peer, xForwardedFor)
		origin.Addr, err = g.source(peer, xForwardedFor)
	}
	if err == nil && contains(g.allow, origin.Addr) {
		origin.Known = true
		return origin, nil
	}
	g.metrics.countUnknown(service, g.mode)
	if g.mode != Observe {
		if err == nil {
			err = fmt.Errorf("%w: %s", ErrNetwork, origin.Addr)
		}
		return origin, err
	}
	g.observe(service, peer, origin.Addr, err)
	return origin, nil
}

// Source is the client's address: that of the direct peer, unless the peer is a trusted proxy and writes X-Forwarded-For. Then
// it is the entry of that header, read from the right, at which the trusted proxies end. If they do not end it is the leftmost
// entry, and if there is none the peer.
//
// Everything to the left of the first untrusted entry is the client's own claim and is not looked at. An entry that cannot be
// read ends the walk with an error that wraps [ErrNetwork], since whoever stands to its left cannot be believed.
func (g *NetworkGate) Source(remoteAddr string, xForwardedFor []string) (netip.Addr, error) {
	peer, err := readHost(remoteAddr)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: read remote address: %w", ErrNetwork, err)
	}
	return g.source(peer, xForwardedFor)
}

func (g *NetworkGate) source(peer netip.Addr, xForwardedFor []string) (netip.Addr, error) {
	if !g.heeds(peer) {
		return peer, nil
	}
	source, looked := peer, 0
	for _, line := range slices.Backward(xForwardedFor) {
		for more := true; more; {
			if looked++; looked > mostForwarded {
				return netip.Addr{}, fmt.Errorf("%w: more than %d entries in X-Forwarded-For", ErrNetwork, mostForwarded)
			}
			var entry string
			entry, line, more = lastEntry(line)
			addr, err := readHost(entry)
			if err != nil {
				return netip.Addr{}, fmt.Errorf("%w: read entry %d from the right of X-Forwarded-For: %w", ErrNetwork, looked, err)
			}
			if source = addr; !contains(g.trusted, addr) {
				return source, nil
			}
		}
	}
	return source, nil
}

// heeds reports whether the peer is believed in what it writes into X-Forwarded-For.
func (g *NetworkGate) heeds(peer netip.Addr) bool {
	return g.proxy == XForwardedFor && contains(g.trusted, peer)
}

// lastEntry parts the entry after the last comma from the rest. more is false when there is no rest.
func lastEntry(line string) (entry, rest string, more bool) {
	i := strings.LastIndexByte(line, ',')
	if i < 0 {
		return strings.Trim(line, " \t"), "", false
	}
	return strings.Trim(line[i+1:], " \t"), line[:i], true
}

// readHost reads "192.0.2.7", "192.0.2.7:80", "2001:db8::7", "[2001:db8::7]" and "[2001:db8::7]:80", unmaps IPv4 and drops the
// zone.
func readHost(text string) (netip.Addr, error) {
	if len(text) > mostEntry {
		return netip.Addr{}, fmt.Errorf("%q... is no address", text[:mostEntry])
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return plain(addr), nil
	}
	if addrPort, err := netip.ParseAddrPort(text); err == nil {
		return plain(addrPort.Addr()), nil
	}
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		if addr, err := netip.ParseAddr(text[1 : len(text)-1]); err == nil && addr.Is6() {
			return plain(addr), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%q is no address", text)
}

func plain(addr netip.Addr) netip.Addr { return addr.WithZone("").Unmap() }

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// observe logs what enforce would refuse.
func (g *NetworkGate) observe(service callback.Service, peer, source netip.Addr, err error) {
	if err != nil {
		g.logOnce(&g.untold, peer, "source address cannot be told",
			zap.Stringer("peer", peer), zap.String("service", string(service)), zap.Error(err),
			zap.String("hint", "see what the proxy writes into X-Forwarded-For: mode enforce will refuse this"))
		return
	}
	g.logOnce(&g.unknown, source, "unknown source address",
		zap.Stringer("source", source), zap.Stringer("peer", peer), zap.String("service", string(service)),
		zap.String("hint", "if this is the platform, add it to network.allow; mode enforce will refuse it otherwise"))
}

// warnUnheeded logs a header of a peer that is not believed. Where the peer is a proxy after all, the gate judges the proxy's
// address in place of everyone's behind it: a gate that stands open, or one that refuses everything.
func (g *NetworkGate) warnUnheeded(peer netip.Addr, xForwardedFor []string) {
	if len(xForwardedFor) == 0 || g.proxy == ProxyProtocol || g.heeds(peer) {
		return
	}
	g.logOnce(&g.unheeded, peer, "X-Forwarded-For not heeded",
		zap.Stringer("peer", peer),
		zap.String("hint", "if this peer is your proxy, write network.proxy: x-forwarded-for and add it to network.trusted_proxies"))
}

// logOnce logs at the first sight of addr, and once more when no further addresses are remembered.
func (g *NetworkGate) logOnce(m *memory, addr netip.Addr, message string, fields ...zap.Field) {
	switch fresh, full := m.note(addr); {
	case fresh:
		g.log.Warn(message, fields...)
	case full:
		g.log.Warn("too many addresses to remember: further ones are not logged", zap.String("about", message),
			zap.Int("remembered", mostSeen), zap.String("hint", "the metrics go on counting"))
	}
}

// memory holds the addresses that were seen, mostSeen of them.
type memory struct {
	mu   sync.Mutex
	seen map[netip.Addr]struct{}
	full bool
}

// note remembers addr. fresh says that it was not seen before; full says, once, that it was not and cannot be remembered.
func (m *memory) note(addr netip.Addr) (fresh, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.seen[addr]; ok {
		return false, false
	}
	if len(m.seen) == mostSeen {
		full, m.full = !m.full, true
		return false, full
	}
	if m.seen == nil {
		m.seen = map[netip.Addr]struct{}{}
	}
	m.seen[addr] = struct{}{}
	return true, false
}
