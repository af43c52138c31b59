package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/thingspace/registration"

	"github.com/spf13/cobra"
)

func (e *env) registrations() *cobra.Command {
	c := &cobra.Command{
		Use:   "registrations",
		Short: "See and change which listeners the platform holds",
		Long: `See and change which listeners the platform holds for the accounts of the configuration: one URL for each service of an account.

A URL is ours if it was registered from this data_dir. Nothing but ours is changed, and nothing but the services that the configuration
names, unless --take-over names the URL that is to go: so a test's configuration does not take over production's listeners.

These commands work while callbackd serves and while it does not; run them as the user that owns data_dir. Passwords are those that
uws_password_file or uws_password_env of an account point to. A log-in that the platform refuses is not tried again until it is changed, by
none of these commands: five refusals lock the API user.

With -o json the output is one array with an object for each account: its name is under account; what failed, if anything did, under
error. Scripts can rely on it: fields may be added, none goes away.`,
	}
	c.AddCommand(e.registrationsList(), e.registrationsPlan(), e.registrationsApply(), e.registrationsRegister(), e.registrationsUnregister(),
		e.registrationsRotate(), e.registrationsStartSMS())
	return c
}

// registrar is one run of a command of `registrations`.
type registrar struct {
	*env
	names    []string // --account
	oneOnly  bool     // of several accounts, --account has to name one
	takeOver []string
	allow    faultList
	dry      bool
	format   *format

	config *config.Config
	state  *registration.State
	ledger *registration.Ledger
	doubt  error // that of the accounts before: whether the platform registers anything
}

// atAccount is what the command does at one account, and what there is to say of it.
type atAccount struct {
	*registrar
	config.Account
	client *registration.Client
	report report
}

// report is what a command says of one account, to scripts.
type report struct {
	Account       string          `json:"account"`
	Platform      string          `json:"platform"` // its URL: production's and a simulator's answers look the same
	Registrations []listedService `json:"registrations,omitzero"`
	Changes       *int            `json:"changes,omitzero"` // of Steps, how many change something
	Steps         []plannedStep   `json:"steps,omitzero"`
	Results       []stepOutcome   `json:"results,omitzero"`
	URL           string          `json:"url,omitzero"`
	Warnings      []string        `json:"warnings,omitzero"`
	Error         string          `json:"error,omitzero"`
}

// atAll gives a command the flags that all have. It works at all accounts unless --account says otherwise.
func (e *env) atAll(c *cobra.Command) *registrar {
	r := &registrar{env: e, format: output(c)}
	c.Flags().StringSliceVar(&r.names, "account", nil, "at the account of this `name` only; may be repeated (default: all)")
	_ = c.RegisterFlagCompletionFunc("account", r.complete) // fails for an unknown flag only
	return r
}

// atOne does the same for a command that has to be told at which account, if there are several.
func (e *env) atOne(c *cobra.Command) *registrar {
	r := e.atAll(c)
	r.oneOnly = true
	c.Flags().Lookup("account").Usage = "at the account of this `name`; may be repeated (default: the only one)"
	return r
}

func (r *registrar) dryFlag(c *cobra.Command) {
	c.Flags().BoolVar(&r.dry, "dry-run", false, "say what would change, and change nothing")
}

func (r *registrar) takeOverFlag(c *cobra.Command) {
	c.Flags().StringArrayVar(&r.takeOver, "take-over", nil, "change this `URL` too, which is held and was not registered from here; may be repeated")
}

func (r *registrar) allowFlag(c *cobra.Command) {
	c.Flags().Var(&r.allow, "allow", "register a URL in spite of its `fault`: "+strings.Join(faultNames(), ", ")+"; several with commas")
	complete(c, "allow", faultNames())
}

