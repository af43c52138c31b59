package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Mode is what becomes of a request from an address that is not allowed.
type Mode string

const (
	Enforce Mode = "enforce" // it is refused
	Observe Mode = "observe" // it passes; the address is logged once, and counted
)

// Proxy is how a proxy in front of the listeners says whom it stands for.
type Proxy string

const (
	Direct        Proxy = ""                // there is none
	XForwardedFor Proxy = "x-forwarded-for" // in the HTTP header
	ProxyProtocol Proxy = "proxy-protocol"  // before the first byte of the connection, version 1 or 2
)

// DefaultProxyTimeout bounds the wait for a PROXY header, which a proxy sends at once.
const DefaultProxyTimeout = 5 * time.Second

const mostProxyTimeout = time.Minute

// Config is the section `network`. The zero value is valid when every listener is on loopback, and nothing else is.
type Config struct {
	// Mode has no default, unless every listener is on loopback and there is no proxy: then it is enforce, and loopback allowed.
	Mode Mode `yaml:"mode"`
	// Allow takes addresses, CIDRs and the names of sets: "thingspace", "loopback".
	Allow []string `yaml:"allow"`
	// TrustedProxies takes the same. Only these peers are believed about whom they stand for.
	TrustedProxies []string `yaml:"trusted_proxies"`
	Proxy          Proxy    `yaml:"proxy"`
	// ProxyTimeout bounds the wait for a PROXY header. 0: [DefaultProxyTimeout].
	ProxyTimeout time.Duration `yaml:"proxy_timeout"`
}

// namedSets are the names that stand for several addresses.
var namedSets = []struct {
	name     string
	prefixes []string
}{
	{"loopback", []string{"127.0.0.0/8", "::1"}},
	// The addresses that Verizon publishes for callbacks of the REST interface (thingspace.verizon.com: "Register Callback
	// Listener" and "About callback services"). The last six were seen sending in 2026, the first two are from an older age of
	// the platform. No page publishes the addresses of the SOAP sender: the list "is given when the company is approved". They
	// are clouds' addresses, and Verizon says that the list changes. So observe before enforcing this set.
	{"thingspace", []string{
		"137.117.33.109", "168.62.173.153",
		"3.87.163.45", "3.91.119.203", "54.197.62.209",
		"35.165.205.14", "54.200.43.232", "34.216.81.234",
	}},
}

// network is a Config as read.
type network struct {
	mode         Mode
	allow        []netip.Prefix
	trusted      []netip.Prefix
	proxy        Proxy
	proxyTimeout time.Duration
	warnings     []Problem
}

// Validate lists everything that keeps a gate from being built.
func (c Config) Validate(allListenersOnLoopback bool) []Problem {
	_, problems := c.read(allListenersOnLoopback)
	return problems
}

func (c Config) read(allListenersOnLoopback bool) (network, []Problem) {
	var problems []Problem
	report := func(path, format string, args ...any) {
		problems = append(problems, Problem{path, fmt.Sprintf(format, args...)})
	}
	n := network{mode: c.Mode, proxy: c.Proxy, proxyTimeout: c.ProxyTimeout}
	n.allow = readPrefixes("allow", c.Allow, report)
	n.trusted = readPrefixes("trusted_proxies", c.TrustedProxies, report)
	if c.ProxyTimeout == 0 {
		n.proxyTimeout = DefaultProxyTimeout
	}
	if c.Mode == "" && c.Proxy == Direct && allListenersOnLoopback {
		n.mode = Enforce
		n.allow = append(n.allow, readPrefixes("", []string{"loopback"}, report)...)
	} else {
		c.validateMode(report)
	}
	c.validateProxy(n.trusted, report)
	n.warnings = c.warnings(n)
	return n, problems
}

func (c Config) validateMode(report reporter) {
	const choice = `"observe" (let everyone in, and log and count each address that is not in allow: to learn the platform's) ` +
		`or "enforce" (refuse every address that is not in allow)`
	switch c.Mode {
	case Observe:
	case Enforce:
		if len(c.Allow) == 0 {
			report("allow", `is empty, and mode is "enforce": that would refuse everyone; list the platform's addresses, `+
				`or learn them first with mode: observe`)
		}
	case "":
		report("mode", "is not set, and others than this host can call: write %s", choice)
	default:
		report("mode", "is %q: write %s", c.Mode, choice)
	}
}

