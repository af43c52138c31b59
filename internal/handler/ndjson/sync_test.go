package ndjson

import (
	"path/filepath"
	"testing"
	"time"

	"callbackd/internal/handler"
	"callbackd/internal/handler/handlertest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// TestWhatIsWrittenIsSyncedNowAndThen looks at what is left to sync, for nothing outside tells but a power cut.
func TestWhatIsWrittenIsSyncedNowAndThen(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fsync Fsync
		left  bool // after the write, with an interval that does not end
	}{{"", false}, {Always, false}, {Interval, true}, {Never, false}} {
		opened := func(interval time.Duration) *file {
			c := &Config{Path: filepath.Join(t.TempDir(), "events.ndjson"), Fsync: test.fsync, FsyncInterval: interval}
			h, err := c.Open(t.Context(), handler.Env{Log: zap.NewNop(), Registerer: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = h.Close() })
			if err := h.Handle(t.Context(), handlertest.Deliveries()[0]); err != nil {
				t.Fatal(err)
			}
			return h.(*file)
		}
		left := func(h *file) bool {
			h.disk.Lock()
			defer h.disk.Unlock()
			return h.unsynced
		}
		h := opened(time.Hour)
		if got := left(h); got != test.left {
			t.Errorf("fsync %q: left to sync: %v", test.fsync, got)
		}
		h.sync()
		if left(h) {
			t.Errorf("fsync %q: there is something left after a sync", test.fsync)
		}
		h = opened(time.Millisecond)
		limit := time.After(20 * time.Second)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for left(h) {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("fsync %q: the interval is over and nothing was synced", test.fsync)
			}
		}
	}
}
