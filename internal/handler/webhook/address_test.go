package webhook_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/handler"
	"callbackd/internal/handler/webhook"

	"golang.org/x/net/dns/dnsmessage"
	"pgregory.net/rapid"
)

func TestAddressesThatNothingIsSentTo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ address, why string }{
		{"127.0.0.1", ""}, {"127.8.8.8", ""}, {"::1", ""}, {"10.0.0.1", ""}, {"172.16.0.1", ""}, {"192.168.1.1", ""}, {"100.64.0.1", ""}, {"fd00::1", ""},
		{"fd00:ec3::254", ""}, {"203.0.113.7", ""}, {"2001:db8::7", ""}, {"169.253.255.255", ""}, {"169.255.0.0", ""}, {"::ffff:10.0.0.1", ""}, {"64:ff9b::a00:1", ""},
		{"168.63.129.17", ""}, {"2002:a00:1::", ""},
		{"169.254.0.0", "link-local"}, {"169.254.169.254", "link-local"}, {"169.254.170.2", "link-local"}, {"169.254.255.255", "link-local"},
		{"fe80::1", "link-local"}, {"fe80::1%eth0", "link-local"}, {"febf:ffff::1", "link-local"},
		{"::ffff:169.254.169.254", "link-local"}, {"::ffff:a9fe:a9fe%1", "link-local"}, {"::169.254.169.254", "link-local"},
		{"64:ff9b::a9fe:a9fe", "link-local"}, {"64:ff9b::169.254.169.254%1", "link-local"}, {"2002:a9fe:a9fe::1", "link-local"},
		{"fd00:ec2::254", "a metadata service of a cloud"}, {"fd00:ec2::23", "a metadata service of a cloud"}, {"fd00:ec2::254%lo", "a metadata service of a cloud"},
		{"fd20:ce::254", "a metadata service of a cloud"}, {"100.100.100.200", "a metadata service of a cloud"}, {"168.63.129.16", "a metadata service of a cloud"},
		{"192.0.0.192", "a metadata service of a cloud"}, {"::ffff:100.100.100.200", "a metadata service of a cloud"}, {"64:ff9b::6464:64c8", "a metadata service of a cloud"},
		{"0.0.0.0", "no host's address"}, {"::", "no host's address"}, {"::ffff:0.0.0.0", "no host's address"},
		{"224.0.0.1", "a multicast or broadcast address"}, {"ff02::1", "a multicast or broadcast address"}, {"255.255.255.255", "a multicast or broadcast address"},
	} {
		err := webhook.Allowed(netip.MustParseAddr(test.address))
		switch {
		case test.why == "" && err != nil:
			t.Errorf("%s: %v", test.address, err)
		case test.why != "" && (err == nil || !strings.Contains(err.Error(), " is "+test.why+", where no event is ever sent")):
			t.Errorf("%s: %v, want that it is %s", test.address, err, test.why)
		}
	}
}

// TestNoFormOfAnAddressGetsFurtherThanAnother: what is refused as IPv4 is refused in each form that a gateway makes IPv4 of.
func TestNoFormOfAnAddressGetsFurtherThanAnother(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v4 := [4]byte(rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 4, 4), rapid.SampledFrom([][]byte{{169, 254, 169, 254}, {169, 254, 0, 1}, {100, 100, 100, 200}, {224, 0, 0, 1}})).Draw(t, "v4"))
		rest := rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "rest")
		plain := webhook.Allowed(netip.AddrFrom4(v4)) == nil
		mapped, nat64, sixToFour := netip.AddrFrom4(v4).As16(), [16]byte{0, 0x64, 0xff, 0x9b}, [16]byte{0x20, 0x02}
		copy(nat64[12:], v4[:])
		copy(sixToFour[2:], append(v4[:], rest...))
		for form, b := range map[string][16]byte{"mapped": mapped, "NAT64": nat64, "6to4": sixToFour} {
			for _, a := range []netip.Addr{netip.AddrFrom16(b), netip.AddrFrom16(b).WithZone("eth0")} {
				if allowed := webhook.Allowed(a) == nil; allowed != plain {
					t.Errorf("%s is allowed: %t; %s, which is the same, %s: %t", netip.AddrFrom4(v4), plain, form, a, allowed)
				}
			}
		}
	})
}

