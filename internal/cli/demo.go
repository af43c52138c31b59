package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace/platform"
	"callbackd/internal/thingspace/registration"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func (e *env) demo() *cobra.Command {
	d := &demo{env: e}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch the main job: register, receive and handle callbacks on this machine, with nothing to set up",
		Long: `Start a simulator of the platform and a receiver, both on loopback, with an inbox in a temporary folder. The receiver's listeners are
registered with the simulator, which then sends the published samples and realistic messages to each, now and then one of them
twice. Ctrl-C unregisters the listeners and stops both.`,
		Example: `  callbackd demo
  callbackd demo --count 14 --every 100ms
  callbackd demo --verbose`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.count < 0 || d.every < 0 {
				return usagef("--count and --every cannot be negative")
			}
			return d.run(cmd.Context())
		},
	}
	c.Flags().IntVar(&d.count, "count", 0, "stop after `n` messages (default: go on until Ctrl-C)")
	c.Flags().DurationVar(&d.every, "every", 1500*time.Millisecond, "pause between two messages")
	c.Flags().Uint64Var(&d.seed, "seed", 1, "seed of the messages")
	c.Flags().BoolVar(&d.verbose, "verbose", false, "show the log as well")
	return c
}

// demo is one run of `demo`.
type demo struct {
	*env
	count   int
	every   time.Duration
	seed    uint64
	verbose bool

	config   *config.Config
	file     string // of the configuration
	log      *zap.Logger
	platform *platform.Simulator
	client   *registration.Client // of the platform
	ledger   *registration.Ledger
	events   *tail

	sent, acked, repeats int
}

// What the demo's configuration says.
const (
	demoAccount  = "0212345678-00001"
	demoUser     = "demo-user"
	demoPassword = "demo-uws-password"
	eventsFile   = "events.ndjson"
	passwordFile = "uws.password"
)

func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "callbackd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a, listener, err := d.build(ctx, dir)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // it was Ctrl-C, before there was anything to watch
	case err != nil:
		return err
	}
	// The receiver goes on after Ctrl-C until its listeners are unregistered, and the platform has let go of its connections.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	receiver := start(ctx, stop, a.Run)
	simulator := start(ctx, stop, func(ctx context.Context) error { return d.platform.Serve(ctx, listener) })
	d.events = &tail{path: filepath.Join(dir, eventsFile)}
	defer d.events.close()

	err = d.register(ctx)
	if err == nil {
		d.welcome()
		err = errors.Join(d.sendAll(ctx), d.unregister(ctx))
	}
	err = errors.Join(err, d.client.Close(ctx), simulator.end(), receiver.end())
	return errors.Join(err, d.summary(context.WithoutCancel(ctx)))
}

// part is one that runs.
type part struct {
	stop  context.CancelFunc
	ended chan error
}

// start runs a part until it is told to end, whatever becomes of ctx. If it ends before, there is nothing left to watch.
func start(ctx context.Context, nothingLeft func(), run func(context.Context) error) part {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := part{stop, make(chan error, 1)}
	go func() {
		defer nothingLeft()
		p.ended <- run(ctx)
	}()
	return p
}

func (p part) end() error {
	p.stop()
	return <-p.ended
}

// build makes the platform and the receiver. Where another program takes a port that was free a moment ago, it looks for ports anew.
func (d *demo) build(ctx context.Context, dir string) (*app.App, net.Listener, error) {
	const tries = 5
	for try := 1; ; try++ {
		a, listener, err := d.tryToBuild(ctx, dir)
		if try == tries || !errors.Is(err, syscall.EADDRINUSE) {
			return a, listener, err
		}
	}
}

