package registration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"callbackd/internal/callback"
)

// Registrar is what carries a plan out: a [Client].
type Registrar interface {
	List(ctx context.Context, account string) ([]Registration, error)
	Register(ctx context.Context, r Registration, callback Login) error
	Unregister(ctx context.Context, account, service string) error
}

// ApplyOptions say how a plan is carried out.
type ApplyOptions struct {
	// Ledger learns of each URL before the platform does, and keeps two plans from being carried out at once. It MUST NOT be nil.
	Ledger *Ledger
	// Logins are the pairs of user name and password that callbacks of a service may bear, newest first. The newest is registered; the
	// others serve when an old registration must be put back.
	Logins func(service string) []Login
	// Pause is the wait before a try is made again, after the first, which comes at once; it doubles. 0: 1 s.
	Pause time.Duration
	// Timeout bounds each call; 0: 1 min. A call that could leave a service unregistered is made whatever becomes of the context.
	Timeout time.Duration
	// Doubt is that of a result before, such as of another account; nil for none.
	Doubt error
}

// Outcome is what became of a step.
type Outcome string

const (
	Kept     Outcome = "kept"     // nothing was to be done
	Done     Outcome = "done"     // and seen in the platform's list
	Skipped  Outcome = "skipped"  // not begun: the context had ended, or its listener would be at risk
	Failed   Outcome = "failed"   // the platform holds what it held before
	Restored Outcome = "restored" // the new URL could not be registered, and the old one was put back
	Lost     Outcome = "lost"     // the platform holds nothing for the service
	Unclear  Outcome = "unclear"  // what the platform holds could not be seen
)

// StepResult is a step, and what became of it.
type StepResult struct {
	Step
	Outcome Outcome
	// Gap is the longest time in which the platform can have held nothing for a service that it held before. It is as long as the step
	// took if the outcome is Lost or Unclear, and goes on.
	Gap   time.Duration
	Notes []string // what the operator should know although it went well
	Err   error    // nil if it went well; otherwise a *StepError
}

// Result is what became of a plan, step by step, in its order.
type Result struct {
	Account string
	Steps   []StepResult
	// Doubt says which register failed for a reason that may hold for all, so that no listener was taken away after it; nil for none.
	Doubt error
}

// ErrChanged says that the platform no longer holds what a plan was made from.
var ErrChanged = errors.New("what the platform holds has changed since the plan was made")

