package registration

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"callbackd/internal/callback"
)

// Wanted is what the configuration says of a service of the account. An empty URL says that it has no public_url.
type Wanted struct {
	Service callback.Service
	URL     string
}

// Action is what is to be done about a service.
type Action string

const (
	Create Action = "create" // register; nothing is held, so nothing can be lost
	Change Action = "change" // unregister, and register another URL
	Rotate Action = "rotate" // unregister, and register the same URL with the newest pair of user name and password
	Remove Action = "remove" // unregister
	Keep   Action = "keep"   // do nothing; Why says why
)

// Step is what a plan does about one service.
type Step struct {
	Service string // as the catalogue writes it, or the platform where the configuration does not name the service
	Action  Action
	Have    string // the URL that the platform holds, as it writes it; empty for none
	Want    string // the URL of the configuration; empty for none
	Why     string
	HeldAs  string // the name under which the platform holds the service: its spelling may differ
	Ours    bool   // Have was registered by callbackd
	Managed bool   // the configuration names the service
	// Blocked says that the configuration is not fulfilled, and that the step leaves it so: somebody else holds the service.
	Blocked bool
}

// Plan says what is to be done so that the platform holds for one account what the configuration wants.
type Plan struct {
	Account string
	Steps   []Step // what is wanted, in its order; then what is not managed, by name
	// Unmatched are the URLs to take over that the platform holds for no service that the configuration names.
	Unmatched []string
}

// Changes are the steps that change something.
func (p Plan) Changes() []Step {
	return slices.DeleteFunc(slices.Clone(p.Steps), func(s Step) bool { return s.Action == Keep })
}

// MakePlan compares what the configuration wants with what the platform holds. It touches a service only if the configuration names it,
// and what is held for it only if owned says that callbackd registered it, or takeOver lists its URL and another one is wanted: a
// test never takes over production, nor does a configuration that is half written end what it does not know.
//
// A service's name is compared without letter case and plural, for the platform is not of one mind about them.
func MakePlan(account string, wanted []Wanted, held []Registration, owned func(service, url string) bool, takeOver []string) Plan {
	v := view{held: held, owned: owned, takeOver: takeOver}
	p := Plan{Account: account}
	for _, w := range wanted {
		p.Steps = append(p.Steps, v.planned(w))
	}
	p.Steps = append(p.Steps, v.notManaged(wanted)...)
	p.Unmatched = v.unmatched(p.Steps)
	return p
}

// MakeRotation plans to register what is wanted again, with the newest pair of user name and password. It touches what is held as
// wanted, and was registered by callbackd or is listed in takeOver; the rest is for [MakePlan].
func MakeRotation(account string, wanted []Wanted, held []Registration, owned func(service, url string) bool, takeOver []string) Plan {
	v := view{held: held, owned: owned, takeOver: takeOver}
	p := Plan{Account: account}
	for _, w := range wanted {
		p.Steps = append(p.Steps, v.rotated(w))
	}
	p.Unmatched = v.unmatched(p.Steps)
	return p
}

// MakeRemoval plans to unregister services, whether the configuration names them or not: what callbackd registered, and what
// takeOver lists.
func MakeRemoval(account string, services []string, held []Registration, owned func(service, url string) bool, takeOver []string) Plan {
	v := view{held: held, owned: owned, takeOver: takeOver}
	p := Plan{Account: account}
	for _, name := range services {
		p.Steps = append(p.Steps, v.removed(name))
	}
	p.Unmatched = v.unmatched(p.Steps)
	return p
}

// view is what a plan is made from, beside what is wanted.
type view struct {
	held     []Registration
	owned    func(service, url string) bool
	takeOver []string
}

// look begins the step of a service with what is held for it. mine says that it may be touched.
func (v view) look(service, want string, found []Registration) (s Step, mine bool) {
	s = Step{Service: service, Action: Keep, Want: want, Managed: true}
	s.Have, s.HeldAs = summary(found)
	if len(found) != 1 {
		return s, false
	}
	s.Ours = v.owned(service, s.Have)
	return s, s.Ours || v.named(s.Have)
}

func (v view) planned(w Wanted) Step {
	found := holding(v.held, string(w.Service))
	s, mine := v.look(string(w.Service), w.URL, found)
	switch {
	case len(found) > 1:
		s.Blocked, s.Why = true, heldTwice
	case w.URL == "" && s.Have == "":
		s.Why = "nothing is registered, and the configuration gives it no public_url"
	case w.URL == "" && s.Ours:
		s.Action, s.Why = Remove, "the configuration gives it no public_url any more"
	case w.URL == "":
		s.Why = "the configuration gives it no public_url, and callbackd did not register this one: " +
			"to end it, unregister the service with --take-over " + inShell(s.Have)
	case s.Have == "":
		s.Action, s.Why = Create, "nothing is registered"
	case sameURL(s.Have, w.URL):
		s.Why = "is as it is wanted"
	case s.Ours:
		s.Action, s.Why = Change, "the configuration wants another URL"
	case mine:
		s.Action, s.Why = Change, "taken over"
	default:
		s.Blocked, s.Why = true, "callbackd did not register this URL: to replace it, --take-over "+inShell(s.Have)
	}
	return s.withSpelling()
}

