// Package app puts the parts together and takes them apart: the program reads here in a straight line.
//
//	lock data_dir -> open inbox -> bind sockets, all or none -> handlers -> dispatcher -> receiver -> admin, control
//
// The first part that ends brings the rest down, in an order that loses nothing: readiness off and lame duck, claims stop and deliveries get
// their grace, the receiver drains, handlers close, the inbox closes, the admin listener last. The receiver goes on while deliveries
// end, so that a slow handler does not make the gap longer in which nothing is acknowledged. Each step has a limit of
// time; what does not keep it is left behind, for the process ends anyway and a delivery under way is made again.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"callbackd/internal/admin"
	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/disk"
	"callbackd/internal/dispatch"
	"callbackd/internal/handler"
	"callbackd/internal/heartbeat"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/receiver"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Options of a run.
type Options struct {
	Config  *config.Config
	Log     *zap.Logger
	Version string
	// Sockets are those that systemd has bound and passed. New takes them over.
	Sockets []*os.File

	// Load reads the configuration again; nil: it is never read again. A reload is made when its files change, when Hangups tells of a SIGHUP,
	// and when an operator asks.
	Load    func() (*config.Config, config.Problems, error)
	Hangups <-chan os.Signal
	// Level is that of Log; nil: it cannot be changed.
	Level *zap.AtomicLevel

	measureDisk func(dir string) (disk.Room, error) // for tests
}

// Addresses are what is bound, which matters where the configuration asked for port 0.
type Addresses struct {
	Services map[callback.Service]net.Addr
	Admin    net.Addr
}

// App is everything that runs. Build it with New, which fails before anything is accepted.
type App struct {
	o        Options
	c        *config.Config
	log      *zap.Logger
	registry *prometheus.Registry
	teardown teardown
	tracer   trace.Tracer // nil while nothing is traced

	store        *sqlite.Store
	receiver     *receiver.Receiver
	dispatcher   *dispatch.Dispatcher
	admin        *admin.Server
	control      *admin.Control
	watching     map[string]func(context.Context) error
	disk         *disk.Watch
	heart        *heartbeat.Heart // nil: there are no heartbeats
	listeners    []receiver.Listener
	certificates certificates
	gates        gates
	ballast      []byte
	reloader     *reloader
	addresses    Addresses
	passed       *passed
	draining     atomic.Bool
}

// The names of teardown steps that the order of stopping knows.
const (
	lockStep    = "data_dir lock"
	handlerStep = "handler "
)

// New builds the program. The caller MUST Run what it returns.
func New(ctx context.Context, o Options) (_ *App, err error) {
	granted, cgroupErr := tuneMemory(int64(o.Config.Limits.InFlight), memlimit.FromCgroup)
	a := &App{o: o, c: o.Config, log: o.Log, registry: prometheus.NewRegistry(), certificates: make(certificates), ballast: make([]byte, Ballast)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.teardown.run(a.log))
		}
	}()
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(o.Version))

	a.startTraces(ctx)
	lock, err := sqlite.LockDir(a.c.DataDir)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%s: %w: let the user that callbackd runs as own data_dir", a.c.Place("data_dir"), err)
	}
	if err != nil {
		return nil, err
	}
	a.teardown.push(lockStep, lock.Unlock)

	a.store, err = sqlite.Open(ctx, storeOptions(a.c, a.log, inbox.NewMetrics(a.registry)))
	if err != nil {
		return nil, err
	}
	a.teardown.push("inbox", a.store.Close)
	a.watchDisk()

	var sockets sockets
	defer func() {
		if err != nil {
			err = errors.Join(err, sockets.close()) // else their servers close them
		}
	}()
	listeners, adminListener, err := a.listen(&sockets)
	if err != nil {
		return nil, err
	}
	a.reloader, a.listeners = newReloader(a), listeners
	a.tellLimits(granted, cgroupErr, len(listeners))
	if err := a.newReceiver(ctx, listeners, &sockets); err != nil {
		return nil, err
	}
	instances, err := a.handlers(ctx)
	if err != nil {
		return nil, err
	}
	a.dispatcher = dispatch.New(dispatch.Options{
		Store: a.store, Instances: instances, Decode: decode(a.messageLimits()), Log: a.log.Named("dispatch"),
		Metrics: dispatch.NewMetrics(a.registry), Grace: a.c.Shutdown.Grace, Tracer: a.tracer,
	})
	controlListener, err := admin.ListenControl(a.c.DataDir)
	if err != nil {
		return nil, err
	}
	sockets.add(controlListener)
	api := admin.NewAPI((&Operator{Store: a.store, Config: a.c, Running: a.dispatcher.Handlers, Self: a.self(), Checks: a.checks(), reloader: a.reloader}).operations(), a.log.Named("admin"))
	a.control = admin.NewControl(controlListener, api)
	a.admin = admin.New(admin.Options{Listener: adminListener, Registry: a.registry, Checks: a.checks(), API: api, Token: a.c.Admin.Token.Reveal(), Web: a.c.Admin.Web,
		Log: a.log.Named("admin")})
	a.watching = a.watches()
	if o.Load != nil {
		a.watching["configuration"] = a.reloader.watch
	}
	return a, nil
}

