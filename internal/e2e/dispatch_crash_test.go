package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/handler"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
)

// The receiver of TestCrashOfDispatch is this test binary, started again with the folder in this variable.
const crashDirVariable = "CALLBACKD_CRASH_DIR"

// The attempts that a delivery to the handlers gets: broken fails them all, and hung hangs in all but the last.
const brokenAttempts, hungAttempts = 3, 3

const dispatchCrashConfig = `data_dir: data
admin: {listen: %q}
credentials: [{label: main, username: %s, password: %s}]
services: {DeviceUsage: {listen: %q}}
log: {level: error}
handlers:
  steady: {type: recorder, delivery: {concurrency: 8, order_by: device, backoff: {min: 1ms, max: 20ms}, breaker: {failures: 0}}}
  broken: {type: recorder, delivery: {concurrency: 4, max_attempts: 3, backoff: {min: 1ms, max: 20ms}, breaker: {failures: 0}}}
  hung: {type: recorder, delivery: {concurrency: 32, timeout: 50ms, backoff: {min: 1ms, max: 20ms}, breaker: {failures: 0}}}
routes: [{handlers: [steady, broken, hung]}]
`

// TestCrashOfDispatch kills a loaded receiver with SIGKILL again and again, while it delivers to three handlers of which one fails and one
// hangs. In the end each handler has had each callback at least once, the one that asked for order got each device's in order, and
// attempts and dead letters add up.
func TestCrashOfDispatch(t *testing.T) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		serveRecorders(t, dir)
		return
	}
	r := newCrashReceiver(t)
	dir := filepath.Dir(r.config)
	text := fmt.Sprintf(dispatchCrashConfig, strings.TrimPrefix(r.admin, "http://"), credentials.Username, credentials.Password,
		strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"))
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.devices = 20
	var stdin io.Closer
	r.command = func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestCrashOfDispatch$", "-test.timeout", "20m")
		cmd.Env = append(os.Environ(), crashDirVariable+"="+dir)
		pipe, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdin = pipe
		return cmd
	}

	acked := make(chan string, 1024)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var sending sync.WaitGroup
	for n := range 8 {
		sending.Go(func() { r.send(ctx, n, acked) })
	}
	all := make(map[string]bool)
	r.start()
	for range *crashes {
		for range 20 + rand.IntN(120) {
			all[<-acked] = true
		}
		r.kill()
		r.start()
	}
	stop()
	go func() { sending.Wait(); close(acked) }()
	for id := range acked {
		all[id] = true
	}
	in := openInbox(t, filepath.Join(dir, "data"))
	until(t, "every delivery has ended", func() bool {
		stats, err := in.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return stats.Pending["steady"]+stats.Pending["broken"]+stats.Pending["hung"] == 0
	})
	cmd := r.down()
	_ = stdin.Close() // which ends it in order
	if err := cmd.Wait(); err != nil {
		t.Errorf("stop: %v", err)
	}
	checkDispatch(t, in, dir, all)
}

