package app_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler/builtin"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/soap"
	"callbackd/internal/thingspace"
	"callbackd/internal/thingspace/platform"
)

var credentials = platform.Credentials{Username: "acme", Password: "s3cret-pass"}

// head is a configuration without services, handlers and routes. DIR stands for its folder.
const head = `data_dir: data
admin: {listen: 127.0.0.1:0}
credentials: [{label: main, username: acme, password: s3cret-pass}]
`

func load(t *testing.T, dir, text string) *config.Config {
	t.Helper()
	path := filepath.Join(dir, "callbackd.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems, err := config.Load(path, builtin.Types())
	if err != nil {
		t.Fatalf("%v\n%v", err, problems)
	}
	return c
}

// build is New with a log that is returned.
func build(t *testing.T, c *config.Config) (*app.App, *buffer, error) {
	t.Helper()
	text := &buffer{}
	log, err := app.NewLogger(config.Log{Level: "debug", Format: "json"}, text)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log, Version: "test"})
	return a, text, err
}

// run runs a until stop is called, which returns what Run did.
func run(t *testing.T, a *app.App) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestEveryPortThatIsTakenIsToldWithItsLineAndNothingIsBound(t *testing.T) {
	t.Parallel()
	first, second, free := listen(t), listen(t), listen(t)
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := load(t, dir, head+fmt.Sprintf(`services:
  DeviceUsage: {listen: %s}
  PromoChange: {listen: %s}
  CarrierService:
    listen: %s
`, first.Addr(), free.Addr(), second.Addr()))
	_, _, err := build(t, c)
	if err == nil {
		t.Fatal("started on ports that are taken")
	}
	for _, want := range []string{
		"callbackd.yaml:5: services.DeviceUsage.listen: listen tcp " + first.Addr().String(),
		"callbackd.yaml:8: services.CarrierService.listen: listen tcp " + second.Addr().String(),
		"another program has the port",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error says not %q:\n%v", want, err)
		}
	}
	l, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the free port was not let go: %v", err)
	}
	_ = l.Close()
	lock, err := sqlite.LockDir(c.DataDir)
	if err != nil {
		t.Fatalf("data_dir was not let go: %v", err)
	}
	_ = lock.Unlock()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestASecondOneOnTheSameDataDirIsRefused(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), head+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\n")
	a, _, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	if _, _, err := build(t, c); !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("error %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	again, _, err := build(t, c)
	if err != nil {
		t.Fatalf("start after the first has stopped: %v", err)
	}
	if err := run(t, again)(); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

func TestADamagedInboxIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), head+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\n")
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir, sqlite.File), bytes.Repeat([]byte("damaged "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := build(t, c); !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "callbackd inbox restore") {
		t.Errorf("error %v", err)
	}
}

// TestStoppingUnderLoadLosesNothingThatWasAcknowledged posts from several senders until the receiver is gone.
func TestStoppingUnderLoadLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), head+`services: {DeviceUsage: {listen: 127.0.0.1:0}}
handlers: {events: {type: ndjson, path: DIR/events.ndjson}}
routes: [{handlers: [events]}]
`)
	a, _, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + a.Addresses().Services[callback.DeviceUsage].String() + "/"
	stop := run(t, a)
	const senders, enough = 8, 300
	acked := make(chan string, enough) // full when it is time to stop
	var all sync.Map
	var sending sync.WaitGroup
	for n := range senders {
		sending.Go(func() {
			g := platform.NewGenerator(uint64(n)+1, credentials)
			client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{}}}
			defer client.HTTP.CloseIdleConnections()
			for {
				message := g.Message(callback.DeviceUsage)
				answer, err := client.Post(context.Background(), url, message)
				if err != nil {
					return // it is gone
				}
				if !answer.Acked() {
					continue
				}
				id := requestID(t, message)
				all.Store(id, true)
				select {
				case acked <- id:
				default:
				}
			}
		})
	}
	for range enough {
		<-acked
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	sending.Wait()
	stored := requestIDs(t, c.DataDir)
	n := 0
	all.Range(func(id, _ any) bool {
		n++
		if !stored[id.(string)] {
			t.Errorf("%s was acknowledged and is not in the inbox", id)
		}
		return true
	})
	if n < enough {
		t.Errorf("%d acks", n)
	}
}

// TestARequestThatStallsDelaysTheStopForTheDrainAlone leaves a request without its body.
func TestARequestThatStallsDelaysTheStopForTheDrainAlone(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), head+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\nshutdown: {drain: 50ms}\n")
	a, log, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	connection, err := net.Dial("tcp", a.Addresses().Services[callback.DeviceUsage].String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprint(connection, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	if line, err := bufio.NewReader(connection).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the answer is %q, %v", line, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if !strings.Contains(log.String(), "requests still under way at the end of shutdown.drain were cut off") {
		t.Errorf("the log says\n%s", log.String())
	}
}