// StepError says what state a step left its service in, and what to do.
type StepError struct {
	Service string
	Outcome Outcome
	Advice  string
	Err     error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v. %s", e.Service, e.Err, e.Advice) }

func (e *StepError) Unwrap() error { return e.Err }

// Apply carries out a plan. It looks again first, and does nothing if what is held has changed since: see [ErrChanged].
//
// The platform allows one listener for each service, and loses what it would send while there is none. So a change is an unregister and a
// register back to back, one service at a time, and a step that has begun is ended whatever becomes of ctx. A register that fails is
// tried again, and then the old URL is put back; what is left without a listener all the same has an error that says so.
//
// A step that fails keeps others from being carried out only where they could lose what they have: once a register failed, for a reason that
// may hold for all, nothing more is unregistered to be registered again. So services that are only to be registered come first. The error
// joins those of all steps.
func Apply(ctx context.Context, r Registrar, p Plan, o ApplyOptions) (Result, error) {
	if o.Pause <= 0 {
		o.Pause = time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	a := applier{registrar: r, account: p.Account, o: o}
	result := Result{Account: p.Account, Steps: make([]StepResult, len(p.Steps)), Doubt: o.Doubt}
	for i, s := range p.Steps {
		result.Steps[i] = StepResult{Step: s, Outcome: Kept}
		if s.Action != Keep {
			result.Steps[i].Outcome = Skipped
		}
	}
	if len(p.Changes()) == 0 {
		return result, nil
	}
	unlock, err := o.Ledger.exclusive(ctx)
	if err != nil {
		return result, fmt.Errorf("wait for another command to carry out its plan; nothing was done: %w", err)
	}
	defer unlock()
	held, err := r.List(ctx, p.Account)
	if err != nil {
		return result, fmt.Errorf("look again before anything is changed; nothing was done: %w", err)
	}
	if changed := changedSince(p, held); len(changed) > 0 {
		return result, fmt.Errorf("%w, for %s; nothing was done: look at a new plan", ErrChanged, strings.Join(changed, ", "))
	}
	var errs []error
	for _, action := range []Action{Create, Change, Rotate, Remove} {
		for i, s := range p.Steps {
			if s.Action == action {
				result.Steps[i] = a.carryOut(ctx, s, result.Doubt)
				errs = append(errs, result.Steps[i].Err)
				if result.Doubt == nil && castsDoubt(result.Steps[i]) {
					result.Doubt = fmt.Errorf("registering %s of account %s failed, and this one would be without a listener if that failed too",
						s.Service, p.Account)
				}
			}
		}
	}
	return result, errors.Join(errs...)
}

// castsDoubt reports whether a register failed in a way that may meet the next as well.
func castsDoubt(r StepResult) bool {
	var f *Fault
	switch {
	case r.Action == Remove:
		return false
	case r.Outcome == Lost, r.Outcome == Unclear:
		return true
	case r.Outcome == Restored, r.Outcome == Failed && r.Action == Create:
		return !errors.Is(r.Err, errTaken) && !(errors.As(r.Err, &f) && f.Class == "INPUT_INVALID")
	}
	return false
}

// changedSince names the services for which the platform holds something else than the plan says.
func changedSince(p Plan, held []Registration) []string {
	var changed []string
	for _, s := range p.Steps {
		if !s.Managed {
			continue
		}
		found := holding(held, s.Service)
		if exact := exactly(found, s.HeldAs); len(found) > 1 && len(exact) == 1 {
			found = exact
		}
		if have, heldAs := summary(found); heldAs != s.HeldAs || !sameURL(have, s.Have) {
			changed = append(changed, s.Service)
		}
	}
	return changed
}

// applier carries out the steps of one account.
type applier struct {
	registrar Registrar
	account   string
	o         ApplyOptions
}

// tries bound each call that is made again.
const (
	registerTries   = 4
	unregisterTries = 3
	putBackTries    = 2 // for each pair of user name and password
	looks           = 3 // for the platform's list may lag
)

func (a *applier) carryOut(ctx context.Context, s Step, doubt error) StepResult {
	result := StepResult{Step: s}
	if err := context.Cause(ctx); err != nil {
		return a.fail(result, Skipped, err)
	}
	if doubt != nil && (s.Action == Change || s.Action == Rotate) {
		return a.fail(result, Skipped, doubt)
	}
	if s.Action != Remove {
		if err := a.sendable(s); err != nil {
			return a.fail(result, Failed, err)
		}
		if err := a.o.Ledger.intend(ctx, a.account, s.Service, s.Want); err != nil {
			return a.fail(result, Failed, fmt.Errorf("note the URL before it is registered: %w", err))
		}
	}
	switch s.Action {
	case Create:
		result = a.create(ctx, result)
	case Remove:
		result = a.remove(ctx, result)
	default:
		result = a.replace(ctx, result)
	}
	return a.settled(ctx, result)
}

// sendable finds what no platform can be told, before anything is unregistered for it.
func (a *applier) sendable(s Step) error {
	logins := a.o.Logins(s.Service)
	if len(logins) == 0 {
		return errors.New("the configuration has no pair of user name and password for it")
	}
	var b bytes.Buffer
	return errors.Join(element(&b, "Url", s.Want), element(&b, "Username", logins[0].Username), element(&b, "Password", logins[0].Password))
}

func (a *applier) create(ctx context.Context, result StepResult) StepResult {
	s := result.Step
	said, err := a.register(ctx, a.wanted(s), a.o.Logins(s.Service)[0], registerTries)
	if err == nil {
		return a.verified(ctx, result)
	}
	err = fmt.Errorf("register: %w", err)
	switch held, lookErr := a.list(ctx); {
	case said == nothing && lookErr != nil:
		return a.fail(result, Unclear, fmt.Errorf("%w; look: %w", err, lookErr))
	case said == nothing && holds(held, s.Service, s.Want):
		result.Outcome = Done
		return result
	case len(holding(held, s.Service)) > 0:
		err = fmt.Errorf("%w: %w", errTaken, err)
	}
	return a.fail(result, Failed, err)
}

// errTaken is somebody else's registration, in the moment of ours.
var errTaken = errors.New("somebody else registered a URL meanwhile")

func (a *applier) remove(ctx context.Context, result StepResult) StepResult {
	state, _, err := a.unregister(ctx, result.Step)
	switch state {
	case gone:
		result.Outcome = Done
		return result
	case there:
		return a.fail(result, Failed, fmt.Errorf("unregister: %w", err))
	}
	return a.fail(result, Unclear, fmt.Errorf("unregister: %w", err))
}

// replace is the one place with a gap. From the moment that the old registration may be gone, it no longer heeds ctx.
func (a *applier) replace(ctx context.Context, result StepResult) StepResult {
	s := result.Step
	state, from, err := a.unregister(ctx, s)
	if state == there {
		return a.fail(result, Failed, fmt.Errorf("unregister: %w", err))
	}
	ctx = context.WithoutCancel(ctx)
	said, err := a.register(ctx, a.wanted(s), a.o.Logins(s.Service)[0], registerTries)
	result.Gap = time.Since(from)
	tellsApart := state == gone || !sameURL(s.Have, s.Want) // a list tells the new registration from the old one
	switch {
	case err == nil && (said == agreed || tellsApart):
		return a.verified(ctx, result)
	case err == nil:
		return a.fail(result, Unclear, errOneOfTwo)
	}
	err = fmt.Errorf("register: %w", err)
	if held, lookErr := a.list(ctx); lookErr == nil {
		switch found := holding(held, s.Service); {
		case said == nothing && holds(found, s.Service, s.Want) && tellsApart:
			result.Outcome = Done
			return result
		case said == nothing && holds(found, s.Service, s.Want):
			return a.fail(result, Unclear, fmt.Errorf("%w; %w", err, errOneOfTwo))
		case state == unknown && holds(found, s.HeldAs, s.Have): // it was never gone
			result.Gap = 0
			return a.fail(result, Failed, err)
		case len(found) > 0 && !holds(found, s.HeldAs, s.Have):
			return a.fail(result, Failed, fmt.Errorf("%w: %w", errTaken, err))
		}
	}
	return a.putBack(ctx, result, from, err)
}

var errOneOfTwo = errors.New("the URL is registered, and whether with the new pair could not be seen")

// putBack registers the old URL again. What it was registered with is not told by the platform. A URL of callbackd's takes each of its
// pairs. One that was taken over gets none: its listener may refuse such callbacks, which are then repeated and archived, while without
// a listener they are lost; and callbackd's password is none of its business.
func (a *applier) putBack(ctx context.Context, result StepResult, from time.Time, cause error) StepResult {
	s := result.Step
	logins := a.o.Logins(s.Service)
	if !s.Ours {
		logins = []Login{{}}
	} else if s.Action == Rotate {
		logins = logins[1:] // the newest has been tried
	}
	for _, login := range logins {
		old := Registration{Account: a.account, Service: s.HeldAs, URL: s.Have}
		if _, err := a.register(ctx, old, login, putBackTries); err != nil {
			cause = fmt.Errorf("%w; put the old URL back: %w", cause, err)
			continue
		}
		result.Gap = time.Since(from)
		return a.fail(result, Restored, cause)
	}
	result.Gap = time.Since(from)
	held, err := a.list(ctx)
	if err != nil {
		return a.fail(result, Unclear, fmt.Errorf("%w; look: %w", cause, err))
	}
	if found := holding(held, s.Service); len(found) > 0 {
		return a.fail(result, Unclear, fmt.Errorf("%w; and yet the platform holds a URL for it", cause))
	}
	return a.fail(result, Lost, cause)
}

func (a *applier) wanted(s Step) Registration {
	return Registration{Account: a.account, Service: s.Service, URL: s.Want}
}

// reply is what the platform said to a register.
type reply int

const (
	declined reply = iota // and did nothing
	agreed
	nothing // that can be relied on: it may have done it
)

// register tries until the URL is held. An answer that did not come says nothing of what was done, and a later one, that the service is
// held, may speak of the try before: so it looks, and is content when it sees the URL.
func (a *applier) register(ctx context.Context, r Registration, login Login, tries int) (said reply, err error) {
	for try := 1; ; try++ {
		err = a.call(ctx, func(ctx context.Context) error { return a.registrar.Register(ctx, r, login) })
		if err == nil {
			return agreed, nil
		}
		if !definite(err) {
			said = nothing
		}
		if said == nothing {
			if held, lookErr := a.list(ctx); lookErr == nil && holds(held, r.Service, r.URL) {
				return said, nil
			}
		}
		if try == tries || !mendable(err) || !a.pause(ctx, try) {
			return said, err
		}
	}
}

// presence is what is known of a registration that was to be ended.
type presence int

const (
	there presence = iota
	gone
	unknown
)

// unregister tries until the service is not held. from is when the first try was made that may have ended it.
func (a *applier) unregister(ctx context.Context, s Step) (state presence, from time.Time, err error) {
	for try := 1; ; try++ {
		if state == there {
			from = time.Now()
		}
		err = a.call(ctx, func(ctx context.Context) error { return a.registrar.Unregister(ctx, a.account, s.HeldAs) })
		if err == nil || errors.Is(err, ErrNotHeld) {
			return gone, from, nil
		}
		if !definite(err) {
			state = unknown
		}
		if held, lookErr := a.list(ctx); lookErr == nil {
			if len(exactly(held, s.HeldAs)) == 0 {
				return gone, from, nil
			}
			state = there
		}
		if try == unregisterTries || !mendable(err) || !a.pause(ctx, try) {
			return state, from, err
		}
	}
}

// verified looks whether the platform shows what it agreed to.
func (a *applier) verified(ctx context.Context, result StepResult) StepResult {
	s := result.Step
	for look := 1; ; look++ {
		held, err := a.list(ctx)
		switch {
		case err == nil && holds(held, s.Service, s.Want):
			result.Outcome = Done
			return result
		case look < looks && a.pause(context.WithoutCancel(ctx), look):
		case err != nil:
			return a.fail(result, Unclear, fmt.Errorf("the platform agreed, and what it holds could not be listed: %w", err))
		case len(holding(held, s.Service)) == 0:
			return a.fail(result, Lost, errors.New("the platform agreed, and yet it lists nothing"))
		default:
			return a.fail(result, Unclear, errors.New("the platform agreed, and yet it lists another URL"))
		}
	}
}

// settled brings the ledger in line, and adds what the operator should know.
func (a *applier) settled(ctx context.Context, result StepResult) StepResult {
	s := result.Step
	var ours []string // that the platform may hold now
	switch result.Outcome {
	case Done:
		if s.Want != "" {
			ours = []string{s.Want}
		}
	case Failed, Restored:
		if s.Ours {
			ours = []string{s.Have}
		}
	default:
		return result // any of them may be held
	}
	if err := a.settle(ctx, s.Service, ours); err != nil && result.Err == nil {
		// Nothing is wrong with the registration, and the ledger still owns its URL, and the one before.
		result.Notes = append(result.Notes, fmt.Sprintf("the URL before is still taken for callbackd's: %v", err))
	}
	registered := s.Action != Remove && result.Outcome == Done || result.Outcome == Restored
	if registered && SameService(s.Service, string(callback.EnhancedConnectivityService)) {
		result.Notes = append(result.Notes, "SMS from devices that came while there was no listener are queued until they are asked for: "+
			a.command("start-sms"))
	}
	if result.Outcome == Done && s.Action == Rotate {
		result.Notes = append(result.Notes, "the platform goes on with the old password for up to 15 minutes: leave the old pair in the "+
			"configuration until its count stands still")
	}
	return result
}

func (a *applier) settle(ctx context.Context, service string, urls []string) error {
	return a.call(ctx, func(ctx context.Context) error { return a.o.Ledger.settle(ctx, a.account, service, urls...) })
}

func (a *applier) command(verb string) string {
	return "callbackd registrations " + verb + " --account " + a.account
}

// fail ends a step with an error that says what to do.
func (a *applier) fail(result StepResult, outcome Outcome, err error) StepResult {
	var advice string
	const again = ": when the cause is mended, run the same command again"
	switch outcome {
	case Skipped:
		advice = "Nothing was done about it" + again
	case Failed:
		advice = "The platform holds what it held before" + again
		if result.Action == Create {
			advice = "It is not registered" + again
		}
		if errors.Is(err, errTaken) {
			advice = "It is left to them: run " + a.command("plan") + " and look who it is"
		}
	case Restored:
		advice = "The old URL is registered again" + again
		if !result.Ours {
			advice = "The old URL is registered again, without user name and password, which callbackd does not know: give it those by hand, " +
				"or, when the cause is mended, run the same command again"
		}
	case Lost:
		advice = "The platform now holds NOTHING for it, and its callbacks are lost: run " + a.command("apply") + " at once"
	default:
		advice = "What the platform holds for it is not known, and its callbacks may be lost: run " + a.command("list") + " at once, and then " +
			a.command("apply")
	}
	result.Outcome = outcome
	result.Err = &StepError{Service: result.Service, Outcome: outcome, Advice: advice, Err: err}
	return result
}

// call makes one call, which ctx does not interrupt: what an interrupted call has done is not known.
func (a *applier) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.o.Timeout)
	defer cancel()
	return do(ctx)
}

