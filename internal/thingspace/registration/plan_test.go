package registration_test

import (
	"slices"
	"strings"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"
)

const (
	ourURL     = "https://callbacks.example.com:28204/usage"
	newURL     = "https://callbacks.example.com:28204/v2/usage"
	foreignURL = "https://production.example.com/usage"
)

// ours owns the URLs that begin like ourURL.
func ours(_, url string) bool { return strings.HasPrefix(url, "https://callbacks.example.com") }

func nobodys(_, _ string) bool { return false }

func listeners(pairs ...string) []registration.Registration {
	var list []registration.Registration
	for pair := range slices.Chunk(pairs, 2) {
		list = append(list, registration.Registration{Account: account, Service: pair[0], URL: pair[1], Username: "u"})
	}
	return list
}

func want(service callback.Service, url string) []registration.Wanted {
	return []registration.Wanted{{Service: service, URL: url}}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	usage, promo := callback.DeviceUsage, callback.PromoChange
	for _, test := range []struct {
		rule     string
		wanted   []registration.Wanted
		held     []registration.Registration
		owned    func(service, url string) bool
		takeOver []string
		want     registration.Step
		why      string // part of it
	}{
		{"what nobody holds is created", want(usage, ourURL), nil, nobodys, nil,
			registration.Step{Action: registration.Create}, "nothing is registered"},
		{"what is held as wanted is kept, whoever registered it", want(usage, ourURL), listeners("DeviceUsage", ourURL), nobodys, nil,
			registration.Step{Action: registration.Keep}, "as it is wanted"},
		{"another URL of ours is changed", want(usage, newURL), listeners("DeviceUsage", ourURL), ours, nil,
			registration.Step{Action: registration.Change, Ours: true}, "another URL"},
		{"a URL that is not ours is kept", want(usage, newURL), listeners("DeviceUsage", foreignURL), ours, nil,
			registration.Step{Action: registration.Keep, Blocked: true}, "--take-over " + foreignURL},
		{"a URL that is not ours is changed when it is named", want(usage, newURL), listeners("DeviceUsage", foreignURL), ours, []string{foreignURL},
			registration.Step{Action: registration.Change}, "taken over"},
		{"a URL to take over is written as a shell takes it", want(usage, newURL), listeners("DeviceUsage", "https://x.example.com/?a=1&b='$(x)"), ours, nil,
			registration.Step{Action: registration.Keep, Blocked: true}, `--take-over 'https://x.example.com/?a=1&b='\''$(x)'`},
		{"another URL than the one named is kept", want(usage, newURL), listeners("DeviceUsage", foreignURL), ours, []string{foreignURL + "/2"},
			registration.Step{Action: registration.Keep, Blocked: true}, "--take-over " + foreignURL},
		{"without public_url, ours is removed", want(usage, ""), listeners("DeviceUsage", ourURL), ours, nil,
			registration.Step{Action: registration.Remove, Ours: true}, "no public_url any more"},
		{"without public_url, what is not ours is kept", want(usage, ""), listeners("DeviceUsage", foreignURL), ours, nil,
			registration.Step{Action: registration.Keep}, "unregister the service with --take-over " + foreignURL},
		{"without public_url, what is not ours is kept though it is named", want(usage, ""), listeners("DeviceUsage", foreignURL), ours, []string{foreignURL},
			registration.Step{Action: registration.Keep}, "did not register"},
		{"without public_url, nothing held needs nothing", want(usage, ""), nil, ours, nil,
			registration.Step{Action: registration.Keep}, "nothing is registered, and"},
		{"spellings of one URL are one", want(usage, "https://Callbacks.Example.com"), listeners("DeviceUsage", "HTTPS://callbacks.example.com:443/"), nobodys, nil,
			registration.Step{Action: registration.Keep}, "as it is wanted"},
		{"the path's letter case tells URLs apart", want(usage, ourURL), listeners("DeviceUsage", strings.Replace(ourURL, "usage", "Usage", 1)), nobodys, nil,
			registration.Step{Action: registration.Keep, Blocked: true}, "--take-over"},
		{"a URL that cannot be read is compared as text", want(usage, ourURL), listeners("DeviceUsage", "https://[broken"), ours, []string{"https://[broken"},
			registration.Step{Action: registration.Change}, "taken over"},
		{"the platform's plural is the same service", want(promo, ourURL), listeners("PromoChanges", ourURL), nobodys, nil,
			registration.Step{Action: registration.Keep}, "calls it PromoChanges"},
		{"the platform's letter case is the same service", want(usage, newURL), listeners("deviceusage", ourURL), ours, nil,
			registration.Step{Action: registration.Change, Ours: true}, "calls it deviceusage"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			p := registration.MakePlan(account, test.wanted, test.held, test.owned, test.takeOver)
			if p.Account != account || len(p.Steps) != 1 {
				t.Fatalf("plan is %+v", p)
			}
			test.want.Service, test.want.Want, test.want.Managed = string(test.wanted[0].Service), test.wanted[0].URL, true
			if len(test.held) > 0 {
				test.want.Have, test.want.HeldAs = test.held[0].URL, test.held[0].Service
			}
			got := p.Steps[0]
			if !strings.Contains(got.Why, test.why) {
				t.Errorf("says %q, want %q in it", got.Why, test.why)
			}
			if got.Why = ""; got != test.want {
				t.Errorf("step is\n%+v, want\n%+v", got, test.want)
			}
			if changes := len(p.Changes()) == 1; changes != (got.Action != registration.Keep) {
				t.Errorf("changes are %+v", p.Changes())
			}
		})
	}
}