func openInbox(t *testing.T, dir string) *sqlite.Reader {
	t.Helper()
	in, err := sqlite.OpenReader(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

// checkDispatch holds what the handlers recorded against what is in the inbox.
func checkDispatch(t *testing.T, in *sqlite.Reader, dir string, acked map[string]bool) {
	t.Helper()
	records := make(map[string]*record)
	for _, name := range []string{"steady", "broken", "hung"} {
		records[name] = readRecord(t, filepath.Join(dir, name))
	}
	entries := 0
	for e, err := range in.All(t.Context(), inbox.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		entries++
		delete(acked, e.RequestID)
		list, err := in.Deliveries(t.Context(), e.Seq)
		if err != nil || len(list) != len(records) {
			t.Fatalf("entry %d has the deliveries %+v, %v", e.Seq, list, err)
		}
		for _, d := range list {
			want := map[string]struct {
				state, reason string
				attempts      int
			}{
				"steady": {"done", "", d.Attempts}, "broken": {"dead", inbox.ReasonExhausted, brokenAttempts}, "hung": {"done", "", hungAttempts},
			}[d.Handler]
			if d.State != want.state || d.Reason != want.reason || d.Attempts != want.attempts {
				t.Errorf("entry %d: the delivery to %s is %s after %d attempts, %s", e.Seq, d.Handler, d.State, d.Attempts, d.Reason)
			}
			for attempt := 1; attempt <= d.Attempts; attempt++ {
				if !records[d.Handler].began[[2]int64{e.Seq, int64(attempt)}] {
					t.Errorf("entry %d: %s had no attempt %d of the %d that are counted", e.Seq, d.Handler, attempt, d.Attempts)
				}
			}
		}
	}
	for id := range acked {
		t.Errorf("%s was acknowledged and is not in the inbox", id)
	}
	stats, err := in.Stats(t.Context())
	if err != nil || stats.Dead["broken"] != int64(entries) || stats.Dead["steady"]+stats.Dead["hung"] != 0 {
		t.Errorf("of %d entries the dead letters are %v, %v", entries, stats.Dead, err)
	}
	checkOrder(t, records["steady"])
	t.Logf("%d entries; attempts begun: steady %d, broken %d, hung %d", entries, records["steady"].lines, records["broken"].lines, records["hung"].lines)
}

// checkOrder: a delivery begins when those of its device that arrived before it are done, whatever failed and crashed in between.
func checkOrder(t *testing.T, r *record) {
	t.Helper()
	done := make(map[int64]bool)
	of := make(map[string][]int64) // entries by device, as they were first begun
	known := make(map[int64]bool)
	for _, s := range r.steps {
		if s.done {
			done[s.seq] = true
			continue
		}
		for _, before := range of[s.device] {
			if before < s.seq && !done[before] {
				t.Errorf("entry %d began before entry %d of its device was done", s.seq, before)
			}
			if before > s.seq && !known[s.seq] {
				t.Errorf("entry %d began after entry %d of its device", s.seq, before)
			}
		}
		if !known[s.seq] {
			known[s.seq] = true
			of[s.device] = append(of[s.device], s.seq)
		}
	}
	if len(of) < 2 || len(known) < 2*len(of) {
		t.Errorf("%d entries of %d devices show no order", len(known), len(of))
	}
}

// recorder is a handler that notes each attempt in a file, which a kill leaves as it is. Its name says how it behaves.
type recorder struct {
	dir, name string
	mu        sync.Mutex
	file      *os.File
}

func (*recorder) Validate() []error { return nil }

func (h *recorder) Open(_ context.Context, env handler.Env) (handler.Handler, error) {
	file, err := os.OpenFile(filepath.Join(h.dir, env.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &recorder{name: env.Name, file: file}, nil
}

func (h *recorder) Close() error { return h.file.Close() }

var errRecorder = errors.New("as this handler does")

func (h *recorder) Handle(ctx context.Context, d *handler.Delivery) error {
	device := "none"
	if len(d.Callback.Devices) > 0 {
		device = d.Callback.Devices[0].Identifier
	}
	if err := h.note("begin", d, device); err != nil {
		return err
	}
	switch {
	case h.name == "broken":
		return errRecorder
	case h.name == "hung" && d.Attempt < hungAttempts:
		<-ctx.Done()
		return ctx.Err()
	case h.name == "steady" && rand.IntN(4) == 0:
		return errRecorder
	}
	return h.note("done", d, device)
}

func (h *recorder) note(what string, d *handler.Delivery, device string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.file, "%s %d %d %s\n", what, d.Seq, d.Attempt, device)
	return err
}

// record is what a recorder noted.
type record struct {
	began map[[2]int64]bool // Seq and attempt
	lines int
	steps []recordStep
}

type recordStep struct {
	done   bool
	seq    int64
	device string
}

func readRecord(t *testing.T, path string) *record {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{began: make(map[[2]int64]bool)}
	for line := range bytes.Lines(text) {
		var what, device string
		var seq, attempt int64
		if _, err := fmt.Sscan(string(line), &what, &seq, &attempt, &device); err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		if what == "begin" {
			r.began[[2]int64{seq, attempt}] = true
			r.lines++
		}
		r.steps = append(r.steps, recordStep{what == "done", seq, device})
	}
	return r
}

// serveRecorders is the receiver: callbackd with recorders for handlers, until its input ends.
func serveRecorders(t *testing.T, dir string) {
	path := filepath.Join(dir, "callbackd.yaml")
	types := []handler.Type{{Name: "recorder", Config: func() handler.Config { return &recorder{dir: dir} }}}
	c, problems, err := config.Load(path, types)
	if err != nil {
		t.Fatal(err, problems)
	}
	log, err := app.NewLogger(c.Log, io.Discard) // broken buries thousands
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), app.Options{Config: c, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
}
