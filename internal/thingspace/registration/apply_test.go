package registration_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"

	"pgregory.net/rapid"
)

// disturbance is what happens to one call.
type disturbance int

const (
	undisturbed   disturbance = iota
	refused                   // the platform says no, and did nothing
	invalid                   // and it says no to this very request
	lostRequest               // no answer, and nothing was done
	lostAnswer                // no answer, and it was done
	failedHalfWay             // UnexpectedError, and it was done
)

var errNetwork = errors.New("connection reset")

// memory is a platform in memory. It allows one listener for each service, and is disturbed as the test wants.
type memory struct {
	held    map[string]registration.Registration
	bears   map[string]registration.Login // what callbacks of a service bear
	calls   []string
	disturb func(n int, call string) disturbance // the n-th call, from 0
	latency time.Duration                        // of each call
	lag     []registration.Registration          // what the list shows instead of the truth, if set
}

func newMemory(list ...registration.Registration) *memory {
	m := &memory{held: make(map[string]registration.Registration), bears: make(map[string]registration.Login),
		disturb: func(int, string) disturbance { return undisturbed }}
	for _, r := range list {
		m.held[r.Service] = r
		m.bears[r.Service] = registration.Login{Username: "before", Password: "before"}
	}
	return m
}

func (m *memory) call(ctx context.Context, operation, service, url string, do func() error) error {
	name := strings.TrimSpace(operation + " " + service + " " + url)
	d := m.disturb(len(m.calls), name)
	m.calls = append(m.calls, name)
	if m.latency > 0 {
		select {
		case <-time.After(m.latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	switch d {
	case refused:
		return fmt.Errorf("%s: %w", operation, &registration.Fault{Operation: operation, Class: "REQUEST_FAILED", Code: "NoReason"})
	case invalid:
		return &registration.Fault{Operation: operation, Class: "INPUT_INVALID", Code: "Url"}
	case lostRequest:
		return errNetwork
	case lostAnswer:
		_ = do()
		return errNetwork
	case failedHalfWay:
		_ = do()
		return &registration.Fault{Operation: operation, Class: "REQUEST_FAILED", Code: "UnexpectedError"}
	}
	return do()
}

func (m *memory) List(ctx context.Context, _ string) (list []registration.Registration, err error) {
	err = m.call(ctx, "list", "", "", func() error {
		list = m.lag
		for _, service := range slices.Sorted(maps.Keys(m.held)) {
			if m.lag == nil {
				list = append(list, m.held[service])
			}
		}
		return nil
	})
	return list, err
}

func (m *memory) Register(ctx context.Context, r registration.Registration, l registration.Login) error {
	return m.call(ctx, "register", r.Service, r.URL, func() error {
		if _, ok := m.held[r.Service]; ok {
			return &registration.Fault{Operation: "RegisterCallback", Class: "REQUEST_FAILED", Code: "Callback.AlreadyRegistered"}
		}
		m.held[r.Service], m.bears[r.Service] = r, l
		return nil
	})
}

func (m *memory) Unregister(ctx context.Context, _, service string) error {
	return m.call(ctx, "unregister", service, "", func() error {
		if _, ok := m.held[service]; !ok {
			return &registration.Fault{Operation: "UnregisterCallback", Class: "REQUEST_FAILED", Code: "Callback.NotRegistered"}
		}
		delete(m.held, service)
		return nil
	})
}

// url is what is held for a service, or nothing.
func (m *memory) url(service string) string { return m.held[service].URL }

func (m *memory) list() []registration.Registration {
	return slices.Collect(maps.Values(m.held))
}

// once disturbs the first call that begins like this.
func once(prefix string, d disturbance) func(int, string) disturbance {
	done := false
	return func(_ int, call string) disturbance {
		if done || !strings.HasPrefix(call, prefix) {
			return undisturbed
		}
		done = true
		return d
	}
}

// always disturbs every call that begins like this.
func always(prefix string, d disturbance) func(int, string) disturbance {
	return func(_ int, call string) disturbance {
		if strings.HasPrefix(call, prefix) {
			return d
		}
		return undisturbed
	}
}

// script disturbs the calls of each operation in turn; the last disturbance of each stays.
func script(lines map[string][]disturbance) func(int, string) disturbance {
	return func(_ int, call string) disturbance {
		operation, _, _ := strings.Cut(call, " ")
		line := lines[operation]
		if len(line) > 1 {
			lines[operation] = line[1:]
		}
		if len(line) == 0 {
			return undisturbed
		}
		return line[0]
	}
}

var (
	newest = registration.Login{Username: "newest", Password: "n3w-secret"}
	oldest = registration.Login{Username: "oldest", Password: "0ld-secret"}
)

func newLedger(t *testing.T) *registration.Ledger {
	t.Helper()
	state, err := registration.OpenState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return registration.NewLedger(state, registration.DefaultURL)
}

func applyOptions(ledger *registration.Ledger) registration.ApplyOptions {
	return registration.ApplyOptions{Ledger: ledger, Logins: func(string) []registration.Login { return []registration.Login{newest, oldest} }}
}

func owns(t *testing.T, l *registration.Ledger, service, url string) bool {
	t.Helper()
	owned, err := l.Owned(account)
	if err != nil {
		t.Fatal(err)
	}
	return owned(service, url)
}

func TestApply(t *testing.T) {
	t.Parallel()
	usage := callback.DeviceUsage
	for _, test := range []struct {
		rule     string
		url      string // wanted
		held     []registration.Registration
		takeOver []string
		disturb  func(int, string) disturbance
		outcome  registration.Outcome
		now      string // held in the end
		owned    string // in the end
		bears    registration.Login
		calls    string // in order, without the lists
		says     string // part of the error
	}{
		{rule: "a new one is registered with the newest pair", url: newURL,
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "register"},
		{rule: "a change unregisters and registers", url: newURL, held: listeners("DeviceUsage", ourURL),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister register"},
		{rule: "what is taken over is ours then", url: newURL, held: listeners("DeviceUsage", foreignURL), takeOver: []string{foreignURL},
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister register"},
		{rule: "a removal unregisters", held: listeners("DeviceUsage", ourURL), outcome: registration.Done, calls: "unregister"},

		{rule: "a register that is refused once is tried again", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: once("register", refused),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister register register"},
		{rule: "a register without an answer that was carried out is seen", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: once("register", lostAnswer),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister register"},
		{rule: "a register that failed half way is seen", url: newURL, disturb: once("register", failedHalfWay),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "register"},
		{rule: "an unregister without an answer that was carried out is seen", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: once("unregister", lostAnswer),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister register"},
		{rule: "an unregister without an answer that was not carried out is tried again", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: once("unregister", lostRequest),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister unregister register"},

		{rule: "a register that is seen only in the end is done", url: newURL,
			disturb: script(map[string][]disturbance{"register": {lostAnswer}, "list": {undisturbed, lostRequest, lostRequest, lostRequest, lostRequest, undisturbed}}),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "register register register register"},
		{rule: "a change that is seen only in the end is done", url: newURL, held: listeners("DeviceUsage", ourURL),
			disturb: script(map[string][]disturbance{"register": {lostAnswer}, "list": {undisturbed, lostRequest, lostRequest, lostRequest, lostRequest, undisturbed}}),
			outcome: registration.Done, now: newURL, owned: newURL, bears: newest, calls: "unregister register register register register"},
		{rule: "a removal that the platform knows nothing of any more is done", held: listeners("DeviceUsage", ourURL),
			disturb: script(map[string][]disturbance{"unregister": {lostAnswer, undisturbed}, "list": {undisturbed, lostRequest}}),
			outcome: registration.Done, calls: "unregister unregister"},
		{rule: "a register of which nothing is known is unclear", url: newURL,
			disturb: script(map[string][]disturbance{"register": {lostAnswer}, "list": {undisturbed, lostRequest}}),
			outcome: registration.Unclear, now: newURL, owned: newURL, calls: "register register register register", says: "is not known, and its callbacks may be lost"},
		{rule: "a change that was never begun, as is seen in the end, keeps the old one", url: newURL, held: listeners("DeviceUsage", ourURL),
			disturb: script(map[string][]disturbance{"unregister": {lostRequest}, "list": {undisturbed, lostRequest, lostRequest, lostRequest, undisturbed}}),
			outcome: registration.Failed, now: ourURL, owned: ourURL, calls: "unregister unregister unregister register register register register",
			says: "holds what it held before"},

		{rule: "an unregister that is refused loses nothing", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: always("unregister", refused),
			outcome: registration.Failed, now: ourURL, owned: ourURL, calls: "unregister unregister unregister",
			says: "The platform holds what it held before: when the cause is mended, run the same command again"},
		{rule: "a new URL that is refused puts the old one back", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: always("register DeviceUsage "+newURL, refused),
			outcome: registration.Restored, now: ourURL, owned: ourURL, bears: newest, calls: "unregister register register register register register",
			says: "The old URL is registered again"},
		{rule: "a URL taken over is put back without a pair, and is not ours", url: newURL, held: listeners("DeviceUsage", foreignURL), takeOver: []string{foreignURL},
			disturb: always("register DeviceUsage "+newURL, refused),
			outcome: registration.Restored, now: foreignURL, calls: "unregister register register register register register",
			says: "without user name and password, which callbackd does not know"},
		{rule: "what cannot be put back is said to be lost", url: newURL, held: listeners("DeviceUsage", ourURL), disturb: always("register", refused),
			outcome: registration.Lost, owned: ourURL, calls: "unregister " + strings.TrimSpace(strings.Repeat("register ", 8)),
			says: "holds NOTHING for it, and its callbacks are lost: run callbackd registrations apply --account " + account + " at once"},
		{rule: "a new one that is refused is not registered", url: newURL, disturb: always("register", refused),
			outcome: registration.Failed, calls: "register register register register", says: "It is not registered"},
		{rule: "a removal that is refused keeps it", held: listeners("DeviceUsage", ourURL), disturb: always("unregister", refused),
			outcome: registration.Failed, now: ourURL, owned: ourURL, calls: "unregister unregister unregister", says: "holds what it held before"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, ledger := newMemory(test.held...), newLedger(t)
				p := registration.MakePlan(account, want(usage, test.url), test.held, ours, test.takeOver)
				for _, s := range p.Steps {
					if s.Ours {
						m.prepare(t, ledger, s)
					}
				}
				if test.disturb != nil {
					m.disturb = test.disturb
				}
				result, err := registration.Apply(t.Context(), m, p, applyOptions(ledger))
				step := result.Steps[0]
				if step.Outcome != test.outcome || m.url("DeviceUsage") != test.now || !errors.Is(err, step.Err) {
					t.Errorf("outcome is %q and %q is held, want %q and %q; %v", step.Outcome, m.url("DeviceUsage"), test.outcome, test.now, err)
				}
				if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("error is %v, want %q in it", err, test.says)
				}
				changed := test.outcome == registration.Done || test.outcome == registration.Restored
				if changed && test.now != "" && m.bears["DeviceUsage"] != test.bears {
					t.Errorf("callbacks bear the pair of %q, want that of %q", m.bears["DeviceUsage"].Username, test.bears.Username)
				}
				for _, url := range []string{ourURL, newURL, foreignURL} {
					if got := owns(t, ledger, "DeviceUsage", url); got != (url == test.owned) && test.outcome != registration.Lost || !got && url == test.owned {
						t.Errorf("the ledger owns %s: %t", url, got)
					}
				}
				if got := m.changes(); got != test.calls {
					t.Errorf("called %q, want %q", got, test.calls)
				}
			})
		})
	}
}

// prepare has the ledger own what a step says is ours, as an earlier apply did.
func (m *memory) prepare(t *testing.T, ledger *registration.Ledger, s registration.Step) {
	t.Helper()
	earlier := newMemory()
	_, err := registration.Apply(t.Context(), earlier, registration.MakePlan(account, want(callback.Service(s.Service), s.Have), nil, nobodys, nil), applyOptions(ledger))
	if err != nil {
		t.Fatal(err)
	}
}

// changes are the calls that change something, by their operation.
func (m *memory) changes() string {
	var list []string
	for _, call := range m.calls {
		if operation, _, _ := strings.Cut(call, " "); operation != "list" {
			list = append(list, operation)
		}
	}
	return strings.Join(list, " ")
}

func TestApplyKeepsTheGapShortAndMeasuresIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(listeners("DeviceUsage", ourURL, "StateService", ourURL)...)
		m.latency = 200 * time.Millisecond
		m.disturb = once("register StateService", refused)
		wanted := append(want(callback.DeviceUsage, newURL), want(callback.StateService, newURL)...)
		p := registration.MakePlan(account, wanted, m.list(), ours, nil)
		result, err := registration.Apply(t.Context(), m, p, applyOptions(newLedger(t)))
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Steps[0].Gap; got != 400*time.Millisecond {
			t.Errorf("gap is %s, want that of an unregister and a register", got)
		}
		if got := result.Steps[1].Gap; got != 600*time.Millisecond {
			t.Errorf("gap is %s: want the second try at once", got)
		}
		want := []string{"list", "unregister DeviceUsage", "register DeviceUsage " + newURL, "list", "unregister StateService"}
		if !slices.Equal(m.calls[:5], want) {
			t.Errorf("calls are %q: want each service's back to back, and seen before the next begins", m.calls)
		}
	})
}

func TestTheGapBeginsWithTheTryThatMayHaveEndedTheRegistration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(listeners("DeviceUsage", ourURL)...)
		m.latency = 200 * time.Millisecond
		m.disturb = once("unregister", refused)
		p := registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil)
		result, err := registration.Apply(t.Context(), m, p, applyOptions(newLedger(t)))
		if err != nil || result.Steps[0].Gap != 400*time.Millisecond {
			t.Errorf("gap is %s: %v", result.Steps[0].Gap, err)
		}
	})
}

