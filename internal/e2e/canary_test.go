package e2e_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf16"

	"callbackd/internal/admin"
	"callbackd/internal/app"
	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/handler/builtin"
)

// The canaries. Secrets are passwords, of which a trace anywhere is one too many. What is personal belongs into the inbox, and into what
// handlers write.
var (
	canarySecrets  = []string{"Zilpzalp", "7531-hush", "Goldammer"} // the right password, twice, for it may be cut in two; a wrong one
	canaryPersonal = []string{canaryPhone, "Nachtigall", "Wendehals", "Zaunkoenigweg"}
)

const (
	canaryPassword = "Zilpzalp-7531-hush"
	canaryWrong    = "Goldammer-8642-loud"
	canaryPhone    = "5557391846"
	canaryText     = canaryPhone + " Nachtigall: Adelheid Wendehals, Zaunkoenigweg 12"
)

const canaryConfig = `data_dir: data
admin: {listen: %q}
credentials: [{label: main, username: acme, password: ` + canaryPassword + `}]
network: {mode: enforce, allow: [127.0.0.0/8]}
log: {level: debug}
limits: {message: 64KiB}
services:
%s
handlers:
  audit: {type: log}
  events: {type: ndjson, path: events.ndjson}
  script: {type: exec, command: [sh, -c, "cat >> 'DIR/script.out'"], delivery: {concurrency: 8}}
  script-fails: {type: exec, command: [sh, -c, "cat >&2; exit 1"], delivery: {concurrency: 8, max_attempts: 2, backoff: {min: 1ms, max: 1ms}, breaker: {failures: 0}}}
  hook: {type: webhook, url: %q}
  hook-fails: {type: webhook, url: %q, delivery: {max_attempts: 2, backoff: {min: 1ms, max: 1ms}, breaker: {failures: 0}}}
  panics: {type: indiscreet, delivery: {max_attempts: 2, backoff: {min: 1ms, max: 1ms}, breaker: {failures: 0}}}
  quotes: {type: indiscreet, delivery: {max_attempts: 2, backoff: {min: 1ms, max: 1ms}, breaker: {failures: 0}}}
  buries: {type: indiscreet}
  hangs: {type: indiscreet, delivery: {timeout: 1h}}
routes: [{handlers: [audit, events, script, script-fails, hook, hook-fails, panics, quotes, buries, hangs]}]
`

// canaryVariable makes the test binary the receiver, whose folder it names.
const canaryVariable = "CALLBACKD_CANARY_DIR"

// TestCanary sends a password, a telephone number, the text of an SMS, a name and an address on every way that leads into callbackd, and looks
// for them in all that comes out of it and all that it leaves on disk, with the log and the traces at their most talkative.
func TestCanary(t *testing.T) {
	if dir := os.Getenv(canaryVariable); dir != "" {
		serveCanary(t, dir)
		return
	}
	c := newCanary(t)
	c.start()
	c.sendAll()
	c.ask()
	c.crash()

	for name, text := range c.public {
		c.mustLack(name, text, canarySecrets)
		c.mustLack(name, text, canaryPersonal)
	}
	c.mustLack("the failing handlers' dead letters", c.causes, canarySecrets)
	c.mustLack("what the webhook posted", []byte(c.hooked.String()), canarySecrets)
	files := make(map[string]bool)
	err := filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == c.config {
			return err
		}
		text, err := os.ReadFile(path)
		files[entry.Name()] = err == nil && bytes.Contains(text, []byte(canaryPhone))
		c.mustLack(path, text, canarySecrets)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The search finds what is there: the inbox, its copy and the handlers have the number.
	for _, name := range []string{"events.ndjson", "script.out", "copy.db"} {
		if !files[name] {
			t.Errorf("the number is not in %s, where it belongs, among %v", name, files)
		}
	}
	if !strings.Contains(c.hooked.String(), canaryPhone) {
		t.Error("the number did not get to the webhook")
	}
}