func TestPlanKeepsWhatTheConfigurationDoesNotName(t *testing.T) {
	t.Parallel()
	p := registration.MakePlan(account, want(callback.DeviceUsage, newURL),
		listeners("StateService", ourURL, "NiddService", foreignURL, "DeviceUsage", ourURL), ours, []string{foreignURL})
	if len(p.Steps) != 3 || p.Steps[0].Action != registration.Change || p.Steps[1].Service != "NiddService" || p.Steps[2].Service != "StateService" {
		t.Fatalf("plan is %+v", p.Steps)
	}
	for _, s := range p.Steps[1:] {
		if s.Action != registration.Keep || s.Managed || !strings.HasPrefix(s.Why, "not managed") || strings.Contains(s.Why, "unregister ends it") != s.Ours {
			t.Errorf("%+v: want it kept and not managed, although it is ours or was named", s)
		}
	}
	if !slices.Equal(p.Unmatched, []string{foreignURL}) {
		t.Errorf("unmatched are %q: a URL of a service that is not managed is taken over by nobody", p.Unmatched)
	}
}

func TestPlanTouchesNothingThatIsHeldTwice(t *testing.T) {
	t.Parallel()
	both := listeners("PromoChange", ourURL, "PromoChanges", foreignURL)
	p := registration.MakePlan(account, want(callback.PromoChange, newURL), both, ours, []string{foreignURL, ourURL})
	if len(p.Steps) != 1 || p.Steps[0].Action != registration.Keep || !p.Steps[0].Blocked || !strings.Contains(p.Steps[0].Why, "more than once") ||
		p.Steps[0].Have != "PromoChange "+ourURL+", PromoChanges "+foreignURL {
		t.Errorf("plan is %+v", p.Steps)
	}
	p = registration.MakeRemoval(account, []string{"PromoChanges"}, both, nobodys, []string{foreignURL})
	if len(p.Steps) != 1 || p.Steps[0].Action != registration.Remove || p.Steps[0].HeldAs != "PromoChanges" || p.Steps[0].Have != foreignURL {
		t.Errorf("the one that is named by its very spelling cannot be removed: %+v", p.Steps)
	}
}

func TestPlanSaysWhichURLsToTakeOverAreNowhere(t *testing.T) {
	t.Parallel()
	p := registration.MakePlan(account, want(callback.DeviceUsage, ourURL), listeners("DeviceUsage", foreignURL), ours, []string{foreignURL, "https://typo.example.com"})
	if !slices.Equal(p.Unmatched, []string{"https://typo.example.com"}) {
		t.Errorf("unmatched are %q", p.Unmatched)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	usage := callback.DeviceUsage
	for _, test := range []struct {
		rule     string
		url      string
		held     []registration.Registration
		takeOver []string
		action   registration.Action
		blocked  bool
		why      string
	}{
		{"our URL is registered again", ourURL, listeners("DeviceUsage", ourURL), nil, registration.Rotate, false, "newest pair"},
		{"a URL that is not ours stays", foreignURL, listeners("DeviceUsage", foreignURL), nil, registration.Keep, true, "--take-over " + foreignURL},
		{"a URL that is named is registered again", foreignURL, listeners("DeviceUsage", foreignURL), []string{foreignURL}, registration.Rotate, false, "newest pair"},
		{"another URL is for apply", newURL, listeners("DeviceUsage", ourURL), nil, registration.Keep, true, "apply first"},
		{"what is not registered is for apply", ourURL, nil, nil, registration.Keep, false, "apply registers it"},
		{"a service without public_url stays", "", listeners("DeviceUsage", ourURL), nil, registration.Keep, false, "no public_url"},
		{"what is held twice stays", ourURL, listeners("DeviceUsage", ourURL, "deviceusage", ourURL), nil, registration.Keep, true, "more than once"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			p := registration.MakeRotation(account, want(usage, test.url), test.held, ours, test.takeOver)
			if len(p.Steps) != 1 || p.Steps[0].Action != test.action || p.Steps[0].Blocked != test.blocked || !strings.Contains(p.Steps[0].Why, test.why) {
				t.Errorf("plan is %+v", p.Steps)
			}
		})
	}
}

func TestRemoval(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule     string
		held     []registration.Registration
		takeOver []string
		action   registration.Action
		blocked  bool
	}{
		{"ours is removed", listeners("NiddService", ourURL), nil, registration.Remove, false},
		{"what is not ours stays", listeners("NiddService", foreignURL), nil, registration.Keep, true},
		{"what is named is removed", listeners("NiddService", foreignURL), []string{foreignURL}, registration.Remove, false},
		{"what is not held stays", listeners("DeviceUsage", ourURL), nil, registration.Keep, false},
		{"what is held twice under one name stays", listeners("NiddService", ourURL, "NiddService", newURL), nil, registration.Keep, true},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			p := registration.MakeRemoval(account, []string{"NiddService"}, test.held, ours, test.takeOver)
			if len(p.Steps) != 1 || p.Steps[0].Action != test.action || p.Steps[0].Blocked != test.blocked || p.Steps[0].Why == "" {
				t.Errorf("plan is %+v", p.Steps)
			}
		})
	}
}

// TestEveryServiceOfTheCatalogueIsItself: the comparison of names makes no two of them one.
func TestEveryServiceOfTheCatalogueIsItself(t *testing.T) {
	t.Parallel()
	for _, a := range callback.Catalogue() {
		for _, b := range callback.Catalogue() {
			p := registration.MakePlan(account, want(a.Service, ourURL), listeners(string(b.Service), ourURL), nobodys, nil)
			if same := p.Steps[0].Action == registration.Keep; same != (a.Service == b.Service) {
				t.Errorf("%s and %s are one: %t", a.Service, b.Service, same)
			}
		}
	}
}
