package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"callbackd/internal/auth"
)

// plan is what every format writes in its own words.
type plan struct {
	file     string
	network  auth.Config
	receiver gate
	front    gate // empty unless something stands in front
}

// gate is one place where connections come in: who may, and to what.
type gate struct {
	sources []source
	targets []target
	// listeners are the services at the targets, by port.
	listeners []Listener
}

// source is what may connect, and which key or set names it. No source contains another.
type source struct {
	prefix netip.Prefix
	label  string
}

// target is ports at one address of the machine, or at all its addresses if the address is not valid.
type target struct {
	addr  netip.Addr
	ports []portRange
}

type portRange struct{ first, last int }

// text writes the range with the separator that the format has.
func (r portRange) text(separator string) string {
	if r.first == r.last {
		return fmt.Sprint(r.first)
	}
	return fmt.Sprintf("%d%s%d", r.first, separator, r.last)
}

// newPlan decides who may connect where. Hosts render the receiver alone; clouds have the front too.
func newPlan(c Config, cloud bool) (*plan, error) {
	p := &plan{file: c.File, network: c.Network}
	allow, err := readSources("network.allow", c.Network.Allow)
	if err != nil {
		return nil, err
	}
	peers := allow
	if p.proxied() {
		if peers, err = readSources("network.trusted_proxies", c.Network.TrustedProxies); err != nil {
			return nil, err
		}
	}
	var own, fronted []Listener
	for _, l := range c.Listeners {
		if l.Port == 0 {
			return nil, fmt.Errorf("services.%s %w", l.Service, ErrNoPort)
		}
		local := isLoopback(l.Host)
		if !local {
			own = append(own, l)
		}
		if cloud && (p.proxied() || l.called() != l.Port || local && l.Public != 0) {
			fronted = append(fronted, l)
		}
	}
	if len(own)+len(fronted) == 0 {
		return nil, ErrNoListener
	}
	if len(fronted) > 0 || !p.proxied() {
		if err := c.checkAllow(allow); err != nil {
			return nil, err
		}
	}
	p.receiver = gate{sources: peers, targets: targets(own), listeners: sorted(own, func(l Listener) int { return l.Port })}
	p.front = gate{sources: allow, targets: publicTargets(fronted), listeners: sorted(fronted, Listener.called)}
	return p, nil
}

func sorted(list []Listener, port func(Listener) int) []Listener {
	slices.SortFunc(list, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(port(a), port(b)), cmp.Compare(a.Service, b.Service))
	})
	return list
}

func (p *plan) proxied() bool { return p.network.Proxy != auth.Direct }

// checkAllow refuses an allow list that is no use to a firewall.
func (c Config) checkAllow(allow []source) error {
	others := slices.ContainsFunc(allow, func(s source) bool { return s.label != published })
	switch {
	case len(allow) == 0:
		return ErrNoSource
	case slices.ContainsFunc(allow, func(s source) bool { return s.prefix.Bits() == 0 }):
		return ErrEveryone
	case !others && !c.AcceptPublished:
		return ErrPublishedOnly
	}
	return nil
}

// published is the set that auth knows from Verizon's pages.
const published = "thingspace"

// readSources reads a list of the configuration. Loopback is left out: no firewall sees another machine come from there. So is what
// another entry contains, which the sets of nftables and the rules of AWS take for a conflict.
func readSources(key string, entries []string) ([]source, error) {
	var read []source
	for i, entry := range entries {
		prefixes, err := auth.ReadEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", key, i, err)
		}
		label := key
		if entry == published {
			label = published
		}
		for _, p := range prefixes {
			if !p.Addr().IsLoopback() {
				read = append(read, source{p, label})
			}
		}
	}
	// In this order a prefix stands right before what it contains. Where two are the same, the customer's own entry stays.
	slices.SortFunc(read, func(a, b source) int {
		return cmp.Or(a.prefix.Compare(b.prefix), cmp.Compare(a.label, b.label))
	})
	var kept []source
	for _, s := range read {
		if n := len(kept); n == 0 || !kept[n-1].prefix.Contains(s.prefix.Addr()) {
			kept = append(kept, s)
		}
	}
	slices.SortStableFunc(kept, func(a, b source) int { return cmp.Compare(a.label, b.label) })
	return kept, nil
}

// family keeps the sources of IPv4, or those of IPv6.
func (g gate) family(is4 bool) []source {
	var list []source
	for _, s := range g.sources {
		if s.prefix.Addr().Is4() == is4 {
			list = append(list, s)
		}
	}
	return list
}

// targets groups ports by the address that they are bound to: the same port of another address may be someone else's.
func targets(listeners []Listener) []target {
	ports := make(map[netip.Addr][]int)
	for _, l := range listeners {
		addr := boundTo(l.Host)
		ports[addr] = append(ports[addr], l.Port)
	}
	var list []target
	for addr, at := range ports {
		list = append(list, target{addr, ranges(at)})
	}
	slices.SortFunc(list, func(a, b target) int { return a.addr.Compare(b.addr) })
	return list
}

func publicTargets(listeners []Listener) []target {
	var ports []int
	for _, l := range listeners {
		ports = append(ports, l.called())
	}
	if len(ports) == 0 {
		return nil
	}
	return []target{{ports: ranges(ports)}}
}

// allPorts are the ports of all targets, for firewalls that know no addresses of a machine.
func (g gate) allPorts() []portRange {
	var ports []int
	for _, d := range g.targets {
		for _, r := range d.ports {
			for port := r.first; port <= r.last; port++ {
				ports = append(ports, port)
			}
		}
	}
	return ranges(ports)
}

// ranges joins neighbouring ports; a range never holds a port that is not in the list.
func ranges(ports []int) []portRange {
	ports = slices.Clone(ports)
	slices.Sort(ports)
	var list []portRange
	for _, port := range slices.Compact(ports) {
		if n := len(list); n > 0 && list[n-1].last+1 == port {
			list[n-1].last = port
			continue
		}
		list = append(list, portRange{port, port})
	}
	return list
}

// boundTo is the one address that a listener is bound to, and the invalid one if it is bound to all, or to a name. 0.0.0.0 is all of
// IPv6 as well, for so Go binds it.
func boundTo(host string) netip.Addr {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr.WithZone("").Unmap()
}

func isLoopback(host string) bool { return host == "localhost" || boundTo(host).IsLoopback() }