// canary is the receiver, and all that it has let out.
type canary struct {
	*crashReceiver
	dir    string
	spans  *collector
	hooked *buffer // what the webhook got

	mu     sync.Mutex
	public map[string][]byte
	causes []byte // why deliveries failed, as operators get to see
	sent   int
}

func newCanary(t *testing.T) *canary {
	r := newCrashReceiver(t)
	c := &canary{crashReceiver: r, dir: filepath.Dir(r.config), spans: &collector{}, hooked: &buffer{}, public: make(map[string][]byte)}
	server := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	hook := server(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(c.hooked, r.Body) })
	echo := server(func(w http.ResponseWriter, r *http.Request) { // an error that quotes the event
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.Copy(w, r.Body)
	})
	var services strings.Builder
	for _, info := range callback.Catalogue() {
		fmt.Fprintf(&services, "  %s: {listen: %q, path: /%s}\n", info.Service, strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"), info.Service)
	}
	text := strings.ReplaceAll(fmt.Sprintf(canaryConfig, strings.TrimPrefix(r.admin, "http://"), services.String(), hook, echo), "DIR", c.dir)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	traces := server(c.spans.ServeHTTP)
	r.command = func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestCanary$", "-test.timeout", "20m")
		cmd.Env = append(os.Environ(), canaryVariable+"="+c.dir, "OTEL_EXPORTER_OTLP_ENDPOINT="+traces, "OTEL_BSP_SCHEDULE_DELAY=50",
			"OTEL_BSP_MAX_QUEUE_SIZE=100000", "GOTRACEBACK=all")
		return cmd
	}
	return c
}

// let notes what came out.
func (c *canary) let(name string, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.public[name] = append(c.public[name], text...)
}

// post sends a body and notes the answer.
func (c *canary) post(path string, body []byte, header ...string) (status int) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return c.do(request)
}

func (c *canary) do(request *http.Request) (status int) {
	c.t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return 0 // it was refused before all of it was sent
		}
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.let("the answers", fmt.Appendf(text, "%v", response.Header))
	c.sent++
	return response.StatusCode
}

