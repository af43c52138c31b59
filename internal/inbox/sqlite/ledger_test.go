package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"callbackd/internal/inbox"

	"github.com/prometheus/client_golang/prometheus"
)

// ledger is what a sender remembers: which of its messages were acknowledged, and how often.
type ledger struct {
	mu    sync.Mutex
	acks  map[string]int
	done  map[string]bool // its delivery was settled durably
	errs  []error
	first map[string]inbox.Receipt
}

func newLedger() *ledger {
	return &ledger{acks: make(map[string]int), done: make(map[string]bool), first: make(map[string]inbox.Receipt)}
}

// send appends at once, and notes the acks.
func (l *ledger) send(s *Store, names ...string) {
	var wait sync.WaitGroup
	for _, name := range names {
		wait.Go(func() {
			receipt, err := s.Append(context.Background(), testArrival(name, "log"))
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				l.errs = append(l.errs, err)
				return
			}
			if l.acks[name]++; l.acks[name] == 1 {
				l.first[name] = receipt
			}
		})
	}
	wait.Wait()
}

// deliver claims what there is, settles it as done, and notes what a reader then finds done.
func (l *ledger) deliver(s *Store) {
	claimed, _, err := s.Claim(context.Background(), "log", 100)
	if err != nil {
		return
	}
	for _, d := range claimed {
		s.Settle(inbox.Settlement{DeliveryKey: d.DeliveryKey, Verdict: inbox.VerdictDone, Attempts: 1})
	}
	_ = s.Do(context.Background(), func() error { return nil })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range claimed {
		if e, err := s.Entry(context.Background(), d.Seq); err == nil && e.State == inbox.Done {
			l.done[d.Entry.RequestID] = true
		}
	}
}

// work is a load that uses everything that writes: appends alone and at once, copies, deliveries, a checkpoint.
func (l *ledger) work(s *Store) {
	l.send(s, "a")
	l.send(s, "b", "c", "d", "b")
	l.deliver(s)
	l.send(s, "a", "e")
	s.Report(checkpoint(context.Background(), s.ckpt, "PASSIVE"))
	l.send(s, "f", "g", "a")
	l.deliver(s)
}

// memory is what a ledger held at one moment.
type memory struct {
	acks map[string]int
	done map[string]bool
}

func (l *ledger) remember() memory {
	l.mu.Lock()
	defer l.mu.Unlock()
	return memory{maps.Clone(l.acks), maps.Clone(l.done)}
}

func (l *ledger) errors() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs
}

// check starts a store on the files in dir and compares it with the memory: what was acknowledged is there once, with its
// delivery and no fewer sightings than acks, and what was not acknowledged is there whole or not at all.
func (m memory) check(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(t.Context(), testOptions(t, func(o *Options) { o.Dir = dir }))
	if err != nil {
		t.Fatalf("start on what is left: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	entries, err := s.Find(t.Context(), inbox.Query{Body: true})
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]inbox.Entry)
	for _, e := range entries {
		name := e.RequestID[len("request-"):]
		if _, twice := found[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		found[name] = e
		if want := testArrival(name).Entry.Body; !bytes.Equal(e.Body, want) {
			t.Errorf("%s has the body %q, want %q", name, e.Body, want)
		}
		list, err := s.Deliveries(t.Context(), e.Seq)
		if err != nil || len(list) != 1 || list[0].Handler != "log" {
			t.Errorf("%s has the deliveries %v, %v, want one", name, list, err)
		}
		if m.done[e.RequestID] && e.State != inbox.Done {
			t.Errorf("%s was settled and is %s", name, e.State)
		}
	}
	for name, acks := range m.acks {
		if e, ok := found[name]; !ok || e.Sightings < acks {
			t.Errorf("%s was acknowledged %d times; it is there: %t, with %d sightings", name, acks, ok, e.Sightings)
		}
	}
}

// blank is the directory of a new, empty store, for copies that need no migration.
func blank(t *testing.T) string {
	t.Helper()
	s := newStore(t)
	dir := s.o.Dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openCopy opens a copy of a closed store's directory on a VFS.
func openCopy(t *testing.T, from, vfs string) *Store {
	t.Helper()
	dir := t.TempDir()
	copyDir(t, from, dir)
	s := openStore(t, testOptions(t, func(o *Options) { o.Dir, o.VFS = dir, vfs }))
	if _, err := s.Register(t.Context(), []string{"log"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// powerCut returns a directory with what a power cut would leave now.
func powerCut(t *testing.T, fs interface{ PowerCut(string) error }) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	if err := fs.PowerCut(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// scraped is the value of a counter or gauge of the store, by name and label value.
func scraped(t *testing.T, registry *prometheus.Registry, name string, label ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "callbackd_inbox_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(label) == 0 || m.GetLabel()[0].GetValue() == label[0] {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatal(fmt.Errorf("no metric %s %v", name, label))
	return 0
}

// openSQL opens a database with one connection.
func openSQL(t *testing.T, path, parameters string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path, parameters))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
