package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace/platform"

	"github.com/spf13/cobra"
)

func (e *env) demo() *cobra.Command {
	d := &demo{env: e}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch the main job: receive callbacks on this machine, with nothing to set up",
		Long: "Start a receiver on loopback, with an inbox in a temporary folder, and a sender that posts the published samples and realistic\n" +
			"variants to each service, as the platform would, now and then one of them twice. Stop with Ctrl-C.",
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

	config    *config.Config
	file      string // of the configuration
	addresses app.Addresses
	client    *platform.Client
	events    *tail

	sent, acked, repeats int
}

var demoCredentials = platform.Credentials{Username: "demo", Password: "demo-password"}

func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "callbackd-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a, err := d.receiver(ctx, dir)
	if err != nil {
		return err
	}
	d.addresses = a.Addresses()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() {
		defer stop() // without a receiver there is nothing to watch
		ran <- a.Run(ctx)
	}()
	d.events = &tail{path: filepath.Join(dir, eventsFile)}
	defer d.events.close()
	d.client = &platform.Client{HTTP: &http.Client{Transport: &http.Transport{}}}
	d.welcome()
	sendErr := d.sendAll(ctx)
	d.client.HTTP.CloseIdleConnections()
	stop()
	err = errors.Join(<-ran, sendErr)
	return errors.Join(err, d.summary(context.WithoutCancel(ctx)))
}

const eventsFile = "events.ndjson"

// receiver builds the demo's receiver. Where another program takes a port that was free a moment ago, it looks for ports anew.
func (d *demo) receiver(ctx context.Context, dir string) (*app.App, error) {
	const tries = 5
	for try := 1; ; try++ {
		if err := d.configure(dir); err != nil {
			return nil, err
		}
		log, err := app.NewLogger(d.config.Log, d.out)
		if err != nil {
			return nil, err
		}
		a, err := app.New(ctx, app.Options{Config: d.config, Log: log, Version: buildVersion()})
		if try < tries && errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		return a, err
	}
}

// configure writes the demo's configuration, so that the other commands can be tried on it.
func (d *demo) configure(dir string) (err error) {
	level := "warn"
	if d.verbose {
		level = "info"
	}
	ports := &ports{}
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: data\nadmin: {listen: %s}\nlog: {format: console, level: %s}\n", ports.loopback(9400), level)
	fmt.Fprintf(&b, "credentials:\n  - {label: demo, username: %s, password: %s}\nservices:\n", demoCredentials.Username, demoCredentials.Password)
	for _, info := range callback.Catalogue() {
		fmt.Fprintf(&b, "  %s: {listen: %s}\n", info.Service, ports.loopback(info.Port))
	}
	fmt.Fprintf(&b, "handlers:\n  log: {type: log}\n  events: {type: ndjson, path: %s}\nroutes:\n  - {handlers: [log, events]}\n", eventsFile)
	ports.letGo()
	d.file = filepath.Join(dir, "callbackd.yaml")
	if err := os.WriteFile(d.file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	d.config, _, err = config.Load(d.file, builtin.Types())
	return err
}

// ports holds those that were found free, so that none is found twice.
type ports []net.Listener

// loopback is the address with this port, or with a free one if another program has it.
func (p *ports) loopback(port int) string {
	for _, port := range []int{port, 0} {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			*p = append(*p, l)
			return l.Addr().String()
		}
	}
	return "127.0.0.1:0" // the receiver will say why not
}

func (p *ports) letGo() {
	for _, l := range *p {
		_ = l.Close() // it was only asked for
	}
}

func (d *demo) welcome() {
	program := programName()
	fmt.Fprintf(d.out, "A receiver on this machine, and a sender in ThingSpace's place. Each service has a port of its own.\n"+
		"While it runs, look around from another terminal:\n\n"+
		"  %[1]s inbox list --config %[2]s\n"+
		"  %[1]s inbox show --config %[2]s 1\n"+
		"  curl 'http://%[3]s/?wsdl'\n"+
		"  curl http://%[4]s/metrics\n\n"+
		"Ctrl-C stops it.\n", program, d.file, d.addresses.Services[callback.DeviceUsage], d.addresses.Admin)
}

// programName is what to type to run this program again.
func programName() string {
	path, err := os.Executable()
	if err != nil {
		return "callbackd"
	}
	return path
}

