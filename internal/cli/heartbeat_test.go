package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// TestNoCommandShowsOrReplaysAHeartbeat: one is in the inbox while it is under way, which with deliveries held is most of the time, and after a crash.
func TestNoCommandShowsOrReplaysAHeartbeat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	put(t, file, "data_dir: .\nadmin: {listen: 127.0.0.1:0}\nallow_anonymous: true\nservices: {DeviceUsage: {listen: 127.0.0.1:0}}\n"+
		"handlers: {audit: {type: log}}\nroutes: [{handlers: [audit]}]\n")
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Register(t.Context(), []string{"audit", "heartbeat"}); err != nil {
		t.Fatal(err)
	}
	for service, handler := range map[callback.Service]string{callback.DeviceUsage: "audit", callback.Heartbeat: "heartbeat"} {
		arrival := inbox.Arrival{Handlers: []string{handler}, Entry: inbox.Entry{
			ReceivedAt: time.Now(), Service: string(service), Kind: "Comment", RequestID: string(service), Body: []byte("<a/>")}}
		if _, err := store.Append(t.Context(), arrival); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"inbox list", "inbox list -o json", "inbox export", "inbox stats", "inbox stats -o json", "handler list", "handler list -o json"} {
		out, err := callbackd(t, append(strings.Fields(command), "--config", file)...).Output()
		if text := string(out); err != nil || strings.Contains(text, "heartbeat") || !strings.Contains(text, "DeviceUsage") && !strings.Contains(text, "audit") {
			t.Errorf("callbackd %s: %v\n%s", command, err, text)
		}
	}
	out, err := callbackd(t, "inbox", "stats", "-o", "json", "--config", file).Output()
	if text := string(out); err != nil || !strings.Contains(text, `"entries": 1,`) || !strings.Contains(text, `"sightings": 1,`) {
		t.Errorf("the sums: %v\n%s", err, text)
	}
	for _, handlers := range []string{"", "--handlers=audit"} {
		replay := strings.Fields("inbox replay --all --config " + file + " " + handlers)
		if out, err := callbackd(t, replay...).CombinedOutput(); err != nil || !strings.Contains(string(out), "1 deliveries of 1 entries") {
			t.Errorf("replay %s: %v\n%s", handlers, err, out)
		}
	}
}