// TestAListThatLagsIsNotTakenForTheTruth: the platform agreed to end the old registration, refuses the new one, and lists the old one still.
func TestAListThatLagsIsNotTakenForTheTruth(t *testing.T) {
	t.Parallel()
	m := newMemory(listeners("DeviceUsage", ourURL)...)
	p := registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil)
	m.lag, m.disturb = m.list(), always("register DeviceUsage "+newURL, refused)
	o := applyOptions(newLedger(t))
	o.Pause = time.Nanosecond
	result, err := registration.Apply(t.Context(), m, p, o)
	if result.Steps[0].Outcome != registration.Restored || m.url("DeviceUsage") != ourURL {
		t.Errorf("outcome is %q, and %q is held: %v", result.Steps[0].Outcome, m.url("DeviceUsage"), err)
	}
	m.disturb = always("register", refused)
	if result, err = registration.Apply(t.Context(), m, p, o); result.Steps[0].Outcome != registration.Unclear || err == nil {
		t.Errorf("outcome is %q: %v", result.Steps[0].Outcome, err)
	}
}

// TestTheLedgerKnowsAURLBeforeThePlatformDoes: a crash in between leaves nothing that nobody owns.
func TestTheLedgerKnowsAURLBeforeThePlatformDoes(t *testing.T) {
	t.Parallel()
	m, ledger := newMemory(listeners("DeviceUsage", ourURL)...), newLedger(t)
	known := 0
	m.disturb = func(_ int, call string) disturbance {
		if call != "list" && owns(t, ledger, "DeviceUsage", newURL) {
			known++
		}
		return undisturbed
	}
	p := registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil)
	if _, err := registration.Apply(t.Context(), m, p, applyOptions(ledger)); err != nil || known != 2 {
		t.Errorf("known at %d of 2 calls: %v", known, err)
	}
}

