package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/cli"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/thingspace/platform"
)

// credentials are those of every receiver under test.
var credentials = platform.Credentials{Username: "acme", Password: "s3cret-pass"}

// instance is a running callbackd, in this process.
type instance struct {
	t      testing.TB
	Dir    string // of the configuration; data_dir is its child "data"
	Config string
	Log    *buffer
	app.Addresses

	stop func()
	done chan error
}

// services is the part of a configuration that receives these services on ports of the system's choice, or all.
func services(names ...callback.Service) string {
	if len(names) == 0 {
		for _, info := range callback.Catalogue() {
			names = append(names, info.Service)
		}
	}
	var b strings.Builder
	b.WriteString("services:\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  %s: {listen: 127.0.0.1:0}\n", name)
	}
	return b.String()
}

// base is a configuration without services, handlers and routes. DIR stands for the instance's folder.
const base = `data_dir: data
admin: {listen: 127.0.0.1:0}
credentials: [{label: main, username: acme, password: s3cret-pass}]
`

// logAndFile are two handlers, and a route that leads everything to them.
const logAndFile = `handlers:
  audit: {type: log}
  events: {type: ndjson, path: DIR/events.ndjson}
routes: [{handlers: [audit, events]}]
`

// start runs callbackd with a configuration, in which DIR stands for its folder, until the test ends.
func start(t testing.TB, text string) *instance {
	t.Helper()
	return startIn(t, t.TempDir(), text)
}

func startIn(t testing.TB, dir, text string) *instance {
	t.Helper()
	in := &instance{t: t, Dir: dir, Config: filepath.Join(dir, "callbackd.yaml"), Log: &buffer{}, done: make(chan error, 1)}
	if err := os.WriteFile(in.Config, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems, err := config.Load(in.Config, builtin.Types())
	if err != nil {
		t.Fatalf("load configuration: %v\n%v", err, problems)
	}
	log, err := app.NewLogger(config.Log{Level: "debug", Format: "json"}, in.Log)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log, Version: "test"})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	in.Addresses = a.Addresses()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { in.done <- a.Run(ctx) }()
	in.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-in.done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(in.stop)
	return in
}

// URL is the address of a service's listener.
func (in *instance) URL(service callback.Service) string {
	return "http://" + in.Services[service].String() + "/"
}

// post sends a message as it is.
func (in *instance) post(service callback.Service, message []byte) platform.Answer {
	in.t.Helper()
	client := platform.Client{HTTP: http.DefaultClient}
	answer, err := client.Post(in.t.Context(), in.URL(service), message)
	if err != nil {
		in.t.Fatalf("post to %s: %v", service, err)
	}
	return answer
}

// sample is a published sample with the credentials filled in.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	for _, s := range platform.Samples() {
		if s.Name == name {
			body, err := platform.Fill(s.Body, credentials, "")
			if err != nil {
				t.Fatal(err)
			}
			return body
		}
	}
	t.Fatalf("no sample %s", name)
	return nil
}

// entry is one element of `inbox list -o json`, as far as tests look at it.
type entry struct {
	Seq       int64  `json:"seq"`
	Service   string `json:"service"`
	Kind      string `json:"kind"`
	RequestID string `json:"request_id"`
	Devices   []struct{ Kind, Identifier string }
	State     string   `json:"state"`
	Sightings int      `json:"sightings"`
	Account   string   `json:"account"`
	Flags     []string `json:"flags"`
}

// command runs a callbackd command on the instance's configuration, and fails the test unless it exits with code.
func (in *instance) command(code int, args ...string) (stdout string) {
	in.t.Helper()
	var out, errOut bytes.Buffer
	if got := cli.Main(in.t.Context(), append(args, "--config", in.Config), strings.NewReader(""), &out, &errOut); got != code {
		in.t.Fatalf("callbackd %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errOut.String())
	}
	return out.String()
}

// list lists the inbox.
func (in *instance) list(args ...string) []entry {
	in.t.Helper()
	var entries []entry
	out := in.command(0, append([]string{"inbox", "list", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		in.t.Fatalf("inbox list: %v\n%s", err, out)
	}
	return entries
}

// until waits for a condition, for what happens on other goroutines gives no other sign.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// settled waits until no entry has a delivery to make.
func (in *instance) settled() {
	in.t.Helper()
	until(in.t, "all deliveries are settled", func() bool { return len(in.list("--state", "pending")) == 0 })
}

// metric is the sum of a metric's samples whose line contains all of the given parts.
func (in *instance) metric(name string, parts ...string) float64 {
	in.t.Helper()
	sum := 0.0
	for line := range strings.Lines(in.get("/metrics")) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") || !containsAll(line, parts) {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):], &v); err != nil {
			in.t.Fatalf("metric %s: %v", line, err)
		}
		sum += v
	}
	return sum
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// get fetches a page of the admin listener.
func (in *instance) get(path string) string {
	in.t.Helper()
	response, err := http.Get("http://" + in.Admin.String() + path)
	if err != nil {
		in.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(body)
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