// names is a DNS server for one name, whose addresses change.
type names struct {
	*net.Resolver
	mu        sync.Mutex
	addresses []netip.Addr
	asked     int
}

func (n *names) become(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = nil
	for _, a := range addresses {
		n.addresses = append(n.addresses, netip.MustParseAddr(a))
	}
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// serveNames starts the server, and a resolver that asks it alone.
func serveNames(t *testing.T) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{}
	n.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 1<<10)
		for {
			size, peer, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			if answer, err := n.answer(packet[:size]); err != nil {
				t.Errorf("DNS: %v", err)
			} else if _, err := conn.WriteTo(answer, peer); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return n
}

func (n *names) answer(query []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	for _, a := range n.addresses {
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			r.Body = &dnsmessage.AResource{A: a.As4()}
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		default:
			continue
		}
		m.Answers = append(m.Answers, r)
	}
	return m.Pack()
}

// named is the URL of a server under the name that the DNS server knows.
func named(t *testing.T, server *httptest.Server) string {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return "http://endpoint.test:" + u.Port()
}

// TestANameIsLookedAtEachTimeItIsDialled: an endpoint's name that comes to mean the metadata service is not posted to.
func TestANameIsLookedAtEachTimeItIsDialled(t *testing.T) {
	t.Parallel()
	e, server := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	dns := serveNames(t)
	dns.become("127.0.0.1")
	c := config(named(t, server))
	c.WithResolver(dns.Resolver)
	s := openWith(t, c)
	if err := s.Handle(t.Context(), usage()); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"169.254.169.254", "fd00:ec2::254", "fe80::1"} {
		dns.become(address)
		err := s.Handle(t.Context(), usage())
		if err == nil || handler.IsPermanent(err) || !strings.Contains(err.Error(), "where no event is ever sent") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if n := s.value(t, "callbackd_webhook_answers_total", "address_refused"); n != 3 {
		t.Errorf("%v are counted as refused", n)
	}
	dns.become("169.254.169.254", "127.0.0.1")
	if err := s.Handle(t.Context(), usage()); err != nil {
		t.Errorf("the address that is allowed is not tried: %v", err)
	}
	if len(e.got()) != 2 || dns.count() < 5 {
		t.Errorf("%d requests, %d questions", len(e.got()), dns.count())
	}
}

// TestARedirectIsLookedAtAsWell: what it leads to has to pass as the configured URL does.
func TestARedirectIsLookedAtAsWell(t *testing.T) {
	t.Parallel()
	dns := serveNames(t)
	dns.become("127.0.0.1")
	e, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		dns.become("169.254.169.254")
		w.Header().Set("Connection", "close")
		w.Header().Set("Location", "/latest/meta-data")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	c := config(named(t, server))
	c.WithResolver(dns.Resolver)
	s := openWith(t, c)
	if err := s.Handle(t.Context(), usage()); err == nil || !strings.Contains(err.Error(), "169.254.169.254 is link-local, where no event is ever sent") {
		t.Errorf("error is %v", err)
	}
	if len(e.got()) != 1 {
		t.Errorf("%d requests", len(e.got()))
	}
}