func TestApplyRegistersBeforeItChangesBeforeItRemoves(t *testing.T) {
	t.Parallel()
	m := newMemory(listeners("DeviceUsage", ourURL, "StateService", ourURL, "NiddService", ourURL)...)
	wanted := slices.Concat(want(callback.StateService, ""), want(callback.DeviceUsage, newURL), want(callback.AlertService, newURL))
	result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, wanted, m.list(), ours, nil), applyOptions(newLedger(t)))
	if err != nil {
		t.Fatal(err)
	}
	var order, outcomes []string
	for _, call := range m.calls {
		if call != "list" {
			order = append(order, strings.Join(strings.Fields(call)[:2], " "))
		}
	}
	for _, s := range result.Steps {
		outcomes = append(outcomes, s.Service+" "+string(s.Outcome))
	}
	if want := []string{"register AlertService", "unregister DeviceUsage", "register DeviceUsage", "unregister StateService"}; !slices.Equal(order, want) {
		t.Errorf("calls are %q, want %q", order, want)
	}
	if want := []string{"StateService done", "DeviceUsage done", "AlertService done", "NiddService kept"}; !slices.Equal(outcomes, want) {
		t.Errorf("outcomes are %q, want %q in the plan's order", outcomes, want)
	}
}

func TestApplyStopsWhenWhatIsHeldHasChanged(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule    string
		planned []registration.Registration
		now     []registration.Registration
		changed bool
	}{
		{"another URL", listeners("DeviceUsage", ourURL), listeners("DeviceUsage", foreignURL), true},
		{"nothing any more", listeners("DeviceUsage", ourURL), nil, true},
		{"somebody has come", nil, listeners("DeviceUsage", foreignURL), true},
		{"another spelling of the service", listeners("DeviceUsage", ourURL), listeners("deviceusage", ourURL), true},
		{"a service that is not managed is nobody's business", listeners("DeviceUsage", ourURL), listeners("DeviceUsage", ourURL, "StateService", ourURL), false},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			m := newMemory(test.now...)
			p := registration.MakePlan(account, want(callback.DeviceUsage, newURL), test.planned, ours, nil)
			result, err := registration.Apply(t.Context(), m, p, applyOptions(newLedger(t)))
			if errors.Is(err, registration.ErrChanged) != test.changed {
				t.Fatalf("error is %v", err)
			}
			if test.changed && (m.changes() != "" || result.Steps[0].Outcome != registration.Skipped || !strings.Contains(err.Error(), "DeviceUsage")) {
				t.Errorf("called %q, outcome %q, error %v", m.calls, result.Steps[0].Outcome, err)
			}
		})
	}
}

