package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"callbackd/internal/callback"
	"callbackd/internal/receiver"
)

const allowedPorts = "80, 443, 9001-9006, 28200-28220 or 50551-50559"

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not HOST:PORT, such as 0.0.0.0:28204 or 127.0.0.1:28204", clip(address))
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q has no port between 0 and 65535", clip(address))
	}
	if host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_%") != "" {
		return "", 0, fmt.Errorf("%q has no host that an address can have", clip(address))
	}
	return host, int(n), nil
}

func (c *Config) validateServices(d *decoder) {
	if len(c.Services) == 0 {
		d.at("services", Fatal, "missing: name the callback services to receive, such as `DeviceUsage: {}`; known: %s", strings.Join(serviceNames(), ", "))
	}
	for _, name := range sortedKeys(c.Services) {
		s, path := c.Services[name], "services."+name
		if _, ok := callback.Lookup(name); !ok {
			d.at(path, Fatal, "%s", unknownWord("service", name, serviceNames()))
			d.spoil(path)
			continue
		}
		oneOf(d, path+".validation", s.Validation, receiver.Enforce, receiver.Quarantine, receiver.Observe)
		if !isPath(s.Path) {
			d.at(path+".path", Fatal, "%q is not a path such as / or /usage, of letters, digits and - . _ ~ between the slashes", clip(s.Path))
		}
		s.TLS.validate(d, path+".tls", s.host())
		c.validateURL(d, path, s)
	}
	c.validateSharing(d)
}

// isPath reports whether the router takes the path for itself: braces and stars would be patterns to it.
func isPath(path string) bool {
	for _, r := range path {
		if r != '/' && r != '-' && r != '.' && r != '_' && r != '~' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return strings.HasPrefix(path, "/") && !strings.Contains(path, "//")
}

func serviceNames() []string {
	var names []string
	for _, info := range callback.Catalogue() {
		names = append(names, string(info.Service))
	}
	return names
}

// validateSharing compares each service with those before it, and with the admin listener.
func (c *Config) validateSharing(d *decoder) {
	names := sortedKeys(c.Services)
	for i, name := range names {
		s, path := c.Services[name], "services."+name
		for _, other := range names[:i] {
			o := c.Services[other]
			switch {
			case s.Listen == o.Listen && ephemeral(s.Listen):
			case s.Listen == o.Listen && s.Path == o.Path:
				d.at(path, Fatal, "has the address and path of %s, %s%s: give each a port of its own, or a path", other, s.Listen, s.Path)
			case s.Listen == o.Listen && !s.TLS.same(o.TLS):
				d.at(path+".tls", Fatal, "differs from that of %s, which shares the address: give both the same, or another port to one", other)
			case s.Listen != o.Listen && overlap(s.Listen, o.Listen):
				d.at(path+".listen", Fatal, "%s takes the port of %s, which listens on %s: write the same address to share it by path, or another port",
					s.Listen, other, o.Listen)
			}
			if s.PublicURL != "" && s.PublicURL == o.PublicURL {
				d.at(path+".public_url", Warning, "is that of %s too: one of the two gets the callbacks of both, flagged as misrouted", other)
			}
		}
		if overlap(s.Listen, c.Admin.Listen) {
			d.at(path+".listen", Fatal, "%s takes the port of admin.listen, %s: give one of the two another port", s.Listen, c.Admin.Listen)
		}
	}
}

func ephemeral(address string) bool { return strings.HasSuffix(address, ":0") }

// overlap reports whether the system would refuse to bind both addresses. Of names it knows localhost alone.
func overlap(a, b string) bool {
	hostA, portA, errA := splitAddress(a)
	hostB, portB, errB := splitAddress(b)
	if errA != nil || errB != nil || portA != portB || portA == 0 {
		return false
	}
	ipA, ipB := ip(hostA), ip(hostB)
	// Package net binds 0.0.0.0 for IPv6 as well.
	return hostA == hostB || ipA == ipB && ipA.IsValid() || ipA.IsUnspecified() || ipB.IsUnspecified()
}

func ip(host string) netip.Addr {
	switch host {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	addr, _ := netip.ParseAddr(host) // the invalid one, if it is a name
	return addr.Unmap()
}

// validateURL checks that the platform would register the service's URL.
func (c *Config) validateURL(d *decoder, path string, s *Service) {
	_, port, err := splitAddress(s.Listen)
	if err != nil {
		d.at(path+".listen", Fatal, "%s", err)
		d.spoil(path + ".listen")
		return
	}
	refused := Unregistrable
	if c.Platform.OnLoopback() { // a simulator takes every port
		refused = Warning
	}
	if s.PublicURL == "" {
		if !callback.RegistrablePort(port) {
			d.at(path+".listen", refused, "the platform registers no URL with port %d: take %s, "+
				"or set public_url to the URL that you register if something in front maps its port to this one", port, allowedPorts)
		}
		return
	}
	u, ok := webURL(s.PublicURL)
	if !ok {
		d.at(path+".public_url", Fatal, "is not a URL such as https://callbacks.example.com:28204/, with neither user, query nor fragment")
		return
	}
	public := map[string]int{"http": 80, "https": 443}[u.Scheme]
	if u.Port() != "" {
		public, _ = strconv.Atoi(u.Port()) // url.Parse has checked that it is a number
	}
	if !callback.RegistrablePort(public) {
		d.at(path+".public_url", refused, "the platform registers no URL with port %d: take %s", public, allowedPorts)
	}
}

// AllOnLoopback reports whether no listener can be reached from another machine.
func (c *Config) AllOnLoopback() bool {
	return !slices.ContainsFunc(sortedKeys(c.Services), func(name string) bool {
		host, _, err := splitAddress(c.Services[name].Listen)
		return err != nil || !ip(host).IsLoopback()
	})
}
