package app

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	simulator "callbackd/internal/thingspace/platform"
)

// TestEachStepOfAStopIsToldInOrder: readiness is off before anything else ends, callbacks are taken throughout the lame duck, and each step
// is told with the time that it took, within its limit.
func TestEachStepOfAStopIsToldInOrder(t *testing.T) {
	t.Parallel()
	log := &text{}
	duck := make(chan struct{})
	a := newApp(t, `handlers: {audit: {type: log}}
routes: [{handlers: [audit]}]
shutdown: {lame_duck: 1s, drain: 2s, grace: 3s}
`, tee{log, waitFor{"lame duck", func() { close(duck) }}})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, "it is ready", func() bool { status, _ := ask(t, a, "/readyz"); return status == http.StatusOK })
	from := time.Now()
	stop()
	<-duck
	if status, page := ask(t, a, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(page, "drain: failed") {
		t.Errorf("during the lame duck /readyz says %d\n%s", status, page)
	}
	if status, _ := ask(t, a, "/livez"); status != http.StatusOK {
		t.Errorf("during the lame duck /livez says %d", status)
	}
	if acked, status := post(t, a, simulator.NewGenerator(1, simulator.Credentials{}).Message(callback.DeviceUsage)); !acked {
		t.Errorf("during the lame duck a callback gets %d", status)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	limits := map[string]time.Duration{"receiver": 2*time.Second + stopMargin, "dispatcher": 3*time.Second + stopMargin, "inbox": stepLimit, "admin": 2 * stopMargin}
	var told []string
	for line := range strings.Lines(log.String()) {
		var event struct {
			Msg, Part, Step string
			Took            float64
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		name := event.Part + event.Step
		if name == "" {
			name, _, _ = strings.Cut(event.Msg, ":")
		}
		told = append(told, name)
		if limit, ok := limits[name]; ok && event.Took > limit.Seconds() {
			t.Errorf("%s took %v s, more than %s", name, event.Took, limit)
		}
	}
	at := -1
	for _, step := range []string{"receiving", "stopping", "lame duck", "dispatcher", "receiver", "disk", "control", "heartbeat", "handler audit", "inbox", "admin",
		"data_dir lock", "stopped"} {
		next := slices.Index(told, step)
		if next <= at {
			t.Errorf("%s is not told after what comes before it: %q", step, told)
		}
		at = next
	}
	if took := time.Since(from); took < time.Second || took > 20*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}

// tee writes to both.
type tee [2]interface{ Write(p []byte) (int, error) }

func (w tee) Write(p []byte) (int, error) {
	_, _ = w[0].Write(p)
	return w[1].Write(p)
}