func TestApplyOfAPlanWithoutChangesCallsNobody(t *testing.T) {
	t.Parallel()
	m := newMemory(listeners("DeviceUsage", ourURL)...)
	result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, want(callback.DeviceUsage, ourURL), m.list(), ours, nil), applyOptions(newLedger(t)))
	if err != nil || len(m.calls) > 0 || result.Steps[0].Outcome != registration.Kept {
		t.Errorf("%+v after calls %q: %v", result, m.calls, err)
	}
}

func TestAStepThatFailsKeepsNoOtherFromBeingCarriedOut(t *testing.T) {
	t.Parallel()
	m := newMemory(listeners("DeviceUsage", ourURL, "StateService", ourURL, "AlertService", ourURL)...)
	m.disturb = always("unregister StateService", refused)
	wanted := slices.Concat(want(callback.StateService, newURL), want(callback.DeviceUsage, newURL), want(callback.AlertService, newURL))
	o := applyOptions(newLedger(t))
	o.Pause = time.Nanosecond
	result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, wanted, m.list(), ours, nil), o)
	var stepErr *registration.StepError
	if !errors.As(err, &stepErr) || stepErr.Service != "StateService" || stepErr.Outcome != registration.Failed {
		t.Errorf("error is %v", err)
	}
	if result.Steps[0].Outcome != registration.Failed || m.url("DeviceUsage") != newURL || m.url("AlertService") != newURL {
		t.Errorf("results are %+v", result.Steps)
	}
}