func (d *demo) tryToBuild(ctx context.Context, dir string) (_ *app.App, _ net.Listener, err error) {
	ports := &ports{}
	listener := ports.find(platform.DefaultListen)
	if err := d.configure(dir, listener, ports); err != nil {
		return nil, nil, err
	}
	if d.log, err = app.NewLogger(d.config.Log, d.out); err != nil {
		return nil, nil, err
	}
	state, err := registration.OpenState(d.config.DataDir)
	if err != nil {
		return nil, nil, err
	}
	d.ledger = registration.NewLedger(state, d.config.Platform.URL)
	if d.client, err = app.RegistrationClient(d.config, d.config.Accounts[0], state, buildVersion()); err != nil {
		return nil, nil, err
	}
	if d.platform, err = platform.New(platform.Options{
		Profile: platform.Profiles()[0], Clock: demoClock, Seed: d.seed, Log: d.log,
		Accounts: []platform.Account{{Name: demoAccount, Login: platform.Credentials{Username: demoUser, Password: demoPassword}}},
	}); err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", listener)
	if err != nil {
		return nil, nil, err
	}
	a, err := app.New(ctx, app.Options{Config: d.config, Log: d.log, Version: buildVersion()})
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return a, l, nil
}

// demoClock makes a pause of 5 minutes one of a second.
const demoClock = 300

