package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"callbackd/internal/callback"
	"callbackd/internal/thingspace/platform"
)

// crashes is how often TestCrash kills the receiver; `make crash` asks for more.
var crashes = flag.Int("crashes", 3, "how often TestCrash kills the receiver")

// TestCrash kills a loaded receiver with SIGKILL again and again, while senders send each message until it is acknowledged, as the
// platform does. In the end every acknowledged message is in the inbox once, and was handled at least once.
func TestCrash(t *testing.T) {
	r := newCrashReceiver(t)
	const senders = 16
	acked := make(chan string, 1024) // RequestIds
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var sending sync.WaitGroup
	for n := range senders {
		sending.Go(func() { r.send(ctx, n, acked) })
	}

	all := make(map[string]bool)
	r.start()
	for crash := range *crashes {
		// At a random moment between two acknowledgements, or early in the life of the process.
		for range rand.IntN(400) {
			all[<-acked] = true
		}
		r.kill()
		t.Logf("crash %d after %d acknowledgements", crash+1, len(all))
		r.start()
	}
	for range 100 {
		all[<-acked] = true
	}
	stop()
	go func() { sending.Wait(); close(acked) }()
	for id := range acked {
		all[id] = true
	}
	r.settle()
	r.terminate()
	r.check(all)
}

// crashReceiver is a receiver in a process of its own.
type crashReceiver struct {
	t               *testing.T
	program, config string
	command         func() *exec.Cmd // in place of the program
	devices         uint64           // that messages are about; 0 is one for each
	events, log     string
	admin, url      string

	mu  sync.Mutex
	cmd *exec.Cmd
	up  chan struct{} // closed while the receiver takes messages
}

func newCrashReceiver(t *testing.T) *crashReceiver {
	t.Helper()
	dir := t.TempDir()
	r := &crashReceiver{t: t, program: build(t), config: filepath.Join(dir, "callbackd.yaml"), events: filepath.Join(dir, "events.ndjson"),
		log: filepath.Join(dir, "log"), up: make(chan struct{})}
	listener, admin := freeAddress(t), freeAddress(t)
	r.url, r.admin = "http://"+listener+"/", "http://"+admin
	text := fmt.Sprintf("data_dir: data\nadmin: {listen: %q}\ncredentials: [{label: main, username: %s, password: %s}]\n"+
		"services: {DeviceUsage: {listen: %q}}\nlog: {level: warn}\nhandlers: {events: {type: ndjson, path: %s}}\nroutes: [{handlers: [events]}]\n",
		admin, credentials.Username, credentials.Password, listener, r.events)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.cmd != nil {
			_ = r.cmd.Process.Kill() // the test failed before it ended
			_ = r.cmd.Wait()
		}
		if log, err := os.ReadFile(r.log); t.Failed() && err == nil {
			t.Logf("log of the receiver:\n%s", log)
		}
	})
	return r
}

// program is built once for all tests.
var program struct {
	once sync.Once
	path string
	err  error
}