// TestNoListenerIsTakenAwayOnceARegisterFailed: the next would be lost like the one before.
func TestNoListenerIsTakenAwayOnceARegisterFailed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule    string
		disturb func(int, string) disturbance
		create  registration.Outcome
		first   registration.Outcome
		second  registration.Outcome
	}{
		{"after one that lost its listener", always("register DeviceUsage", refused), registration.Done, registration.Lost, registration.Skipped},
		{"after one that was put back", always("register DeviceUsage "+newURL, refused), registration.Done, registration.Restored, registration.Skipped},
		{"after a new one that failed", always("register", refused), registration.Failed, registration.Skipped, registration.Skipped},
		{"but it is after a URL that is wrong in itself", always("register DeviceUsage "+newURL, invalid), registration.Done, registration.Restored, registration.Done},
		{"and after a new one whose URL is wrong in itself", always("register AlertService", invalid), registration.Failed, registration.Done, registration.Done},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			m := newMemory(listeners("DeviceUsage", ourURL, "StateService", ourURL, "PromoChange", ourURL)...)
			m.disturb = test.disturb
			wanted := slices.Concat(want(callback.DeviceUsage, newURL), want(callback.StateService, newURL), want(callback.PromoChange, ""), want(callback.AlertService, newURL))
			o := applyOptions(newLedger(t))
			o.Pause = time.Nanosecond
			result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, wanted, m.list(), ours, nil), o)
			for i, want := range []registration.Outcome{test.first, test.second, registration.Done, test.create} {
				s := result.Steps[i]
				if s.Outcome != want {
					t.Errorf("%s is %s, want %s: %v", s.Service, s.Outcome, want, s.Err)
				}
				if s.Outcome == registration.Skipped && (m.url(s.Service) != ourURL || !errors.Is(err, s.Err) || !strings.Contains(err.Error(), s.Service+": registering ")) {
					t.Errorf("of %s %q is held, and the error is %v", s.Service, m.url(s.Service), err)
				}
			}
			if skips := test.second == registration.Skipped; skips != (result.Doubt != nil) {
				t.Errorf("the doubt is %v", result.Doubt)
			}
			o.Doubt = result.Doubt
			another := newMemory(listeners("DeviceUsage", ourURL)...)
			after, err := registration.Apply(t.Context(), another, registration.MakePlan(account, want(callback.DeviceUsage, newURL), another.list(), ours, nil), o)
			if after.Steps[0].Outcome == registration.Skipped != (result.Doubt != nil) {
				t.Errorf("of the next account it is %s: %v", after.Steps[0].Outcome, err)
			}
		})
	}
}

