package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"

	"github.com/spf13/cobra"
)

// plannedStep is what is to be done about a service.
type plannedStep struct {
	Service string              `json:"service"`
	Action  registration.Action `json:"action"`
	Have    string              `json:"have_url"`
	Want    string              `json:"want_url"`
	Why     string              `json:"why"`
	Ours    bool                `json:"ours"`
	Managed bool                `json:"managed"`
	Blocked bool                `json:"blocked"` // not as it is wanted, and left so
}

// stepOutcome is what became of it.
type stepOutcome struct {
	Service string               `json:"service"`
	Action  registration.Action  `json:"action"`
	Outcome registration.Outcome `json:"outcome"`
	Gap     float64              `json:"gap_seconds"`
	Notes   []string             `json:"notes"`
	Error   string               `json:"error,omitzero"`
}

// faultList is the flag --allow.
type faultList []registration.ProblemKind

func faultNames() []string {
	return []string{string(registration.ProblemHTTP), string(registration.ProblemPort), string(registration.ProblemCertificate)}
}

func (l *faultList) String() string { return "" }
func (l *faultList) Type() string   { return "fault" }

func (l *faultList) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		if !slices.Contains(faultNames(), name) {
			return fmt.Errorf("%q is none of %s", name, strings.Join(faultNames(), ", "))
		}
		*l = append(*l, registration.ProblemKind(name))
	}
	return nil
}

// planner makes an account's plan from what the platform holds and what is ours.
type planner func(held []registration.Registration, owned func(service, url string) bool) registration.Plan

// plan looks, plans, says what is planned and what is wrong with the URLs.
func (a *atAccount) plan(ctx context.Context, planned planner) (registration.Plan, error) {
	held, err := a.client.List(ctx, a.Name)
	if err != nil {
		return registration.Plan{}, err
	}
	owned, err := a.ledger.Owned(a.Name)
	if err != nil {
		return registration.Plan{}, err
	}
	p := planned(held, owned)
	changes := len(p.Changes())
	a.report.Changes, a.report.Steps = &changes, []plannedStep{}
	for _, s := range p.Steps {
		a.report.Steps = append(a.report.Steps, plannedStep{s.Service, s.Action, s.Have, s.Want, s.Why, s.Ours, s.Managed, s.Blocked})
	}
	a.say(func(w io.Writer) {
		row(w, "ACTION", "SERVICE", "HELD", "WANTED", "WHY")
		for _, s := range p.Steps {
			row(w, s.Action, s.Service, dash(s.Have), dash(s.Want), s.Why)
		}
		switch left := blocked(p); {
		case len(left) > 0:
			row(w, fmt.Sprintf("Not as wanted, and left so: %d. WHY says how to change that, such as by --take-over.", len(left)))
		case changes == 0:
			row(w, "There is nothing to change.")
		}
	})
	for _, old := range p.Unmatched {
		a.warn("--take-over %s: no service that this is about has that URL", old)
	}
	return p, nil
}

// check looks at the URLs that are to be registered, and whether the callbackd that runs is ready for their callbacks. What keeps a URL from
// being registered is an error, which names the flag that allows it if there is one.
func (a *atAccount) check(ctx context.Context, p registration.Plan) (refused []error) {
	steps := slices.DeleteFunc(p.Changes(), func(s registration.Step) bool { return s.Action == registration.Remove })
	problems := make([][]registration.Problem, len(steps))
	var looking sync.WaitGroup // at all at once, for each may wait until it gives up connecting
	for i, s := range steps {
		looking.Go(func() { problems[i] = registration.CheckURL(ctx, s.Want, registration.CheckOptions{}) })
	}
	looking.Wait()
	for i, s := range steps {
		service := callback.Service(s.Service)
		if err := app.ReadyFor(ctx, a.config, service, a.config.PairsOf(a.Account, service)[0]); err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", s.Service, err))
		}
		for _, problem := range problems[i] {
			if err := a.judge(s, problem); err != nil {
				refused = append(refused, err)
			}
		}
	}
	return refused
}

