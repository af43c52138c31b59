//go:build bench

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/auth"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/receiver"
	"callbackd/internal/thingspace"

	"github.com/prometheus/client_golang/prometheus"
)

// benchServer is a server under load.
type benchServer struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	out     *bufio.Reader
	address string
	dir     string
}

func startServer(t *testing.T, role string) *benchServer {
	t.Helper()
	return startServerIn(t, role, t.TempDir())
}

func startServerIn(t *testing.T, role, dir string) *benchServer {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBench$", "-test.timeout", "20m")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "CALLBACKD_BENCH_DIR="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	return &benchServer{cmd: cmd, stdin: stdin, out: reader, address: strings.TrimSpace(line), dir: dir}
}

// open has a drainer begin.
func (s *benchServer) open(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(s.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
}

// stop ends the server, which waits for the end of its input.
func (s *benchServer) stop(t *testing.T) {
	t.Helper()
	_ = s.stdin.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("server: %v", err)
	}
}

func (s *benchServer) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond
	return time.Duration(user+system) * tick
}

// written is how much it has had written to the disk.
func (s *benchServer) written() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nwrite_bytes: ")
	n, _ := strconv.ParseInt(strings.SplitN(rest, "\n", 2)[0], 10, 64)
	return n
}

func (s *benchServer) entries(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "entries"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func serveBaseline() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
		}))
	}()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// instant is a store that is done at once and keeps nothing.
type instant struct{ appends atomic.Int64 }

func (s *instant) Append(_ context.Context, a inbox.Arrival) (inbox.Receipt, error) {
	return inbox.Receipt{Seq: s.appends.Add(1), ID: a.Entry.ID}, nil
}

// serveStoreless runs the receiver as the program does, but for what it stores to.
func serveStoreless(t *testing.T) {
	debug.SetGCPercent(app.GCPercent)
	defer runtime.KeepAlive(make([]byte, app.Ballast))
	c, problems := config.Parse("bench.yaml", os.Getenv("CALLBACKD_BENCH_DIR"), []byte(base+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\n"), nil)
	if problems.Worst() >= config.Fatal {
		t.Fatal(problems)
	}
	log, err := app.NewLogger(c.Log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	gates := auth.NewMetrics(prometheus.NewRegistry())
	var credentials atomic.Pointer[auth.CredentialGate]
	var network atomic.Pointer[auth.NetworkGate]
	credentialGate, err := auth.NewCredentialGate(c.AuthCredentials(), c.AllowAnonymous, gates)
	if err != nil {
		t.Fatal(err)
	}
	networkGate, err := auth.NewNetworkGate(c.Network, c.AllOnLoopback(), gates, log)
	if err != nil {
		t.Fatal(err)
	}
	credentials.Store(credentialGate)
	network.Store(networkGate)
	opinion, err := thingspace.NewSecondOpinion()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	info, _ := callback.Lookup(string(callback.DeviceUsage))
	r, err := receiver.New(receiver.Options{
		Listeners: []receiver.Listener{{Listener: l, Services: []receiver.Service{{Info: info, Path: "/", Validation: receiver.Quarantine}}}},
		Store:     &instant{}, SecondOpinion: opinion, Credentials: &credentials, Network: &network, Log: log,
		Route:   func(callback.Service, callback.Kind, receiver.TestMode) []string { return []string{"noop"} },
		Metrics: receiver.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx, time.Second) }()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
}

// noop is a handler that does nothing but count, once its gate is open.
type noop struct {
	gate    chan struct{}
	handled atomic.Int64
}

func (n *noop) Handle(ctx context.Context, _ *handler.Delivery) error {
	select {
	case <-n.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.handled.Add(1)
	return nil
}
func (*noop) Close() error                                                 { return nil }
func (*noop) Validate() []error                                            { return nil }
func (n *noop) Open(context.Context, handler.Env) (handler.Handler, error) { return n, nil }

func serveReceiver(t *testing.T) {
	dir := os.Getenv("CALLBACKD_BENCH_DIR")
	sink := &noop{gate: make(chan struct{})}
	text := base + "services: {DeviceUsage: {listen: 127.0.0.1:0}}\nhandlers: {noop: {type: noop}}\nroutes: [{handlers: [noop]}]\n"
	c, problems := config.Parse("bench.yaml", dir, []byte(text), []handler.Type{{Name: "noop", Config: func() handler.Config { return sink }, Concurrency: 4}})
	if problems.Worst() >= config.Fatal {
		t.Fatal(problems)
	}
	log, err := app.NewLogger(c.Log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	fmt.Println(a.Addresses().Services[callback.DeviceUsage])
	in := bufio.NewReader(os.Stdin)
	if os.Getenv(roleVariable) == roleDrainer {
		_, _ = in.ReadString('\n')
	}
	close(sink.gate)
	reportDrain(&sink.handled)
	_, _ = io.Copy(io.Discard, in)
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	countEntries(t, c.DataDir, filepath.Join(dir, "entries"))
	if err := os.WriteFile(filepath.Join(dir, "handled"), []byte(strconv.FormatInt(sink.handled.Load(), 10)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// countEntries writes how many entries the inbox holds, once the receiver has stopped.
func countEntries(t *testing.T, dataDir, file string) {
	t.Helper()
	r, err := sqlite.OpenReader(t.Context(), dataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stats, err := r.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strconv.FormatInt(stats.Entries, 10)), 0o600); err != nil {
		t.Fatal(err)
	}
}
