package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/auth"
	"callbackd/internal/config"
	"callbackd/internal/receiver"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// reloader puts the configuration in force that its file has become. The promise: all of it that can be replaced while requests are
// served, or nothing. A configuration that could not be started with is rejected, and the one before stays in force; what takes a restart is
// named.
type reloader struct {
	a       *App
	metrics *reloadMetrics

	mu sync.Mutex // of one reload at a time
	// current is in force: the configuration that callbackd was started with, and what was replaced since.
	current atomic.Pointer[config.Config]
	// tried are the files as they were at the last attempt, and rejected is what was wrong with it.
	tried    atomic.Pointer[config.Sources]
	rejected atomic.Pointer[string]
	// restartNeeded are the keys in which the file differs from what is in force.
	restartNeeded atomic.Pointer[[]string]
}

// What a reload replaces, beside the terms of the receiver.
type gates struct {
	credentials atomic.Pointer[auth.CredentialGate]
	network     atomic.Pointer[auth.NetworkGate]
	metrics     *auth.Metrics
}

func newReloader(a *App) *reloader {
	r := &reloader{a: a, metrics: newReloadMetrics(a.registry, a.c)}
	sources := a.c.Sources()
	r.current.Store(a.c)
	r.restartNeeded.Store(&[]string{})
	r.tried.Store(&sources)
	return r
}

// ReloadRequest has the configuration read again.
type ReloadRequest struct{}

// ReloadResult says in one word what came of a reload.
type ReloadResult string

// The results.
const (
	ReloadApplied   ReloadResult = "applied"   // something was replaced
	ReloadUnchanged ReloadResult = "unchanged" // nothing that could be replaced has changed
	ReloadRejected  ReloadResult = "rejected"  // there are problems, and the configuration before stays in force
)

// ReloadAnswer says what came of a reload.
type ReloadAnswer struct {
	Result ReloadResult `json:"result"`
	// Applied are the keys that were replaced. RestartNeeded are those that have changed, now or before, and take a restart.
	Applied       []string `json:"applied"`
	RestartNeeded []string `json:"restart_needed"`
	// Problems are errors if it was rejected, each with its place, and else warnings.
	Problems []string `json:"problems"`
}

// causes of a reload, for the log.
const (
	byHangup = "SIGHUP"
	byChange = "a file has changed"
)

// watch reloads whenever it is asked to or the files have changed, until ctx ends.
func (r *reloader) watch(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	files := fileWatch{log: r.a.log.Named("config"), ticks: ticker.C, files: func() []string { return r.tried.Load().Paths() }}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		files.run(ctx, func() {
			if r.tried.Load().Changed() {
				r.reload(byChange)
			}
		})
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.a.o.Hangups:
			r.reload(byHangup)
		}
	}
}

// reload reads the configuration and puts it in force.
func (r *reloader) reload(cause string) ReloadAnswer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.a.reloading()
	defer r.a.reloaded()
	log := r.a.log.Named("config").With(zap.String("cause", cause))
	next, problems, err := r.a.o.Load()
	answer := ReloadAnswer{Applied: []string{}, RestartNeeded: []string{}, Problems: []string{}}
	if err == nil {
		sources := next.Sources()
		r.tried.Store(&sources)
		err = r.replace(next, &answer)
	} else {
		r.noteTried(err)
	}
	for _, p := range problems {
		if err == nil {
			p.Severity = config.Warning // none keeps it from being in force
		}
		if err == nil || p.Severity >= config.Unread {
			answer.Problems = append(answer.Problems, p.String())
		}
	}
	if err != nil && len(answer.Problems) == 0 {
		answer.Problems = append(answer.Problems, err.Error())
	}
	if err != nil {
		answer.Result = ReloadRejected
		log.Error("the configuration is rejected, and the one before stays in force", zap.Strings("problems", answer.Problems))
		summary := fmt.Sprintf("rejected %s: the log and `callbackd check` tell why, and the one before is in force", time.Now().UTC().Format(time.RFC3339))
		r.rejected.Store(&summary)
		r.metrics.successful.Set(0)
	} else {
		r.tell(log, answer)
	}
	r.metrics.reloads.WithLabelValues(string(answer.Result)).Inc()
	return answer
}

// tell logs what a reload has done.
func (r *reloader) tell(log *zap.Logger, answer ReloadAnswer) {
	r.rejected.Store(nil)
	r.restartNeeded.Store(&answer.RestartNeeded)
	r.metrics.read(r.current.Load(), len(answer.RestartNeeded) > 0)
	if len(answer.Problems) > 0 {
		log.Warn("configuration", zap.Strings("problems", answer.Problems))
	}
	log.Info("the configuration was read again", zap.String("result", string(answer.Result)), zap.Strings("applied", answer.Applied))
	if len(answer.RestartNeeded) > 0 {
		log.Warn("the configuration has changed in keys that take a restart", zap.Strings("restart_needed", answer.RestartNeeded))
	}
}

// noteTried notes which files were read for a configuration that cannot be started with.
func (r *reloader) noteTried(err error) {
	sources := r.tried.Load().Now()
	if invalid, ok := errors.AsType[*config.Invalid](err); ok {
		sources = invalid.Sources
	}
	r.tried.Store(&sources)
}