func (c Config) validateProxy(trusted []netip.Prefix, report reporter) {
	const choice = `"x-forwarded-for" (the proxy adds to the HTTP header) or "proxy-protocol" (it sends a PROXY header, v1 or v2)`
	switch c.Proxy {
	case Direct:
		if len(c.TrustedProxies) > 0 {
			report("proxy", "is not set, but trusted_proxies is: write %s", choice)
		}
	case XForwardedFor, ProxyProtocol:
		if len(c.TrustedProxies) == 0 {
			report("trusted_proxies", "is empty, but proxy is %q: list the proxies' own addresses; "+
				"from nobody else is a source address believed", c.Proxy)
		}
	default:
		report("proxy", "is %q: write %s, or leave it out", c.Proxy, choice)
	}
	for _, p := range trusted {
		if p.Bits() == 0 {
			report("trusted_proxies", "%s trusts everyone, so that anyone could claim any source address: list the proxies' own", p)
		}
	}
	if c.ProxyTimeout < 0 || c.ProxyTimeout > mostProxyTimeout {
		report("proxy_timeout", "is %s: write a time such as 5s, at most %s", c.ProxyTimeout, mostProxyTimeout)
	}
}

func (c Config) warnings(n network) []Problem {
	var warnings []Problem
	for _, p := range n.allow {
		if p.Bits() == 0 {
			warnings = append(warnings, Problem{"allow", p.String() + " allows everyone"})
		}
	}
	if n.mode == Enforce && slices.Contains(c.Allow, "thingspace") {
		warnings = append(warnings, Problem{"allow", "thingspace holds the addresses published for the REST sender; those of the " +
			"SOAP sender are unpublished and given when a company is approved: add them, or learn them first with mode: observe"})
	}
	return warnings
}

func readPrefixes(path string, entries []string, report reporter) []netip.Prefix {
	var prefixes []netip.Prefix
	for i, entry := range entries {
		read, err := ReadEntry(entry)
		if err != nil {
			report(fmt.Sprintf("%s[%d]", path, i), "%v", err)
		}
		prefixes = append(prefixes, read...)
	}
	return prefixes
}

// ReadEntry reads one entry of Allow or TrustedProxies: an address, a CIDR, or the name of a set.
func ReadEntry(entry string) ([]netip.Prefix, error) {
	if !strings.ContainsAny(entry, ".:/") {
		return readSet(entry)
	}
	prefix, err := readPrefix(entry)
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{prefix}, nil
}

func readSet(name string) ([]netip.Prefix, error) {
	var names []string
	for _, set := range namedSets {
		if set.name != name {
			names = append(names, set.name)
			continue
		}
		var prefixes []netip.Prefix
		for _, entry := range set.prefixes {
			prefix, err := readPrefix(entry)
			if err != nil {
				return nil, err
			}
			prefixes = append(prefixes, prefix)
		}
		return prefixes, nil
	}
	return nil, fmt.Errorf("%q is no named set: the sets are %s; "+
		"or write an address such as 192.0.2.7 or a CIDR such as 192.0.2.0/24", name, strings.Join(names, " and "))
}

func readPrefix(entry string) (netip.Prefix, error) {
	if !strings.Contains(entry, "/") {
		addr, err := netip.ParseAddr(entry)
		switch {
		case err != nil:
			return netip.Prefix{}, fmt.Errorf("%q is no address: write one such as 192.0.2.7 or 2001:db8::7, without a port", entry)
		case addr.Zone() != "":
			return netip.Prefix{}, fmt.Errorf("%q has a zone, which is not compared: write %s", entry, addr.WithZone(""))
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(entry)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no CIDR: write one such as 192.0.2.0/24 or 2001:db8::/32", entry)
	}
	const mapped = 96 // bits before the IPv4 address in ::ffff:192.0.2.0
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < mapped {
			return netip.Prefix{}, fmt.Errorf("%q is neither an IPv4 nor an IPv6 network: write 192.0.2.0/24 for IPv4", entry)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mapped)
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, fmt.Errorf("%q has bits set beyond its length: write %s for the network, or %s for the one address",
			entry, masked, prefix.Addr())
	}
	return prefix, nil
}