// Addresses are what is bound.
func (a *App) Addresses() Addresses { return a.addresses }

// Run works until ctx ends or a part fails, and takes everything down in order. It returns why, if it was a failure.
func (a *App) Run(ctx context.Context) error {
	parts := &parts{}
	parts.start("admin", a.admin.Run)
	parts.start("control", a.control.Run)
	parts.start("dispatcher", a.dispatcher.Run)
	parts.start("disk", a.disk.Run)
	parts.start("receiver", func(ctx context.Context) error { return a.receiver.Run(ctx, a.c.Shutdown.Drain) })
	for name, watch := range a.watching {
		parts.start(name, watch)
	}
	if managed() {
		parts.start(managerPart, a.manage)
	}
	a.started()

	var cause error
	select {
	case <-ctx.Done():
		a.log.Info("stopping", zap.String("cause", "asked to"))
	case <-a.store.Broken():
		cause = a.store.Status()
		a.log.Error("stopping: nothing can be acknowledged any more", zap.Error(cause))
	case cause = <-parts.ended():
		a.log.Error("stopping: a part has ended", zap.Error(cause))
	}

	return a.stop(parts, cause)
}

// stopMargin is what a part gets beyond the time that it was told to take.
const stopMargin = 5 * time.Second

// stop takes everything down in order.
func (a *App) stop(parts *parts, cause error) error {
	a.draining.Store(true)
	if managed() {
		_ = parts.stop(a.log, managerPart, stopMargin) // which logs: it may be stuck, and the rest need not be
	}
	a.leaving()
	for name := range a.watching {
		parts.ask(name)
	}
	if cause == nil {
		cause = a.lameDuck(parts)
	}
	errs := []error{cause,
		parts.stop(a.log, "dispatcher", a.c.Shutdown.Grace+stopMargin),
		a.cutOff(parts.stop(a.log, "receiver", a.c.Shutdown.Drain+stopMargin)),
		a.noteAcksEnded(),
		parts.stop(a.log, "disk", stopMargin),
		parts.stop(a.log, "control", 2*stopMargin)}
	a.stopWatches(parts)
	if parts.leftBehind("dispatcher") {
		a.teardown.drop(handlerStep) // one of them is still at work: closing is for handlers that have returned
	}
	errs = append(errs, a.teardown.runTo(a.log, lockStep), parts.stop(a.log, "admin", 2*stopMargin), a.teardown.run(a.log))
	a.log.Info("stopped")
	return errors.Join(errs...)
}

// noteAcksEnded has the inbox note since when nothing is acknowledged, for `inbox stats`. A store that cannot has its last sign of life
// instead.
func (a *App) noteAcksEnded() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopMargin)
	defer cancel()
	if err := a.store.AcksEnded(ctx); err != nil {
		a.log.Warn("the inbox could not note when the acknowledgements ended", zap.Error(err))
	}
	return nil
}

// cutOff takes requests that did not end in time for what they are: a sender's stalling, not a failure to stop. None of them was
// acknowledged.
func (a *App) cutOff(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	a.log.Warn("requests still under way at the end of shutdown.drain were cut off: the platform sends them again", zap.Error(err))
	return nil
}

// lameDuck goes on receiving for a while after readiness has gone off, unless something breaks.
func (a *App) lameDuck(parts *parts) error {
	limit := a.reloader.current.Load().Shutdown.LameDuck
	if limit == 0 {
		return nil
	}
	a.log.Info("lame duck: not ready any more, still receiving", zap.Duration("for", limit))
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-a.store.Broken():
		return a.store.Status()
	case err := <-parts.ended():
		return err
	}
}

func (a *App) started() {
	var services []string
	for _, info := range callback.Catalogue() {
		if addr, ok := a.addresses.Services[info.Service]; ok {
			services = append(services, string(info.Service)+" "+addr.String())
		}
	}
	a.log.Info("receiving", zap.String("version", a.o.Version), zap.Strings("services", services), zap.Stringer("admin", a.addresses.Admin),
		zap.Strings("sockets_of_systemd", a.passed.taken))
}

