//go:build bench

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// reportDrain prints how many deliveries of the backlog a second were made, when that is done.
func reportDrain(handled *atomic.Int64) {
	if os.Getenv(roleVariable) != roleDrainer {
		return
	}
	go func() { // ends with the process
		from, look := time.Now(), time.NewTicker(time.Millisecond)
		defer look.Stop()
		for handled.Load() < backlog {
			<-look.C
		}
		fmt.Printf("%.0f\n", backlog/time.Since(from).Seconds())
	}()
}

// backlog is how many deliveries wait when a drain begins.
const backlog = 60_000

// benchDrain measures how fast a backlog of deliveries to a handler that does nothing drains, alone, and what that costs the acks.
func benchDrain(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	fillBacklog(t, full)
	var alone, idle, draining, beside []float64
	for range 3 {
		alone = append(alone, drainAlone(t, full))
		acks, _ := acksBeside(t, t.TempDir(), roleReceiver)
		idle = append(idle, acks)
		acks, delivered := acksBeside(t, copied(t, full), roleDrainer)
		draining, beside = append(draining, acks), append(beside, delivered)
	}
	for _, rates := range [][]float64{alone, idle, draining, beside} {
		slices.Sort(rates)
	}
	fmt.Printf("\nA backlog of %d deliveries to a handler that does nothing drains at %.0f deliveries/s; target 20000.\n", backlog, alone[1])
	fmt.Printf("Durable acks at %d connections: %.0f/s without a backlog, %.0f/s while one drains, at %.0f deliveries/s: ratio %.2f; target 0.80.\n",
		targetClient, idle[1], draining[1], beside[1], draining[1]/idle[1])
}

// fillBacklog makes an inbox with the backlog.
func fillBacklog(t *testing.T, dir string) {
	t.Helper()
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: data, Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry()), NoReceiver: true})
	if err != nil {
		t.Fatal(err)
	}
	message := benchMessage()
	next := make(chan int)
	var senders sync.WaitGroup
	for range targetClient {
		senders.Go(func() {
			for n := range next {
				if _, err := store.Append(context.Background(), inbox.Arrival{Handlers: []string{"noop"}, Entry: inbox.Entry{
					ReceivedAt: time.Now(), Service: "DeviceUsage", Kind: "Usage", Account: "main", RequestID: fmt.Sprint(n), Body: message,
					Facts: inbox.Facts{Devices: []inbox.Device{{Kind: "mdn", Identifier: fmt.Sprint(n)}}, Source: "127.0.0.1", Root: "CallbackRequest"},
				}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range backlog {
		next <- n
	}
	close(next)
	senders.Wait()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// copied is a copy of a prepared folder.
func copied(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// drainAlone measures a drain with no other load.
func drainAlone(t *testing.T, full string) (perSecond float64) {
	s := startServerIn(t, roleDrainer, copied(t, full))
	s.open(t)
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	perSecond, err = strconv.ParseFloat(strings.TrimSpace(line), 64)
	if err != nil {
		t.Fatal(err)
	}
	return perSecond
}

// acksBeside measures acks, of a drainer while it drains, and how many deliveries a second were made beside them.
func acksBeside(t *testing.T, dir, role string) (acks, delivered float64) {
	s := startServerIn(t, role, dir)
	s.open(t)
	from := time.Now()
	r, _ := load(t, s, targetClient)
	took := time.Since(from)
	s.stop(t)
	text, err := os.ReadFile(filepath.Join(dir, "handled"))
	if err != nil {
		t.Fatal(err)
	}
	handled, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		t.Fatal(err)
	}
	return r.rate, handled / took.Seconds()
}