// TestAContextThatEndsLeavesNoGap ends the context during each call in turn.
func TestAContextThatEndsLeavesNoGap(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		t.Run(fmt.Sprint("call ", n), func(t *testing.T) {
			t.Parallel()
			m := newMemory(listeners("DeviceUsage", ourURL, "StateService", ourURL)...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			disturbed := once("register", refused)
			m.disturb = func(i int, call string) disturbance {
				if i == n {
					cancel()
				}
				return disturbed(i, call)
			}
			wanted := append(want(callback.DeviceUsage, newURL), want(callback.StateService, newURL)...)
			result, err := registration.Apply(ctx, m, registration.MakePlan(account, wanted, m.list(), ours, nil), applyOptions(newLedger(t)))
			for _, s := range result.Steps {
				switch now := m.url(s.Service); {
				case s.Outcome == registration.Done && now == newURL && s.Err == nil:
				case s.Outcome == registration.Skipped && now == ourURL && errors.Is(err, context.Canceled):
				default:
					t.Errorf("%s: outcome %q, held %q, error %v", s.Service, s.Outcome, now, s.Err)
				}
			}
			if n < 7 && n > 0 && result.Steps[0].Outcome != registration.Done {
				t.Errorf("a step that had begun was not ended: %+v", result.Steps[0])
			}
		})
	}
}

func TestRotationRegistersTheNewestPair(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule    string
		disturb func(*memory) func(int, string) disturbance
		outcome registration.Outcome
		bears   registration.Login
	}{
		{"the newest pair is registered", nil, registration.Done, newest},
		{"a pair that is refused gives way to the one before", func(m *memory) func(int, string) disturbance {
			tries := 0
			return func(_ int, call string) disturbance {
				if strings.HasPrefix(call, "register") {
					if tries++; tries <= 4 {
						return refused
					}
				}
				return undisturbed
			}
		}, registration.Restored, oldest},
		{"whether it was done is not guessed", func(m *memory) func(int, string) disturbance {
			return func(n int, call string) disturbance {
				switch {
				case strings.HasPrefix(call, "unregister"), call == "list" && n > 0 && !slices.ContainsFunc(m.calls, isRegister),
					strings.HasPrefix(call, "register") && !slices.ContainsFunc(m.calls, isRegister):
					return lostRequest
				}
				return undisturbed
			}
		}, registration.Unclear, registration.Login{Username: "before", Password: "before"}},
		{"nor when it is seen in the end", func(*memory) func(int, string) disturbance {
			return script(map[string][]disturbance{"unregister": {lostRequest}, "register": {lostRequest},
				"list": {undisturbed, lostRequest, lostRequest, lostRequest, lostRequest, lostRequest, lostRequest, lostRequest, undisturbed}})
		}, registration.Unclear, registration.Login{Username: "before", Password: "before"}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			m := newMemory(listeners("DeviceUsage", ourURL)...)
			if test.disturb != nil {
				m.disturb = test.disturb(m)
			}
			o := applyOptions(newLedger(t))
			o.Pause = time.Nanosecond
			p := registration.MakeRotation(account, want(callback.DeviceUsage, ourURL), m.list(), ours, nil)
			result, err := registration.Apply(t.Context(), m, p, o)
			step := result.Steps[0]
			if step.Outcome != test.outcome || m.bears["DeviceUsage"] != test.bears || (err == nil) != (test.outcome == registration.Done) {
				t.Errorf("outcome %q, callbacks bear the pair of %q: %v\n%q", step.Outcome, m.bears["DeviceUsage"].Username, err, m.calls)
			}
			if told := strings.Contains(strings.Join(step.Notes, " "), "old password for up to 15 minutes"); told != (test.outcome == registration.Done) {
				t.Errorf("notes are %q", step.Notes)
			}
		})
	}
}

