package auth_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
)

func newNetworkGate(t testing.TB, c auth.Config, metrics *auth.Metrics, log *zap.Logger) *auth.NetworkGate {
	t.Helper()
	if log == nil {
		log = zap.NewNop()
	}
	gate, err := auth.NewNetworkGate(c, false, metrics, log)
	if err != nil {
		t.Fatal(err)
	}
	return gate
}

func TestSource(t *testing.T) {
	t.Parallel()
	behind := auth.Config{
		Mode: auth.Observe, Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.0/8", "2001:db8:ffff::/48"},
	}
	const peer = "10.0.0.1:4711"
	for _, c := range []struct {
		name   string
		config auth.Config
		remote string
		header []string
		want   string // empty: an error
	}{
		{"no proxy", auth.Config{Mode: auth.Observe}, "203.0.113.7:80", nil, "203.0.113.7"},
		{"no proxy, a header", auth.Config{Mode: auth.Observe}, "203.0.113.7:80", []string{"192.0.2.1"}, "203.0.113.7"},
		{"PROXY protocol, a header", auth.Config{Mode: auth.Observe, Proxy: auth.ProxyProtocol, TrustedProxies: []string{"10.0.0.0/8"}},
			peer, []string{"192.0.2.1"}, "10.0.0.1"},
		{"IPv6", auth.Config{Mode: auth.Observe}, "[2001:db8::7]:80", nil, "2001:db8::7"},
		{"IPv6 with a zone", auth.Config{Mode: auth.Observe}, "[fe80::7%eth0]:80", nil, "fe80::7"},
		{"IPv4 within IPv6", auth.Config{Mode: auth.Observe}, "[::ffff:203.0.113.7]:80", nil, "203.0.113.7"},
		{"no port", auth.Config{Mode: auth.Observe}, "203.0.113.7", nil, "203.0.113.7"},
		{"a Unix socket", auth.Config{Mode: auth.Observe}, "@", nil, ""},
		{"nothing", behind, "", []string{"203.0.113.7"}, ""},

		{"a peer that is no proxy", behind, "203.0.113.7:80", []string{"192.0.2.1"}, "203.0.113.7"},
		{"one entry", behind, peer, []string{"203.0.113.7"}, "203.0.113.7"},
		{"a proxy within IPv6", behind, "[::ffff:10.0.0.1]:80", []string{"203.0.113.7"}, "203.0.113.7"},
		{"claims of the client", behind, peer, []string{"137.117.33.109, 203.0.113.7"}, "203.0.113.7"},
		{"claims that cannot be read", behind, peer, []string{"unknown,, 203.0.113.7"}, "203.0.113.7"},
		{"several proxies", behind, peer, []string{"192.0.2.1, 203.0.113.7, 10.1.1.1 ,\t2001:db8:ffff::1"}, "203.0.113.7"},
		{"several lines", behind, peer, []string{"192.0.2.1", "203.0.113.7", "10.1.1.1, 10.2.2.2"}, "203.0.113.7"},
		{"a proxy claimed beyond the client", behind, peer, []string{"10.9.9.9, 203.0.113.7, 10.1.1.1"}, "203.0.113.7"},
		{"proxies only", behind, peer, []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		{"no header", behind, peer, nil, "10.0.0.1"},
		{"a port", behind, peer, []string{"203.0.113.7:5"}, "203.0.113.7"},
		{"IPv6 entry", behind, peer, []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 entry in brackets", behind, peer, []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv6 entry with a port", behind, peer, []string{"[2001:db8::7%1]:80"}, "2001:db8::7"},
		{"IPv4 entry within IPv6", behind, peer, []string{"203.0.113.7, ::ffff:10.1.1.1"}, "203.0.113.7"},

		{"an empty header", behind, peer, []string{""}, ""},
		{"an empty entry", behind, peer, []string{"203.0.113.7,"}, ""},
		{"an empty line", behind, peer, []string{"203.0.113.7", " "}, ""},
		{"no address", behind, peer, []string{"203.0.113.7, unknown"}, ""},
		{"no address beyond a proxy", behind, peer, []string{"203.0.113.7, _hidden, 10.1.1.1"}, ""},
		{"IPv4 in brackets", behind, peer, []string{"[203.0.113.7]"}, ""},
		{"a bad port", behind, peer, []string{"203.0.113.7:65536"}, ""},
		{"leading zeros", behind, peer, []string{"203.0.113.007"}, ""},
		{"an endless entry", behind, peer, []string{strings.Repeat("1", 1<<16)}, ""},
		{"32 entries", behind, peer, []string{"203.0.113.7" + strings.Repeat(",10.1.1.1", 31)}, "203.0.113.7"},
		{"33 entries", behind, peer, []string{"203.0.113.7" + strings.Repeat(",10.1.1.1", 32)}, ""},
		{"33 lines", behind, peer, strings.Split("203.0.113.7"+strings.Repeat(",10.1.1.1", 32), ","), ""},
		{"endless claims of the client", behind, peer, []string{strings.Repeat("1,", 1<<16) + "203.0.113.7"}, "203.0.113.7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := newNetworkGate(t, c.config, nil, nil).Source(c.remote, c.header)
			switch {
			case c.want == "" && (!errors.Is(err, auth.ErrNetwork) || got.IsValid()):
				t.Errorf("got %v, %v, want ErrNetwork alone", got, err)
			case c.want == "" && len(err.Error()) > 300:
				t.Errorf("the error quotes %d bytes", len(err.Error()))
			case c.want != "" && (err != nil || got != netip.MustParseAddr(c.want)):
				t.Errorf("got %v, %v, want %s", got, err, c.want)
			}
		})
	}
}

