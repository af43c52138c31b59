package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite/faultvfs"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// clock is a clock that tests move. Its zero value does not work; newClock makes one.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// testOptions are those of a store in a new directory, changed by the changes.
func testOptions(t testing.TB, changes ...func(*Options)) Options {
	t.Helper()
	o := Options{Dir: t.TempDir(), Log: zap.NewNop(), Metrics: inbox.NewMetrics(prometheus.NewRegistry())}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// newStore opens a store in a new directory. The test's end closes it.
func newStore(t testing.TB, changes ...func(*Options)) *Store {
	t.Helper()
	return openStore(t, testOptions(t, changes...))
}

// openStore opens the store of the options. The test's end closes it, unless the test did.
func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// reopen closes the store and opens it again, with metrics of its own.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o := s.o
	o.Metrics = inbox.NewMetrics(prometheus.NewRegistry())
	return openStore(t, o)
}

// newFaults registers a fault VFS, which the test's end closes after the stores that were opened later.
func newFaults(t testing.TB) *faultvfs.FS {
	t.Helper()
	fs, err := faultvfs.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return fs
}

// testKey is the key of a RequestId and of a content.
func testKey(requestID, content string) []byte {
	return inbox.NewKey(requestID, sha256.Sum256([]byte(requestID+"\x00"+content)))
}

// testArrival is a callback of DeviceUsage with a RequestId of its own for each name; it goes to the handlers.
func testArrival(name string, handlers ...string) inbox.Arrival {
	return inbox.Arrival{
		Entry: inbox.Entry{
			ID: uuid.NewString(), ReceivedAt: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), Service: "DeviceUsage", Kind: "Usage",
			Account: "main", RequestID: "request-" + name,
			Facts: inbox.Facts{Devices: []inbox.Device{{Kind: "mdn", Identifier: "55500" + name}}, Source: "127.0.0.1", Attempt: 1, MaxAttempts: 4},
			Body:  fmt.Appendf(nil, "<Envelope>%s</Envelope>", name),
		},
		Key:      testKey("request-"+name, "usage"),
		Handlers: handlers,
	}
}

func mustAppend(t testing.TB, s *Store, a inbox.Arrival) inbox.Receipt {
	t.Helper()
	receipt, err := s.Append(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// flushed waits until the settlements queued so far are durable. A task of the writer runs after those of its batch.
func flushed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Do(context.Background(), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func databaseFile(s *Store) string { return filepath.Join(s.o.Dir, File) }
