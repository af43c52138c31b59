package auth_test

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	proxies := []string{"10.0.0.1"}
	for _, c := range []struct {
		name     string
		config   auth.Config
		loopback bool // all listeners are
		want     []string
	}{
		{"zero on loopback", auth.Config{}, true, nil},
		{"zero elsewhere", auth.Config{}, false, []string{`mode: is not set|"observe" (|"enforce" (`}},
		{"zero behind a proxy on the same host", auth.Config{Proxy: auth.XForwardedFor, TrustedProxies: []string{"loopback"}}, true,
			[]string{"mode: is not set"}},
		{"unknown mode", auth.Config{Mode: "monitor"}, true, []string{`mode: is "monitor"|"observe" (|"enforce" (`}},
		{"observe nothing", auth.Config{Mode: auth.Observe}, false, nil},
		{"enforce nothing", auth.Config{Mode: auth.Enforce}, false, []string{"allow: is empty|mode: observe"}},
		{"enforce", auth.Config{Mode: auth.Enforce, Allow: []string{
			"thingspace", "192.0.2.7", "2001:db8::/32", "::ffff:192.0.2.0/120"}}, false, nil},

		{"entries", auth.Config{Mode: auth.Observe, Allow: []string{
			"thingspce", "", "192.0.2.300", "192.0.2.7:80", "192.0.2.0/33", "10.0.0.1/8", "2001:db8::1/32", "fe80::1%eth0",
			"fe80::%eth0/10", "::ffff:10.0.0.0/8", "::ffff:10.0.0.1/104", "example.com", " 192.0.2.7", "192.0.2.0/024", "Loopback",
		}}, false, []string{
			`allow[0]: "thingspce" is no named set|loopback and thingspace|192.0.2.0/24`,
			`allow[1]: "" is no named set`,
			`allow[2]: "192.0.2.300" is no address|such as`,
			`allow[3]: "192.0.2.7:80" is no address|without a port`,
			`allow[4]: "192.0.2.0/33" is no CIDR|such as`,
			`allow[5]: "10.0.0.1/8" has bits set|write 10.0.0.0/8 for the network, or 10.0.0.1 for`,
			`allow[6]: |write 2001:db8::/32 for the network, or 2001:db8::1 for`,
			`allow[7]: |has a zone|write fe80::1`,
			`allow[8]: |is no CIDR`,
			`allow[9]: |neither an IPv4 nor an IPv6`,
			`allow[10]: |write 10.0.0.0/8 for`,
			`allow[11]: "example.com" is no address`,
			`allow[12]: |is no address`,
			`allow[13]: |is no CIDR`,
			`allow[14]: |is no named set`,
		}},

		{"proxy without peers", auth.Config{Mode: auth.Observe, Proxy: auth.ProxyProtocol}, false, []string{"trusted_proxies: is empty"}},
		{"peers without proxy", auth.Config{Mode: auth.Observe, TrustedProxies: proxies}, false,
			[]string{`proxy: is not set|"x-forwarded-for" (|"proxy-protocol" (`}},
		{"unknown proxy", auth.Config{Mode: auth.Observe, Proxy: "forwarded", TrustedProxies: proxies}, false,
			[]string{`proxy: is "forwarded"`}},
		{"everyone a proxy", auth.Config{Mode: auth.Observe, Proxy: auth.XForwardedFor,
			TrustedProxies: []string{"0.0.0.0/0", "::/0"}}, false, []string{"trusted_proxies: 0.0.0.0/0 trusts everyone", "trusted_proxies: ::/0 trusts everyone"}},
		{"bad peer", auth.Config{Mode: auth.Observe, Proxy: auth.XForwardedFor, TrustedProxies: []string{"10.0.0.1", "proxy"}}, false,
			[]string{"trusted_proxies[1]: "}},
		{"time-out", auth.Config{Mode: auth.Observe, ProxyTimeout: -1}, false, []string{"proxy_timeout: is -1ns|5s"}},
		{"endless time-out", auth.Config{Mode: auth.Observe, ProxyTimeout: time.Hour}, false, []string{"proxy_timeout: is 1h0m0s"}},
		{"several at once", auth.Config{Mode: auth.Enforce, TrustedProxies: []string{"x"}}, false,
			[]string{"trusted_proxies[0]: ", "allow: is empty", "proxy: is not set"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			problems := c.config.Validate(c.loopback)
			wantProblems(t, problems, c.want)
			gate, err := auth.NewNetworkGate(c.config, c.loopback, nil, zap.NewNop())
			wantJoined(t, err, problems)
			if (gate == nil) != (err != nil) {
				t.Error("want either a gate or an error")
			}
		})
	}
}

// TestLoopbackDefault: on loopback alone the mode is enforce, with loopback beside what is listed.
func TestLoopbackDefault(t *testing.T) {
	t.Parallel()
	gate, err := auth.NewNetworkGate(auth.Config{Allow: []string{"192.0.2.7"}}, true, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if gate.Mode() != auth.Enforce {
		t.Errorf("mode %q", gate.Mode())
	}
	for remote, allowed := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"192.0.2.7:1": true, "192.0.2.8:1": false,
	} {
		_, err := gate.Admit(callback.DeviceUsage, remote, nil)
		if (err == nil) != allowed || errors.Is(err, auth.ErrNetwork) == allowed {
			t.Errorf("%s: %v, want it allowed: %t", remote, err, allowed)
		}
	}
}

func TestNetworkWarnings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config auth.Config
		want   []string
	}{
		{"observed set", auth.Config{Mode: auth.Observe, Allow: []string{"thingspace"}}, nil},
		{"enforced set", auth.Config{Mode: auth.Enforce, Allow: []string{"thingspace"}},
			[]string{"allow: thingspace|REST sender|observe"}},
		{"enforced list", auth.Config{Mode: auth.Enforce, Allow: []string{"192.0.2.7"}}, nil},
		{"everyone", auth.Config{Mode: auth.Enforce, Allow: []string{"0.0.0.0/0"}}, []string{"allow: 0.0.0.0/0 allows everyone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, newNetworkGate(t, c.config, nil, nil).Warnings(), c.want)
		})
	}
}
