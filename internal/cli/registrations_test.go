package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/cli"
	"callbackd/internal/thingspace/platform"
)

const (
	uwsPassword      = "uws-c4nary" // of the API user
	callbackPassword = "callback-c4nary"

	firstAccount, secondAccount = "0212345678-00001", "0212345678-00002"
)

func newSimulator(t *testing.T) *platform.Simulator {
	t.Helper()
	login := platform.Credentials{Username: "api", Password: uwsPassword}
	s, err := platform.New(platform.Options{Profile: platform.Profiles()[0], ListPasswords: true,
		Accounts: []platform.Account{{Name: firstAccount, Login: login}, {Name: secondAccount, Login: login}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// simulate starts a platform with two accounts on loopback, and returns its URL.
func simulate(t *testing.T) (*platform.Simulator, string) {
	t.Helper()
	s := newSimulator(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + l.Addr().String() + "/api/v2"
}

// configured writes a configuration that registers at a platform, and what belongs to it.
func configured(t *testing.T, platformURL, more string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "callbackd.yaml")
	put(t, filepath.Join(dir, "uws"), uwsPassword+"\n")
	put(t, filepath.Join(dir, "wrong"), "wrong-"+uwsPassword+"\n")
	put(t, file, `data_dir: data
platform: {url: "`+platformURL+`", timeout: 5s}
credentials:
  - {label: main, id: first, username: acme, password: `+callbackPassword+`}
  - {label: other, username: other, password: `+callbackPassword+`-2}
handlers: {audit: {type: log}}
routes: [{handlers: [audit]}]
`+more)
	return file
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// registrations runs a command of `registrations`, and checks that it shows no password.
func registrations(t *testing.T, file, command string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	args := append([]string{"registrations", "--config", file}, strings.Fields(command)...)
	code = cli.Main(t.Context(), args, strings.NewReader(""), &out, &errOut)
	noPassword(t, command, out.String()+errOut.String())
	return code, out.String(), errOut.String()
}

func noPassword(t *testing.T, command, output string) {
	t.Helper()
	if strings.Contains(output, "c4nary") {
		t.Errorf("%s shows a password:\n%s", command, output)
	}
}

const services = `services:
  DeviceUsage: {listen: 127.0.0.1:28204, public_url: "http://127.0.0.1:28204/usage"}
  EnhancedConnectivityService: {listen: 127.0.0.1:28205, public_url: "http://127.0.0.1:28205/"}
  PromoChange: {listen: 127.0.0.1:28208}
`

// TestNoCommandShowsAPassword, be it in a table or for scripts, when it succeeds, when the platform refuses the log-in, and when it does not
// answer. The simulator tells passwords in its lists, as the platform may.
func TestNoCommandShowsAPassword(t *testing.T) {
	t.Parallel()
	commands := []string{"plan", "apply --dry-run", "apply", "list", "register DeviceUsage --url http://127.0.0.1:28204/other", "register DeviceUsage",
		"rotate", "start-sms", "unregister DeviceUsage"}
	s, url := simulate(t)
	for _, at := range []struct {
		name, url, password string
		works               bool
	}{
		{"which is reached", url, "uws", true},
		{"which refuses the log-in", url, "wrong", false},
		{"which is not there", "http://127.0.0.1:1/api/v2", "uws", false},
	} {
		for _, format := range []string{" -o json", ""} {
			file := configured(t, at.url, "accounts: [{name: "+firstAccount+", credentials: main, uws_username: api, uws_password_file: "+at.password+"}]\n"+services)
			for i, command := range commands {
				if !at.works && (format == "") != (i%2 == 0) {
					continue // each once: comparing with a refused log-in is slow, as it is meant to be
				}
				code, out, errOut := registrations(t, file, command+format)
				if at.works != (code == 0) {
					t.Errorf("%s at a platform %s: exit code %d\n%s%s", command, at.name, code, out, errOut)
				}
			}
			if code, _, errOut := registrations(t, file, "register DeviceUsage --url http://a:"+uwsPassword+"@b/"); code != 2 {
				t.Errorf("a password in --url: exit code %d, %s", code, errOut)
			}
			if !at.works {
				continue
			}
			if code, out, errOut := registrations(t, file, "unregister EnhancedConnectivityService"); code != 0 {
				t.Errorf("unregister: %d\n%s%s", code, out, errOut)
			}
			if left := s.Registrations(); len(left) > 0 {
				t.Errorf("left registered: %v", left)
			}
		}
	}
}

// TestARefusedLogInIsTriedOnce by all commands together, also when two run at once: five would lock the user.
func TestARefusedLogInIsTriedOnce(t *testing.T) {
	t.Parallel()
	s, url := simulate(t)
	file := configured(t, url, "accounts: [{name: "+firstAccount+", credentials: main, uws_username: api, uws_password_file: wrong}]\n"+services)
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			if code, out, errOut := registrations(t, file, "apply"); code != 1 {
				t.Errorf("apply: exit code %d\n%s%s", code, out, errOut)
			}
		})
	}
	running.Wait()
	for _, command := range []string{"list", "plan -o json", "start-sms"} {
		code, _, errOut := registrations(t, file, command)
		if code != 1 || !strings.Contains(errOut, "not tried again") || !strings.Contains(errOut, filepath.Join("data", "registrations")) {
			t.Errorf("%s: exit code %d, and %s", command, code, errOut)
		}
	}
	if tried := logIns(s); tried != 1 {
		t.Errorf("%d log-ins", tried)
	}
	put(t, filepath.Join(filepath.Dir(file), "wrong"), uwsPassword+"\n")
	if code, _, errOut := registrations(t, file, "list"); code != 0 || logIns(s) != 2 {
		t.Errorf("with the right password: exit code %d after %d log-ins: %s", code, logIns(s), errOut)
	}
}

// moving is a configuration of two services that are registered, and are to be registered elsewhere. before is asked at each register that
// follows, in the gap, whether the platform gets to see it.
func moving(t *testing.T, before func() (goes bool)) (s *platform.Simulator, file string) {
	t.Helper()
	s = newSimulator(t)
	var changing atomic.Bool
	simulator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if changing.Load() && strings.HasSuffix(r.Header.Get("SOAPAction"), `/RegisterCallback"`) && !before() {
			return
		}
		s.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(simulator.Close)
	file = configured(t, simulator.URL+"/api/v2", "accounts: [{name: "+firstAccount+", credentials: main, uws_username: api, uws_password_file: uws}]\n"+services)
	if code, out, errOut := registrations(t, file, "apply"); code != 0 {
		t.Fatalf("apply: %d\n%s%s", code, out, errOut)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, file, strings.NewReplacer(`28204/usage"`, `28204/moved"`, `28205/"`, `28205/moved"`).Replace(string(text)))
	changing.Store(true)
	return s, file
}

// TestAnInterruptLeavesNoServiceWithoutListener, and whoever sent it is told what is waited for.
func TestAnInterruptLeavesNoServiceWithoutListener(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	s, file := moving(t, func() bool { interrupt(); return true })
	var out, errOut bytes.Buffer
	code := cli.Main(ctx, []string{"registrations", "apply", "-o", "json", "--config", file}, strings.NewReader(""), &out, &errOut)
	held := s.Registrations()
	if code != 1 || len(held) != 2 || held[0].URL != "http://127.0.0.1:28204/moved" || held[1].URL != "http://127.0.0.1:28205/" {
		t.Errorf("exit code %d, registered: %v", code, held)
	}
	results := answers(t, out.String())[0].Results
	if !strings.Contains(errOut.String(), "stopping: the service at hand") || len(results) != 2 || results[0].Outcome != "done" || results[0].Error != "" ||
		results[1].Outcome != "skipped" || !strings.Contains(results[1].Error, "EnhancedConnectivityService: ") {
		t.Errorf("told as %s%s", out.String(), errOut.String())
	}
}

// TestAKillInTheGapIsMendedByTheNextApply: the kill of a process, which is the one thing that leaves a service without a listener.
func TestAKillInTheGapIsMendedByTheNextApply(t *testing.T) {
	t.Parallel()
	inGap, killed := make(chan struct{}), make(chan struct{})
	once := sync.OnceValue(func() bool { close(inGap); <-killed; return false })
	var again atomic.Bool
	s, file := moving(t, func() bool { return again.Load() || once() })
	apply := callbackd(t, "registrations", "apply", "--config", file)
	if err := apply.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-inGap:
	case <-time.After(30 * time.Second):
		t.Fatal("apply registers nothing")
	}
	if err := apply.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = apply.Wait() // says that it was killed
	again.Store(true)
	close(killed)
	if held := s.Registrations(); len(held) != 1 || held[0].URL != "http://127.0.0.1:28205/" {
		t.Fatalf("registered: %v, want only what was not yet begun", held)
	}
	_, out, errOut := registrations(t, file, "plan -o json")
	if steps := answers(t, out)[0].Steps; steps[0].Action != "create" || steps[1].Action != "change" {
		t.Errorf("the next plan is %s%s", out, errOut)
	}
	if code, out, errOut := registrations(t, file, "apply"); code != 0 {
		t.Errorf("apply: exit code %d\n%s%s", code, out, errOut)
	}
	if held := s.Registrations(); len(held) != 2 || held[0].URL != "http://127.0.0.1:28204/moved" || held[1].URL != "http://127.0.0.1:28205/moved" {
		t.Errorf("registered: %v", held)
	}
}

func logIns(s *platform.Simulator) (n int) {
	for _, u := range s.LogIns().Users {
		n += u.Accepted + u.Refused
	}
	return n + s.LogIns().Unknown
}

// accountAnswer is what scripts read of an account.
type accountAnswer struct {
	Account       string
	Error         string
	Changes       *int
	Registrations []struct{ Service, URL, Managed string }
	Steps         []struct {
		Service, Action string
		Blocked         bool
	}
	Results []struct{ Service, Outcome, Error string }
}

func answers(t *testing.T, stdout string) (list []accountAnswer) {
	t.Helper()
	if err := json.Unmarshal([]byte(stdout), &list); err != nil {
		t.Fatalf("%v in\n%s", err, stdout)
	}
	return list
}

func TestAnAccountThatFailsKeepsNothingFromTheOthers(t *testing.T) {
	t.Parallel()
	s, url := simulate(t)
	file := configured(t, url, `accounts:
  - {name: `+firstAccount+`, credentials: main, uws_username: api, uws_password_env: CALLBACKD_TEST_UNSET}
  - {name: `+secondAccount+`, credentials: other, uws_username: api, uws_password_file: uws}
`+services)
	code, out, errOut := registrations(t, file, "apply -o json")
	a := answers(t, out)
	if code != 1 || len(a) != 2 || !strings.Contains(a[0].Error, "CALLBACKD_TEST_UNSET is not set") || a[0].Changes != nil || a[1].Error != "" ||
		*a[1].Changes != 2 || len(a[1].Results) != 2 || a[1].Results[0].Outcome != "done" {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
	if !strings.Contains(errOut, "account "+firstAccount+": ") {
		t.Errorf("the failure is told as %s", errOut)
	}
	if held := s.Registrations(); len(held) != 2 || held[0].Account != secondAccount || held[0].Credentials.Username != "other" {
		t.Errorf("registered: %v", held)
	}
	code, out, _ = registrations(t, file, "list")
	if code != 1 || !strings.Contains(out, "Account "+firstAccount+" at "+url+"\nAccount "+secondAccount+" at "+url+"\nSERVICE") {
		t.Errorf("exit code %d, %s", code, out)
	}
	if code, out, errOut := registrations(t, file, "plan -o json --account "+secondAccount); code != 0 || *answers(t, out)[0].Changes != 0 {
		t.Errorf("of one account: exit code %d, %s%s", code, out, errOut)
	}
	if code, _, errOut := registrations(t, file, "register DeviceUsage"); code != 2 || !strings.Contains(errOut, "--account") {
		t.Errorf("at neither account: exit code %d, %s", code, errOut)
	}
}

// TestTheNewestPairThatCoversTheServiceIsRegistered, and rotate registers it in the place of another.
func TestTheNewestPairThatCoversTheServiceIsRegistered(t *testing.T) {
	t.Parallel()
	s, url := simulate(t)
	file := configured(t, url, "accounts: [{name: "+firstAccount+", credentials: main, uws_username: api, uws_password_file: uws}]\n"+services)
	if code, out, errOut := registrations(t, file, "apply"); code != 0 {
		t.Fatalf("apply: %d\n%s%s", code, out, errOut)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, file, strings.Replace(string(text), "  - {label: other",
		"  - {label: main, id: new, username: acme, password: new-c4nary, services: [DeviceUsage]}\n  - {label: other", 1))
	if code, out, _ := registrations(t, file, "apply -o json"); code != 0 || *answers(t, out)[0].Changes != 0 {
		t.Errorf("apply registers again, which only rotate should: %s", out)
	}
	if code, out, errOut := registrations(t, file, "rotate DeviceUsage"); code != 0 || !strings.Contains(out, "up to 15 minutes") {
		t.Errorf("rotate: %d\n%s%s", code, out, errOut)
	}
	held := s.Registrations()
	if len(held) != 2 || held[0].Credentials.Password != "new-c4nary" || held[1].Credentials.Password != callbackPassword {
		t.Errorf("%d registered; is the first registered with the new pair, and the second as before?", len(held))
	}
}

// TestAURLThatThePlatformRefusesIsNotRegistered: with a platform that is no simulator on loopback, as far as callbackd can see. The log-in
// reaches it over TLS and a proxy.
func TestAURLThatThePlatformRefusesIsNotRegistered(t *testing.T) {
	t.Parallel()
	s := newSimulator(t)
	far := httptest.NewTLSServer(s.Handler()) // whose certificate is for example.com
	t.Cleanup(far.Close)
	proxy := httptest.NewServer(tunnel(t, far.Listener.Addr().String()))
	t.Cleanup(proxy.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	put(t, roots, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: far.Certificate().Raw})))
	untrusted := selfSigned(t)

	file := configured(t, "https://example.com/api/v2", "accounts: [{name: "+firstAccount+", credentials: main, uws_username: api, uws_password_file: uws}]\n"+
		"services: {DeviceUsage: {listen: 127.0.0.1:28204, public_url: \""+untrusted+"\"}, PromoChange: {listen: 127.0.0.1:28208}}\n")
	run := func(command string) (code int, output string) {
		c := callbackd(t, append([]string{"registrations", "--config", file}, strings.Fields(command)...)...)
		c.Env = append(os.Environ(), "SSL_CERT_FILE="+roots, "HTTPS_PROXY="+proxy.URL, "NO_PROXY=")
		text, _ := c.CombinedOutput() // the exit code tells
		noPassword(t, command, string(text))
		return c.ProcessState.ExitCode(), string(text)
	}
	for _, want := range []struct {
		command string
		code    int
		texts   []string
	}{
		{"apply", 1, []string{"nothing was changed", "--allow port", "--allow certificate"}},
		{"apply --allow port", 1, []string{"nothing was changed", "--allow certificate"}},
		{"plan", 0, []string{"warning: would be refused", "--allow port", "address: 127.0.0.1 is a loopback address"}},
		{"register PromoChange --url http://127.0.0.1:28208/", 1, []string{"nothing was changed", "--allow http"}},
		{"register PromoChange --url http://127.0.0.1:28208/ --allow frob", 2, []string{"none of http, port, certificate"}},
		{"register PromoChange --url ftp://127.0.0.1/ --allow http,port,certificate", 1, []string{"nothing was changed", "https://"}},
		{"register PromoChange --url http://127.0.0.1:28208/ --allow http", 0, []string{"warning: PromoChange: http"}},
		{"apply --allow port,certificate --take-over http://127.0.0.1:28208/", 0, []string{"warning: DeviceUsage: certificate", "done"}},
	} {
		code, output := run(want.command)
		if code != want.code {
			t.Errorf("%s: exit code %d\n%s", want.command, code, output)
		}
		for _, text := range want.texts {
			if !strings.Contains(output, text) {
				t.Errorf("%s does not say %q:\n%s", want.command, text, output)
			}
		}
	}
	if held := s.Registrations(); len(held) != 1 || held[0].URL != untrusted {
		t.Errorf("registered: %v", held)
	}
}

// selfSigned is the URL of a listener whose certificate nobody trusts, on a port that the platform does not take.
func selfSigned(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // nobody trusts it, as it is meant to be
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ownCertificate(t)}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL + "/"
}

func ownCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	certPEM, keyPEM, err := certificatePEM()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// tunnel is a proxy for CONNECT that leads to one address, whatever it is asked for.
func tunnel(t *testing.T, address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "example.com:443" {
			t.Errorf("the proxy is asked for %s %s", r.Method, r.Host)
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		to, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		var copying sync.WaitGroup
		copying.Go(func() {
			_, _ = io.Copy(to, buffered)
			_ = to.(*net.TCPConn).CloseWrite()
		})
		_, _ = io.Copy(from, to)
		_ = from.Close()
		copying.Wait()
	})
}
