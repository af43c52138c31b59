package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/inboxtest"
	"callbackd/internal/inbox/sqlite/faultvfs"

	"github.com/prometheus/client_golang/prometheus"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	inboxtest.Run(t, func(t *testing.T) inboxtest.Engine {
		e := &engine{clock: newClock(), fs: newFaults(t)}
		e.Store = newStore(t, func(o *Options) { o.VFS, o.Now = e.fs.Name(), e.clock.Now })
		return e
	})
}

// engine is a store that the suite can kill.
type engine struct {
	*Store
	clock *clock
	fs    *faultvfs.FS
}

func (e *engine) Now() time.Time          { return e.clock.Now() }
func (e *engine) Advance(d time.Duration) { e.clock.Advance(d) }
func (e *engine) Reopen(tb testing.TB)    { tb.Helper(); e.Store = reopen(tb, e.Store) }

// Kill goes on with what a power cut leaves at this moment.
func (e *engine) Kill(tb testing.TB) {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "image")
	if err := e.fs.PowerCut(dir); err != nil {
		tb.Fatal(err)
	}
	if err := e.Close(); err != nil {
		tb.Fatal(err)
	}
	e.fs = newFaults(tb)
	o := e.o
	o.Dir, o.VFS, o.Metrics = dir, e.fs.Name(), inbox.NewMetrics(prometheus.NewRegistry())
	e.Store = openStore(tb, o)
}

func (e *engine) Flush(tb testing.TB) { tb.Helper(); flushed(tb, e.Store) }

func (e *engine) Release(tb testing.TB, seqs []int64, handlers ...string) {
	tb.Helper()
	if _, err := e.Store.Release(context.Background(), seqs, func(*inbox.Entry) []string { return handlers }, false); err != nil {
		tb.Fatal(err)
	}
}

func (e *engine) Replay(ctx context.Context, id string, q inbox.Query, handlers ...string) (inboxtest.Replayed, error) {
	r, err := e.Store.Replay(ctx, ReplayRequest{ID: id, Entries: q, Handlers: handlers})
	return inboxtest.Replayed{Replay: r.Replay, Entries: r.Entries, Deliveries: r.Deliveries}, err
}

func (e *engine) Retain(tb testing.TB) {
	tb.Helper()
	if err := e.prune(context.Background()); err != nil {
		tb.Fatal(err)
	}
	if _, err := e.pruneKeys(context.Background(), nil); err != nil {
		tb.Fatal(err)
	}
}

func (e *engine) Corrupt(tb testing.TB, seq int64) {
	tb.Helper()
	db, err := sql.Open("sqlite", dsn(databaseFile(e.Store), "vfs="+e.fs.Name(), "_pragma=busy_timeout(5000)"))
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE body SET data = data || x'00' WHERE seq = ?`, seq); err != nil {
		tb.Fatal(err)
	}
	e.recent.forget() // it is what is on disk that has changed
}
