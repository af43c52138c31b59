package app

import (
	"context"

	"callbackd/internal/config"
	"callbackd/internal/heartbeat"
	"callbackd/internal/thingspace/registration"

	"go.uber.org/zap"
)

// RegistrationClient is a client of the platform for an account, which names this program's version. The caller closes it.
func RegistrationClient(c *config.Config, a config.Account, state *registration.State, version string) (*registration.Client, error) {
	login, err := a.LogIn()
	if err != nil {
		return nil, err
	}
	return registration.NewClient(registration.Options{
		URL: c.Platform.URL, SOAPAction: c.Platform.SOAPAction, Timeout: c.Platform.Timeout, Login: login, State: state, Version: version,
	})
}

// WantedRegistrations is what the configuration says of the services that an account registers.
func WantedRegistrations(c *config.Config, a config.Account) []registration.Wanted {
	var list []registration.Wanted
	for _, service := range c.ServicesOf(a) {
		list = append(list, registration.Wanted{Service: service, URL: c.Services[string(service)].PublicURL})
	}
	return list
}

// watches are what looks at the platform's registrations, and the heartbeats, as parts by their names.
func (a *App) watches() map[string]func(context.Context) error {
	watches := make(map[string]func(context.Context) error)
	if a.heart != nil {
		watches[heartbeat.Name] = a.beat
	}
	if a.c.Registrations.Watch == 0 || len(a.c.Accounts) == 0 {
		return watches
	}
	state, err := registration.OpenState(a.c.DataDir)
	metrics := registration.NewMetrics(a.registry)
	for _, account := range a.c.Accounts {
		p := platform{unusable: err}
		if err == nil {
			p.client, p.unusable = RegistrationClient(a.c, account, state, a.o.Version)
		}
		w := registration.NewWatch(registration.WatchOptions{
			Account: account.Name, Label: account.Label(), Wanted: WantedRegistrations(a.c, account), Platform: p,
			Interval: a.c.Registrations.Watch, Metrics: metrics, Log: a.log,
		})
		watches["watch of "+account.Name] = func(ctx context.Context) error { return a.watch(ctx, account.Name, w, p) }
	}
	return watches
}

// platform is the platform for one account, or why it cannot be asked: which its watch then logs and counts.
type platform struct {
	client   *registration.Client
	unusable error
}

// List implements [registration.Lister].
func (p platform) List(ctx context.Context, account string) ([]registration.Registration, error) {
	if p.unusable != nil {
		return nil, p.unusable
	}
	return p.client.List(ctx, account)
}

func (p platform) close(ctx context.Context) error {
	if p.unusable != nil {
		return nil
	}
	return p.client.Close(ctx)
}

// watch runs until ctx ends, whatever happens to w: a part that ends by itself would stop the receiving.
func (a *App) watch(ctx context.Context, account string, w *registration.Watch, p platform) error {
	log := a.log.With(zap.String("account", account))
	func() {
		defer func() {
			if v := recover(); v != nil {
				log.Error("what the platform holds is not watched any more: the watch panicked", zap.Any("panic", v), zap.Stack("stack"))
			}
		}()
		if err := w.Run(ctx); err != nil {
			log.Error("what the platform holds is not watched any more", zap.Error(err))
		}
	}()
	<-ctx.Done()
	if err := p.close(ctx); err != nil {
		log.Warn("could not log out from the platform: the session ends by itself", zap.Error(err))
	}
	return nil
}

// stopWatches ends them. They were asked to before, so that their log-outs took nobody's time.
func (a *App) stopWatches(parts *parts) {
	for name := range a.watching {
		_ = parts.stop(a.log, name, stopMargin) // which logs: it keeps nothing from being stored or delivered
	}
}
