package doctor_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/doctor"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/thingspace/platform"

	"go.uber.org/zap"
)

// head is a configuration without services, handlers and routes, for a simulator that does not run.
const head = `data_dir: data
admin: {listen: 127.0.0.1:0}
credentials: [{label: main, username: acme, password: s3cret-pass}]
platform: {url: http://127.0.0.1:1/api/v2}
`

const tail = `
handlers: {audit: {type: log}}
routes: [{handlers: [audit]}]
`

// load reads a configuration from dir, with what `check` would say of it.
func load(t *testing.T, dir, text string) doctor.Options {
	t.Helper()
	path := filepath.Join(dir, "callbackd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems, err := config.Load(path, builtin.Types())
	if err != nil {
		t.Fatalf("%v\n%v", err, problems)
	}
	return doctor.Options{Config: c, Problems: problems, Version: "test"}
}

// serve runs a callbackd until stop is called, and returns once it receives.
func serve(t *testing.T, c *config.Config) (a *app.App, stop func()) {
	t.Helper()
	a, err := app.New(t.Context(), app.Options{Config: c, Log: zap.NewNop(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(stop)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 6000 {
		status, err := app.AskStatus(t.Context(), c)
		if err == nil && !slices.ContainsFunc(status.Complaints, func(c app.Complaint) bool { return c.Check == "listeners" }) {
			return a, stop
		}
		<-tick.C
	}
	t.Fatal("it does not receive")
	return nil, nil
}

// findings are those of one examination.
type findings []doctor.Finding

func examine(t *testing.T, o doctor.Options) (list findings) {
	t.Helper()
	doctor.Examine(t.Context(), o, func(f doctor.Finding) { list = append(list, f) })
	return list
}

// has expects a finding of a check, and returns it.
func (list findings) has(t *testing.T, check string, level doctor.Level, found string) doctor.Finding {
	t.Helper()
	var told []string
	for _, f := range list {
		if f.Check != check {
			continue
		}
		if f.Level == level && regexp.MustCompile(found).MatchString(f.Found) {
			if f.Advice == "" && (level == doctor.Warn || level == doctor.Fail) && check != "configuration" {
				t.Errorf("%+v says not what to do", f)
			}
			return f
		}
		told = append(told, fmt.Sprintf("%+v", f))
	}
	t.Errorf("%s has no %s %q but\n%s", check, level, found, strings.Join(told, "\n"))
	return doctor.Finding{}
}

// fine expects that checks have nothing against anything.
func (list findings) fine(t *testing.T, checks ...string) {
	t.Helper()
	for _, check := range checks {
		seen := false
		for _, f := range list {
			seen = seen || f.Check == check && f.Level == doctor.OK
			if f.Check == check && (f.Level == doctor.Warn || f.Level == doctor.Fail) {
				t.Errorf("%+v", f)
			}
		}
		if !seen {
			t.Errorf("%s has nothing that is ok", check)
		}
	}
}

// freePort is one of 127.0.0.1, below those that the system hands out by itself.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 14000 + os.Getpid()%8000; port < 28000; port++ {
		if _, taken := taken.LoadOrStore(port, nil); taken {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var taken sync.Map // ports that a test of this process has

func TestTheConfigurationsProblemsAreFindings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "callback.password"), []byte("s3cret-pass\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := `data_dir: data
admin: {listen: 127.0.0.1:0}
credentials: [{label: main, username: acme, password_file: callback.password}]
network: {mode: observe}
services: {DeviceUsage: {listen: 127.0.0.1:12345}}` + tail
	o := load(t, dir, text)
	o.Offline = true
	list := examine(t, o)
	list.has(t, "configuration", doctor.Warn, `callback.password can be read by everybody on this machine: chmod 600`)
	f := list.has(t, "configuration", doctor.Fail, `^services.DeviceUsage.listen: the platform registers no URL with port 12345`)
	if f.Subject != filepath.Join(dir, "callbackd.yaml")+":5" {
		t.Errorf("the place is %q", f.Subject)
	}
	list.has(t, "url", doctor.Skipped, "--offline")

	if err := os.Chmod(filepath.Join(dir, "callback.password"), 0o600); err != nil {
		t.Fatal(err)
	}
	o = load(t, dir, strings.Replace(text, ":12345", ":28204", 1))
	o.Offline = true
	examine(t, o).fine(t, "configuration")
}

func TestAPortIsFreeOrTakenOrHeldByTheCallbackdThatRuns(t *testing.T) {
	t.Parallel()
	port, other := freePort(t), freePort(t)
	text := head + "services: {DeviceUsage: {listen: '127.0.0.1:%d'}, PromoChange: {listen: '127.0.0.1:%d', path: /promo}}" + tail
	dir := t.TempDir()
	o := load(t, dir, fmt.Sprintf(text, port, port))
	list := examine(t, o)
	list.has(t, "running", doctor.OK, "no callbackd runs on "+o.Config.DataDir)
	list.fine(t, "ports")
	if f := list.has(t, "ports", doctor.OK, "^free$"); !strings.Contains(f.Subject, "services.DeviceUsage.listen, services.PromoChange.listen") {
		t.Errorf("a port that services share is told as %q", f.Subject)
	}

	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	f := examine(t, o).has(t, "ports", doctor.Fail, "address already in use")
	if !strings.Contains(f.Advice, fmt.Sprintf("`ss -ltnp sport = :%d`", port)) {
		t.Errorf("advice is %q", f.Advice)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	serve(t, o.Config)
	list = examine(t, o)
	list.fine(t, "running", "ports")
	list.has(t, "running", doctor.OK, fmt.Sprintf("callbackd test runs as process %d", os.Getpid()))
	list.has(t, "ports", doctor.OK, "held by the callbackd that runs")
	newer := o
	newer.Version = "newer"
	examine(t, newer).has(t, "running", doctor.Warn, "callbackd test runs .* and this is newer")
	o.Config = load(t, dir, fmt.Sprintf(text, port, other)).Config
	examine(t, o).has(t, "ports", doctor.Warn, "^free, and the callbackd that runs does not listen there$")
	o.Config = load(t, dir, fmt.Sprintf(text, other, port)).Config
	examine(t, o).has(t, "ports", doctor.Warn, "^free, and the callbackd that runs does not listen there$")
	o.Config = load(t, dir, strings.Replace(fmt.Sprintf(text, port, other), "DeviceUsage", "StateService", 1)).Config
	examine(t, o).has(t, "ports", doctor.Warn, "^held by the callbackd that runs, for another listener$")
}

func TestWhoMaySend(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		network string
		level   doctor.Level
		found   string
	}{
		"observe":        {"{mode: observe, allow: [192.0.2.0/24]}", doctor.Warn, "everybody may connect"},
		"published only": {"{mode: enforce, allow: [thingspace]}", doctor.Warn, "no addresses but the published ones"},
		"everybody":      {"{mode: enforce, allow: [0.0.0.0/0]}", doctor.Warn, "holds every address"},
		"as it should":   {"{mode: enforce, allow: [thingspace, 192.0.2.0/24]}", doctor.OK, "^mode is enforce, with 2 entries"},
		"proxy": {"{mode: enforce, allow: [192.0.2.0/24], proxy: x-forwarded-for, trusted_proxies: [10.0.0.5]}", doctor.OK,
			`^\[10.0.0.5\] are believed whom they stand for, by x-forwarded-for`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := load(t, t.TempDir(), head+"network: "+test.network+"\nservices: {DeviceUsage: {listen: '0.0.0.0:28204'}}"+tail)
			o.Offline = true
			list := examine(t, o)
			list.has(t, "network.allow", test.level, test.found)
			if strings.Contains(test.network, "enforce") && !strings.Contains(test.network, "0.0.0.0/0") {
				list.has(t, "network.allow", doctor.OK, "this machine is refused itself")
			}
		})
	}
	o := load(t, t.TempDir(), head+"services: {DeviceUsage: {listen: '127.0.0.1:28204'}}"+tail)
	examine(t, o).fine(t, "network.allow")
}

// post sends a callback to a callbackd that runs.
func post(t *testing.T, a *app.App, service callback.Service) {
	t.Helper()
	credentials := platform.Credentials{Username: "acme", Password: "s3cret-pass"}
	body := platform.NewGenerator(1, credentials).Message(service)
	response, err := http.Post("http://"+a.Addresses().Services[service].String()+"/", "text/xml", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("answered with %s", response.Status)
	}
}

func TestHandlersThatDoNotDeliverAreTold(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	dir := t.TempDir()
	o := load(t, dir, head+fmt.Sprintf(`services: {DeviceUsage: {listen: '127.0.0.1:%d'}}
handlers:
  audit: {type: log}
  events: {type: ndjson, path: missing/events.ndjson}
routes: [{handlers: [audit, events]}]
`, port))
	examine(t, o).has(t, "handlers", doctor.Skipped, "no callbackd has run yet")
	a, stop := serve(t, o.Config)
	post(t, a, callback.DeviceUsage)
	if _, err := app.Operate(t.Context(), o.Config, zap.NewNop(), app.OpPause, app.PauseRequest{Handler: "audit"}, (*app.Operator).Pause); err != nil {
		t.Fatal(err)
	}
	list := examine(t, o)
	if f := list.has(t, "handlers", doctor.Warn, "^not ready: cannot be opened; .* 1 deliveries wait"); f.Subject != "events" {
		t.Errorf("%+v", f)
	}
	if f := list.has(t, "handlers", doctor.Warn, "^paused by "); f.Advice != "callbackd handler resume audit" {
		t.Errorf("%+v", f)
	}
	stop()
	examine(t, o).has(t, "handlers", doctor.Warn, "^paused by ")

	if err := os.Mkdir(filepath.Join(dir, "missing"), 0o700); err != nil {
		t.Fatal(err)
	}
	serve(t, o.Config)
	if _, err := app.Operate(t.Context(), o.Config, zap.NewNop(), app.OpResume, app.PauseRequest{Handler: "audit"}, (*app.Operator).Resume); err != nil {
		t.Fatal(err)
	}
	examine(t, o).fine(t, "handlers")
}

func TestEachStateOfAHandler(t *testing.T) {
	t.Parallel()
	for state, want := range map[app.HandlerState]string{
		app.HandlerReady: "ok", app.HandlerStopped: "skipped", app.HandlerUnready: "warn", app.HandlerPaused: "warn", app.HandlerHeld: "warn", app.HandlerRemoved: "warn",
	} {
		list := doctor.JudgeHandler(app.HandlerStatus{Name: "events", State: state, Pending: 3, LagSeconds: 60})
		if len(list) != 1 || string(list[0].Level) != want || !strings.Contains(list[0].Found, "3 deliveries wait, the oldest for 60 s") {
			t.Errorf("%s: %+v", state, list)
		}
	}
	list := findings(doctor.JudgeHandler(app.HandlerStatus{Name: "events", State: app.HandlerReady, Dead: 2, Stuck: 1}))
	if len(list) != 3 || !strings.Contains(list[2].Found, "2 dead letters") || !strings.Contains(list[1].Found, "1 deliveries are past their time-out") {
		t.Errorf("%+v", list)
	}
}

func TestTheClockIsComparedWithThePlatforms(t *testing.T) {
	t.Parallel()
	for off, want := range map[time.Duration]doctor.Level{0: doctor.OK, 30 * time.Second: doctor.Warn, -time.Hour: doctor.Fail} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		})}
		go func() { _ = server.Serve(l) }() // ends with Close
		t.Cleanup(func() { _ = server.Close() })
		o := load(t, t.TempDir(), strings.Replace(head, "127.0.0.1:1/", l.Addr().String()+"/", 1)+"services: {DeviceUsage: {listen: '127.0.0.1:0'}}"+tail)
		o.Platform = true
		examine(t, o).has(t, "clock", want, "the Date that it answers with")
	}
	const timeOK, timeError, unsynchronised = 0, 5, 0x40
	for name, test := range map[string]struct {
		state  int
		status int32
		err    error
		want   doctor.Level
	}{
		"synchronised": {timeOK, 0, nil, doctor.OK}, "in error": {timeError, 0, nil, doctor.Warn},
		"not synchronised": {timeOK, unsynchronised, nil, doctor.Warn}, "not told": {-1, 0, os.ErrPermission, doctor.Skipped},
	} {
		if f := doctor.Synchronised(test.state, test.status, test.err); f.Level != test.want {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