func isRegister(call string) bool { return strings.HasPrefix(call, "register") }

func TestSMSThatWereQueuedAreSpokenOf(t *testing.T) {
	t.Parallel()
	for service, started := range map[callback.Service]bool{callback.EnhancedConnectivityService: true, callback.SMSDeliveryConfirmation: false} {
		m := newMemory()
		result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, want(service, newURL), nil, ours, nil), applyOptions(newLedger(t)))
		if err != nil {
			t.Fatal(err)
		}
		if notes := result.Steps[0].Notes; strings.Contains(strings.Join(notes, ""), "callbackd registrations start-sms --account "+account) != started {
			t.Errorf("%s: notes %q", service, notes)
		}
	}
}

func TestWhatCannotBeSentIsFoundBeforeAnythingIsUnregistered(t *testing.T) {
	t.Parallel()
	for rule, logins := range map[string][]registration.Login{
		"no pair":                         nil,
		"a password that XML cannot hold": {{Username: "u", Password: "bell\a"}},
	} {
		m := newMemory(listeners("DeviceUsage", ourURL)...)
		o := applyOptions(newLedger(t))
		o.Logins = func(string) []registration.Login { return logins }
		result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil), o)
		if err == nil || result.Steps[0].Outcome != registration.Failed || m.changes() != "" || strings.Contains(err.Error(), "bell") {
			t.Errorf("%s: %v after %q", rule, err, m.calls)
		}
	}
}

func TestARefusedLogInIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMemory(listeners("DeviceUsage", ourURL)...)
	refusing := &refusing{memory: m}
	result, err := registration.Apply(t.Context(), refusing, registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil), applyOptions(newLedger(t)))
	if !errors.Is(err, registration.ErrLogInRefused) || refusing.asked != 1 || result.Steps[0].Outcome != registration.Failed {
		t.Errorf("asked %d times, outcome %q: %v", refusing.asked, result.Steps[0].Outcome, err)
	}
}

// refusing ends the session before the first unregister.
type refusing struct {
	*memory
	asked int
}

func (r *refusing) Unregister(context.Context, string, string) error {
	r.asked++
	return registration.ErrLogInRefused
}

func TestNoPasswordAppearsInAResultOrAnError(t *testing.T) {
	t.Parallel()
	m := newMemory(listeners("DeviceUsage", ourURL)...)
	m.disturb = always("register", refused)
	o := applyOptions(newLedger(t))
	o.Pause = time.Nanosecond
	result, err := registration.Apply(t.Context(), m, registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil), o)
	if text := fmt.Sprintf("%+v %#v %v", result, result, err); err == nil || strings.Contains(text, newest.Password) || strings.Contains(text, oldest.Password) {
		t.Errorf("a password in %s", text)
	}
}

func TestTwoPlansAreNotCarriedOutAtOnce(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t)
	m := newMemory(listeners("DeviceUsage", ourURL)...)
	p := registration.MakePlan(account, want(callback.DeviceUsage, newURL), m.list(), ours, nil)
	var second error
	m.disturb = func(_ int, call string) disturbance {
		if strings.HasPrefix(call, "unregister") { // the first is at work
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, second = registration.Apply(ctx, newMemory(listeners("DeviceUsage", ourURL)...), p, applyOptions(ledger))
		}
		return undisturbed
	}
	if _, err := registration.Apply(t.Context(), m, p, applyOptions(ledger)); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(second, context.DeadlineExceeded) || !strings.Contains(second.Error(), "another command") {
		t.Errorf("the second ended with %v", second)
	}
	if _, err := registration.Apply(t.Context(), m, p, applyOptions(ledger)); !errors.Is(err, registration.ErrChanged) {
		t.Errorf("the second, after the first, ended with %v: want it to see what the first did", err)
	}
}

