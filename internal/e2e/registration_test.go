package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// operator is somebody with a shell: every program is a process of its own.
type operator struct {
	t       testing.TB
	program string
	dir     string
	started []*running
}

// running is a program that was started.
type running struct {
	*exec.Cmd
	ended chan struct{} // closed when it has
	err   error         // how
}

func newOperator(t testing.TB) *operator {
	t.Helper()
	o := &operator{t: t, program: build(t), dir: t.TempDir()}
	t.Cleanup(func() { // of what a failed test leaves running
		for _, r := range o.started {
			_ = r.Process.Kill()
			<-r.ended
		}
	})
	return o
}

// write writes a file into the operator's folder and returns its path.
func (o *operator) write(name, text string) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// run runs a command to its end and wants an exit code.
func (o *operator) run(code int, args ...string) (stdout string) {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), o.program, args...)
	var out, errOut bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.dir, &out, &errOut
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		o.t.Fatalf("callbackd %s: %v, want exit code %d\n%s%s", strings.Join(args, " "), err, code, &out, &errOut)
	}
	return out.String()
}

// start starts a program, and waits until it answers at an address.
func (o *operator) start(url string, args ...string) *running {
	o.t.Helper()
	log := &buffer{}
	r := &running{Cmd: exec.Command(o.program, args...), ended: make(chan struct{})}
	r.Dir, r.Stdout, r.Stderr = o.dir, log, log
	if err := r.Start(); err != nil {
		o.t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		r.err = r.Wait()
	}()
	o.started = append(o.started, r)
	o.t.Cleanup(func() {
		if o.t.Failed() {
			o.t.Logf("callbackd %s:\n%s", strings.Join(args, " "), log)
		}
	})
	until(o.t, "callbackd "+strings.Join(args, " ")+" answers", func() bool {
		select {
		case <-r.ended:
			o.t.Fatalf("callbackd %s ended by itself: %v", strings.Join(args, " "), r.err)
		default:
		}
		response, err := http.Get(url)
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
	return r
}

// stop stops a program as an operator does.
func (o *operator) stop(r *running) {
	o.t.Helper()
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		o.t.Fatal(err)
	}
	if <-r.ended; r.err != nil {
		o.t.Errorf("%s ended with %v", strings.Join(r.Args, " "), r.err)
	}
}

// site is one receiver of all services, registered with a platform.
type site struct {
	*operator
	name, admin string
	listeners   map[callback.Service]string
	platform    string // its address
}

// newSite makes a site that is to be reached at listeners of its own.
func (o *operator) newSite(name, platform string) *site {
	o.t.Helper()
	s := &site{operator: o, name: name, platform: platform, admin: freeAddress(o.t), listeners: make(map[callback.Service]string)}
	for _, info := range callback.Catalogue() {
		s.listeners[info.Service] = freeAddress(o.t)
	}
	return s
}

// configure writes the site's configuration, with the pairs of its callbacks, and returns the flag that names it. Without public URLs it
// wants nothing registered.
func (s *site) configure(public bool, pairs ...string) string {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %s.data\nadmin: {listen: %q}\nlog: {level: warn}\nplatform: {url: %q}\n", s.name, s.admin, "http://"+s.platform+"/api/v2")
	fmt.Fprintf(&b, "accounts: [{name: %s, credentials: main, uws_username: %s, uws_password_file: uws.password}]\ncredentials:\n", account, logIn.Username)
	for _, pair := range pairs {
		fmt.Fprintf(&b, "  - {label: main, id: %[1]s, username: acme, password: %[1]s-pass}\n", pair)
	}
	b.WriteString("services:\n")
	for _, info := range callback.Catalogue() {
		address, url := s.listeners[info.Service], ""
		if public {
			url = fmt.Sprintf(", public_url: %q", "http://"+address+"/")
		}
		fmt.Fprintf(&b, "  %s: {listen: %q%s}\n", info.Service, address, url)
	}
	fmt.Fprintf(&b, "handlers: {events: {type: ndjson, path: %s.ndjson}}\nroutes: [{handlers: [events]}]\n", s.name)
	return "--config=" + s.write(s.name+".yaml", b.String())
}

// serve starts the site's receiver and waits until it is ready.
func (s *site) serve(config string) *running {
	return s.start("http://"+s.admin+"/readyz", "serve", config)
}

// send has the platform send a message for each service so often, and wants each acknowledged.
func (s *site) send(rounds int, seed string) platform.Report {
	s.t.Helper()
	count := rounds * len(callback.Catalogue())
	out := s.run(0, "platform", "send", "--platform", "http://"+s.platform, "--count", fmt.Sprint(count), "--seed", seed, "-o", "json")
	var report platform.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		s.t.Fatalf("platform send: %v\n%s", err, out)
	}
	if report.Total.Sent != count || report.Total.Acked != count || report.Total.Repeats != 0 {
		s.t.Errorf("of %d messages: %+v", count, report.Total.Tally)
	}
	return report
}