// handlers opens the handlers and tells the inbox of them.
func (a *App) handlers(ctx context.Context) ([]dispatch.Instance, error) {
	var instances []dispatch.Instance
	var names []string
	orders := make(map[string]inbox.Order)
	for _, name := range a.c.HandlerNames() {
		h := a.c.Handlers[name]
		env := handler.Env{Name: name, Log: a.log.Named("handler").With(zap.String("handler", name)),
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"handler": name}, a.registry), LookupEnv: os.LookupEnv}
		opened, err := h.Config.Open(ctx, env)
		if err != nil {
			a.log.Error("cannot open a handler; receiving goes on, and its deliveries wait until it can be opened",
				zap.String("handler", name), zap.String("place", a.c.Place("handlers."+name)), zap.Error(err))
			opened = &lateHandler{open: func(ctx context.Context) (handler.Handler, error) { return h.Config.Open(ctx, env) }}
		}
		a.teardown.push(handlerStep+name, opened.Close)
		instances = append(instances, dispatch.Instance{Name: name, Handler: opened, Policy: h.Delivery.Policy(), Unopened: err != nil})
		names = append(names, name)
		orders[name] = h.Delivery.Order()
	}
	for _, in := range a.heartInstance() {
		instances, names = append(instances, in), append(names, in.Name)
	}
	removed, err := a.store.Register(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("register handlers: %w", err)
	}
	if err := a.store.OrderBy(ctx, orders); err != nil {
		return nil, fmt.Errorf("register handlers: %w", err)
	}
	for name, n := range removed {
		a.log.Warn("the configuration has no such handler any more: its pending deliveries were buried; see `callbackd dead list`",
			zap.String("handler", name), zap.Int("deliveries", n))
	}
	if a.store.DeliveriesHeld() {
		a.log.Warn("deliveries are held since the inbox was restored: `callbackd inbox release --restored` lets them go")
	}
	return instances, nil
}

func (a *App) newReceiver(ctx context.Context, listeners []receiver.Listener, sockets *sockets) error {
	gates := auth.NewMetrics(a.registry)
	credentials, err := auth.NewCredentialGate(a.c.AuthCredentials(), a.c.AllowAnonymous, gates)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	network, err := auth.NewNetworkGate(a.c.Network, a.c.AllOnLoopback(), gates, a.log.Named("network"))
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	opinion, err := thingspace.NewSecondOpinion()
	if err != nil {
		return err
	}
	a.gates.metrics = gates
	a.gates.credentials.Store(credentials)
	a.gates.network.Store(network)
	o := receiver.Options{
		Listeners: listeners, Store: a.store, SecondOpinion: opinion, Engine: a.c.ValidationEngine, Credentials: &a.gates.credentials, Network: &a.gates.network,
		Route: a.route, Ack: a.c.Ack,
		Limits:   receiver.Limits{Connections: a.c.Limits.Connections, Message: a.messageLimits()},
		InFlight: int64(a.c.Limits.InFlight), AckBudget: a.c.Limits.AckBudget,
		LogOneAckIn: a.c.Log.SampleReceived, LogRefusals: a.c.Log.RefusalsPerMinute,
		Log: a.log.Named("receiver"), Metrics: receiver.NewMetrics(a.registry), Tracer: a.tracer,
		Shed: diskFull(a.disk.Refuse),
	}
	if a.receiver, err = receiver.New(o); err != nil {
		return err
	}
	return a.newHeart(ctx, o, gates, sockets)
}

func (a *App) route(service callback.Service, kind callback.Kind, test receiver.TestMode) []string {
	c := a.reloader.current.Load()
	if test == receiver.Test {
		return c.TestHandlers(service, kind)
	}
	return c.HandlersFor(service, kind)
}

func (a *App) messageLimits() soap.Limits {
	return soap.Limits{Bytes: int(a.c.Limits.Message)}.WithDefaults()
}

func decode(limits soap.Limits) func([]byte) (*callback.Callback, error) {
	return func(body []byte) (*callback.Callback, error) {
		m, err := thingspace.ReadStored(body, limits)
		if err != nil {
			return nil, err
		}
		return &m.Callback, nil
	}
}

// checks are what /readyz asks.
func (a *App) checks() []admin.Check {
	return append([]admin.Check{
		{Name: "inbox", Essential: true, Run: func(context.Context) error { return a.store.Status() }},
		{Name: "listeners", Essential: true, Run: func(context.Context) error { return a.receiver.Status() }},
		{Name: "drain", Essential: true, Run: func(context.Context) error {
			if a.draining.Load() {
				return errors.New("shutting down")
			}
			return nil
		}},
		{Name: "config", Run: a.reloader.ready},
		{Name: "handlers", Run: func(context.Context) error { return a.dispatcher.Ready() }},
		{Name: "deliveries", Run: func(context.Context) error {
			if a.store.DeliveriesHeld() {
				return errors.New("held since a restore: `callbackd inbox release --restored` lets them go")
			}
			return nil
		}},
	}, a.signalChecks()...)
}

func storeOptions(c *config.Config, log *zap.Logger, m *inbox.Metrics) sqlite.Options {
	return sqlite.Options{
		Dir: c.DataDir, Log: log.Named("inbox"), Metrics: m,
		Writer:       inbox.WriterOptions{Budget: c.Limits.AckBudget},
		RepeatWindow: c.Inbox.RepeatWindow, KeyAge: c.Inbox.KeyAge,
		Retention: sqlite.Retention{Age: c.Inbox.Retention.Age, Bytes: int64(c.Inbox.Retention.Size)},
	}
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callbackd", Name: "build_info", Help: "1, labelled with the version."}, []string{"version"})
	g.WithLabelValues(version).Set(1)
	return g
}
