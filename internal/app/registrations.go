package app

import (
	"context"

	"callbackd/internal/config"
	"callbackd/internal/thingspace/registration"

	"go.uber.org/zap"
)

// RegistrationClient is a client of the platform for an account. The caller closes it.
func RegistrationClient(c *config.Config, a config.Account, state *registration.State) (*registration.Client, error) {
	login, err := a.LogIn()
	if err != nil {
		return nil, err
	}
	return registration.NewClient(registration.Options{
		URL: c.Platform.URL, SOAPAction: c.Platform.SOAPAction, Timeout: c.Platform.Timeout, Login: login, State: state,
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

// watches are what looks at the platform's registrations, as parts by their names. One that cannot begin is logged, and no more: receiving
// needs none.
func (a *App) watches() map[string]func(context.Context) error {
	if a.c.Registrations.Watch == 0 || len(a.c.Accounts) == 0 {
		return nil
	}
	state, err := registration.OpenState(a.c.DataDir)
	if err != nil {
		a.log.Error("what the platform holds is not watched", zap.Error(err))
		return nil
	}
	metrics := registration.NewMetrics(a.registry)
	watches := make(map[string]func(context.Context) error)
	for _, account := range a.c.Accounts {
		client, err := RegistrationClient(a.c, account, state)
		if err != nil {
			a.log.Error("what the platform holds is not watched", zap.String("account", account.Name), zap.Error(err))
			continue
		}
		w := registration.NewWatch(registration.WatchOptions{
			Account: account.Name, Label: account.Label(), Wanted: WantedRegistrations(a.c, account), Platform: client,
			Interval: a.c.Registrations.Watch, Metrics: metrics, Log: a.log,
		})
		watches["watch of "+account.Name] = func(ctx context.Context) error { return a.watch(ctx, account.Name, w, client) }
	}
	return watches
}

// watch runs until ctx ends, whatever happens to w: a part that ends by itself would stop the receiving.
func (a *App) watch(ctx context.Context, account string, w *registration.Watch, client *registration.Client) error {
	log := a.log.With(zap.String("account", account))
	func() {
		defer func() {
			if p := recover(); p != nil {
				log.Error("what the platform holds is not watched any more: the watch panicked", zap.Any("panic", p), zap.Stack("stack"))
			}
		}()
		if err := w.Run(ctx); err != nil {
			log.Error("what the platform holds is not watched any more", zap.Error(err))
		}
	}()
	<-ctx.Done()
	if err := client.Close(ctx); err != nil {
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