// configure writes the demo's configuration, so that the other commands can be tried on it.
func (d *demo) configure(dir, simulator string, ports *ports) (err error) {
	level := "warn"
	if d.verbose {
		level = "info"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: data\nadmin: {listen: %s}\nlog: {format: console, level: %s}\n", ports.find("127.0.0.1:9400"), level)
	fmt.Fprintf(&b, "platform: {url: http://%s/api/v2}\n", simulator)
	fmt.Fprintf(&b, "accounts:\n  - {name: %s, credentials: demo, uws_username: %s, uws_password_file: %s}\n", demoAccount, demoUser, passwordFile)
	fmt.Fprintf(&b, "credentials:\n  - {label: demo, username: demo, password: demo-password}\nservices:\n")
	for _, info := range callback.Catalogue() {
		address := ports.find(fmt.Sprintf("127.0.0.1:%d", info.Port))
		fmt.Fprintf(&b, "  %[1]s: {listen: %[2]s, public_url: 'http://%[2]s/'}\n", info.Service, address)
	}
	fmt.Fprintf(&b, "handlers:\n  log: {type: log}\n  events: {type: ndjson, path: %s}\nroutes:\n  - {handlers: [log, events]}\n", eventsFile)
	ports.letGo()
	d.file = filepath.Join(dir, "callbackd.yaml")
	for name, text := range map[string]string{d.file: b.String(), filepath.Join(dir, passwordFile): demoPassword + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	d.config, _, err = config.Load(d.file, builtin.Types())
	return err
}

// ports holds those that were found free, so that none is found twice.
type ports []net.Listener

// find is the address, or another of loopback if a program has it.
func (p *ports) find(address string) string {
	for _, address := range []string{address, "127.0.0.1:0"} {
		if l, err := net.Listen("tcp", address); err == nil {
			*p = append(*p, l)
			return l.Addr().String()
		}
	}
	return address // who binds it will say why not
}

func (p *ports) letGo() {
	for _, l := range *p {
		_ = l.Close() // it was only asked for
	}
}

// register has the platform send to the receiver.
func (d *demo) register(ctx context.Context) error {
	if err := d.apply(ctx, app.WantedRegistrations(d.config, d.config.Accounts[0])); err != nil {
		return err
	}
	held, err := d.client.List(ctx, demoAccount)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Registered with the platform, which is a simulator at http://%s, for account %s:\n\n", d.platformAddress(), demoAccount)
	return d.print(table, nil, func(w io.Writer) {
		for _, r := range held {
			row(w, "  "+r.Service, r.URL)
		}
	})
}

// unregister does so after Ctrl-C too.
func (d *demo) unregister(ctx context.Context) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	wanted := app.WantedRegistrations(d.config, d.config.Accounts[0])
	for i := range wanted {
		wanted[i].URL = ""
	}
	if err := d.apply(ctx, wanted); err != nil {
		return err
	}
	held, err := d.client.List(ctx, demoAccount)
	if err == nil {
		fmt.Fprintf(d.out, "\nUnregistered: the platform holds %d listeners.\n", len(held))
	}
	return err
}

// apply does what `registrations apply` does.
func (d *demo) apply(ctx context.Context, wanted []registration.Wanted) error {
	account := d.config.Accounts[0]
	held, err := d.client.List(ctx, account.Name)
	if err != nil {
		return err
	}
	owned, err := d.ledger.Owned(account.Name)
	if err != nil {
		return err
	}
	plan := registration.MakePlan(account.Name, wanted, held, owned, nil)
	_, err = registration.Apply(ctx, d.client, plan, registration.ApplyOptions{
		Ledger: d.ledger, Timeout: d.config.Platform.Timeout,
		Logins: func(service string) []registration.Login { return d.config.PairsOf(account, callback.Service(service)) },
	})
	return err
}

// platformAddress is where the simulator listens.
func (d *demo) platformAddress() string {
	address := strings.TrimPrefix(d.config.Platform.URL, "http://")
	return strings.TrimSuffix(address, "/api/v2")
}

func (d *demo) welcome() {
	fmt.Fprintf(d.out, "\nNow the platform sends, and the receiver stores, acknowledges and handles. Look around from another terminal:\n\n"+
		"  %[1]s inbox list --config %[2]s\n"+
		"  %[1]s inbox show --config %[2]s 1\n"+
		"  %[1]s registrations list --config %[2]s\n"+
		"  %[1]s platform send --service DeviceUsage --platform http://%[5]s\n"+
		"  curl 'http://%[3]s/?wsdl'\n"+
		"  curl http://%[4]s/metrics\n\n"+
		"Ctrl-C unregisters and stops.\n", programName(), d.file, d.config.Services[string(callback.DeviceUsage)].Listen, d.config.Admin.Listen,
		d.platformAddress())
}

// programName is what to type to run this program again.
func programName() string {
	path, err := os.Executable()
	if err != nil {
		return "callbackd"
	}
	return path
}

// sendAll has the platform send the published samples, and then generated messages, service by service, until the count is reached or ctx
// ends.
func (d *demo) sendAll(ctx context.Context) error {
	for _, s := range platform.Samples() {
		if more, err := d.send(ctx, "the published sample", s.Message()); err != nil || !more {
			return err
		}
	}
	g := platform.NewGenerator(d.seed, platform.Credentials{})
	for round := 0; ; round++ {
		for i, info := range callback.Catalogue() {
			m := g.Next(info.Service)
			more, err := d.send(ctx, "a generated message", m)
			const every = 6
			if more && i%every == round%every && m.RequestID != "" {
				more, err = d.send(ctx, again, m)
			}
			if err != nil || !more {
				return err
			}
		}
	}
}

const again = "the same again, as if no answer had come"

// send has one message sent and tells of it. It reports false when it is time to stop.
func (d *demo) send(ctx context.Context, what string, m platform.Message) (more bool, err error) {
	if d.count > 0 && d.sent == d.count || d.sent > 0 && !sleep(ctx, d.every) {
		return false, nil
	}
	url := d.config.Services[string(m.Service)].PublicURL
	report, err := d.platform.Send(ctx, platform.Order{Services: []callback.Service{m.Service}, Message: string(m.Body), Count: 1}, nil)
	if ctx.Err() != nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d.sent++
	fmt.Fprintf(d.out, "\n%s  %s, to %s\n", m.Service, what, url)
	switch took := fmt.Sprintf("%.1fms", report.Total.Max); {
	case report.Total.Acked == 0:
		fmt.Fprintf(d.out, "   not acknowledged: the platform archives it\n")
	case what == again:
		d.acked++
		d.repeats++
		fmt.Fprintf(d.out, "   acknowledged after %s: known already, so it is neither stored nor handled again\n", took)
	default:
		d.acked++
		fmt.Fprintf(d.out, "   acknowledged after %s: stored\n", took)
		fmt.Fprintf(d.out, "   handled: %s\n", d.events.next(ctx, m))
	}
	return true, nil
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// summary counts what is in the inbox and in the handler's file, now that everything has stopped.
func (d *demo) summary(ctx context.Context) error {
	for d.events.line() != "" {
	}
	r, err := sqlite.OpenReader(ctx, d.config.DataDir)
	if err != nil {
		return err
	}
	defer r.Close()
	stats, err := r.Stats(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%d sent, %d of them again; %d acknowledged, %d stored, %d delivered; %d in the platform's archive. The demo's inbox is gone with it.\n",
		d.sent, d.repeats, d.acked, stats.Entries, d.events.lines, len(d.platform.Archive()))
	return nil
}
