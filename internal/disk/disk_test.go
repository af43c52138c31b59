package disk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"callbackd/internal/disk"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const mega = 1 << 20

// TestTheDiskFillsAndIsEmptiedAgain goes past both bounds and back: each is left only with a quarter more, each change is told once,
// and what was refused is told with its time.
func TestTheDiskFillsAndIsEmptiedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var room atomic.Pointer[disk.Room]
		set := func(free int64) { room.Store(&disk.Room{Free: free * mega, Size: 10_000 * mega}) }
		set(500)
		type outage struct {
			took    time.Duration
			refused int64
		}
		var outages []outage
		core, logged := observer.New(zap.InfoLevel)
		reg := prometheus.NewRegistry()
		w := disk.New(disk.Options{Dir: "/var/lib/callbackd", WarnFree: 400 * mega, ShedFree: 100 * mega, Metrics: disk.NewMetrics(reg), Log: zap.New(core),
			Ended:   func(from, to time.Time, refused int64) { outages = append(outages, outage{to.Sub(from), refused}) },
			Measure: func(string) (disk.Room, error) { return *room.Load(), nil }})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		for _, step := range []struct {
			free      int64
			low, full bool
			log       string
		}{
			{500, false, false, ""},
			{399, true, false, "the disk gets full"},
			{450, true, false, ""},
			{100, true, false, ""},
			{99, true, true, "callbacks are refused"},
			{124, true, true, ""},
			{90, true, true, ""},
			{125, true, false, "callbacks are taken"},
			{100, true, false, ""},
			{500, false, false, "has enough room again"},
			{0, true, true, "callbacks are refused"},
		} {
			set(step.free)
			<-time.After(time.Second)
			synctest.Wait()
			if low, full := w.Low() != nil, w.Full() != nil; low != step.low || full != step.full {
				t.Errorf("with %d MiB low is %v and full %v, want %v and %v", step.free, low, full, step.low, step.full)
			}
			if err := w.Refuse(); (err != nil) != step.full || err != nil && !strings.Contains(err.Error(), "inbox.disk.shed_free wants 100 MiB") {
				t.Errorf("with %d MiB a callback is answered with %v", step.free, err)
			}
			if got := value(t, reg, "callbackd_disk_shedding"); got != map[bool]float64{true: 1}[step.full] {
				t.Errorf("with %d MiB callbackd_disk_shedding is %v", step.free, got)
			}
			if got := value(t, reg, "callbackd_disk_free_bytes"); got != float64(step.free*mega) {
				t.Errorf("with %d MiB callbackd_disk_free_bytes is %v", step.free, got)
			}
			lines := logged.TakeAll()
			if step.log == "" && len(lines) > 0 || step.log != "" && (len(lines) != 1 || !strings.Contains(lines[0].Message, step.log)) {
				t.Errorf("with %d MiB the log says %v, want %q", step.free, lines, step.log)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(outages) != 2 || outages[0] != (outage{3 * time.Second, 3}) || outages[1].refused != 1 {
			t.Errorf("the times without acks are %v", outages)
		}
	})
}

func value(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestASmallDiskIsNotAlwaysFull although the bounds are more than it has.
func TestASmallDiskIsNotAlwaysFull(t *testing.T) {
	t.Parallel()
	for free, want := range map[int64][2]bool{30: {false, false}, 24: {true, false}, 9: {true, true}} {
		w := disk.New(disk.Options{WarnFree: 2048 * mega, ShedFree: 512 * mega, Metrics: disk.NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop(),
			Measure: func(string) (disk.Room, error) { return disk.Room{Free: free * mega, Size: 100 * mega}, nil }})
		if low, full := w.Low() != nil, w.Full() != nil; low != want[0] || full != want[1] {
			t.Errorf("with %d of 100 MiB low is %v and full %v", free, low, full)
		}
	}
}

// TestWithoutBoundsNothingIsRefused and what cannot be measured leaves all as it was, which is told once.
func TestWithoutBoundsNothingIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		w := disk.New(disk.Options{Metrics: disk.NewMetrics(prometheus.NewRegistry()), Log: zap.New(core), Ended: func(_, _ time.Time, _ int64) {},
			Measure: func(string) (disk.Room, error) { return disk.Room{Size: 100 * mega}, nil }})
		if w.Low() != nil || w.Full() != nil {
			t.Errorf("without bounds: %v, %v", w.Low(), w.Full())
		}
		blind := disk.New(disk.Options{WarnFree: mega, ShedFree: mega, Metrics: disk.NewMetrics(prometheus.NewRegistry()), Log: zap.New(core),
			Measure: func(string) (disk.Room, error) { return disk.Room{}, errors.New("no such device") }})
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := blind.Run(ctx); err != nil || blind.Full() != nil {
			t.Errorf("what cannot be measured: %v, %v", err, blind.Full())
		}
		if n := logged.FilterMessageSnippet("cannot tell how much room").Len(); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

// TestMeasure asks a real file system.
func TestMeasure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, err := disk.Measure(dir)
	if err != nil || room.Free <= 0 || room.Size < room.Free {
		t.Errorf("measured %+v, %v", room, err)
	}
	if _, err := disk.Measure(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
