package app_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/certificate/certificatetest"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/thingspace/platform"
)

// running is a callbackd that reads its configuration again.
type running struct {
	*app.App
	t    *testing.T
	path string
	dir  string
	log  *buffer
	data string
	root *certificatetest.Authority
}

// secure is a service over TLS with a certificate of the authority of the test.
const secure = "services: {DeviceUsage: {listen: 127.0.0.1:0, tls: {cert_file: tls.crt, key_file: tls.key}}}\n"

// start runs a configuration in a folder that holds a certificate for 127.0.0.1 and what prepare puts there.
func start(t *testing.T, text string, prepare ...func(*running)) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir(), log: &buffer{}, root: certificatetest.New(t, "Root")}
	r.path = filepath.Join(r.dir, "callbackd.yaml")
	r.rotate()
	for _, p := range prepare {
		p(r)
	}
	if text != "" {
		r.write("callbackd.yaml", text)
	}
	load := func() (*config.Config, config.Problems, error) { return config.Load(r.path, builtin.Types()) }
	c, problems, err := load()
	if err != nil {
		t.Fatal(problems)
	}
	r.data = c.DataDir
	log, level, err := app.NewLevelledLogger(config.Log{Level: "info", Format: "json"}, r.log)
	if err != nil {
		t.Fatal(err)
	}
	r.App, err = app.New(t.Context(), app.Options{Config: c, Log: log, Level: level, Version: "test", Load: load})
	if err != nil {
		t.Fatal(err)
	}
	run(t, r.App)
	return r
}

func (r *running) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// rotate puts a new certificate in the place of the one that is there.
func (r *running) rotate() {
	r.t.Helper()
	certificate, key := r.root.Issue(r.t, "127.0.0.1")
	r.write("tls.key", string(key))
	r.write("tls.crt", string(certificate))
}

// reload asks for a reload, as an operator. One that was made a moment before, because a file changed, has left nothing to apply: so the
// answer's result is not looked at where a file has changed, but what is in force.
func (r *running) reload() (answer app.ReloadAnswer) {
	r.t.Helper()
	if _, err := app.Ask(r.t.Context(), r.data, app.OpReload, app.ReloadRequest{}, &answer); err != nil {
		r.t.Fatal(err)
	}
	return answer
}

func (r *running) url() string {
	return "https://" + r.Addresses().Services[callback.DeviceUsage].String() + "/"
}

// client trusts the authority of the test, and shows certificates of its own if there are any.
func (r *running) client(certificates ...tls.Certificate) *platform.Client {
	roots := x509.NewCertPool()
	roots.AddCert(r.root.Certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}, ForceAttemptHTTP2: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &platform.Client{HTTP: &http.Client{Transport: transport}}
}

func (r *running) post(client *platform.Client, as platform.Credentials) error {
	answer, err := client.Post(context.WithoutCancel(r.t.Context()), r.url(), platform.NewGenerator(1, as).Message(callback.DeviceUsage))
	if err == nil && !answer.Acked() {
		err = fmt.Errorf("answered %+v", answer)
	}
	return err
}

// leaf is the serial number of the certificate that a client of its own is shown.
func (r *running) leaf(client *platform.Client) string {
	r.t.Helper()
	answer, err := client.HTTP.Get(r.url() + "?wsdl")
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.TLS.PeerCertificates[0].SerialNumber.String()
}

// until waits for what a change of files brings about.
func (r *running) until(what string, done func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 4000 {
		if done() {
			return
		}
		<-tick.C
	}
	r.t.Fatalf("%s: in vain\n%s", what, r.log)
}

func (r *running) admin(path string) string {
	return get(r.t, "http://"+r.Addresses().Admin.String()+path)
}