// TestApplyTellsTheTruthWhateverFails disturbs any calls in any way.
func TestApplyTellsTheTruthWhateverFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		rounds++
		state, err := registration.OpenState(fmt.Sprint(dir, "/", rounds))
		if err != nil {
			rt.Fatal(err)
		}
		ledger := registration.NewLedger(state, registration.DefaultURL)
		services := []string{"DeviceUsage", "StateService", "PromoChange"}
		urls := rapid.SampledFrom([]string{"", ourURL, newURL, foreignURL})
		m := newMemory()
		var wanted []registration.Wanted
		for _, service := range append(services, "NiddService") {
			if url := urls.Draw(rt, "held for "+service); url != "" {
				m.held[service] = registration.Registration{Account: account, Service: service, URL: url}
			}
			if service != "NiddService" {
				wanted = append(wanted, registration.Wanted{Service: callback.Service(service), URL: rapid.SampledFrom([]string{"", newURL}).Draw(rt, "wanted for "+service)})
			}
		}
		var takeOver []string
		if rapid.Bool().Draw(rt, "take over") {
			takeOver = []string{foreignURL}
		}
		plan := registration.MakePlan(account, wanted, m.list(), ours, takeOver)
		if rapid.Bool().Draw(rt, "rotate") {
			plan = registration.MakeRotation(account, wanted, m.list(), ours, takeOver)
		}
		before := maps.Clone(m.held)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		kinds := rapid.SampledFrom([]disturbance{undisturbed, undisturbed, refused, lostRequest, lostAnswer, failedHalfWay})
		worst := rapid.IntRange(0, 40).Draw(rt, "calls that may be disturbed")
		ends := rapid.IntRange(0, 30).Draw(rt, "call at which the context ends")
		m.disturb = func(n int, call string) disturbance {
			if n == ends {
				cancel()
			}
			if n == 0 || n > worst {
				return undisturbed
			}
			return kinds.Draw(rt, call)
		}
		o := applyOptions(ledger)
		o.Pause = time.Nanosecond
		result, err := registration.Apply(ctx, m, plan, o)
		owned, ledgerErr := ledger.Owned(account)
		if ledgerErr != nil {
			rt.Fatal(ledgerErr)
		}
		for _, s := range result.Steps {
			judge(rt, s, before[s.HeldAs].URL, m.url(s.Service), err)
			now := m.url(s.Service)
			if touched := slices.ContainsFunc(m.calls, func(call string) bool {
				return call != "list" && strings.Fields(call)[1] == s.Service
			}); touched && (s.Action == registration.Keep || !s.Managed || s.Have == foreignURL && takeOver == nil) {
				rt.Fatalf("%s was touched, and was to be kept: %q", s.Service, m.calls)
			}
			if now != before[s.Service].URL && now != "" && now != foreignURL && !owned(s.Service, now) {
				rt.Fatalf("%s was registered for %s, and the ledger does not know", now, s.Service)
			}
			if owned(s.Service, foreignURL) {
				rt.Fatalf("the ledger owns %s, which is not ours", foreignURL)
			}
		}
		if m.held["NiddService"] != before["NiddService"] {
			rt.Fatal("a service that nobody named was changed")
		}
	})
}

// judge holds what a step says against what the platform holds.
func judge(rt *rapid.T, s registration.StepResult, before, now string, err error) {
	want := before
	switch s.Outcome {
	case registration.Done:
		want = s.Want
	case registration.Lost:
		want = ""
	case registration.Unclear:
		want = now
	}
	if now != want {
		rt.Fatalf("%s %s is %s, and %q is held, not %q: %v", s.Action, s.Service, s.Outcome, now, want, err)
	}
	good := s.Outcome == registration.Done || s.Outcome == registration.Kept || s.Outcome == registration.Skipped && s.Err == nil
	if good != (s.Err == nil) || s.Err != nil && !errors.Is(err, s.Err) {
		rt.Fatalf("%s %s is %s with error %v, within %v", s.Action, s.Service, s.Outcome, s.Err, err)
	}
	if lost := before != "" && now == "" && s.Action != registration.Remove; lost {
		var stepErr *registration.StepError
		if !errors.As(s.Err, &stepErr) || stepErr.Service != s.Service || s.Outcome != registration.Lost && s.Outcome != registration.Unclear {
			rt.Fatalf("%s was registered and is not any more, and the step is %s: %v", s.Service, s.Outcome, s.Err)
		}
	}
}
