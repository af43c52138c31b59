package firewall_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/auth"
	"callbackd/internal/firewall"
)

// usage is a listener on the service's own port.
var usage = firewall.Listener{Service: "DeviceUsage", Host: "0.0.0.0", Port: 28204}

func enforce(allow ...string) auth.Config { return auth.Config{Mode: auth.Enforce, Allow: allow} }

func behind(proxy auth.Proxy, proxies ...string) auth.Config {
	return auth.Config{Mode: auth.Enforce, Allow: []string{"192.0.2.0/24"}, Proxy: proxy, TrustedProxies: proxies}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	local := firewall.Listener{Service: "DeviceUsage", Host: "127.0.0.1", Port: 28204}
	localhost := firewall.Listener{Service: "DeviceUsage", Host: "localhost", Port: 28204}
	front := firewall.Listener{Service: "DeviceUsage", Host: "127.0.0.1", Port: 28204, Public: 28204}
	for _, c := range []struct {
		name     string
		formats  []firewall.Format
		network  auth.Config
		listener firewall.Listener
		accept   bool
		want     error
	}{
		{"an unknown format", []firewall.Format{"pf", ""}, enforce("192.0.2.7"), usage, false, firewall.ErrFormat},
		{"thingspace alone", firewall.Formats(), enforce("thingspace"), usage, false, firewall.ErrPublishedOnly},
		{"thingspace twice", firewall.Formats(), enforce("thingspace", "thingspace"), usage, false, firewall.ErrPublishedOnly},
		{"thingspace and loopback", firewall.Formats(), enforce("loopback", "thingspace", "127.0.0.1"), usage, false, firewall.ErrPublishedOnly},
		{"thingspace alone, accepted", firewall.Formats(), enforce("thingspace"), usage, true, nil},
		{"thingspace and another", firewall.Formats(), enforce("thingspace", "192.0.2.7"), usage, false, nil},
		{"nobody", firewall.Formats(), auth.Config{Mode: auth.Observe}, usage, true, firewall.ErrNoSource},
		{"loopback alone", firewall.Formats(), enforce("loopback", "::1"), usage, true, firewall.ErrNoSource},
		{"everyone", firewall.Formats(), enforce("192.0.2.7", "0.0.0.0/0"), usage, true, firewall.ErrEveryone},
		{"everyone of IPv6", firewall.Formats(), enforce("::/0"), usage, true, firewall.ErrEveryone},
		{"a port of the system's choice", firewall.Formats(), enforce("192.0.2.7"), firewall.Listener{Service: "DeviceUsage"}, true, firewall.ErrNoPort},
		{"a listener on loopback", firewall.Formats(), enforce("192.0.2.7"), local, true, firewall.ErrNoListener},
		{"a listener on localhost", firewall.Formats(), enforce("192.0.2.7"), localhost, true, firewall.ErrNoListener},
		{"loopback with a URL, on a host", []firewall.Format{firewall.NFTables, firewall.IPTables}, enforce("192.0.2.7"), front, true, firewall.ErrNoListener},
		{"loopback with a URL, in a cloud", []firewall.Format{firewall.AWS, firewall.GCP}, enforce("192.0.2.7"), front, true, nil},
		{"a proxy on a host needs no allow list", []firewall.Format{firewall.NFTables, firewall.IPTables},
			auth.Config{Mode: auth.Enforce, Allow: []string{"thingspace"}, Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.5"}}, usage, false, nil},
		{"a proxy in a cloud does, in front", []firewall.Format{firewall.AWS, firewall.GCP},
			auth.Config{Mode: auth.Enforce, Allow: []string{"thingspace"}, Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.5"}}, usage, false,
			firewall.ErrPublishedOnly},
	} {
		for _, format := range c.formats {
			t.Run(c.name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				text, err := firewall.Render(format, firewall.Config{
					File: "c.yaml", Network: c.network, Listeners: []firewall.Listener{c.listener}, AcceptPublished: c.accept})
				if !errors.Is(err, c.want) || (err != nil) != (text == "") {
					t.Errorf("error %v with %d bytes, want %v", err, len(text), c.want)
				}
			})
		}
	}
}

// must renders, and takes the comments away.
func must(t *testing.T, format firewall.Format, network auth.Config, listeners ...firewall.Listener) string {
	t.Helper()
	text, err := firewall.Render(format, firewall.Config{File: "c.yaml", Network: network, Listeners: listeners, AcceptPublished: true})
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(text, "")
}

// find lists what the group of a pattern matches.
func find(text, pattern string) []string {
	var list []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

func TestWhoIsAdmittedToTheHost(t *testing.T) {
	t.Parallel()
	thingspace := []string{"3.87.163.45", "3.91.119.203", "34.216.81.234", "35.165.205.14", "54.197.62.209", "54.200.43.232", "137.117.33.109", "168.62.173.153"}
	for _, c := range []struct {
		name    string
		network auth.Config
		want    []string
	}{
		{"the set", enforce("thingspace"), thingspace},
		{"the customer's list first", enforce("thingspace", "192.0.2.7", "198.51.100.0/24"), append([]string{"192.0.2.7", "198.51.100.0/24"}, thingspace...)},
		{"both versions of IP", enforce("2001:db8::/32", "192.0.2.7"), []string{"192.0.2.7", "2001:db8::/32"}},
		{"IPv4 within IPv6", enforce("::ffff:192.0.2.0/120"), []string{"192.0.2.0/24"}},
		{"the same twice", enforce("192.0.2.7", "192.0.2.7/32"), []string{"192.0.2.7"}},
		{"one within another", enforce("192.0.2.7", "192.0.2.0/25", "192.0.2.0/24", "192.0.3.0/24"), []string{"192.0.2.0/24", "192.0.3.0/24"}},
		{"the set within the customer's list", enforce("3.0.0.0/8", "34.216.81.234", "thingspace"), append([]string{"3.0.0.0/8", "34.216.81.234"}, thingspace[3:]...)},
		{"no loopback", enforce("loopback", "192.0.2.7", "127.1.2.3"), []string{"192.0.2.7"}},
		{"the proxies, behind one", behind(auth.XForwardedFor, "10.0.0.5", "fd00::/64"), []string{"10.0.0.5", "fd00::/64"}},
		{"the senders of PROXY headers", behind(auth.ProxyProtocol, "10.0.0.0/24"), []string{"10.0.0.0/24"}},
		{"nobody, behind a proxy on the host itself", behind(auth.XForwardedFor, "loopback"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := find(must(t, firewall.NFTables, c.network, usage), `(?m)^\t{3}(\S+),$`); !slices.Equal(got, c.want) {
				t.Errorf("nftables admits %v, want %v", got, c.want)
			}
			got := find(must(t, firewall.IPTables, c.network, usage), `SOURCES -s (\S+) -j ACCEPT`)
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
				t.Errorf("iptables admits %v, want %v", got, want)
			}
		})
	}
}

func TestWhichPortsOfTheHostAreGuarded(t *testing.T) {
	t.Parallel()
	at := func(host string, ports ...int) (list []firewall.Listener) {
		for _, port := range ports {
			list = append(list, firewall.Listener{Service: "DeviceUsage", Host: host, Port: port})
		}
		return list
	}
	for _, c := range []struct {
		name      string
		listeners []firewall.Listener
		nftables  []string
		iptables  []string
	}{
		{"one", at("0.0.0.0", 28204), []string{"tcp dport { 28204 }"}, []string{"-A CALLBACKD -p tcp -m multiport --dports 28204"}},
		{"neighbours are a range", at("", 28202, 28200, 28201, 443, 28204), []string{"tcp dport { 443, 28200-28202, 28204 }"},
			[]string{"-A CALLBACKD -p tcp -m multiport --dports 443,28200:28202,28204"}},
		{"services that share a port", at("::", 28204, 28204), []string{"tcp dport { 28204 }"}, []string{"-A CALLBACKD -p tcp -m multiport --dports 28204"}},
		{"a name", at("callbacks.example.com", 28204), []string{"tcp dport { 28204 }"}, []string{"-A CALLBACKD -p tcp -m multiport --dports 28204"}},
		{"one address of the host", at("10.0.0.5", 443), []string{"ip daddr 10.0.0.5 tcp dport { 443 }"},
			[]string{"-4 -A CALLBACKD -d 10.0.0.5 -p tcp -m multiport --dports 443"}},
		{"one address of IPv6", at("fe80::5%eth0", 443), []string{"ip6 daddr fe80::5 tcp dport { 443 }"},
			[]string{"-6 -A CALLBACKD -d fe80::5 -p tcp -m multiport --dports 443"}},
		{"none on loopback", append(at("127.0.0.1", 28204), at("0.0.0.0", 28205)...), []string{"tcp dport { 28205 }"},
			[]string{"-A CALLBACKD -p tcp -m multiport --dports 28205"}},
		{"its own, whatever port is called", []firewall.Listener{{Service: "DeviceUsage", Port: 8080, Public: 443}}, []string{"tcp dport { 8080 }"},
			[]string{"-A CALLBACKD -p tcp -m multiport --dports 8080"}},
		{"no more in a rule than it takes", at("", 1, 3, 5, 7, 9, 11, 13, 15), []string{"tcp dport { 1, 3, 5, 7, 9, 11, 13, 15 }"},
			[]string{"-A CALLBACKD -p tcp -m multiport --dports 1,3,5,7,9,11,13", "-A CALLBACKD -p tcp -m multiport --dports 15"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := find(must(t, firewall.NFTables, enforce("192.0.2.7"), c.listeners...), `(?m)^\t\t(.*) jump callbacks$`); !slices.Equal(got, c.nftables) {
				t.Errorf("nftables guards %q, want %q", got, c.nftables)
			}
			if got := find(must(t, firewall.IPTables, enforce("192.0.2.7"), c.listeners...), `(?m)^(.*) -j CALLBACKD-SOURCES$`); !slices.Equal(got, c.iptables) {
				t.Errorf("iptables guards %q, want %q", got, c.iptables)
			}
		})
	}
}

// TestObservingBehindAProxy: rules of the host keep nobody away from the proxy, and so from being observed.
func TestObservingBehindAProxy(t *testing.T) {
	t.Parallel()
	network := behind(auth.XForwardedFor, "10.0.0.5")
	network.Mode = auth.Observe
	for format, want := range map[firewall.Format]bool{firewall.NFTables: false, firewall.IPTables: false, firewall.AWS: true, firewall.GCP: true} {
		text, err := firewall.Render(format, firewall.Config{File: "c.yaml", Network: network, Listeners: []firewall.Listener{usage}})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(text, "learn first, load then"); got != want {
			t.Errorf("%s warns of observing: %t, want %t", format, got, want)
		}
	}
}

func TestTheCommentsTell(t *testing.T) {
	t.Parallel()
	proxied := behind(auth.XForwardedFor, "10.0.0.5")
	for _, c := range []struct {
		name     string
		network  auth.Config
		file     string
		listener firewall.Listener
		want     []string
		not      []string
	}{
		{"what made them, what is guarded, what to do", enforce("192.0.2.7"), "/etc/callbackd/callbackd.yaml", usage,
			[]string{"render --format FORMAT` from /etc/callbackd/callbackd.yaml.", "28204 DeviceUsage", "When the list changes"},
			[]string{"observe", "published", "proxy"}},
		{"where the set comes from", enforce("192.0.2.7", "thingspace"), "c.yaml", usage,
			[]string{"published by 2026 for its REST sender", "Register Callback", "given with a company's approval"}, nil},
		{"what observing means", auth.Config{Mode: auth.Observe, Allow: []string{"192.0.2.7"}}, "c.yaml", usage, []string{"learn first, load then"}, nil},
		{"whom a proxy stands for", proxied, "c.yaml", usage,
			[]string{"network.proxy is x-forwarded-for", "for network.trusted_proxies alone"}, nil},
		{"which port is called", enforce("192.0.2.7"), "c.yaml", firewall.Listener{Service: "DeviceUsage", Port: 8080, Public: 443},
			[]string{"8080  DeviceUsage, which the platform calls at port 443"}, nil},
		{"a name of several lines stays a comment", enforce("192.0.2.7"), "c\nflush ruleset\u2028.yaml", usage, []string{`from "c\nflush ruleset\u2028.yaml".`}, nil},
	} {
		for _, format := range firewall.Formats() {
			t.Run(c.name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				text, err := firewall.Render(format, firewall.Config{File: c.file, Network: c.network, Listeners: []firewall.Listener{c.listener}})
				if err != nil {
					t.Fatal(err)
				}
				var comments strings.Builder
				for line := range strings.Lines(text) {
					if strings.HasPrefix(line, "#") {
						comments.WriteString(line)
					}
				}
				for _, want := range c.want {
					if want = strings.ReplaceAll(want, "FORMAT", string(format)); !strings.Contains(comments.String(), want) {
						t.Errorf("no comment tells %q:\n%s", want, comments.String())
					}
				}
				for _, not := range c.not {
					if strings.Contains(comments.String(), not) {
						t.Errorf("a comment tells %q:\n%s", not, comments.String())
					}
				}
			})
		}
	}
}