// build builds callbackd and returns the path of the program.
func build(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		dir, err := os.MkdirTemp("", "callbackd-e2e-")
		if err != nil {
			program.err = err
			return
		}
		program.path = filepath.Join(dir, "callbackd")
		if out, err := exec.Command("go", "build", "-o", program.path, "callbackd/cmd/callbackd").CombinedOutput(); err != nil {
			program.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.path != "" {
		_ = os.RemoveAll(filepath.Dir(program.path))
	}
	os.Exit(code)
}

// ports counts through those that are handed out, so that none is handed out twice. Another run of these tests begins elsewhere.
var ports = func() *atomic.Uint32 {
	p := new(atomic.Uint32)
	p.Store(rand.Uint32N(1 << 16))
	return p
}()

// freeAddress finds one for a process that is stopped and started again. Its port is below those that systems give to outgoing connections,
// one of which could have it when the process comes back.
func freeAddress(t testing.TB) string {
	t.Helper()
	const from, to = 12000, 28000
	for range to - from {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from+ports.Add(1)%(to-from)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatalf("no port between %d and %d is free", from, to)
	return ""
}

// start starts the process and opens the gate for the senders when it is ready.
func (r *crashReceiver) start() {
	r.t.Helper()
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(r.program, "serve", "--config", r.config)
	if r.command != nil {
		cmd = r.command()
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.cmd = cmd
	r.mu.Unlock()
	until(r.t, "the receiver is ready", func() bool {
		response, err := http.Get(r.admin + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	r.mu.Lock()
	close(r.up)
	r.mu.Unlock()
}

// down closes the gate for the senders.
func (r *crashReceiver) down() *exec.Cmd {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = make(chan struct{})
	cmd := r.cmd
	r.cmd = nil
	return cmd
}

func (r *crashReceiver) kill() {
	r.t.Helper()
	cmd := r.down()
	if err := cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

// terminate stops the process as an operator does.
func (r *crashReceiver) terminate() {
	r.t.Helper()
	cmd := r.down()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		r.t.Errorf("stop: %v", err)
	}
}

// gate is closed while the receiver takes messages.
func (r *crashReceiver) gate() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up
}

var crashMessages atomic.Uint64

// send sends message after message, each until it is acknowledged, and tells the RequestId of each that was.
func (r *crashReceiver) send(ctx context.Context, sender int, acked chan<- string) {
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{}}}
	defer client.HTTP.CloseIdleConnections()
	for {
		seed := crashMessages.Add(1)
		id := fmt.Sprintf("request-%d-%d", sender, seed)
		if r.devices > 0 {
			seed %= r.devices
		}
		message, err := platform.Fill(platform.NewGenerator(seed, credentials).Message(callback.DeviceUsage), credentials, id)
		if err != nil {
			r.t.Errorf("fill: %v", err)
			return
		}
		for {
			select {
			case <-r.gate():
			case <-ctx.Done():
				return
			}
			answer, err := client.Post(ctx, r.url, message)
			if err == nil && answer.Acked() {
				break
			}
			if ctx.Err() != nil {
				return
			}
			if err == nil && answer.Status < 500 {
				r.t.Errorf("refused with %d: %s", answer.Status, answer.Fault)
				return
			}
		}
		acked <- id
	}
}

func (r *crashReceiver) inbox(args ...string) []byte {
	r.t.Helper()
	cmd := exec.Command(r.program, append(append([]string{"inbox"}, args...), "--config", r.config)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("inbox %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (r *crashReceiver) settle() {
	r.t.Helper()
	until(r.t, "every delivery is made", func() bool {
		var stats struct{ Pending map[string]int }
		if err := json.Unmarshal(r.inbox("stats", "-o", "json"), &stats); err != nil {
			r.t.Fatal(err)
		}
		return stats.Pending["events"] == 0
	})
}

// check holds what was acknowledged against what is in the inbox and what the handler wrote.
func (r *crashReceiver) check(acked map[string]bool) {
	r.t.Helper()
	type line struct {
		ID        string `json:"id"`
		RequestID string `json:"request_id"`
		Sightings int    `json:"sightings"`
		State     string `json:"state"`
	}
	stored := make(map[string]line)
	sightings := 0
	lines := bufio.NewScanner(bytes.NewReader(r.inbox("export")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			r.t.Fatal(err)
		}
		if _, twice := stored[l.RequestID]; twice {
			r.t.Errorf("%s stands twice in the inbox", l.RequestID)
		}
		stored[l.RequestID] = l
		sightings += l.Sightings
	}
	handled := r.handled()
	for id := range acked {
		entry, ok := stored[id]
		if !ok {
			r.t.Errorf("%s was acknowledged and is not in the inbox", id)
			continue
		}
		if entry.State != "done" || handled[entry.ID+".events"] == 0 {
			r.t.Errorf("%s is %s, and was handled %d times", id, entry.State, handled[entry.ID+".events"])
		}
	}
	r.t.Logf("%d acknowledged, %d stored, %d sightings, %d events", len(acked), len(stored), sightings, len(handled))
}

// handled counts the lines of the events file by delivery.
func (r *crashReceiver) handled() map[string]int {
	r.t.Helper()
	text, err := os.ReadFile(r.events)
	if err != nil {
		r.t.Fatal(err)
	}
	counts := make(map[string]int)
	for l := range bytes.Lines(text) {
		var event struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(l, &event); err != nil {
			r.t.Fatalf("events file: %v: %.100s", err, l)
		}
		counts[event.ID]++
	}
	return counts
}
