package disk_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"callbackd/internal/counterpart"
	"callbackd/internal/disk"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// TestASmallFileSystemIsFilledAndEmptied watches a real one of 8 MiB.
func TestASmallFileSystemIsFilledAndEmptied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); errors.Is(err, unix.EPERM) {
		counterpart.Forbidden(t, "mounting a file system", "whether a real disk that is filled is noticed")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	w := disk.New(disk.Options{Dir: dir, WarnFree: 4 * mega, ShedFree: 4 * mega, Every: time.Millisecond, Ended: func(_, _ time.Time, _ int64) {},
		Metrics: disk.NewMetrics(prometheus.NewRegistry()), Log: zap.NewNop()})
	if w.Low() != nil || w.Full() != nil {
		t.Fatalf("while it is empty: %v, %v", w.Low(), w.Full())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		deadline := time.After(30 * time.Second)
		for !ok() {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("it is never %s", what)
			}
		}
	}
	file := filepath.Join(dir, "filling")
	if err := os.WriteFile(file, bytes.Repeat([]byte{1}, 15*mega/2), 0o600); err != nil {
		t.Fatal(err)
	}
	until("full", func() bool { return w.Low() != nil && w.Full() != nil })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until("empty again", func() bool { return w.Low() == nil && w.Full() == nil })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