// judge warns of a problem, or returns it if it is a reason not to register the URL.
func (a *atAccount) judge(s registration.Step, p registration.Problem) error {
	simulated, allowable := a.config.Platform.OnLoopback(), slices.Contains(faultNames(), string(p.Kind))
	switch {
	case simulated && p.Kind == registration.ProblemAddress:
		return nil // a simulator reaches what this machine does
	case p.Warning, allowable && (simulated || slices.Contains(a.allow, p.Kind)):
		a.warn("%s: %s", s.Service, p)
		return nil
	case allowable:
		return fmt.Errorf("%s: %s; --allow %s registers %s all the same", s.Service, p, p.Kind, s.Want)
	}
	return fmt.Errorf("%s: %s", s.Service, p)
}

// apply plans and carries the plan out, unless it is a dry run. What stays other than it is wanted is an error.
func (a *atAccount) apply(ctx context.Context, planned planner) (registration.Plan, error) {
	p, err := a.plan(ctx, planned)
	if err != nil {
		return p, err
	}
	refused := a.check(ctx, p)
	if a.dry {
		for _, err := range refused {
			a.warn("would be refused: %v", err)
		}
		return p, nil
	}
	if len(refused) > 0 {
		return p, fmt.Errorf("nothing was changed: %w", errors.Join(refused...))
	}
	a.report.Results = []stepOutcome{}
	if len(p.Changes()) > 0 {
		if err := a.carryOut(ctx, p); err != nil {
			return p, errors.Join(append(blocked(p), err)...)
		}
	}
	return p, errors.Join(blocked(p)...)
}

func (a *atAccount) carryOut(ctx context.Context, p registration.Plan) error {
	a.sayWhatIsLost(p)
	defer a.askForPatience(ctx)()
	result, err := registration.Apply(ctx, a.client, p, registration.ApplyOptions{
		Ledger: a.ledger, Doubt: a.doubt, Timeout: 2 * a.config.Platform.Timeout, // a call may have to log in first
		Logins: func(service string) []registration.Login {
			return a.config.PairsOf(a.Account, callback.Service(service))
		},
	})
	a.doubt = result.Doubt
	for _, s := range result.Steps {
		if s.Outcome != registration.Kept {
			o := stepOutcome{Service: s.Service, Action: s.Action, Outcome: s.Outcome, Gap: s.Gap.Seconds(), Notes: append([]string{}, s.Notes...)}
			if s.Err != nil {
				o.Error = s.Err.Error()
			}
			a.report.Results = append(a.report.Results, o)
		}
	}
	a.say(func(w io.Writer) {
		row(w, "OUTCOME", "SERVICE", "ACTION", "WITHOUT LISTENER FOR")
		for _, s := range result.Steps {
			if s.Outcome != registration.Kept {
				row(w, s.Outcome, s.Service, s.Action, dash(gapCell(s)))
			}
		}
		for _, s := range result.Steps {
			for _, note := range s.Notes {
				row(w, s.Service+": "+note)
			}
		}
	})
	return err
}

// askForPatience speaks when ctx ends, until the returned function is called: whoever sees nothing happen kills what is about to put a
// listener back.
func (a *atAccount) askForPatience(ctx context.Context) (end func()) {
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		a.tell("stopping: the service at hand is brought to an end first, so that it is not left without a listener; nothing more is begun")
	})
	return func() {
		if !stop() {
			<-told
		}
	}
}

// sayWhatIsLost is the price of a plan.
func (a *atAccount) sayWhatIsLost(p registration.Plan) {
	replaces, removes := false, false
	for _, s := range p.Changes() {
		removes = removes || s.Action == registration.Remove
		replaces = replaces || s.Action == registration.Change || s.Action == registration.Rotate
	}
	a.say(func(w io.Writer) {
		if replaces {
			row(w, "While a service is registered anew the platform holds no listener for it, and what it would send in that moment is lost.")
		}
		if removes {
			row(w, "What the platform would send for a service that is removed is lost from now on.")
		}
	})
}

func gapCell(s registration.StepResult) string {
	gap := s.Gap.Round(time.Millisecond).String()
	switch {
	case s.Gap == 0:
		return ""
	case s.Outcome == registration.Lost, s.Outcome == registration.Unclear:
		return gap + " so far"
	case s.Gap < time.Millisecond:
		return "under 1ms"
	}
	return gap
}