// TestAHandlerThatCannotBeOpenedCostsNoCallback: it is told with its line, receiving goes on, and what waits for it is delivered when it
// can be opened after all.
func TestAHandlerThatCannotBeOpenedCostsNoCallback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := load(t, dir, head+`services: {DeviceUsage: {listen: 127.0.0.1:0}}
handlers:
  events: {type: ndjson, path: DIR/none/events.ndjson, delivery: {backoff: {min: 1ms, max: 20ms}}}
routes: [{handlers: [events]}]
`)
	a, log, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	if text := log.String(); !strings.Contains(text, "cannot open a handler") || !strings.Contains(text, "callbackd.yaml:6") {
		t.Errorf("the log says\n%s", text)
	}
	admin := "http://" + a.Addresses().Admin.String()
	if text := get(t, admin+"/readyz"); !strings.Contains(text, "events cannot be opened") {
		t.Errorf("/readyz says\n%s", text)
	}
	if text := get(t, admin+"/metrics"); !strings.Contains(text, `callbackd_delivery_handler_ready{handler="events"} 0`) {
		t.Error("the metric says that the handler is ready")
	}
	message := platform.NewGenerator(1, credentials).Message(callback.DeviceUsage)
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	url := "http://" + a.Addresses().Services[callback.DeviceUsage].String() + "/"
	if answer, err := client.Post(t.Context(), url, message); err != nil || !answer.Acked() {
		t.Fatalf("post: %+v, %v", answer, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o700); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		<-tick.C
		if !strings.Contains(get(t, admin+"/readyz"), "cannot be opened") {
			break
		}
	}
	if text := get(t, admin+"/readyz"); strings.Contains(text, "events") {
		t.Errorf("after a delivery /readyz says\n%s", text)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "none", "events.ndjson"))
	if err != nil || !strings.Contains(string(text), requestID(t, message)) {
		t.Errorf("the callback was not delivered: %v\n%s", err, log)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func requestID(t *testing.T, message []byte) string {
	m, err := thingspace.Read(message, thingspace.ReadOptions{Limits: soap.Limits{}.WithDefaults()})
	if err != nil {
		t.Errorf("read the message: %v", err)
		return ""
	}
	return m.Callback.RequestID
}

func requestIDs(t *testing.T, dir string) map[string]bool {
	t.Helper()
	r, err := sqlite.OpenReader(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ids := make(map[string]bool)
	for q := (inbox.Query{}); ; {
		entries, err := r.Find(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return ids
		}
		for _, e := range entries {
			ids[e.RequestID] = true
			q.After = e.Seq
		}
	}
}

func TestAHandlerThatIsConfiguredNoMoreIsToldAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	services := head + "services: {DeviceUsage: {listen: 127.0.0.1:0}}\n"
	c := load(t, dir, services+"handlers: {events: {type: ndjson, path: out/events.ndjson}}\nroutes: [{handlers: [events]}]\n")
	a, _, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, a)
	if err := os.RemoveAll(filepath.Join(dir, "out")); err != nil { // from now on every delivery fails, and waits
		t.Fatal(err)
	}
	client := &platform.Client{HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	url := "http://" + a.Addresses().Services[callback.DeviceUsage].String() + "/"
	if answer, err := client.Post(t.Context(), url, platform.NewGenerator(1, credentials).Message(callback.DeviceUsage)); err != nil || !answer.Acked() {
		t.Fatalf("post: %+v, %v", answer, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	a, log, err := build(t, load(t, dir, services))
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t, a)(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "its pending deliveries were buried") || !strings.Contains(text, `"handler":"events","deliveries":1`) {
		t.Errorf("the log says\n%s", text)
	}
}

func TestAnOperatorsChangeIsRefusedWhileTheLockIsHeldByWhatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), head+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\n")
	a, _, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t, a)(); err != nil {
		t.Fatal(err)
	}
	lock, err := sqlite.LockDir(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	log, err := app.NewLogger(config.Log{Level: "warn", Format: "json"}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.Operate(t.Context(), c, log, app.OpErase, app.EraseRequest{Device: "x"}, (*app.Operator).Erase)
	if !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("error %v", err)
	}
}

func TestTheControlSocketIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), head+"services: {DeviceUsage: {listen: 127.0.0.1:0}}\n")
	a, _, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, a)
	info, err := os.Stat(filepath.Join(c.DataDir, "control.sock"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("%v, %v", info, err)
	}
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
