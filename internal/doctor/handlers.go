package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"callbackd/internal/app"
	"callbackd/internal/inbox"
	"callbackd/internal/thingspace/registration"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// handlers: how they stand, and what could not be delivered.
func (p *patient) handlers(ctx context.Context) []Finding {
	answer, err := app.Handlers(ctx, p.c)
	if errors.Is(err, inbox.ErrNotFound) {
		return []Finding{{Level: Skipped, Found: "no callbackd has run yet"}}
	}
	if err != nil {
		return []Finding{{Level: Warn, Found: err.Error(), Advice: "run doctor as the user that owns data_dir"}}
	}
	var findings []Finding
	for _, h := range answer.Handlers {
		findings = append(findings, handlerFindings(h)...)
	}
	return findings
}

func handlerFindings(h app.HandlerStatus) []Finding {
	var findings []Finding
	add := func(level Level, found, advice string) {
		findings = append(findings, Finding{Subject: h.Name, Level: level, Found: found, Advice: advice})
	}
	waiting := ""
	if h.Pending > 0 {
		waiting = fmt.Sprintf("; %d deliveries wait, the oldest for %d s", h.Pending, h.LagSeconds)
	}
	switch h.State {
	case app.HandlerReady:
		add(OK, "ready"+waiting, "")
	case app.HandlerStopped:
		add(Skipped, "no callbackd runs"+waiting, "")
	case app.HandlerUnready:
		add(Warn, "not ready: "+h.Unready+waiting, "mend its destination: nothing is lost, deliveries wait and are tried again by themselves")
	case app.HandlerPaused:
		add(Warn, "paused by "+h.PausedBy+waiting, "callbackd handler resume "+h.Name)
	case app.HandlerHeld:
		add(Warn, "deliveries are held since a restore"+waiting, "callbackd inbox release --restored")
	case app.HandlerRemoved:
		add(Warn, "configured no more"+waiting, "configure it again, or discard its dead letters: callbackd dead discard --handler "+h.Name)
	}
	if h.Stuck > 0 {
		add(Warn, fmt.Sprintf("%d deliveries are past their time-out and do not end", h.Stuck), "look at its destination, and restart callbackd if it goes on")
	}
	if h.Dead > 0 && h.State != app.HandlerRemoved {
		add(Warn, fmt.Sprintf("%d dead letters", h.Dead), "callbackd dead list --handler "+h.Name+"; when the cause is mended: callbackd dead requeue --handler "+h.Name)
	}
	return findings
}

// registrations: what the platform holds is what the configuration wants.
func (p *patient) registrations(ctx context.Context) []Finding {
	switch {
	case len(p.c.Accounts) == 0:
		return []Finding{{Level: Skipped, Found: "no account is configured: listeners are registered by other means"}}
	case !p.Platform:
		return []Finding{{Level: Skipped, Found: "doctor logs in to the platform with --platform alone"}}
	}
	state, err := registration.OpenState(p.c.DataDir)
	if err != nil {
		return []Finding{{Level: Warn, Found: err.Error(), Advice: "run doctor as the user that owns data_dir"}}
	}
	var findings []Finding
	for i := range p.c.Accounts {
		findings = append(findings, p.account(ctx, i, state)...)
	}
	return findings
}

func (p *patient) account(ctx context.Context, i int, state *registration.State) (findings []Finding) {
	a := p.c.Accounts[i]
	fail := func(err error) []Finding {
		return []Finding{{Subject: a.Name, Level: Fail, Found: err.Error(), Advice: "callbackd registrations list --account " + a.Name}}
	}
	client, err := app.RegistrationClient(p.c, a, state, p.Version)
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := client.Close(ctx); err != nil {
			findings = append(findings, Finding{Subject: a.Name, Level: Warn, Found: "could not log out: the session ends by itself: " + err.Error()})
		}
	}()
	held, err := client.List(ctx, a.Name)
	if err != nil {
		return fail(err)
	}
	owned, err := registration.NewLedger(state, p.c.Platform.URL).Owned(a.Name)
	if err != nil {
		return fail(err)
	}
	for _, step := range registration.MakePlan(a.Name, app.WantedRegistrations(p.c, a), held, owned, nil).Steps {
		subject := a.Name + " " + step.Service
		switch {
		case step.Want == "" && !step.Managed:
			continue
		case step.Have == step.Want, step.Action == registration.Keep && !step.Blocked:
			findings = append(findings, Finding{Subject: subject, Level: OK, Found: "the platform holds what is wanted"})
		case step.Have == "":
			findings = append(findings, Finding{Subject: subject, Level: Fail, Found: "the platform holds no URL: it sends nothing, and what it has for you is lost",
				Advice: "callbackd registrations plan, and apply"})
		default:
			findings = append(findings, Finding{Subject: subject, Level: Fail, Found: fmt.Sprintf("the platform holds %s, and %s is wanted", step.Have, step.Want),
				Advice: "callbackd registrations plan says what apply would do about it, and whether it takes --take-over"})
		}
	}
	return findings
}