// blocked says which services are not as they are wanted, and why they stay so.
func blocked(p registration.Plan) (errs []error) {
	for _, s := range p.Steps {
		if s.Blocked {
			errs = append(errs, fmt.Errorf("%s is left as it is: %s: %s", s.Service, s.Have, s.Why))
		}
	}
	return errs
}

const planLong = `
  create      nothing is held: register
  change      unregister the URL that is held, and register the one that is wanted
  remove      the configuration names the service without public_url, and the URL that is held is ours: unregister it
  keep        nothing; WHY says why: it is as it is wanted, or not ours, or a service that the configuration does not name (not managed)`

func (e *env) registrationsPlan() *cobra.Command {
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do",
		Long: `Compare what the configuration wants, which is the public_url of each service, with what the platform holds, and show what apply would
do about each service:
` + planLong + `

The exit code is 0 whether there are changes or not. With -o json each account has their number under changes, and each of its steps says
under blocked whether the service is not as it is wanted and would be left so.`,
		Example: `  callbackd registrations plan
  callbackd registrations plan --take-over https://old.example.com:28204/
  callbackd registrations plan -o json | jq -e 'all(.changes == 0 and all(.steps[]; .blocked == false))'`,
		Args: cobra.NoArgs,
	}
	r := e.atAll(c)
	r.takeOverFlag(c)
	r.allowFlag(c)
	r.dry = true
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return r.each(cmd.Context(), nil, applyConfig)
	}
	return c
}

func applyConfig(ctx context.Context, a *atAccount) error {
	_, err := a.apply(ctx, func(held []registration.Registration, owned func(service, url string) bool) registration.Plan {
		return registration.MakePlan(a.Name, app.WantedRegistrations(a.config, a.Account), held, owned, a.takeOver)
	})
	return err
}

func (e *env) registrationsApply() *cobra.Command {
	c := &cobra.Command{
		Use:   "apply",
		Short: "Register what the configuration wants",
		Long: `Show what is to be done, and do it:
` + planLong + `

The platform allows one listener for each service, and loses what it would send while there is none. So a change is an unregister and a
register back to back; the gap is measured and shown. What is held is looked at before, and again after. A URL that cannot be registered
after the old one is gone is tried again, and failing that the old one is put back; the error says what is held then, and what to do. Once a
register failed, for a reason that may hold for all services, no other listener is taken away.

Before anything is changed the URLs are checked: a port that the platform does not take, plain http, and, by connecting to it, a
certificate that no public authority signed. --allow overrides. While platform.url is on loopback these are warnings. If a callbackd runs on
data_dir, it is asked whether it listens for the service and knows the newest credentials: one that was not restarted after a change of
the configuration would lose the callbacks.

The exit code is 1 if a service is not as it is wanted in the end.`,
		Example: `  callbackd registrations apply --dry-run
  callbackd registrations apply --account 0212345678-00001
  callbackd registrations apply --take-over https://old.example.com:28204/ --allow http`,
		Args: cobra.NoArgs,
	}
	r := e.atAll(c)
	r.dryFlag(c)
	r.takeOverFlag(c)
	r.allowFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error { return r.each(cmd.Context(), nil, applyConfig) }
	return c
}

