package app_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"callbackd/internal/app"
)

// operators gets a page of an admin listener that speaks TLS, on a connection of its own.
func (r *running) operators(path string) string {
	r.t.Helper()
	answer, err := r.client().HTTP.Get("https://" + r.Addresses().Admin.String() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// TestAWebConfigIsWatched: the listener takes a change of it by itself, and what else callbackd makes of it follows: when its certificate
// expires, whether a broken one is told, and what takes a restart.
func TestAWebConfigIsWatched(t *testing.T) {
	t.Parallel()
	const plain = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
	r := start(t, strings.Replace(head, ":0}", ":0, web_config_file: web.yml}", 1)+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\n",
		func(r *running) { r.write("web.yml", plain) })
	shows := func(what string) func() bool {
		return func() bool { return strings.Contains(r.operators("/metrics"), what) }
	}
	if !shows(`callbackd_certificate_expiry_timestamp_seconds{service="admin"} 1.`)() {
		t.Error("no metric tells when the certificate of the admin listener expires")
	}
	until := time.Now().Add(1000 * time.Hour).Truncate(time.Second)
	certificate, key := r.root.IssueUntil(t, until, "127.0.0.1")
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	r.write("tls.key", string(key))
	r.write("tls.crt", string(certificate))
	r.until("the metric of the new certificate",
		shows(fmt.Sprintf(`callbackd_certificate_expiry_timestamp_seconds{service="admin"} %v`, float64(pair.Leaf.NotAfter.Unix()))))
	r.until("what was applied", func() bool { return strings.Contains(r.log.String(), `"applied":["admin.web_config_file"]`) })

	r.write("web.yml", plain+"http_server_config: {nonsense: true}\n")
	r.until("a web-config that is broken", func() bool {
		return strings.Contains(r.log.String(), "the configuration is rejected") && strings.Contains(r.log.String(), "admin.web_config_file")
	})
	certificate, key = r.root.IssueUntil(t, time.Now().Add(-time.Hour), "127.0.0.1")
	r.write("tls.key", string(key))
	r.write("tls.crt", string(certificate))
	r.write("web.yml", plain)
	if answer := r.reload(); !strings.Contains(strings.Join(answer.Problems, "\n"), "warning: admin.web_config_file: ") {
		t.Errorf("with an expired certificate: %+v", answer)
	}
	r.write("web.yml", "")
	if answer := r.reload(); answer.Result == app.ReloadRejected || strings.Join(answer.RestartNeeded, " ") != "admin.web_config_file" {
		t.Errorf("without TLS: %+v", answer)
	}
}
