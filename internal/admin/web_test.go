package admin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/admin"
	"callbackd/internal/certificate/certificatetest"

	"github.com/prometheus/client_golang/prometheus"
)

// users names one, scraper, whose password is "open sesame".
const users = "basic_auth_users: {scraper: '$2a$04$VLmW25DImMEbRqAxniTlx.Yq7lonoe9vRtWXX2Y0AzcN8.Rbsqnve'}\n"

const withTLS = "tls_server_config: {cert_file: a.crt, key_file: a.key}\n"

// guarded is an admin listener with a web-config.
type guarded struct {
	t      *testing.T
	url    string
	file   string
	client *http.Client
	stop   func()
}

// guard runs one whose web-config is text, beside a certificate for 127.0.0.1 that clients trust.
func guard(t *testing.T, text string, o admin.Options) *guarded {
	t.Helper()
	dir, authority := t.TempDir(), certificatetest.New(t, "admins")
	certificate, key := authority.Issue(t, "127.0.0.1")
	g := &guarded{t: t, file: filepath.Join(dir, "web-config.yml")}
	for name, content := range map[string][]byte{"a.crt": certificate, "a.key": key, "ca.crt": authority.PEM, "web-config.yml": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener, o.Registry, o.Web.File = l, prometheus.NewRegistry(), g.file
	s := admin.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(g.stop)
	scheme := "http"
	if strings.Contains(text, "cert_file") {
		scheme = "https"
	}
	g.url = scheme + "://" + l.Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(authority.Certificate)
	own, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	g.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}}}
	return g
}

// get asks for a page, with a user if the password is not empty.
func (g *guarded) get(path, password string) (int, string) {
	g.t.Helper()
	request, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if password != "" {
		request.SetBasicAuth("scraper", password)
	}
	response, err := g.client.Do(request)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestUsers: a web-config has the listener speak TLS and ask for a user, and for none of a probe, which then gets to know the state alone.
func TestUsers(t *testing.T) {
	t.Parallel()
	g := guard(t, withTLS+users, admin.Options{Web: admin.Web{TLS: true, Users: true}, Checks: []admin.Check{{"handlers", false, fails}}})
	for _, tt := range []struct {
		path, password string
		status         int
		text           string // that the answer is, or begins with
	}{
		{"/metrics", "", 401, "Unauthorized"},
		{"/metrics", "open sesam", 401, "Unauthorized"},
		{"/metrics", "open sesame", 200, "# HELP"},
		{"/debug/pprof/", "", 401, "Unauthorized"},
		{"/debug/pprof/goroutine?debug=1", "open sesame", 200, "goroutine profile"},
		{"/livez", "", 200, "alive\n"},
		{"/readyz", "", 200, "degraded\n"},
		{"/readyz", "open sesam", 401, "Unauthorized"},
		{"/readyz", "open sesame", 200, "degraded\nhandlers: degraded: disk full\n"},
		{"/livez/", "", 401, "Unauthorized"},
	} {
		status, text := g.get(tt.path, tt.password)
		if status != tt.status || !strings.HasPrefix(text, tt.text) || strings.HasPrefix(tt.path, "/readyz") && tt.status == 200 && text != tt.text {
			t.Errorf("%s with the password %q: %d, %q", tt.path, tt.password, status, text)
		}
	}
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if response, err := plain.Get("http" + strings.TrimPrefix(g.url, "https") + "/livez"); err == nil {
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Error("the listener answers plain HTTP as well")
		}
	}
}

// TestWebConfigIsReadAgain: users who are taken out of the file are out at once.
func TestWebConfigIsReadAgain(t *testing.T) {
	t.Parallel()
	g := guard(t, users, admin.Options{Web: admin.Web{Users: true}})
	if status, _ := g.get("/metrics", "open sesame"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if err := os.WriteFile(g.file, []byte(strings.ReplaceAll(users, "scraper", "another")), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := g.get("/metrics", "open sesame"); status != http.StatusUnauthorized {
		t.Errorf("status %d after the user was taken out", status)
	}
	if err := os.WriteFile(g.file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := g.get("/metrics", "open sesame"); status != http.StatusInternalServerError {
		t.Errorf("status %d with a file that cannot be read", status)
	}
	if status, _ := g.get("/livez", ""); status != http.StatusOK {
		t.Errorf("a file that cannot be read is the end of callbackd: status %d", status)
	}
}

// TestClientCertificates: who has none does not get in; a token is asked for beside them.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	const text = "tls_server_config: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}\n"
	g := guard(t, text, admin.Options{Web: admin.Web{TLS: true, Certificates: true}, Token: "a long enough token", API: admin.NewAPI(nil, nil)})
	if status, _ := g.get("/readyz", ""); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if status, body := g.get("/debug/pprof/cmdline", ""); status != http.StatusUnauthorized || !strings.Contains(body, "admin.token_file") {
		t.Errorf("profiles without the token: %d, %s", status, body)
	}
	g.client.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	if response, err := g.client.Get(g.url + "/readyz"); err == nil {
		response.Body.Close()
		t.Error("who has no certificate got in")
	}
}

// TestStopWithWebConfig: a silent connection does not hold up the end of a listener with TLS either.
func TestStopWithWebConfig(t *testing.T) {
	t.Parallel()
	g := guard(t, withTLS, admin.Options{Web: admin.Web{TLS: true}})
	silent, err := net.Dial("tcp", strings.TrimPrefix(g.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if status, text := g.get("/readyz", ""); status != http.StatusOK || text != "ready\n" {
		t.Fatalf("%d, %q", status, text)
	}
	g.stop()
}

// TestWebConfigMissing: without the file that is to guard it, the listener serves nobody.
func TestWebConfigMissing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(admin.Options{Listener: l, Registry: prometheus.NewRegistry(), Web: admin.Web{File: filepath.Join(t.TempDir(), "none")}})
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("it ended with %v", err)
	}
	_ = l.Close()
}