func (e *env) registrationsRegister() *cobra.Command {
	c := &cobra.Command{
		Use:   "register SERVICE",
		Short: "Register one service",
		Long: `Register one service that the configuration names, with its public_url or that of --url: apply, for this service alone. Another URL of
ours that is held for it is replaced, and one that is not ours with --take-over.

A URL of --url that the configuration does not have is what the next apply changes back.`,
		Example: `  callbackd registrations register DeviceUsage
  callbackd registrations register DeviceUsage --url https://callbacks.example.com:28204/ --dry-run`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: serviceNames(),
	}
	r := e.atOne(c)
	r.dryFlag(c)
	r.takeOverFlag(c)
	r.allowFlag(c)
	address := c.Flags().String("url", "", "the `URL` to register (default: the service's public_url)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		usable := func() error {
			if err := r.received(args); err != nil {
				return err
			}
			if u, err := url.Parse(*address); err != nil || u.User != nil {
				return usagef("--url is not a URL such as https://callbacks.example.com:28204/") // which is not repeated: it may hold a password
			}
			if *address == "" && r.config.Services[args[0]].PublicURL == "" {
				return usagef("%s: %s has no public_url: set it, or name the URL with --url", r.config.Place("services."+args[0]), args[0])
			}
			return nil
		}
		return r.each(cmd.Context(), usable, func(ctx context.Context, a *atAccount) error {
			wanted, err := a.wanted(args)
			if err != nil {
				return err
			}
			if *address != "" {
				wanted[0].URL = *address
			}
			_, err = a.apply(ctx, func(held []registration.Registration, owned func(service, url string) bool) registration.Plan {
				p := registration.MakePlan(a.Name, wanted, held, owned, a.takeOver)
				p.Steps = p.Steps[:1] // nobody asked about the others
				return p
			})
			return err
		})
	}
	return c
}

// wanted are the services of these names, or all, as the configuration wants them registered for the account.
func (a *atAccount) wanted(names []string) ([]registration.Wanted, error) {
	all := app.WantedRegistrations(a.config, a.Account)
	if len(names) == 0 {
		return all, nil
	}
	var chosen []registration.Wanted
	for _, name := range names {
		i := slices.IndexFunc(all, func(w registration.Wanted) bool { return string(w.Service) == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: no credentials of account %s cover %s, so its callbacks would be refused: add a pair of label %s",
				errNotFound, a.Name, name, a.Label())
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func (e *env) registrationsUnregister() *cobra.Command {
	c := &cobra.Command{
		Use:   "unregister SERVICE",
		Short: "Unregister one service",
		Long: `Unregister one service, whether the configuration names it or not, if its URL is ours or --take-over names it. The platform loses what it
would send from then on. The exit code is 3 if it holds nothing for the service.`,
		Example: `  callbackd registrations unregister DeviceUsage
  callbackd registrations unregister DeviceUsage --take-over https://old.example.com:28204/`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: serviceNames(),
	}
	r := e.atOne(c)
	r.dryFlag(c)
	r.takeOverFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return r.each(cmd.Context(), nil, func(ctx context.Context, a *atAccount) error {
			p, err := a.apply(ctx, func(held []registration.Registration, owned func(service, url string) bool) registration.Plan {
				return registration.MakeRemoval(a.Name, args, held, owned, a.takeOver)
			})
			if err == nil && p.Steps[0].Have == "" {
				return fmt.Errorf("%w: the platform holds nothing for %s", errNotFound, args[0])
			}
			return err
		})
	}
	return c
}

func (e *env) registrationsRotate() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate [SERVICE...]",
		Short: "Register again, with the newest credentials",
		Long: `Register services again with the same URL and the newest credentials: the last pair listed under the account's label that covers the
service. All that are registered as they are wanted, or those named, whatever pair the platform holds for them, which it does not tell.

To change the password of callbacks: list the new pair after the old one, restart callbackd, rotate, and take the old pair out of the
configuration once metrics show that nobody uses it. The platform goes on sending it for up to 15 minutes.

The exit code is 3 if there is nothing to register again.`,
		Example: `  callbackd registrations rotate --dry-run
  callbackd registrations rotate DeviceUsage CarrierService`,
		ValidArgs: serviceNames(),
		Args:      cobra.ArbitraryArgs,
	}
	r := e.atAll(c)
	r.dryFlag(c)
	r.takeOverFlag(c)
	r.allowFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return r.each(cmd.Context(), func() error { return r.received(args) }, func(ctx context.Context, a *atAccount) error {
			wanted, err := a.wanted(args)
			if err != nil {
				return err
			}
			p, err := a.apply(ctx, func(held []registration.Registration, owned func(service, url string) bool) registration.Plan {
				return registration.MakeRotation(a.Name, wanted, held, owned, a.takeOver)
			})
			if err == nil && len(p.Changes()) == 0 {
				return fmt.Errorf("%w: there is nothing to register again", errNotFound)
			}
			return err
		})
	}
	return c
}
