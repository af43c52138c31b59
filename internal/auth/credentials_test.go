package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/auth"
	"callbackd/internal/callback"
)

func credential(label, id, username, password string, services ...callback.Service) auth.Credential {
	return auth.Credential{Label: label, ID: id, Username: username, Password: auth.NewPassword(password), Services: services}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	gate, err := auth.NewCredentialGate([]auth.Credential{
		credential("fleet", "2025", "user", "old"),
		credential("fleet", "2026", "user", "new"),
		credential("meters", "", "ab", "c", callback.DeviceUsage),
		credential("trucks", "", "a", "bc", callback.PromoChange),
		credential("open", "", "name only", "", callback.AlertService),
	}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := auth.Match{}
	for _, c := range []struct {
		name               string
		service            callback.Service
		username, password string
		want               auth.Match
	}{
		{"old pair during a rotation", callback.DeviceUsage, "user", "old", auth.Match{Label: "fleet", ID: "2025"}},
		{"new pair during a rotation", callback.DeviceUsage, "user", "new", auth.Match{Label: "fleet", ID: "2026"}},
		{"a pair for all services", callback.StateService, "user", "new", auth.Match{Label: "fleet", ID: "2026"}},
		{"a pair of this service, its id by default", callback.DeviceUsage, "ab", "c", auth.Match{Label: "meters", ID: "meters"}},
		{"a pair of another service", callback.PromoChange, "ab", "c", refused},
		{"the same letters, parted elsewhere", callback.PromoChange, "a", "bc", auth.Match{Label: "trucks", ID: "trucks"}},
		{"an empty password", callback.AlertService, "name only", "", auth.Match{Label: "open", ID: "open"}},
		{"the user name alone", callback.DeviceUsage, "user", "", refused},
		{"the password alone", callback.DeviceUsage, "", "new", refused},
		{"a prefix of the password", callback.DeviceUsage, "user", "ne", refused},
		{"another letter case", callback.DeviceUsage, "User", "new", refused},
		{"white space around", callback.DeviceUsage, "user ", "new", refused},
		{"nothing, which was not asked for", callback.DeviceUsage, "", "", refused},
		{"a service that does not exist", "Nothing", "user", "new", refused},
		{"very long", callback.DeviceUsage, strings.Repeat("u", 1<<20), strings.Repeat("p", 1<<20), refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := gate.Check(c.service, c.username, c.password)
			if got != c.want || errors.Is(err, auth.ErrCredentials) != (c.want == refused) || (err != nil) != (c.want == refused) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestCheckAnonymous(t *testing.T) {
	t.Parallel()
	gate, err := auth.NewCredentialGate(nil, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := gate.Check(callback.DeviceUsage, "", ""); err != nil || got != (auth.Match{Label: "anonymous", ID: "anonymous"}) {
		t.Errorf("empty pair: %v, %v", got, err)
	}
	for _, c := range [][2]string{{"user", ""}, {"", "secret"}, {" ", ""}} {
		if got, err := gate.Check(callback.DeviceUsage, c[0], c[1]); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%q: %v, %v", c, got, err)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	gate, err := auth.NewCredentialGate([]auth.Credential{credential("a", "", "u", "p", callback.DeviceUsage)}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !gate.Covers(callback.DeviceUsage) || gate.Covers(callback.PromoChange) {
		t.Error("only DeviceUsage is covered")
	}
}

func TestCredentialMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	gate, err := auth.NewCredentialGate([]auth.Credential{
		credential("fleet", "old", "u", "1", callback.DeviceUsage, callback.DeviceUsage, callback.PromoChange),
		credential("fleet", "new", "u", "2", callback.DeviceUsage),
	}, false, auth.NewMetrics(reg))
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"2", "2", "wrong"} {
		_, _ = gate.Check(callback.DeviceUsage, "u", password)
	}
	wantSamples(t, reg, "callbackd_credential_matches_total", map[string]float64{
		"id=new label=fleet service=DeviceUsage": 2,
		"id=old label=fleet service=DeviceUsage": 0,
		"id=old label=fleet service=PromoChange": 0,
	})
	failures := zeros("service=%s")
	failures["service=DeviceUsage"] = 1
	wantSamples(t, reg, "callbackd_credential_failures_total", failures)
}

func TestValidateCredentials(t *testing.T) {
	t.Parallel()
	ok := credential("fleet", "", "user", "pass")
	for _, c := range []struct {
		name        string
		credentials []auth.Credential
		want        []string // path and a part of the message
	}{
		{"none", nil, []string{": no credentials: |allow_anonymous: true"}},
		{"one", []auth.Credential{ok}, nil},
		{"no label", []auth.Credential{credential("", "", "u", "p")}, []string{"[0].label: is empty"}},
		{"a label twice without ids", []auth.Credential{ok, credential("fleet", "", "user", "next")},
			[]string{"[0].id: is empty, but [1]|give each pair", "[1].id: is empty, but [0]"}},
		{"a label twice, one id", []auth.Credential{ok, credential("fleet", "next", "user", "next")},
			[]string{"[0].id: is empty, but [1]"}},
		{"an id twice", []auth.Credential{credential("a", "x", "u", "1"), credential("a", "x", "u", "2")},
			[]string{`[1].id: "x" of label "a" is that of [0]`}},
		{"an id twice under two labels", []auth.Credential{credential("a", "x", "u", "1"), credential("b", "x", "u", "2")}, nil},
		{"a pair twice under two labels", []auth.Credential{ok, credential("other", "", "user", "pass")},
			[]string{"[1]: is the same user name and password as [0]|CarrierService, "}},
		{"a pair twice on overlapping services", []auth.Credential{
			credential("a", "", "u", "p", callback.PromoChange, callback.DeviceUsage, callback.PromoChange),
			credential("b", "", "u", "p", callback.PromoChange, callback.PromoChange)},
			[]string{"[1]: |valid on PromoChange:"}},
		{"a pair twice on services apart", []auth.Credential{
			credential("a", "", "u", "p", callback.DeviceUsage), credential("b", "", "u", "p", callback.PromoChange)}, nil},
		{"an empty pair", []auth.Credential{credential("a", "", "", "")}, []string{"[0]: |both empty|allow_anonymous: true"}},
		{"a line end in the password", []auth.Credential{credential("a", "", "u", "hush\n")}, []string{"[0].password: |line end"}},
		{"bytes that are no text", []auth.Credential{credential("a\xff", "i\x00", "u\xff", "p")},
			[]string{"[0].label: ", "[0].id: ", "[0].username: "}},
		{"the reserved label and id", []auth.Credential{credential("anonymous", "anonymous", "u", "p")},
			[]string{"[0].label: ", "[0].id: |choose another"}},
		{"a long label", []auth.Credential{credential(strings.Repeat("l", 65), "", "u", "p")}, []string{"[0].label: is 65 bytes long"}},
		{"an unknown service", []auth.Credential{credential("a", "", "u", "p", callback.DeviceUsage, "deviceusage")},
			[]string{`[0].services[1]: no service is named "deviceusage"|DeviceUsage, `}},
		{"several at once", []auth.Credential{credential("", "", "", ""), credential("", "", "u", "p\t")},
			[]string{"[0].label: ", "[0]: ", "[1].label: ", "[1].password: "}},
		{"longer than the platform takes", []auth.Credential{credential("a", "", strings.Repeat("u", 41), "p")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			problems := auth.ValidateCredentials(c.credentials, false)
			wantProblems(t, problems, c.want)
			gate, err := auth.NewCredentialGate(c.credentials, false, nil)
			wantJoined(t, err, problems)
			if (gate == nil) != (err != nil) {
				t.Error("want either a gate or an error")
			}
		})
	}
}

func TestCredentialWarnings(t *testing.T) {
	t.Parallel()
	gate, err := auth.NewCredentialGate([]auth.Credential{
		credential("right", "", strings.Repeat("é", 40), strings.Repeat("p", 40)),
		credential("long", "", "u", strings.Repeat("p", 41)),
		credential("half", "", "", "p"),
		credential("spaced", "", " u", "p"),
	}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantProblems(t, gate.Warnings(), []string{
		": allow_anonymous|keep nobody out",
		"[1].password: is 41 characters long", "[2].username: is empty", "[3].username: |white space",
	})
}

// wantProblems compares each problem with "path: part|part" in order.
func wantProblems(t *testing.T, got []auth.Problem, want []string) {
	t.Helper()
	for i, p := range got {
		if i >= len(want) {
			t.Errorf("one too many: %v", p)
			continue
		}
		path, parts, _ := strings.Cut(want[i], ": ")
		if p.Path != path {
			t.Errorf("path %q, want %q: %v", p.Path, path, p)
		}
		for part := range strings.SplitSeq(parts, "|") {
			if !strings.Contains(p.Message, part) {
				t.Errorf("%v\nlacks %q", p, part)
			}
		}
	}
	if len(got) < len(want) {
		t.Errorf("missing: %q", want[len(got):])
	}
}

// wantJoined wants err to hold all the problems.
func wantJoined(t *testing.T, err error, problems []auth.Problem) {
	t.Helper()
	if (err != nil) != (len(problems) > 0) {
		t.Fatalf("error %v for problems %v", err, problems)
	}
	for _, p := range problems {
		if !errors.Is(err, p) || !strings.Contains(err.Error(), p.Error()) {
			t.Errorf("%v\nis not in: %v", p, err)
		}
	}
}
