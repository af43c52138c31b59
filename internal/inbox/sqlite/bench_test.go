package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// BenchmarkStore shows what an arrival costs the store, in processor time, which a busy machine changes less than the time on the clock:
// appended alone, with a delivery, and with the delivery claimed and settled as well; and the last without each index that can be missed.
func BenchmarkStore(b *testing.B) {
	for _, way := range []struct {
		name     string
		handlers []string
		drain    bool
		without  string
	}{
		{"append", nil, false, ""},
		{"append-for-handler", []string{"noop"}, false, ""},
		{"append-and-deliver", []string{"noop"}, true, ""},
		{"append-and-deliver/without-entry_received", []string{"noop"}, true, "entry_received"},
		{"append-and-deliver/without-entry_service", []string{"noop"}, true, "entry_service"},
		{"append-and-deliver/without-delivery_pending", []string{"noop"}, true, "delivery_pending"},
	} {
		b.Run(way.name, func(b *testing.B) {
			dir := b.TempDir()
			if way.without != "" {
				dropIndex(b, dir, way.without)
			}
			benchmarkStore(b, dir, way.handlers, way.drain)
		})
	}
}

// dropIndex makes an inbox that lacks an index.
func dropIndex(b *testing.B, dir, index string) {
	b.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Options{Dir: dir, Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.File))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("DROP INDEX " + index); err != nil {
		b.Fatal(err)
	}
}

func benchmarkStore(b *testing.B, dir string, handlers []string, drain bool) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Options{Dir: dir, Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Register(ctx, []string{"noop"}); err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 1900)
	for i := range body {
		body[i] = 'a' + byte(i%26)
	}
	next := make(chan int)
	var senders sync.WaitGroup
	before := processorTime()
	b.ResetTimer()
	for range 64 {
		senders.Go(func() {
			for n := range next {
				id := fmt.Sprintf("00000000-0000-4000-8000-%012x", n)
				a := inbox.Arrival{Key: inbox.NewKey(id, [32]byte{byte(n), byte(n >> 8), byte(n >> 16)}), Entry: inbox.Entry{
					ReceivedAt: time.Now(), Service: "DeviceUsage", Kind: "Usage", Account: "main", RequestID: id, Body: body,
					Facts: inbox.Facts{Devices: []inbox.Device{{Kind: "mdn", Identifier: fmt.Sprint(3_000_000_000 + n*7919%1_000_003)}}, Source: "127.0.0.1",
						Credential: "main", Root: "CallbackRequest", SOAP: "1.1", Encoding: "UTF-8", ContentType: "text/xml; charset=utf-8", Attempt: 1, MaxAttempts: 4},
				}}
				a.Handlers = handlers
				if _, err := s.Append(ctx, a); err != nil {
					b.Error(err)
				}
			}
		})
	}
	done := make(chan int)
	go func() {
		n := 0
		for drain && n < b.N {
			claimed, _, err := s.Claim(ctx, "noop", 68)
			if err != nil {
				b.Error(err)
				break
			}
			for _, d := range claimed {
				s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictDone, Attempts: 1})
			}
			n += len(claimed)
			if len(claimed) == 0 {
				<-s.Wake("noop")
			}
		}
		done <- n
	}()
	for n := range b.N {
		next <- n
	}
	close(next)
	senders.Wait()
	<-done
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
