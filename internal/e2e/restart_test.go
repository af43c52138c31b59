package e2e_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"callbackd/internal/callback"
	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"
	"callbackd/internal/thingspace/platform"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// TestRestartRefuses does to a receiver what the kubelet does to the one replica on Kubernetes: SIGTERM, and when the process has ended
// another on the same volume and the same port. It measures how long connections are refused meanwhile. What Kubernetes itself takes
// to make a pod, and the lame duck, come on top.
func TestRestartRefuses(t *testing.T) {
	for _, entries := range []int{0, 50_000} {
		t.Run(fmt.Sprintf("%d entries", entries), func(t *testing.T) {
			r := newCrashReceiver(t)
			fill(t, filepath.Join(filepath.Dir(r.config), "data"), entries)
			r.start()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			connects := make(chan struct{}, 1)
			refused := make(chan time.Duration, 1)
			go func() {
				refused <- refusal(ctx, strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"), connects)
			}()
			<-connects
			r.terminate()
			r.start()
			gap := <-refused
			if ctx.Err() != nil {
				t.Fatal("nothing could connect any more")
			}
			t.Logf("connections were refused for %s", gap.Round(time.Millisecond))
			if most := 10 * time.Second; gap <= 0 || gap > most {
				t.Errorf("connections were refused for %s, want more than nothing and at most %s", gap, most)
			}
			r.terminate()
		})
	}
}

// refusal connects again and again, says when it could for the first time, and returns how long it then could not.
func refusal(ctx context.Context, address string, connects chan<- struct{}) time.Duration {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	var since time.Time
	for {
		at := time.Now()
		conn, err := dialer.DialContext(ctx, "tcp", address)
		switch {
		case err == nil && !since.IsZero():
			conn.Close()
			return time.Since(since)
		case err == nil:
			conn.Close()
			select {
			case connects <- struct{}{}:
			default:
			}
		case ctx.Err() != nil:
			return 0
		case since.IsZero():
			since = at
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0
		}
	}
}

// fill stores callbacks that have been handled.
func fill(t *testing.T, dir string, entries int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry()), NoReceiver: true})
	if err != nil {
		t.Fatal(err)
	}
	message := platform.NewGenerator(1, platform.Credentials{}).Message(callback.DeviceUsage)
	next := make(chan int)
	var appending sync.WaitGroup
	for range 256 { // so many share a commit
		appending.Go(func() {
			for n := range next {
				id := fmt.Sprintf("filling-%d", n)
				if _, err := store.Append(t.Context(), inbox.Arrival{Key: inbox.NewKey(id, sha256.Sum256([]byte(id))), Entry: inbox.Entry{
					ReceivedAt: time.Now(), Service: string(callback.DeviceUsage), Kind: string(callback.KindUsage), Account: "main", RequestID: id, Body: message,
				}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range entries {
		next <- n
	}
	close(next)
	appending.Wait()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