// replace puts in force what can be of next. Whatever can fail comes before the first change.
func (r *reloader) replace(next *config.Config, answer *ReloadAnswer) error {
	before := r.current.Load()
	if err := r.expires(before, next); err != nil {
		return err
	}
	now := before.Replaced(next)
	answer.Applied = append(answer.Applied, config.Changes(before, now)...)
	answer.RestartNeeded = append(answer.RestartNeeded, config.Changes(now, next)...)
	a := r.a
	credentials, network := a.gates.credentials.Load(), a.gates.network.Load()
	var err error
	if changed(answer.Applied, "credentials", "allow_anonymous") {
		if credentials, err = auth.NewCredentialGate(now.AuthCredentials(), now.AllowAnonymous, a.gates.metrics); err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
	}
	if changed(answer.Applied, "network") {
		if network, err = auth.NewNetworkGate(now.Network, now.AllOnLoopback(), a.gates.metrics, a.log.Named("network")); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	if changed(answer.Applied, "services", "ack") {
		if err := a.receiver.Replace(receiver.Terms{Ack: now.Ack, Services: a.services(now)}); err != nil {
			return err
		}
	}
	a.gates.credentials.Store(credentials)
	a.gates.network.Store(network)
	if changed(answer.Applied, "services") {
		a.certificates.replace(now)
	}
	a.admin.SetToken(now.Admin.Token.Reveal())
	a.admin.SetWeb(now.Admin.Web)
	r.current.Store(now)
	if r.setLevel(now.Log.Level) && !changed(answer.Applied, "log.level") {
		answer.Applied = append(answer.Applied, "log.level") // which was another for a while
	}
	answer.Result = ReloadUnchanged
	if len(answer.Applied) > 0 {
		answer.Result = ReloadApplied
	}
	return nil
}

// expires refuses a certificate that no client would take in the place of one that they do.
func (r *reloader) expires(before, next *config.Config) error {
	var errs []error
	for name, s := range next.Services {
		old := before.Services[name]
		if s.TLS == nil || old == nil || old.TLS == nil {
			continue
		}
		now, until, since := time.Now(), s.TLS.Certificate().Leaf().NotAfter, s.TLS.Certificate().Leaf().NotBefore
		if (now.After(until) || now.Before(since)) && now.Before(old.TLS.Certificate().Leaf().NotAfter) {
			key := "services." + name + ".tls.cert_file"
			errs = append(errs, fmt.Errorf("%s: %s: %s is valid from %s to %s, and the certificate before it is valid now",
				next.Place(key), key, s.TLS.CertFile, since.UTC().Format(time.DateOnly), until.UTC().Format(time.DateOnly)))
		}
	}
	return errors.Join(errs...)
}

// changed reports whether one of the keys is among the changes, or something within it.
func changed(changes []string, keys ...string) bool {
	for _, c := range changes {
		for _, key := range keys {
			if rest, ok := strings.CutPrefix(c, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				return true
			}
		}
	}
	return false
}

// setLevel sets the level of the log, and reports whether it was another.
func (r *reloader) setLevel(text string) bool {
	level, err := zapcore.ParseLevel(text)
	if err != nil || r.a.o.Level == nil || r.a.o.Level.Level() == level {
		return false // the configuration has been validated
	}
	r.a.o.Level.SetLevel(level)
	return true
}

// ready is what /readyz asks: it names a configuration that was rejected, and fails nothing.
func (r *reloader) ready(context.Context) error {
	if rejected := r.rejected.Load(); rejected != nil {
		return errors.New(*rejected)
	}
	return nil
}

// services are those of each listener, as c has them.
func (a *App) services(c *config.Config) [][]receiver.Service {
	services := make([][]receiver.Service, len(a.listeners))
	for i, l := range a.listeners {
		for _, s := range l.Services {
			services[i] = append(services[i], receivedService(s.Info, c.Services[string(s.Info.Service)]))
		}
	}
	return services
}

// Reload carries out a ReloadRequest.
func (o *Operator) Reload(context.Context, ReloadRequest) (ReloadAnswer, error) {
	if o.reloader == nil || o.reloader.a.o.Load == nil {
		return ReloadAnswer{}, errNoReload
	}
	return o.reloader.reload("an operator"), nil
}

// errNoReload is the answer of a callbackd that has no file.
var errNoReload = admin.Errorf(admin.Unavailable, "this callbackd runs without a configuration file")

type (
	// LogLevelRequest sets the level of the log until the next reload or restart; without one it asks.
	LogLevelRequest struct {
		Level string `json:"level,omitempty"`
	}
	// LogLevelAnswer is the level now, and that of the configuration.
	LogLevelAnswer struct {
		Level      string `json:"level"`
		Configured string `json:"configured"`
	}
)

// SetLogLevel carries out a LogLevelRequest.
func (o *Operator) SetLogLevel(_ context.Context, request LogLevelRequest) (LogLevelAnswer, error) {
	if o.reloader == nil || o.reloader.a.o.Level == nil {
		return LogLevelAnswer{}, errNoReload
	}
	r := o.reloader
	if request.Level != "" {
		if !slices.Contains([]string{"debug", "info", "warn", "error"}, request.Level) {
			return LogLevelAnswer{}, admin.Errorf(admin.Invalid, "level: is none of debug, info, warn, error")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.setLevel(request.Level) {
			r.a.log.Named("config").Warn("the level of the log was set, until the configuration is read again", zap.String("level", request.Level), zap.String("by", o.By))
		}
	}
	return LogLevelAnswer{Level: r.a.o.Level.Level().String(), Configured: r.current.Load().Log.Level}, nil
}
