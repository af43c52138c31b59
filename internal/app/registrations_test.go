package app_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
	"callbackd/internal/thingspace/registration"
)

const watched = `data_dir: data
admin: {listen: 127.0.0.1:0}
platform: {url: "http://PLATFORM/api/v2"}
credentials:
  - {label: main, username: acme, password: s3cret-pass}
  - {label: other, username: other, password: s3cret-other}
  - {label: third, username: third, password: s3cret-third}
services: {DeviceUsage: {listen: "127.0.0.1:0", public_url: "http://127.0.0.1:28204/"}}
accounts:
  - {name: 0212345678-00001, credentials: main, uws_username: api, uws_password_file: uws}
  - {name: 0212345678-00002, credentials: other, uws_username: api, uws_password_file: wrong}
  - {name: 0212345678-00003, credentials: third, uws_username: api, uws_password_env: CALLBACKD_TEST_UNSET}
registrations: {watch: 1m}
`

// simulate starts a platform that knows the first two accounts.
func simulate(t *testing.T) (*platform.Simulator, net.Addr) {
	t.Helper()
	login := platform.Credentials{Username: "api", Password: "uws-s3cret"}
	s, err := platform.New(platform.Options{Profile: platform.Profiles()[0],
		Accounts: []platform.Account{{Name: "0212345678-00001", Login: login}, {Name: "0212345678-00002", Login: login}}})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	done := make(chan error, 1)
	ctx := t.Context() // which ends before the cleaning up
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr()
}

// TestARunningReceiverWatchesWhatThePlatformHolds, and one account that cannot be looked at disturbs neither the others nor the receiving.
func TestARunningReceiverWatchesWhatThePlatformHolds(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"uws": "uws-s3cret\n", "wrong": "wrong-s3cret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := load(t, dir, strings.ReplaceAll(watched, "PLATFORM", address.String()))
	c.Registrations.Watch = 50 * time.Millisecond // which no file may say
	state, err := registration.OpenState(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	operator, err := app.RegistrationClient(c, c.Accounts[0], state, "")
	if err != nil {
		t.Fatal(err)
	}
	held := registration.Registration{Account: c.Accounts[0].Name, Service: string(callback.DeviceUsage), URL: c.Services["DeviceUsage"].PublicURL}
	if err := operator.Register(t.Context(), held, registration.Login{Username: "acme", Password: "s3cret-pass"}); err != nil {
		t.Fatal(err)
	}
	a, log, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	admin := "http://" + a.Addresses().Admin.String()
	waitFor(t, admin+"/metrics", `callbackd_registration_held\{account="main",service="DeviceUsage"} 1`)
	if err := operator.Unregister(t.Context(), held.Account, held.Service); err != nil {
		t.Fatal(err)
	}
	waitFor(t, admin+"/metrics", `callbackd_registration_held\{account="main",service="DeviceUsage"} 0`)
	waitFor(t, admin+"/metrics", `callbackd_registration_look_failures_total\{account="other",reason="login_refused"} 1`)
	waitFor(t, admin+"/metrics", `callbackd_registration_look_failures_total\{account="third",reason="other"} [1-9]`)
	waitFor(t, admin+"/metrics", `callbackd_registration_last_look_timestamp_seconds\{account="third"} 0`)
	waitFor(t, admin+"/readyz", "")
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := operator.Close(t.Context()); err != nil {
		t.Error(err)
	}
	text := log.String()
	for _, want := range []string{"the platform does not hold our URL", "the platform refused the log-in", "CALLBACKD_TEST_UNSET is not set", `"part":"watch of 0212345678-00001"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "s3cret") {
		t.Errorf("the log shows a password:\n%s", text)
	}
	for _, u := range simulator.LogIns().Users {
		if u.Refused != 1 || u.Accepted != 2 { // the watch's, and the operator's
			t.Errorf("%d log-ins accepted, %d refused", u.Accepted, u.Refused)
		}
	}
}

// waitFor asks until the answer is 200 and matches.
func waitFor(t *testing.T, url, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(30 * time.Second)
	for {
		var body []byte
		response, err := http.Get(url)
		if err == nil {
			body, _ = io.ReadAll(response.Body)
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK && re.Match(body) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("%s does not say %s: %v\n%s", url, pattern, err, body)
		}
	}
}

// TestWithoutAWatchNothingIsAsked: the default, for the log-in may be kept where the receiver cannot read it.
func TestWithoutAWatchNothingIsAsked(t *testing.T) {
	t.Parallel()
	simulator, address := simulate(t)
	text := strings.ReplaceAll(watched, "PLATFORM", address.String())
	c := load(t, t.TempDir(), strings.Replace(text, "registrations: {watch: 1m}", "", 1)) // and no password can be read
	a, log, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	waitFor(t, "http://"+a.Addresses().Admin.String()+"/readyz", "")
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if users := simulator.LogIns().Users; len(users) != 1 || users[0].Accepted+users[0].Refused > 0 || strings.Contains(log.String(), "watch of") {
		t.Errorf("log-ins: %v\n%s", users, log.String())
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "registrations")); err == nil {
		t.Error("a state was written")
	}
}