func (a *applier) list(ctx context.Context) (held []Registration, err error) {
	err = a.call(ctx, func(ctx context.Context) error {
		held, err = a.registrar.List(ctx, a.account)
		return err
	})
	return held, err
}

// pause waits before the next try, and reports whether there is to be one.
func (a *applier) pause(ctx context.Context, try int) bool {
	if try == 1 || ctx.Err() != nil {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(a.o.Pause << (try - 2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// holds reports whether a URL is registered for a service.
func holds(held []Registration, service, url string) bool {
	return slices.ContainsFunc(held, func(r Registration) bool { return SameService(r.Service, service) && sameURL(r.URL, url) })
}

// definite reports whether an error says that the platform did nothing. Without an answer it may have done what it was asked, and so it
// may if it failed half way, or put the request off.
func definite(err error) bool {
	var f *Fault
	if !errors.As(err, &f) {
		return errors.Is(err, ErrLogInRefused)
	}
	refused := f.Class == "INPUT_INVALID" || f.Class == "REQUEST_FAILED" && f.Code != "UnexpectedError"
	return refused || errors.Is(err, ErrLogInRefused) || errors.Is(err, ErrDeserialization)
}

// mendable reports whether another try may do better.
func mendable(err error) bool {
	var f *Fault
	if errors.As(err, &f) && f.Class == "INPUT_INVALID" {
		return false
	}
	return !errors.Is(err, ErrLogInRefused) && !errors.Is(err, ErrDeserialization) && !errors.Is(err, ErrAccountNotFound)
}