// ask has the admin listener, the control socket and the commands tell all they know.
func (c *canary) ask() {
	c.t.Helper()
	until(c.t, "all deliveries but those that hang are settled", func() bool {
		pending := 0.0
		for line := range strings.Lines(string(c.get("/metrics"))) {
			var v float64
			if strings.HasPrefix(line, "callbackd_inbox_pending_deliveries{") && !strings.Contains(line, `"hangs"`) {
				fmt.Sscan(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):], &v)
			}
			pending += v
		}
		return pending == 0
	})
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2",
		"/debug/pprof/heap", "/debug/pprof/allocs?debug=1", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=0.1"} {
		c.let(path, c.get(path))
	}
	data := filepath.Join(c.dir, "data")
	for name, request := range map[string]any{"handler/list": nil, "dead/list": map[string]any{"handler": "hook-fails"},
		"dead/requeue": map[string]any{"handler": "hook-fails", "dry_run": true}, "inbox/erase": map[string]any{"device": canaryPhone + "9", "dry_run": true},
		"inbox/replay": map[string]any{"all": true, "dry_run": true}, "inbox/" + "nonsense": nil} {
		var answer json.RawMessage
		err := admin.Call(c.t.Context(), data, name, request, &answer)
		c.let("the control socket", fmt.Appendf(answer, "%v", err))
	}
	var causes json.RawMessage
	if err := admin.Call(c.t.Context(), data, "dead/list", map[string]any{"limit": 1000}, &causes); err != nil {
		c.t.Error(err)
	}
	if c.causes = causes; !bytes.Contains(causes, []byte(`"buries"`)) {
		c.t.Errorf("nothing was buried: %s", causes)
	}
	alone := filepath.Join(c.dir, "alone.yaml") // without the handlers that callbackd does not have
	if err := os.WriteFile(alone, []byte("data_dir: data\nallow_anonymous: true\nservices: {DeviceUsage: {listen: 127.0.0.1:28204}}\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(build(c.t), "inbox", "backup", "--config", alone, filepath.Join(c.dir, "copy.db"))
	if text, err := cmd.CombinedOutput(); err != nil {
		c.t.Errorf("backup: %v\n%s", err, text)
	}
	c.spans.wait(c.t, "deliver buries", 1)
	c.spans.wait(c.t, "receive SMSDeliveryConfirmation", 1)
}

func (c *canary) get(path string) []byte {
	c.t.Helper()
	response, err := http.Get(c.admin + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %d, %v", path, response.StatusCode, err)
	}
	if unpacked, err := gzip.NewReader(bytes.NewReader(text)); err == nil { // a profile
		if text, err = io.ReadAll(unpacked); err != nil {
			c.t.Fatal(err)
		}
	}
	return text
}

// crash has the process print all that it knows of itself while a request and a delivery are under way.
func (c *canary) crash() {
	c.t.Helper()
	half, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(c.url, "http://"), "/"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer half.Close()
	message := canaryMessage(c.t, callback.SMSDeliveryConfirmation)
	fmt.Fprintf(half, "POST /SMSDeliveryConfirmation HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s", len(message), message[:len(message)-9])
	until(c.t, "half of the request is there", func() bool {
		return strings.Contains(string(c.get("/debug/pprof/goroutine?debug=1")), "readBody")
	})
	cmd := c.down()
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		c.t.Fatal(err)
	}
	_ = cmd.Wait() // it has crashed
	log, err := os.ReadFile(c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, want := range []string{"SIGQUIT", "readBody", `"msg":"received"`, `"msg":"refused"`, `"msg":"delivered"`, "handler panicked", "delivery buried"} {
		if !bytes.Contains(log, []byte(want)) {
			c.t.Errorf("the log does not have %s", want)
		}
	}
	c.let("the log", log)
	c.let("the traces", []byte(c.spans.text()))
}

// mustLack looks for words as they are and as they may be hidden.
func (c *canary) mustLack(name string, text []byte, words []string) {
	c.t.Helper()
	for _, word := range words {
		for _, form := range hiddenForms(word) {
			if i := bytes.Index(text, form); i >= 0 {
				c.t.Errorf("%s: has %s: ...%q...", name, word, text[max(0, i-150):min(len(text), i+len(form)+50)])
				break
			}
		}
	}
}

// hiddenForms are those that a word takes in UTF-16, in hexadecimal digits and in base64, where it depends on what stands before.
func hiddenForms(word string) [][]byte {
	forms := [][]byte{[]byte(word), []byte(hex.EncodeToString([]byte(word)))}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		var wide []byte
		for _, unit := range utf16.Encode([]rune(word)) {
			wide = order.AppendUint16(wide, unit)
		}
		forms = append(forms, wide)
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), word...))
		forms = append(forms, []byte(text[(shift*8+5)/6:len(text)-4])) // without what the neighbours have a part in
	}
	return slices.DeleteFunc(forms, func(form []byte) bool { return len(form) < 6 })
}

// indiscreet is a handler that breaks the rule not to quote callbacks, in the way that its name says.
type indiscreet struct{ name string }

func (indiscreet) Validate() []error { return nil }
func (indiscreet) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	return indiscreet{env.Name}, nil
}
func (indiscreet) Close() error { return nil }

func (h indiscreet) Handle(ctx context.Context, d *handler.Delivery) error {
	text, err := json.Marshal(d.Event())
	if err != nil {
		return err
	}
	quote := fmt.Errorf("cannot deal with %s", text)
	switch h.name {
	case "panics":
		panic(quote)
	case "buries":
		return handler.Permanent(quote)
	case "hangs":
		<-ctx.Done()
	}
	return quote
}

// serveCanary is the receiver, until it is killed.
func serveCanary(t *testing.T, dir string) {
	types := append(builtin.Types(), handler.Type{Name: "indiscreet", Config: func() handler.Config { return &indiscreet{} }})
	c, problems, err := config.Load(filepath.Join(dir, "callbackd.yaml"), types)
	if err != nil {
		t.Fatal(err, problems)
	}
	log, err := app.NewLogger(c.Log, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
