package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"callbackd/internal/auth"
)

// allowed: who may send.
func (p *patient) allowed(context.Context) []Finding {
	n := p.c.Network
	prefixes := read(n.Allow)
	findings := []Finding{p.mode(n, prefixes)}
	if n.Proxy != auth.Direct {
		findings = append(findings, Finding{Level: OK, Found: fmt.Sprintf("%v are believed whom they stand for, by %s, and nobody else is", n.TrustedProxies, n.Proxy)})
	}
	if loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1}); n.Mode == auth.Enforce && !holds(prefixes, loopback) {
		findings = append(findings, Finding{Level: OK, Found: "this machine is refused itself, `callbackd send` and health checks of the callback ports with it",
			Advice: "to test from here add loopback to network.allow; let health checks ask /readyz of the admin listener, or only connect"})
	}
	return findings
}

func (p *patient) mode(n auth.Config, prefixes []netip.Prefix) Finding {
	const lists = "the addresses of the SOAP sender stand in Verizon's letter of approval; those that connected are in the log as \"unknown source address\", and in " +
		"`callbackd inbox show`"
	switch {
	case p.c.AllOnLoopback():
		return Finding{Level: OK, Found: "every listener is on loopback: nobody else can connect"}
	case n.Mode == auth.Observe:
		return Finding{Level: Warn, Found: "mode is observe: everybody may connect, and unknown addresses are logged and counted",
			Advice: "when the platform's addresses are known, list them in network.allow and write mode: enforce. " + lists}
	case slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Bits() == 0 }):
		return Finding{Level: Warn, Found: "mode is enforce, and network.allow holds every address", Advice: "take that entry out. " + lists}
	case !slices.ContainsFunc(n.Allow, func(entry string) bool { return entry != "thingspace" && entry != "loopback" }):
		return Finding{Level: Warn, Found: "mode is enforce, and network.allow has no addresses but the published ones, which are those of the REST sender",
			Advice: "callbacks from others are refused with 403, and lost after four tries. " + lists}
	}
	return Finding{Level: OK, Found: fmt.Sprintf("mode is enforce, with %d entries in network.allow", len(n.Allow))}
}

func read(entries []string) (prefixes []netip.Prefix) {
	for _, entry := range entries {
		more, _ := auth.ReadEntry(entry) // the configuration was validated
		prefixes = append(prefixes, more...)
	}
	return prefixes
}

func holds(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