// FuzzSource: whatever the header holds, the client cannot choose what is read, and what is read is an address.
func FuzzSource(f *testing.F) {
	gate := newNetworkGate(f, auth.Config{
		Mode: auth.Enforce, Allow: []string{"thingspace"},
		Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.0/8", "2001:db8::/32"},
	}, nil, nil)
	trusted := func(a netip.Addr) bool {
		return netip.MustParsePrefix("10.0.0.0/8").Contains(a) || netip.MustParsePrefix("2001:db8::/32").Contains(a)
	}
	const peer = "10.0.0.1:443"
	for _, seed := range [][2]string{
		{"203.0.113.7", "137.117.33.109"}, {"203.0.113.7, 10.1.1.1,10.2.2.2", "10.3.3.3"}, {"10.1.1.1\n[2001:db8::1]:80", ""},
		{"[::ffff:10.0.0.1%x]:1", "unknown"}, {"", ","}, {",", "10.0.0.1"}, {"203.0.113.7:99999,10.0.0.1", "\n"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, header, left string) {
		lines := strings.Split(header, "\n")
		entries := strings.Split(strings.Join(lines, ","), ",")
		got, err := gate.Source(peer, lines)
		if err == nil && (!got.IsValid() || got.Zone() != "" || got.Is4In6()) {
			t.Fatalf("%q is no plain address", got)
		}
		if err != nil && (got.IsValid() || !errors.Is(err, auth.ErrNetwork)) {
			t.Fatalf("%v, %v: want ErrNetwork alone", got, err)
		}
		for _, same := range [][]string{entries, {strings.Join(entries, ",")}} {
			if again, againErr := gate.Source(peer, same); again != got || (againErr == nil) != (err == nil) {
				t.Fatalf("as lines %q: %v, %v; as %q: %v, %v", lines, got, err, same, again, againErr)
			}
		}
		if err == nil && trusted(got) {
			for _, entry := range entries {
				if a, err := gate.Source(peer, []string{entry}); err != nil || !trusted(a) {
					t.Fatalf("%q gives the trusted %v, though %q is none", lines, got, entry)
				}
			}
			return
		}
		// The walk has ended, at an untrusted address or at what cannot be read: nothing to the left of it counts.
		for _, more := range [][]string{append([]string{left}, lines...), {left + "," + strings.Join(lines, ",")}} {
			if again, againErr := gate.Source(peer, more); again != got || (againErr == nil) != (err == nil) {
				t.Fatalf("%q gives %v, %v; with %q to the left %v, %v", lines, got, err, left, again, againErr)
			}
		}
		if err == nil && len(entries) < 32 {
			if again, err := gate.Source(peer, append(lines, "10.9.9.9")); err != nil || again != got {
				t.Fatalf("%q gives %v; with a proxy to the right %v, %v", lines, got, again, err)
			}
		}
	})
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	behind := auth.Config{
		Allow: []string{"thingspace", "2001:db8::/32", "192.0.2.0/24", "::ffff:198.51.100.7"},
		Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.1"},
	}
	for _, c := range []struct {
		name   string
		remote string
		header []string
		addr   string
		known  bool
	}{
		{"published address", "10.0.0.1:1", []string{"137.117.33.109"}, "137.117.33.109", true},
		{"the last published address", "34.216.81.234:1", nil, "34.216.81.234", true},
		{"network", "192.0.2.255:1", nil, "192.0.2.255", true},
		{"IPv6 network", "[2001:db8::1%eth0]:1", nil, "2001:db8::1", true},
		{"within IPv6", "[::ffff:192.0.2.1]:1", nil, "192.0.2.1", true},
		{"allowed as IPv4 within IPv6", "198.51.100.7:1", nil, "198.51.100.7", true},
		{"beside the network", "192.0.3.0:1", nil, "192.0.3.0", false},
		{"a published address claimed", "10.0.0.1:1", []string{"137.117.33.109, 203.0.113.7"}, "203.0.113.7", false},
		{"a published address claimed by no proxy", "10.0.0.2:1", []string{"137.117.33.109"}, "10.0.0.2", false},
		{"the proxy itself", "10.0.0.1:1", nil, "10.0.0.1", false},
		{"a header that cannot be read", "10.0.0.1:1", []string{"137.117.33.109, ?"}, "", false},
		{"no address", "@", []string{"137.117.33.109"}, "", false},
	} {
		for _, mode := range []auth.Mode{auth.Enforce, auth.Observe} {
			t.Run(c.name+"/"+string(mode), func(t *testing.T) {
				t.Parallel()
				reg := prometheus.NewRegistry()
				core, logs := observer.New(zap.DebugLevel)
				config := behind
				config.Mode = mode
				gate := newNetworkGate(t, config, auth.NewMetrics(reg), zap.New(core))

				got, err := gate.Admit(callback.DeviceUsage, c.remote, c.header)
				want := auth.Origin{Known: c.known}
				if c.addr != "" {
					want.Addr = netip.MustParseAddr(c.addr)
				}
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				if refused := !c.known && mode == auth.Enforce; (err != nil) != refused || errors.Is(err, auth.ErrNetwork) != refused {
					t.Errorf("error %v, want a refusal: %t", err, refused)
				}
				counted, logged := zeros("mode="+string(mode)+" service=%s"), 0
				if !c.known {
					counted["mode="+string(mode)+" service=DeviceUsage"] = 1
					if mode == auth.Observe {
						logged = 1
					}
				}
				wantSamples(t, reg, "callbackd_source_address_unknown_total", counted)
				if n := logs.FilterMessageSnippet("source address").Len(); n != logged {
					t.Errorf("logged %d times, want %d: %v", n, logged, logs.All())
				}
			})
		}
	}
}