// TestReloadsUnderLoadLoseNoRequest reloads certificates, credentials, the network gate, routes and a service's terms while senders post,
// each over a connection that it keeps and over one of its own each time.
func TestReloadsUnderLoadLoseNoRequest(t *testing.T) {
	t.Parallel()
	configuration := func(n int) string {
		return fmt.Sprintf(`data_dir: data
admin: {listen: 127.0.0.1:0}
credentials:
  - {label: main, id: a, username: acme, password: s3cret-pass}
  - {label: main, id: b%d, username: acme, password: another-%d}
network: {mode: enforce, allow: [loopback, 192.0.2.%d]}
services: {DeviceUsage: {listen: 127.0.0.1:0, validation: %s, tls: {cert_file: tls.crt, key_file: tls.key}}}
handlers: {events: {type: ndjson, path: events.ndjson}, audit: {type: log}}
routes: [{handlers: [%s]}]
`, n, n, n, []string{"quarantine", "observe"}[n%2], []string{"events", "audit"}[n%2])
	}
	r := start(t, configuration(0))
	const senders, reloads = 4, 10
	stop := make(chan struct{})
	var posted atomic.Int64
	var sending sync.WaitGroup
	begun := make(chan struct{}, senders)
	for n := range senders {
		sending.Go(func() {
			kept := r.client()
			generator := platform.NewGenerator(uint64(n)+1, credentials)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				client := kept
				if i%3 == 0 {
					client = r.client()
				}
				answer, err := client.Post(context.Background(), r.url(), generator.Message(callback.DeviceUsage))
				if err != nil || !answer.Acked() {
					t.Errorf("post %d: %+v, %v", i, answer, err)
					return
				}
				posted.Add(1)
				if i == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range senders {
		<-begun
	}
	first := r.leaf(r.client())
	for n := range reloads {
		before := posted.Load()
		r.rotate()
		r.write("callbackd.yaml", configuration(n+1))
		if answer := r.reload(); answer.Result == app.ReloadRejected {
			t.Fatalf("reload %d: %v", n, answer.Problems)
		}
		r.until("more posts", func() bool { return posted.Load() >= before+2*senders || t.Failed() })
	}
	close(stop)
	sending.Wait()
	if r.leaf(r.client()) == first {
		t.Error("the first certificate is still shown")
	}
	if text := r.admin("/metrics"); !strings.Contains(text, fmt.Sprintf(`callbackd_acks_total{service="DeviceUsage"} %d`+"\n", posted.Load())) {
		t.Errorf("after %d posts the metrics say\n%s", posted.Load(), text)
	}
}

// TestAnotherCertificateIsShownToWhoComesAndNobodyIsCutOff keeps a connection over the rotation.
func TestAnotherCertificateIsShownToWhoComesAndNobodyIsCutOff(t *testing.T) {
	t.Parallel()
	r := start(t, head+secure)
	old := r.client()
	first := r.leaf(old)
	r.rotate()
	r.reload()
	if now := r.leaf(r.client()); now == first {
		t.Error("a new connection is shown the old certificate")
	}
	if kept := r.leaf(old); kept != first {
		t.Error("the connection that there was is another now")
	}
	if err := r.post(old, credentials); err != nil {
		t.Errorf("over the connection that there was: %v", err)
	}
	if text := r.admin("/metrics"); !strings.Contains(text, `callbackd_certificate_expiry_timestamp_seconds{service="DeviceUsage"} 1.`) {
		t.Error("no metric tells when the certificate expires")
	}
}

// TestAFileThatChangesIsNoticed: without anybody asking, as an editor changes it, and as Kubernetes changes a mounted ConfigMap or Secret,
// by putting another link in the place of ..data.
func TestAFileThatChangesIsNoticed(t *testing.T) {
	t.Parallel()
	const configuration = "data_dir: %s\nadmin: {listen: 127.0.0.1:0}\ncredentials: [{label: main, username: acme, password_file: secrets/password}]\n" +
		"services: {DeviceUsage: {listen: 127.0.0.1:0, tls: {cert_file: secrets/tls.crt, key_file: secrets/tls.key}}}\n"
	var mount func(generation int, password string)
	r := start(t, "", func(r *running) {
		if err := os.Mkdir(filepath.Join(r.dir, "secrets"), 0o700); err != nil {
			t.Fatal(err)
		}
		mount = func(generation int, password string) {
			t.Helper()
			folder := fmt.Sprintf("..2026_11_27_%d", generation)
			certificate, key := r.root.Issue(t, "127.0.0.1")
			if err := os.Mkdir(filepath.Join(r.dir, "secrets", folder), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"password": password, "tls.crt": string(certificate), "tls.key": string(key)} {
				r.write(filepath.Join("secrets", folder, name), text)
				_ = os.Symlink(filepath.Join("..data", name), filepath.Join(r.dir, "secrets", name)) // there from the second time on
			}
			link := filepath.Join(r.dir, "secrets", "..data")
			if err := os.Symlink(folder, link+"_tmp"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link+"_tmp", link); err != nil {
				t.Fatal(err)
			}
		}
		mount(1, "s3cret-pass")
		r.write("callbackd.yaml", fmt.Sprintf(configuration, "data"))
	})
	first := r.leaf(r.client())
	if err := r.post(r.client(), credentials); err != nil {
		t.Fatal(err)
	}
	mount(2, "an0ther-pass")
	r.until("the other certificate", func() bool { return r.leaf(r.client()) != first })
	if err := r.post(r.client(), platform.Credentials{Username: "acme", Password: "an0ther-pass"}); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	if err := r.post(r.client(), credentials); err == nil {
		t.Error("the old password is taken")
	}
	r.write("callbackd.yaml", fmt.Sprintf(configuration, "data")+"shutdown: {lame_duck: 1ms}\n")
	r.until("the key that was added", func() bool { return strings.Contains(r.log.String(), `"applied":["shutdown.lame_duck"]`) })
}

// TestABadConfigurationIsRejectedWhole, with all its problems in their places, and the one before stays in force until it is mended.
func TestABadConfigurationIsRejectedWhole(t *testing.T) {
	t.Parallel()
	r := start(t, head+secure)
	first := r.leaf(r.client())
	other, _ := r.root.Issue(t, "127.0.0.1")
	r.write("tls.crt", string(other)) // and not its key
	r.write("callbackd.yaml", strings.Replace(head, "s3cret-pass", "an0ther-pass", 1)+secure+"limits: {conections: 5}\nlog: {level: loud}\n")
	answer := r.reload()
	told := strings.Join(answer.Problems, "\n")
	for _, want := range []string{"callbackd.yaml:4:", "the key does not belong to the certificate", "callbackd.yaml:5:10: error: limits.conections: unknown key", "callbackd.yaml:6:14"} {
		if !strings.Contains(told, want) || !strings.Contains(r.log.String(), want) {
			t.Errorf("the answer or the log says not %s:\n%s\n%s", want, told, r.log)
		}
	}
	if answer.Result != app.ReloadRejected || len(answer.Applied) > 0 {
		t.Errorf("the answer is %+v", answer)
	}
	if err := r.post(r.client(), credentials); err != nil || r.leaf(r.client()) != first {
		t.Errorf("what was in force is no more: %v", err)
	}
	if text := r.admin("/readyz"); !strings.HasPrefix(text, "degraded\n") || !strings.Contains(text, "config: degraded: rejected 20") || strings.Contains(text, "pass") {
		t.Errorf("/readyz says\n%s", text)
	}
	if text := r.admin("/metrics"); !strings.Contains(text, "callbackd_config_last_reload_successful 0") {
		t.Error("the metric says that the last reload was successful")
	}
	r.rotate()
	r.write("callbackd.yaml", head+secure)
	r.until("the mended one", func() bool { r.reload(); return r.leaf(r.client()) != first })
	if text := r.admin("/readyz"); !strings.Contains(text, "config: ok") {
		t.Errorf("/readyz says\n%s", text)
	}
	if text := r.admin("/metrics"); !strings.Contains(text, "callbackd_config_last_reload_successful 1") {
		t.Error("the metric says that the last reload was not successful")
	}
}

// TestACertificateThatExpiredDoesNotTakeThePlaceOfOneThatIsValid.
func TestACertificateThatExpiredDoesNotTakeThePlaceOfOneThatIsValid(t *testing.T) {
	t.Parallel()
	r := start(t, head+secure)
	first := r.leaf(r.client())
	certificate, key := r.root.IssueUntil(t, time.Now().Add(-time.Hour), "127.0.0.1")
	r.write("tls.key", string(key))
	r.write("tls.crt", string(certificate))
	answer := r.reload()
	if answer.Result != app.ReloadRejected || !strings.Contains(strings.Join(answer.Problems, "\n"), "callbackd.yaml:4: services.DeviceUsage.tls.cert_file") {
		t.Errorf("the answer is %+v", answer)
	}
	if r.leaf(r.client()) != first {
		t.Error("the expired certificate is shown")
	}
}

// TestKeysThatTakeARestartAreNamed, and the others are in force.
func TestKeysThatTakeARestartAreNamed(t *testing.T) {
	t.Parallel()
	r := start(t, head+secure+"handlers: {audit: {type: log}}\nroutes: [{handlers: [audit]}]\n")
	r.write("callbackd.yaml", strings.Replace(head, "s3cret-pass", "an0ther-pass", 1)+secure+
		"handlers: {audit: {type: log, delivery: {timeout: 7s}}, events: {type: ndjson, path: events.ndjson}}\n"+
		"routes: [{handlers: [audit, events]}]\nlimits: {connections: 5}\nlog: {level: warn, format: console}\n")
	answer := r.reload()
	want := []string{"handlers.audit.delivery.timeout", "handlers.events", "limits.connections", "log.format", "routes[0].handlers"}
	if !slices.Equal(answer.RestartNeeded, want) {
		t.Errorf("%v need a restart, not %v", answer.RestartNeeded, want)
	}
	if err := r.post(r.client(), platform.Credentials{Username: "acme", Password: "an0ther-pass"}); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	if text := r.admin("/metrics"); !strings.Contains(text, "callbackd_config_restart_needed 1") {
		t.Error("the metric says that no restart is needed")
	}
	r.write("callbackd.yaml", head+secure+"handlers: {audit: {type: log}}\nroutes: [{handlers: [audit]}]\n")
	if answer = r.reload(); len(answer.RestartNeeded) > 0 {
		t.Errorf("with all as it was, %v need a restart", answer.RestartNeeded)
	}
	if text := r.admin("/metrics"); !strings.Contains(text, "callbackd_config_restart_needed 0") {
		t.Error("the metric says that a restart is needed")
	}
}

// TestClientsShowACertificateOfTheAuthoritiesInForce: a reload replaces those, for connections that begin after it.
func TestClientsShowACertificateOfTheAuthoritiesInForce(t *testing.T) {
	t.Parallel()
	const text = head + "services: {DeviceUsage: {listen: 127.0.0.1:0, tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: clients.crt, min_version: 1.3}}}\n"
	clients, others := certificatetest.New(t, "Clients"), certificatetest.New(t, "Others")
	r := start(t, text, func(r *running) { r.write("clients.crt", string(clients.PEM)) })
	pair := func(a *certificatetest.Authority) tls.Certificate {
		certificate, key := a.Issue(t, "client")
		p, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	known, strange := pair(clients), pair(others)
	if err := r.post(r.client(known), credentials); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := r.post(r.client(), credentials); err == nil {
		t.Error("a client without a certificate is taken")
	}
	if err := r.post(r.client(strange), credentials); err == nil {
		t.Error("a client with a certificate of others is taken")
	}
	old := r.client(known)
	old.HTTP.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	if err := r.post(old, credentials); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	r.write("clients.crt", string(others.PEM))
	r.reload()
	if err := r.post(r.client(strange), credentials); err != nil {
		t.Errorf("with a certificate of the new authority: %v", err)
	}
	if err := r.post(r.client(known), credentials); err == nil {
		t.Error("a client with a certificate of the authority before is taken")
	}
}

// TestTheLevelOfTheLogIsSetForAWhile.
func TestTheLevelOfTheLogIsSetForAWhile(t *testing.T) {
	t.Parallel()
	r := start(t, head+secure)
	level := func(to string) (answer app.LogLevelAnswer) {
		t.Helper()
		if _, err := app.Ask(t.Context(), r.data, app.OpLogLevel, app.LogLevelRequest{Level: to}, &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if got := level(""); got != (app.LogLevelAnswer{Level: "info", Configured: "info"}) {
		t.Errorf("%+v", got)
	}
	if got := level("error"); got != (app.LogLevelAnswer{Level: "error", Configured: "info"}) {
		t.Errorf("%+v", got)
	}
	quiet := len(r.log.String())
	level("")
	if text := r.log.String()[quiet:]; text != "" {
		t.Errorf("at the level error it says %s", text)
	}
	if answer := r.reload(); answer.Result != app.ReloadApplied || !slices.Equal(answer.Applied, []string{"log.level"}) {
		t.Errorf("the reload: %+v", answer)
	}
	if got := level(""); got.Level != "info" {
		t.Errorf("after the reload: %+v", got)
	}
}

// TestTheTokenOfTheAPIIsReplaced.
func TestTheTokenOfTheAPIIsReplaced(t *testing.T) {
	t.Parallel()
	const first, second = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	r := start(t, strings.Replace(head, "127.0.0.1:0}", "127.0.0.1:0, token_file: token}", 1)+secure, func(r *running) { r.write("token", first) })
	status := func(token string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addresses().Admin.String()+"/api/v1/log-level", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	if got := status(first); got != http.StatusOK {
		t.Fatalf("with the token: %d", got)
	}
	r.write("token", second)
	r.reload()
	if a, b := status(first), status(second); a != http.StatusUnauthorized || b != http.StatusOK {
		t.Errorf("the old token gets %d, the new one %d", a, b)
	}
}

// TestTheTermsOfAServiceAreReplaced: its path, and the form of the acknowledgement.
func TestTheTermsOfAServiceAreReplaced(t *testing.T) {
	t.Parallel()
	r := start(t, head+secure)
	message := platform.NewGenerator(1, credentials).Message(callback.DeviceUsage)
	post := func(path string, message []byte) (status int, body string) {
		t.Helper()
		answer, err := r.client().HTTP.Post(strings.TrimSuffix(r.url(), "/")+path, "text/xml", bytes.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if status, body := post("/", message); status != http.StatusOK || !strings.Contains(body, "Envelope") {
		t.Fatalf("%d %s", status, body)
	}
	r.write("callbackd.yaml", head+strings.Replace(secure, "DeviceUsage: {", "DeviceUsage: {path: /usage, ", 1)+"ack: empty\n")
	if answer := r.reload(); answer.Result == app.ReloadRejected || len(answer.RestartNeeded) > 0 {
		t.Fatalf("the reload: %+v", answer)
	}
	if status, _ := post("/", message); status != http.StatusNotFound {
		t.Errorf("at the path before: %d", status)
	}
	if status, body := post("/usage", message); status != http.StatusOK || body != "" {
		t.Errorf("at the new path: %d %s", status, body)
	}
}
