package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/thingspace/registration"

	"github.com/spf13/cobra"
)

// listedService is a service of an account: what the platform holds for it, and what the configuration wants.
type listedService struct {
	Service  string  `json:"service"`
	URL      string  `json:"url"` // empty if nothing is registered
	Username string  `json:"username"`
	Managed  managed `json:"managed"`
	Wanted   string  `json:"wanted_url"` // empty if the configuration has no public_url for it
}

// managed says whether a command may change a registration.
type managed string

const (
	nothingHeld managed = ""
	ours        managed = "ours"
	notOurs     managed = "not_ours"    // the configuration names the service, and somebody else registered the URL
	notManaged  managed = "not_managed" // the configuration does not name the service for this account
)

func (e *env) registrationsList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List what the platform holds, and what the configuration wants",
		Long: `List each service that the platform holds a listener for, or that the configuration names, with the URL that is held and the one that
is wanted. MANAGED is

  ours         the URL was registered from this data_dir: apply may replace it
  not ours     it was not: apply leaves it alone unless --take-over names it
  not managed  the configuration does not name the service for this account: apply leaves it alone`,
		Example: `  callbackd registrations list
  callbackd registrations list --account 0212345678-00001 -o json`,
		Args: cobra.NoArgs,
	}
	r := e.atAll(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error { return r.each(cmd.Context(), nil, listServices) }
	return c
}

func listServices(ctx context.Context, a *atAccount) error {
	held, err := a.client.List(ctx, a.Name)
	if err != nil {
		return err
	}
	owned, err := a.ledger.Owned(a.Name)
	if err != nil {
		return err
	}
	list := servicesOf(registration.MakePlan(a.Name, app.WantedRegistrations(a.config, a.Account), held, owned, nil), held)
	a.report.Registrations = list
	a.say(func(w io.Writer) {
		row(w, "SERVICE", "URL", "MANAGED", "WANTED")
		for _, s := range list {
			row(w, s.Service, dash(s.URL), dash(strings.ReplaceAll(string(s.Managed), "_", " ")), s.wantedCell())
		}
	})
	return nil
}

// wantedCell is short where there is nothing to do.
func (s listedService) wantedCell() string {
	if s.Wanted == s.URL && s.URL != "" {
		return "as it is"
	}
	return dash(s.Wanted)
}

// servicesOf takes from a plan what there is, and leaves what is to be done.
func servicesOf(p registration.Plan, held []registration.Registration) []listedService {
	list := []listedService{}
	for _, step := range p.Steps {
		s := listedService{Service: step.Service, URL: step.Have, Wanted: step.Want}
		switch {
		case step.Have == "":
		case !step.Managed:
			s.Managed = notManaged
		case step.Ours:
			s.Managed = ours
		default:
			s.Managed = notOurs
		}
		if i := slices.IndexFunc(held, func(r registration.Registration) bool { return r.Service == step.HeldAs }); i >= 0 {
			s.Username = held[i].Username
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(x, y listedService) int { return strings.Compare(x.Service, y.Service) })
	return list
}

func (e *env) registrationsStartSMS() *cobra.Command {
	c := &cobra.Command{
		Use:   "start-sms",
		Short: "Ask the platform for the SMS that it queued while nobody listened",
		Long: `Ask the platform to send the SMS of devices that it queued while no listener was registered for EnhancedConnectivityService, or the
one that was did not answer. It never sends them again by itself. They arrive at the URL that is registered, as callbacks do.`,
		Example: `  callbackd registrations start-sms
  callbackd registrations start-sms --account 0212345678-00001 --dry-run`,
		Args: cobra.NoArgs,
	}
	r := e.atOne(c)
	r.dryFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error { return r.each(cmd.Context(), nil, startSMS) }
	return c
}

func startSMS(ctx context.Context, a *atAccount) error {
	const service = callback.EnhancedConnectivityService
	held, err := a.client.List(ctx, a.Name)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(held, func(h registration.Registration) bool { return registration.SameService(h.Service, string(service)) })
	if at < 0 {
		return fmt.Errorf("no listener is registered for %s, so the SMS would go nowhere: callbackd registrations register %s --account %s", service, service, a.Name)
	}
	a.report.URL = held[at].URL
	if !a.dry {
		if err := a.client.StartSMS(ctx, a.Name); err != nil {
			return err
		}
	}
	a.say(func(w io.Writer) { row(w, would(a.dry, "asked for the SMS that are queued; they go to "+a.report.URL)) })
	return nil
}