// TestObserveLogsEachAddressOnce, up to the bound, and then says so once and goes on counting.
func TestObserveLogsEachAddressOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	core, logs := observer.New(zap.DebugLevel)
	gate := newNetworkGate(t, auth.Config{Mode: auth.Observe}, auth.NewMetrics(reg), zap.New(core))
	const addresses = 1030
	for range 2 {
		for i := range addresses {
			if _, err := gate.Admit(callback.DeviceUsage, fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	each := logs.FilterMessage("unknown source address").All()
	if len(each) != 1024 {
		t.Errorf("logged %d addresses, want 1024", len(each))
	}
	fields := each[0].ContextMap()
	if each[0].Level != zap.WarnLevel || each[0].LoggerName != "auth" || fields["source"] != "10.0.0.0" ||
		fields["service"] != "DeviceUsage" || !strings.Contains(fmt.Sprint(fields["hint"]), "network.allow") {
		t.Errorf("%v %v", each[0], fields)
	}
	if n := logs.FilterMessageSnippet("too many addresses").Len(); n != 1 {
		t.Errorf("said %d times that the memory is full, want once", n)
	}
	if got := samples(t, reg, "callbackd_source_address_unknown_total")["mode=observe service=DeviceUsage"]; got != 2*addresses {
		t.Errorf("counted %v, want %d", got, 2*addresses)
	}
}

// TestUnheededHeader: a proxy that nobody configured is pointed out, once, since the gate would judge the proxy's address.
func TestUnheededHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config auth.Config
		want   int
	}{
		{"no proxy configured", auth.Config{Mode: auth.Enforce, Allow: []string{"10.0.0.1"}}, 1},
		{"another proxy configured", auth.Config{Mode: auth.Observe, Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.2"}}, 1},
		{"this proxy configured", auth.Config{Mode: auth.Observe, Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.1"}}, 0},
		{"PROXY protocol configured", auth.Config{Mode: auth.Observe, Proxy: auth.ProxyProtocol, TrustedProxies: []string{"10.0.0.1"}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.DebugLevel)
			gate := newNetworkGate(t, c.config, nil, zap.New(core))
			for range 2 {
				_, _ = gate.Admit(callback.DeviceUsage, "10.0.0.1:1", []string{"203.0.113.7"})
			}
			if n := logs.FilterMessage("X-Forwarded-For not heeded").Len(); n != c.want {
				t.Errorf("logged %d times, want %d", n, c.want)
			}
		})
	}
}