// TestARedirectIsFollowedOnTheSameHostAlone, with the event and its signature, and never to GET.
func TestARedirectIsFollowedOnTheSameHostAlone(t *testing.T) {
	t.Parallel()
	elsewhere, other := serve(t, nil)
	port := other.URL[strings.LastIndexByte(other.URL, ':'):]
	for _, test := range []struct {
		rule     string
		code     int
		to       string // HERE is the endpoint
		followed bool
	}{
		{"307 on the same host", 307, "HERE/new", true},
		{"308 on the same host", 308, "/new", true},
		{"308 without a host", 308, "new?a=b", true},
		{"301 would be a GET", 301, "HERE/new", false},
		{"302 would be a GET", 302, "HERE/new", false},
		{"303 would be a GET", 303, "HERE/new", false},
		{"another port is another host", 307, "http://127.0.0.1" + port, false},
		{"another name is another host", 307, "http://localhost" + port, false},
		{"an address of a metadata service", 307, "http://169.254.169.254/", false},
		{"a scheme that is none of HTTP's", 307, "ftp://127.0.0.1/", false},
		{"a redirect to nowhere", 307, "", false},
		{"300 with a choice", 300, "HERE/new", false},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			var here string
			e, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/old") {
					return
				}
				if to := strings.Replace(test.to, "HERE", here, 1); to != "" {
					w.Header().Set("Location", to)
				}
				w.WriteHeader(test.code)
			})
			here = server.URL
			c := config(server.URL + "/old")
			c.SecretFiles = []string{writeFile(t, "secret", secret)}
			c.AuthorizationFile = writeFile(t, "authorization", "Bearer x")
			s := openWith(t, c)
			err := s.Handle(t.Context(), usage())
			requests := e.got()
			if test.followed {
				if err != nil || len(requests) != 2 || requests[1].Method != http.MethodPost || !verifies(t, secret, requests[1]) ||
					requests[1].Header.Get("Authorization") != "Bearer x" {
					t.Errorf("%d requests, %v", len(requests), err)
				}
				return
			}
			if err == nil || handler.IsPermanent(err) || len(requests) != 1 {
				t.Errorf("%d requests, %v", len(requests), err)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(elsewhere.got()); n > 0 {
			t.Errorf("another host got %d events", n)
		}
	})
}

func TestARedirectThatGoesInCirclesEnds(t *testing.T) {
	t.Parallel()
	e, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/again")
		w.WriteHeader(http.StatusPermanentRedirect)
	})
	if err := openWith(t, config(server.URL)).Handle(t.Context(), usage()); err == nil || !strings.Contains(err.Error(), "a redirect that is not followed") {
		t.Errorf("error is %v", err)
	}
	if n := len(e.got()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

// TestTLSIsNeverLeft, and may be gained.
func TestTLSIsNeverLeft(t *testing.T) {
	t.Parallel()
	secure := &endpoint{}
	encrypted := httptest.NewTLSServer(secure)
	t.Cleanup(encrypted.Close)
	plain, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", encrypted.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	ca := writeFile(t, "ca.pem", authority(encrypted))
	// From http to https, which is why the TLS of an http URL is not refused by Open.
	up := webhook.Config{URL: server.URL, Mode: webhook.Structured, ConnectTimeout: patience, TLS: &handler.TLS{CAFile: ca}}
	if err := openUnchecked(t, &up).Handle(t.Context(), usage()); err != nil || len(secure.got()) != 1 || len(plain.got()) != 1 {
		t.Errorf("from http to https: %v, %d requests", err, len(secure.got()))
	}
	to := strings.Replace(encrypted.URL, "https", "http", 1) // the very same host and port
	secure.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	c := config(encrypted.URL)
	c.TLS = &handler.TLS{CAFile: ca}
	for _, to = range []string{to, server.URL} {
		if err := openWith(t, c).Handle(t.Context(), usage()); err == nil || !strings.Contains(err.Error(), "a redirect that is not followed") || len(plain.got()) != 1 {
			t.Errorf("from https to %s: %v, %d requests", to, err, len(plain.got()))
		}
	}
	// There and back: the way back is refused, though it leads to where it began.
	if err := openUnchecked(t, &up).Handle(t.Context(), usage()); err == nil || len(plain.got()) != 2 {
		t.Errorf("there and back: %v, %d requests", err, len(plain.got()))
	}
}