// sendAll sends the published samples, and then generated messages, service by service, until the count is reached or ctx ends.
func (d *demo) sendAll(ctx context.Context) error {
	for _, s := range platform.Samples() {
		body, err := platform.Fill(s.Body, demoCredentials, "")
		if err != nil {
			return err
		}
		if !d.post(ctx, s.Service, "the published sample", body) {
			return nil
		}
	}
	g := platform.NewGenerator(d.seed, demoCredentials)
	for round := 0; ; round++ {
		for i, info := range callback.Catalogue() {
			message := g.Message(info.Service)
			if !d.post(ctx, info.Service, "a generated message", message) {
				return nil
			}
			const every = 6
			if i%every == round%every && bytes.Contains(message, []byte("<RequestId>")) && !d.post(ctx, info.Service, again, message) {
				return nil
			}
		}
	}
}

const again = "the same again, as if no answer had come"

// post sends one message and tells of it. It reports false when it is time to stop.
func (d *demo) post(ctx context.Context, service callback.Service, what string, body []byte) bool {
	if d.count > 0 && d.sent == d.count || d.sent > 0 && !sleep(ctx, d.every) {
		return false
	}
	address := d.addresses.Services[service].String()
	answer, err := d.client.Post(ctx, "http://"+address+"/", body)
	if ctx.Err() != nil {
		return false
	}
	d.sent++
	fmt.Fprintf(d.out, "\n%s  %s, to %s\n", service, what, address)
	switch {
	case err != nil:
		fmt.Fprintf(d.out, "   no answer: %s\n", err)
	case !answer.Acked():
		fmt.Fprintf(d.out, "   refused with %d: %s\n", answer.Status, answer.Fault)
	case what == again:
		d.acked++
		d.repeats++
		fmt.Fprintf(d.out, "   acknowledged after %s: known already, so it is neither stored nor handled again\n", shortly(answer.Took))
	default:
		d.acked++
		fmt.Fprintf(d.out, "   acknowledged after %s: stored\n", shortly(answer.Took))
		fmt.Fprintf(d.out, "   handled: %s\n", d.events.next(ctx))
	}
	return true
}

func shortly(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

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
	fmt.Fprintf(d.out, "\n%d sent, %d of them again; %d acknowledged, %d stored, %d delivered. The demo's inbox is gone with it.\n",
		d.sent, d.repeats, d.acked, stats.Entries, d.events.lines)
	return nil
}

// tail reads the events that the handler writes to its file.
type tail struct {
	path  string
	file  *os.File
	r     *bufio.Reader
	part  string // of a line that is not whole yet
	lines int
}

// next tells of the next event. It waits for it, for a delivery follows its ack.
func (t *tail) next(ctx context.Context) string {
	const patience, step = 2 * time.Second, 5 * time.Millisecond
	for range patience / step {
		if line := t.line(); line != "" {
			return describe(line)
		}
		if !sleep(ctx, step) {
			break
		}
	}
	return "not yet"
}

// line is the next whole line, or empty if there is none yet.
func (t *tail) line() string {
	if t.file == nil {
		f, err := os.Open(t.path)
		if err != nil {
			return "" // the handler makes it when it starts
		}
		t.file, t.r = f, bufio.NewReader(f)
	}
	text, err := t.r.ReadString('\n')
	t.part += text
	if err != nil {
		if !errors.Is(err, io.EOF) {
			return err.Error()
		}
		return ""
	}
	line := t.part
	t.part = ""
	t.lines++
	return line
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close() // it was only read
	}
}

// describe shortens an event to what one reads at a glance.
func describe(line string) string {
	var event struct {
		Type, Subject string
		Data          map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		return err.Error()
	}
	var members []string
	for _, name := range sorted(event.Data) {
		if !slices.Contains([]string{"kind", "requestId", "devices", "callbackCount", "maxCallbackThreshold"}, name) {
			members = append(members, string(event.Data[name]))
		}
	}
	const longest = 160
	data := strings.Join(members, " ")
	if len(data) > longest {
		data = strings.ToValidUTF8(data[:longest], "") + "..."
	}
	return fmt.Sprintf("%s for %s: %s", strings.TrimPrefix(event.Type, handler.TypePrefix), event.Subject, data)
}