func (v view) rotated(w Wanted) Step {
	found := holding(v.held, string(w.Service))
	s, mine := v.look(string(w.Service), w.URL, found)
	switch {
	case len(found) > 1:
		s.Blocked, s.Why = true, heldTwice
	case w.URL == "":
		s.Why = "the configuration gives it no public_url"
	case s.Have == "":
		s.Why = "nothing is registered: apply registers it, with the newest pair"
	case !sameURL(s.Have, w.URL):
		s.Blocked, s.Why = true, "another URL is registered: apply first"
	case mine:
		s.Action, s.Why = Rotate, "the same URL again, with the newest pair"
	default:
		s.Blocked, s.Why = true, "callbackd did not register this URL: to register it again, --take-over "+inShell(s.Have)
	}
	return s.withSpelling()
}

func (v view) removed(service string) Step {
	found := holding(v.held, service)
	if len(found) > 1 { // two spellings are told apart by the very name
		if exact := exactly(found, service); len(exact) == 1 {
			found = exact
		}
	}
	s, mine := v.look(service, "", found)
	switch {
	case len(found) > 1:
		s.Blocked, s.Why = true, heldTwice
	case s.Have == "":
		s.Why = "nothing is registered"
	case mine:
		s.Action, s.Why = Remove, "as asked"
	default:
		s.Blocked, s.Why = true, "callbackd did not register this URL: to end it, --take-over "+inShell(s.Have)
	}
	return s.withSpelling()
}

const heldTwice = "the platform holds it more than once: unregister the one that is wrong by the name that stands there"

// withSpelling shows what the platform calls the service, where that is another name.
func (s Step) withSpelling() Step {
	if s.HeldAs != "" && s.HeldAs != s.Service {
		s.Why += fmt.Sprintf(" (the platform calls it %s)", s.HeldAs)
	}
	return s
}

// inShell is a URL as it is typed into a shell, to which the & of a query means something else.
func inShell(url string) string {
	for _, r := range url {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/.-_%+,=@", r) {
			return "'" + strings.ReplaceAll(url, "'", `'\''`) + "'"
		}
	}
	return url
}

// notManaged are the services that are held and that nobody asked about. They stay as they are, whoever registered them.
func (v view) notManaged(wanted []Wanted) []Step {
	var steps []Step
	for _, r := range v.held {
		if slices.ContainsFunc(wanted, func(w Wanted) bool { return SameService(string(w.Service), r.Service) }) {
			continue
		}
		s := Step{Service: r.Service, Action: Keep, Have: r.URL, HeldAs: r.Service, Ours: v.owned(r.Service, r.URL), Why: "not managed"}
		if s.Ours {
			s.Why += "; it was registered from here, and unregister ends it"
		}
		steps = append(steps, s)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return strings.Compare(a.Service, b.Service) })
	return steps
}

// named reports whether a URL is to be taken over.
func (v view) named(held string) bool {
	return slices.ContainsFunc(v.takeOver, func(u string) bool { return sameURL(u, held) })
}

// unmatched are the URLs to take over that no step is about: misspelt, as a rule.
func (v view) unmatched(steps []Step) []string {
	var list []string
	for _, u := range v.takeOver {
		if !slices.ContainsFunc(steps, func(s Step) bool { return s.Managed && sameURL(s.Have, u) }) {
			list = append(list, u)
		}
	}
	return list
}

// holding are the registrations of a service, of which the platform allows one.
func holding(held []Registration, service string) []Registration {
	return slices.DeleteFunc(slices.Clone(held), func(r Registration) bool { return !SameService(r.Service, service) })
}

func exactly(held []Registration, service string) []Registration {
	return slices.DeleteFunc(slices.Clone(held), func(r Registration) bool { return r.Service != service })
}

// summary is what a step says of the registrations of its service.
func summary(found []Registration) (have, heldAs string) {
	if len(found) == 1 {
		return found[0].URL, found[0].Service
	}
	texts := make([]string, len(found))
	for i, r := range found {
		texts[i] = r.Service + " " + r.URL
	}
	slices.Sort(texts)
	return strings.Join(texts, ", "), ""
}

// SameService compares the names of services. PromoChange is PromoChanges in Verizon's other API (schemas/README.md, section 12), and
// no two services differ in a plural alone.
func SameService(a, b string) bool { return serviceKey(a) == serviceKey(b) }

func serviceKey(name string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), "s")
}

// sameURL compares URLs: those that no server can tell apart are one.
func sameURL(a, b string) bool { return urlKey(a) == urlKey(b) }

// urlKey is a URL with its scheme and host in small letters, without a default port, and with a path. What cannot be read is taken
// as text.
func urlKey(text string) string {
	text = strings.TrimSpace(text)
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	port := u.Port()
	if port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}
