package platform_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"callbackd/internal/thingspace/platform"
)

// list asks for the registrations with a token, and answers with the fault's code, empty if there was none.
func (in *instance) list(token string) string {
	in.Helper()
	r := in.post(registrationService, envelope(registrationService, "GetCallbackRegistrations", token, members("AccountName", account)))
	if (r.status == http.StatusOK) != (r.Body.Fault.Code == "") {
		in.Errorf("%d with %s", r.status, r.body)
	}
	return strings.TrimPrefix(r.Body.Fault.Code, registrationService+".")
}

const (
	invalid = "INPUT_INVALID.SessionToken.Invalid"
	expired = "REQUEST_FAILED.SessionToken.Expired"
)

// TestSessionsExpireWhenIdle: 20 minutes after they were last used, not after they began.
func TestSessionsExpireWhenIdle(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	for range 3 {
		in.clock.advance(20*time.Minute - time.Second)
		if code := in.list(token); code != "" {
			t.Fatalf("a session in use ends: %s", code)
		}
	}
	in.clock.advance(20 * time.Minute)
	for range 2 { // asking does not revive it
		if code := in.list(token); code != expired {
			t.Errorf("after 20 idle minutes: %q", code)
		}
	}
	if code := in.list(in.logIn(login)); code != "" {
		t.Errorf("a new session: %s", code)
	}
}

// TestSessionTokens: none, a wrong one, one in another place and one that was logged out are invalid.
func TestSessionTokens(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	token := in.logIn(login)
	for name, wrong := range map[string]string{"none": "", "wrong": "x" + token, "cut": token[1:], "another letter case": strings.ToLower(token)} {
		if code := in.list(wrong); code != invalid {
			t.Errorf("%s: %q", name, code)
		}
	}
	request := envelope(registrationService, "GetCallbackRegistrations", token, members("AccountName", account))
	for name, body := range map[string]string{
		"of another namespace": strings.NewReplacer("<v2:token>", "<nph:token>", "</v2:token>", "</nph:token>").Replace(request),
		"deeper":               strings.NewReplacer("<v2:token>", "<v2:s><v2:token>", "</v2:token>", "</v2:token></v2:s>").Replace(request),
	} {
		if r := in.post(registrationService, body); !strings.HasSuffix(r.Body.Fault.Code, invalid) {
			t.Errorf("a token %s: %d %s", name, r.status, r.body)
		}
	}
	if r := in.post(registrationService, strings.Replace(request, token, "\n  "+token+"\n", 1)); r.status != http.StatusOK {
		t.Errorf("a token on a line of its own: %s", r.body)
	}
	in.call(sessionService, "LogOut", token)
	if code := in.list(token); code != invalid {
		t.Errorf("after LogOut: %q", code)
	}
	if r := in.post(sessionService, envelope(sessionService, "LogOut", token, "")); r.Body.Fault.Code != sessionService+"."+invalid {
		t.Errorf("a second LogOut: %s", r.body)
	}
}

// TestAUserIsLockedAfterFiveRefusals: the right password does not open any more, and other users are not concerned.
func TestAUserIsLockedAfterFiveRefusals(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	try := func(password string) string {
		r := in.post(sessionService, envelope(sessionService, "LogIn", "", members("Username", login.Username, "Password", password)))
		if r.Header.Token != "" && r.status != http.StatusOK {
			t.Errorf("a refusal has a token: %s", r.body)
		}
		return r.Body.Fault.Code
	}
	const failed, locked = "SessionService.REQUEST_FAILED.LogInFailed", "SessionService.REQUEST_FAILED.AccountLocked"
	before := in.logIn(login)
	for range 2 { // a success in between: the count starts anew
		for range 4 {
			if code := try("wrong"); code != failed {
				t.Errorf("a wrong password: %q", code)
			}
		}
		if code := try(login.Password); code != "" {
			t.Fatalf("the right password after four wrong ones: %q", code)
		}
	}
	for range 5 {
		if code := try(""); code != failed {
			t.Errorf("an empty password: %q", code)
		}
	}
	for range 2 {
		if code := try(login.Password); code != locked {
			t.Errorf("the right password after five wrong ones: %q", code)
		}
	}
	if code := in.list(before); code != "" {
		t.Errorf("an open session: %s", code)
	}
	for range 6 {
		in.post(sessionService, envelope(sessionService, "LogIn", "", members("Username", "nobody", "Password", "x")))
	}
	in.logIn(visitor)
	want := platform.LogIns{Unknown: 6, Users: []platform.UserLogIns{{Username: login.Username, Accepted: 3, Refused: 15, Locked: true},
		{Username: visitor.Username, Accepted: 1}}}
	if got := in.LogIns(); got.Unknown != want.Unknown || len(got.Users) != 2 || got.Users[0] != want.Users[0] || got.Users[1] != want.Users[1] {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// TestSessionsAreBounded: the one longest unused gives way.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	in := simulate(t)
	first, second := in.logIn(login), in.logIn(login)
	in.clock.advance(time.Second)
	if code := in.list(first); code != "" {
		t.Fatal(code)
	}
	for range 999 {
		in.logIn(visitor)
	}
	if got := [2]string{in.list(first), in.list(second)}; got != [2]string{"", invalid} {
		t.Errorf("the session in use and the idle one: %q", got)
	}
}

// TestNewWantsSoundOptions: accounts and clock.
func TestNewWantsSoundOptions(t *testing.T) {
	t.Parallel()
	one := platform.Account{Name: account, Login: login}
	for name, o := range map[string]platform.Options{
		"no account":         {},
		"no name":            {Accounts: []platform.Account{{Login: login}}},
		"no user":            {Accounts: []platform.Account{{Name: account, Login: platform.Credentials{Password: "canary"}}}},
		"no password":        {Accounts: []platform.Account{{Name: account, Login: platform.Credentials{Username: "u"}}}},
		"an account twice":   {Accounts: []platform.Account{one, one}},
		"two passwords":      {Accounts: []platform.Account{one, {Name: otherAccount, Login: platform.Credentials{Username: login.Username, Password: "canary"}}}},
		"a backward clock":   {Accounts: []platform.Account{one}, Clock: -1},
		"a clock of nothing": {Accounts: []platform.Account{one}, Clock: 1 / func() float64 { var zero float64; return zero }()},
	} {
		if _, err := platform.New(o); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
