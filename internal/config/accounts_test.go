package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/thingspace/registration"
)

const twoAccounts = `data_dir: data
allow_anonymous: true
credentials:
  - {label: main, id: old, username: acme, password: s3cret-old}
  - {label: main, id: new, username: acme, password: s3cret-new, services: [DeviceUsage]}
  - {label: other, username: other, password: s3cret-other, services: [PromoChange]}
services:
  PromoChange: {listen: 127.0.0.1:28208}
  DeviceUsage: {listen: 127.0.0.1:28204, public_url: "https://callbacks.example.com:28204/"}
accounts:
  - {name: 0212345678-00001, credentials: main, uws_username: api, uws_password_env: CALLBACKD_TEST_UWS}
  - {name: 0212345678-00002, credentials: other, uws_username: api, uws_password_file: uws}
  - {name: 0212345678-00003, uws_username: api, uws_password_file: none}
`

func TestAnAccountRegistersWhatItsPairsCoverWithTheNewestOfThem(t *testing.T) {
	t.Parallel()
	c, problems := config.Parse("c.yaml", t.TempDir(), []byte(twoAccounts), nil)
	for _, want := range []struct {
		account  int
		label    string
		services []callback.Service
		pairs    []string // passwords of each service
	}{
		{0, "main", []callback.Service{callback.DeviceUsage, callback.PromoChange}, []string{"s3cret-new s3cret-old", "s3cret-old"}},
		{1, "other", []callback.Service{callback.PromoChange}, []string{"s3cret-other"}},
		{2, "anonymous", []callback.Service{callback.DeviceUsage, callback.PromoChange}, []string{"", ""}},
	} {
		a := c.Accounts[want.account]
		if got := c.ServicesOf(a); !slices.Equal(got, want.services) || a.Label() != want.label {
			t.Errorf("%s registers %v as %s\n%s", a.Name, got, a.Label(), lines(problems))
		}
		for i, s := range want.services {
			var got []string
			for _, pair := range c.PairsOf(a, s) {
				got = append(got, pair.Password)
			}
			if strings.Join(got, " ") != want.pairs[i] {
				t.Errorf("%s registers %s with %q", a.Name, s, got)
			}
		}
	}
	if pairs := c.PairsOf(c.Accounts[1], callback.DeviceUsage); len(pairs) > 0 {
		t.Errorf("a pair of another label, or that does not cover the service, is registered: %v", pairs)
	}
	if pairs := c.PairsFor(callback.PromoChange); len(pairs) != 3 || pairs[2] != (registration.Login{}) {
		t.Errorf("%d pairs are taken of PromoChange, not those of both labels that cover it, and none at all", len(pairs))
	}
	if pairs := c.PairsOf(c.Accounts[2], callback.DeviceUsage); len(pairs) != 1 {
		t.Errorf("%d pairs for callbacks without credentials, not an empty one", len(pairs))
	}
}

func TestTheLogInIsAnErrorOnlyOfWhoNeedsIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "uws", "uws-s3cret\n")
	for _, env := range []struct{ value, want string }{
		{"", "the environment variable CALLBACKD_TEST_UWS is not set"},
		{"two\nlines", "the environment variable CALLBACKD_TEST_UWS has several lines"},
		{"env-s3cret", ""},
	} {
		t.Setenv("CALLBACKD_TEST_UWS", env.value)
		c, problems := config.Parse("c.yaml", dir, []byte(twoAccounts), nil)
		if problems.Worst() != config.Unregistrable {
			t.Errorf("a password that is missing is not what check refuses and serve does not:\n%s", lines(problems))
		}
		in, err := c.Accounts[0].LogIn()
		if env.want == "" && (err != nil || in.Username != "api" || in.Password != env.value) {
			t.Errorf("log-in %v, %v", in, err)
		}
		if env.want != "" && (err == nil || !strings.Contains(err.Error(), env.want) || in.Password != "") {
			t.Errorf("with %q: %v", env.value, err)
		}
		if in, err := c.Accounts[1].LogIn(); err != nil || in.Password != "uws-s3cret" {
			t.Errorf("the password in the file is %q, %v", in.Password, err)
		}
		if _, err := c.Accounts[2].LogIn(); err == nil || !strings.Contains(err.Error(), "none: no such file") {
			t.Errorf("a file that is not there: %v", err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if text := fmt.Sprintf(verb, c.Accounts) + fmt.Sprintf(verb, *c); strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") {
				t.Errorf("%s prints a password: %s", verb, text)
			}
		}
	}
}
