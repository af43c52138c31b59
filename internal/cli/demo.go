package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/thingspace/platform"

	"github.com/spf13/cobra"
)

func (e *env) demo() *cobra.Command {
	var d demo
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch the main job: receive callbacks on this machine, with nothing to set up",
		Long: "Start a receiver on loopback, with an inbox in a temporary folder, and a sender that posts the published samples and realistic\n" +
			"variants to each service, as the platform would. Stop with Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.env = e
			return d.run(cmd.Context())
		},
	}
	c.Flags().IntVar(&d.rounds, "rounds", 0, "stop after so many rounds over the services (default: go on until Ctrl-C)")
	c.Flags().DurationVar(&d.every, "every", time.Second, "pause between two messages")
	c.Flags().Uint64Var(&d.seed, "seed", 1, "seed of the messages")
	return c
}

type demo struct {
	*env
	rounds int
	every  time.Duration
	seed   uint64

	addresses   app.Addresses
	sent, acked int
}

var demoCredentials = platform.Credentials{Username: "demo", Password: "demo-password"}

func (d *demo) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "callbackd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, c, err := d.configure(dir)
	if err != nil {
		return err
	}
	log, err := app.NewLogger(c.Log, d.out)
	if err != nil {
		return err
	}
	a, err := app.New(ctx, app.Options{Config: c, Log: log, Version: buildVersion()})
	if err != nil {
		return err
	}
	d.addresses = a.Addresses()
	d.welcome(file)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	sendErr := d.sendAll(ctx)
	if sendErr == nil {
		d.linger(ctx)
	}
	stop()
	err = errors.Join(<-ran, sendErr)
	fmt.Fprintf(d.out, "\n%d callbacks sent, %d acknowledged. The demo's inbox is gone with it.\n", d.sent, d.acked)
	return err
}

// configure writes the demo's configuration, so that the other commands can be tried on it.
func (d *demo) configure(dir string) (string, *config.Config, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %s\nadmin: {listen: %s}\nlog: {format: console}\n", filepath.Join(dir, "data"), free(9400))
	fmt.Fprintf(&b, "credentials:\n  - {label: demo, username: %s, password: %s}\nservices:\n", demoCredentials.Username, demoCredentials.Password)
	for _, info := range callback.Catalogue() {
		fmt.Fprintf(&b, "  %s: {listen: %s}\n", info.Service, free(info.Port))
	}
	events := filepath.Join(dir, "events.ndjson")
	fmt.Fprintf(&b, "handlers:\n  log: {type: log}\n  events: {type: ndjson, path: %s}\nroutes:\n  - {handlers: [log, events]}\n", events)
	file := filepath.Join(dir, "callbackd.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return "", nil, err
	}
	c, _, err := config.Load(file, builtin.Types())
	return file, c, err
}

// free is the loopback address with this port if nobody has it, else with any.
func free(port int) string {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close() // it was only asked for
	return address
}

func (d *demo) welcome(file string) {
	fmt.Fprintf(d.out, "A receiver on loopback, and a sender in ThingSpace's place. While it runs, try in another terminal:\n\n"+
		"  callbackd inbox list --config %[1]s\n  callbackd inbox show --config %[1]s 1\n  curl 'http://127.0.0.1:28204/?wsdl'\n"+
		"  curl http://127.0.0.1:9400/metrics\n\nStop with Ctrl-C.\n\n", file)
}

// sendAll sends the published samples, and then rounds of generated messages.
func (d *demo) sendAll(ctx context.Context) error {
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{}}}
	defer client.HTTP.CloseIdleConnections()
	for _, s := range platform.Samples() {
		body, err := platform.Fill(s.Body, demoCredentials, "")
		if err != nil {
			return err
		}
		if !d.post(ctx, client, s.Service, "the published sample", body) {
			return nil
		}
	}
	g := platform.NewGenerator(d.seed, demoCredentials)
	for round := 0; d.rounds == 0 || round < d.rounds; round++ {
		for _, info := range callback.Catalogue() {
			if !d.post(ctx, client, info.Service, "a generated message", g.Message(info.Service)) {
				return nil
			}
		}
	}
	return nil
}

// post sends one message and tells of it. It reports false when it is time to stop.
func (d *demo) post(ctx context.Context, client *platform.Client, service callback.Service, what string, body []byte) bool {
	if d.sent > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d.every):
		}
	}
	url := "http://" + d.addresses.Services[service].String() + "/"
	answer, err := client.Post(ctx, url, body)
	if ctx.Err() != nil {
		return false
	}
	d.sent++
	switch {
	case err != nil:
		fmt.Fprintf(d.out, "\n>> %s: %s to %s: %s\n", service, what, url, err)
	case answer.Acked():
		d.acked++
		fmt.Fprintf(d.out, "\n>> %s: %s to %s: acknowledged with %d after %s\n", service, what, url, answer.Status, answer.Took.Round(100*time.Microsecond))
	default:
		fmt.Fprintf(d.out, "\n>> %s: %s to %s: refused with %d: %s\n", service, what, url, answer.Status, answer.Fault)
	}
	return true
}

// linger gives the handlers a moment for the last message.
func (d *demo) linger(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(300 * time.Millisecond):
	}
}