func (r *registrar) complete(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, _, err := r.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, a := range c.Accounts {
		names = append(names, a.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// accounts are those that were asked for.
func (r *registrar) accounts() ([]config.Account, error) {
	var known []string
	for _, a := range r.config.Accounts {
		known = append(known, a.Name)
	}
	for _, name := range r.names {
		if !slices.Contains(known, name) {
			return nil, usagef("no account %q is configured; configured: %s", name, strings.Join(known, ", "))
		}
	}
	switch {
	case len(known) == 0:
		return nil, usagef("%s: the configuration names no account: list it under accounts, with credentials, uws_username and uws_password_file",
			r.config.Place("accounts"))
	case len(r.names) == 0 && r.oneOnly && len(known) > 1:
		return nil, usagef("name the account with --account: one of %s", strings.Join(known, ", "))
	case len(r.names) == 0:
		return r.config.Accounts, nil
	}
	var chosen []config.Account
	for _, a := range r.config.Accounts {
		if slices.Contains(r.names, a.Name) {
			chosen = append(chosen, a)
		}
	}
	return chosen, nil
}

// each does the same at each account. What fails at one is told, and keeps nothing from the others. usable, if not nil, judges the command line
// by the configuration before anybody is asked.
func (r *registrar) each(ctx context.Context, usable func() error, do func(context.Context, *atAccount) error) (err error) {
	if r.config, _, err = r.load(); err != nil {
		return err
	}
	chosen, err := r.accounts()
	if err != nil {
		return err
	}
	if usable != nil {
		if err := usable(); err != nil {
			return err
		}
	}
	if r.state, err = registration.OpenState(r.config.DataDir); err != nil {
		return err
	}
	r.ledger = registration.NewLedger(r.state, r.config.Platform.URL)
	return r.atEach(ctx, chosen, do)
}

// received refuses services whose callbacks would find nobody.
func (r *registrar) received(services []string) error {
	for _, name := range services {
		switch {
		case !slices.Contains(serviceNames(), name):
			return usagef("no service %q: one of %s", name, strings.Join(serviceNames(), ", "))
		case r.config.Services[name] == nil:
			return usagef("the configuration receives no %s: its callbacks would find nobody; add it under services", name)
		}
	}
	return nil
}

func (r *registrar) atEach(ctx context.Context, chosen []config.Account, do func(context.Context, *atAccount) error) error {
	var reports []report
	var missed []error
	failed := 0
	for _, account := range chosen {
		a := &atAccount{registrar: r, Account: account, report: report{Account: account.Name, Platform: r.config.Platform.URL}}
		switch err := a.do(ctx, do); {
		case errors.Is(err, errNotFound):
			missed = append(missed, fmt.Errorf("account %s: %w", account.Name, err))
		case err != nil:
			failed++
			a.report.Error = err.Error()
			a.tell(a.report.Error)
		}
		reports = append(reports, a.report)
	}
	if *r.format == asJSON {
		if err := r.print(asJSON, reports, nil); err != nil {
			return err
		}
	}
	if failed == 0 && len(missed) == len(chosen) {
		return errors.Join(missed...)
	}
	for _, err := range missed {
		fmt.Fprintln(r.err, "callbackd:", err)
	}
	if failed > 0 {
		return errReported
	}
	return nil
}

func (a *atAccount) do(ctx context.Context, do func(context.Context, *atAccount) error) (err error) {
	a.say(func(w io.Writer) { row(w, "Account "+a.Name+" at "+a.config.Platform.URL) })
	if a.client, err = app.RegistrationClient(a.config, a.Account, a.state, buildVersion()); err != nil {
		return err
	}
	defer func() {
		if closeErr := a.client.Close(ctx); closeErr != nil {
			a.warn("could not log out: the session ends by itself: %v", closeErr)
		}
	}()
	return do(ctx, a)
}

// say prints what is for people, at once. Scripts get the report.
func (a *atAccount) say(asTable func(io.Writer)) {
	if *a.format == table {
		_ = a.print(table, nil, asTable)
	}
}

// warn tells people on standard error, and scripts in the report.
func (a *atAccount) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.report.Warnings = append(a.report.Warnings, text)
	a.tell("warning: " + text)
}

// tell writes a message to standard error. What the platform says can do nothing to a terminal.
func (a *atAccount) tell(message string) {
	for line := range strings.SplitSeq(message, "\n") {
		fmt.Fprintf(a.err, "callbackd: account %s: %s\n", a.Name, printable(line))
	}
}