// handled waits until the handler has so many events of so many services.
func (s *site) handled(events, services int) {
	s.t.Helper()
	got := func() (n int, seen []string) {
		for id, list := range eventsIn(s.t, filepath.Join(s.dir, s.name+".ndjson")) {
			if n++; len(list) != 1 {
				s.t.Errorf("%s was handled %d times", id, len(list))
			}
			if !slices.Contains(seen, list[0].Service) {
				seen = append(seen, list[0].Service)
			}
		}
		return n, seen
	}
	until(s.t, fmt.Sprintf("%s has handled %d callbacks", s.name, events), func() bool {
		n, _ := got()
		return n >= events
	})
	if n, seen := got(); n != events || len(seen) != services {
		s.t.Errorf("%s has handled %d callbacks of %d services, want %d of %d", s.name, n, len(seen), events, services)
	}
}

// bore is how many callbacks bore a pair since the receiver was started.
func (s *site) bore(id string) int {
	s.t.Helper()
	in := instance{t: s.t, Addresses: app.Addresses{Admin: s.adminAddr()}}
	return int(in.metric("callbackd_credential_matches_total", `id="`+id+`"`))
}

func (s *site) adminAddr() net.Addr {
	s.t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", s.admin)
	if err != nil {
		s.t.Fatal(err)
	}
	return addr
}

// held is the URL that the platform holds for each service, as `registrations list` tells.
func (s *site) held(config string) map[string]string {
	s.t.Helper()
	var accounts []struct {
		Registrations []struct{ Service, URL string }
	}
	out := s.run(0, "registrations", "list", config, "-o", "json")
	if err := json.Unmarshal([]byte(out), &accounts); err != nil || len(accounts) != 1 {
		s.t.Fatalf("registrations list: %v\n%s", err, out)
	}
	held := make(map[string]string)
	for _, r := range accounts[0].Registrations {
		if r.URL != "" {
			held[r.Service] = r.URL
		}
	}
	return held
}

// holds wants the platform to send every service to this site.
func (s *site) holds(config string) {
	s.t.Helper()
	held := s.held(config)
	for service, address := range s.listeners {
		if want := "http://" + address + "/"; held[string(service)] != want {
			s.t.Errorf("%s is sent to %q, want %q", service, held[string(service)], want)
		}
	}
}

// TestAnOperatorsDay goes through the life of a registration with the program's own commands: platform and receivers are processes of their
// own. Production is registered and receives; a test site cannot take it over by accident; the password is changed without a loss, though
// the platform goes on with the old one; the test site takes over when told to; and in the end nothing is registered.
func TestAnOperatorsDay(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	uws := o.write("uws.password", logIn.Password+"\n")
	at := freeAddress(t)
	simulator := o.start("http://"+at+"/control/registrations", "platform", "serve", "--listen", at, "--account", account, "--username", logIn.Username, "--password-file", uws,
		"--profile", "observed", "--clock", "30")
	production, staging := o.newSite("production", at), o.newSite("staging", at)
	services := len(callback.Catalogue())

	first := production.configure(true, "first")
	receiver := production.serve(first)
	if plan := o.run(0, "registrations", "plan", first); strings.Count(plan, "\ncreate") != services {
		t.Errorf("the plan is\n%s", plan)
	}
	if held := production.held(first); len(held) != 0 {
		t.Errorf("a plan has registered %v", held)
	}
	o.run(0, "registrations", "apply", first)
	production.holds(first)
	production.send(3, "1")
	production.handled(3*services, services)

	// A test configuration that names the same services.
	test := staging.configure(true, "first", "second")
	testReceiver := staging.serve(test)
	o.run(1, "registrations", "apply", test)
	production.holds(first)

	// The password is changed. The platform goes on with the old one for minutes, which are 20 seconds by its clock.
	o.stop(receiver)
	both := production.configure(true, "first", "second")
	receiver = production.serve(both)
	o.run(0, "registrations", "rotate", both)
	production.holds(both)
	production.send(3, "2")
	production.handled(6*services, services)
	if old, other := production.bore("first"), production.bore("second"); old != 3*services || other != 0 {
		t.Errorf("%d callbacks bore the old pair and %d the new one", old, other)
	}

	var takeOver []string
	for _, address := range production.listeners {
		takeOver = append(takeOver, "--take-over=http://"+address+"/")
	}
	o.run(0, append([]string{"registrations", "apply", test}, takeOver...)...)
	staging.holds(test)
	staging.send(2, "3")
	staging.handled(2*services, services)
	production.handled(6*services, services)

	o.run(0, "registrations", "apply", staging.configure(false, "second"))
	if held := staging.held(test); len(held) != 0 {
		t.Errorf("the platform still holds %v", held)
	}
	if archive := o.run(0, "platform", "archive", "list", "--platform", "http://"+at, "-o", "json"); strings.TrimSpace(archive) != "[]" {
		t.Errorf("the platform's archive holds %s", archive)
	}
	o.stop(simulator)
	o.stop(testReceiver)
	o.stop(receiver)
}
