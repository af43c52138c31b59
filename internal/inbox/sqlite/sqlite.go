// Package sqlite is the embedded inbox: one SQLite database in the data directory, in WAL mode and synchronous=FULL.
//
//	receiver --Append--> inbox.Writer --one connection, one transaction for many--> inbox.db-wal --sync--> ack
//	dispatch <--Claim--- readers, a pool of their own: no query holds up an ack
//	dispatch --Settle--> inbox.Writer, behind the appends
//	         maintenance: checkpoints, retention, a sign of life; in small steps
//
// The promise is that of package inbox. What makes it hold: the settings that durability rests on are read back at every start
// and anything else is refused; every start checkpoints before the first ack, so that a duplicate is never acknowledged on
// the strength of a first copy that is not on disk; a sync that failed ends the store, for no later sync can be believed.
// SQLite has no checksums of its own: every entry has a digest that is checked whenever it is read.
//
// The limits: one process at a time, which [LockDir] sees to, on a local file system. Claims are in memory: after a crash, what was
// claimed is delivered again.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"callbackd/internal/inbox"

	"go.uber.org/zap"
	"modernc.org/sqlite"
)

// Options of a store. Zero fields mean the defaults.
type Options struct {
	// Dir is the data directory. The caller holds its lock.
	Dir     string
	Log     *zap.Logger
	Metrics *inbox.Metrics
	Writer  inbox.WriterOptions
	// RepeatWindow is how long after an arrival without RequestId another with the same content is suspected to repeat it.
	// Default 15 min.
	RepeatWindow time.Duration
	// KeyAge is how long a key is kept at least; default 35 days, for the platform resends from its archive for 30.
	KeyAge    time.Duration
	Retention Retention
	// NoReceiver opens the inbox for an operator's change while no receiver runs: what it notes of runs stays as it is.
	NoReceiver bool
	// Now is the clock; default time.Now.
	Now func() time.Time
	// VFS names the SQLite VFS to use; empty is the default. Tests inject faults with it.
	VFS string
	// MaintenanceEvery is the pause between two rounds of maintenance; default 10 s.
	MaintenanceEvery time.Duration

	// migrations replaces the embedded ones in tests of upgrades.
	migrations migrations
}

// Retention bounds what is kept. Nothing undelivered, dead or quarantined is ever removed.
type Retention struct {
	Age   time.Duration // default 30 days
	Bytes int64         // default 10 GiB
}

func (o Options) withDefaults() Options {
	if o.RepeatWindow == 0 {
		o.RepeatWindow = 15 * time.Minute
	}
	if o.KeyAge == 0 {
		o.KeyAge = 35 * 24 * time.Hour
	}
	if o.Retention.Age == 0 {
		o.Retention.Age = 30 * 24 * time.Hour
	}
	if o.Retention.Bytes == 0 {
		o.Retention.Bytes = 10 << 30
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaintenanceEvery == 0 {
		o.MaintenanceEvery = 10 * time.Second
	}
	if o.migrations.files == nil {
		o.migrations = embedded
	}
	return o
}

// File is the name of the database within the data directory.
const File = "inbox.db"

// oldestSQLite is the first version without a bug that could corrupt a database whose WAL is reset.
const oldestSQLite = 3_051_003

// Store is an open inbox. Its Append, Settle, Do, Status and Broken are those of its [inbox.Writer].
type Store struct {
	*inbox.Writer
	*Reader

	o        Options
	wdb      *sql.DB
	conn     *sql.Conn // the writer's
	w        *statements
	ckpt     *sql.DB
	nextSeq  int64 // the writer's goroutine alone uses it
	run      int64 // the row of this run
	files    []watched
	handlers registry
	claims   claims
	recent   recent
	erasing  sync.Mutex
	held     atomic.Bool // all deliveries, since a restore; this process alone changes it
	stop     context.CancelFunc
	finished sync.WaitGroup

	// replaying keeps two requests of one ID from both going on from where it was: their sums would overwrite each other.
	replaying sync.Mutex
}

// Open opens the inbox in o.Dir, creating or migrating it. The caller MUST Close it, and holds the directory's lock.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	o = o.withDefaults()
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, fmt.Errorf("choose sync: %w", err)
	}
	path := filepath.Join(o.Dir, File)
	if err := migrate(ctx, path, o); err != nil {
		return nil, err
	}
	s := &Store{o: o}
	defer func() {
		if err != nil {
			s.closeDatabases()
		}
	}()
	if s.wdb, err = openDB(path, o.VFS, "_txlock=immediate",
		"_pragma=secure_delete(ON)"); err != nil {
		return nil, err
	}
	s.wdb.SetMaxOpenConns(1)
	if s.conn, err = s.wdb.Conn(ctx); err != nil {
		return nil, fmt.Errorf("open inbox: %w", classify(err))
	}
	if err := verifySettings(ctx, s.conn); err != nil {
		return nil, err
	}
	if err := emptyLog(ctx, s.conn); err != nil {
		return nil, err
	}
	if err := syncDir(o.Dir); err != nil {
		return nil, fmt.Errorf("sync data directory: %w", err)
	}
	if s.ckpt, err = openDB(path, o.VFS); err != nil {
		return nil, err
	}
	s.ckpt.SetMaxOpenConns(1)
	if err := verifySettings(ctx, s.ckpt); err != nil {
		return nil, err
	}
	if s.Reader, err = newReader(path, o.VFS, o.Metrics); err != nil {
		return nil, err
	}
	if s.w, err = prepare(ctx, s.conn); err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if s.files, err = watch(path, path+"-wal"); err != nil {
		return nil, err
	}
	s.Writer = inbox.NewWriter(s, o.Writer, o.Metrics, o.Now)
	s.Reader.now = o.Now
	s.Reader.broken = s.Writer.Report
	maintenance, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.finished.Go(func() { s.maintain(maintenance) })
	return s, nil
}

// Close carries out what is queued, notes the end of the run and closes the files.
func (s *Store) Close() error {
	s.stop()
	s.finished.Wait()
	err := s.Writer.Do(context.Background(), func() error { return s.noteStop() })
	if errors.Is(err, inbox.ErrBroken) {
		err = nil // it was said when it happened
	}
	s.Writer.Close()
	return errors.Join(err, s.closeDatabases())
}

func (s *Store) closeDatabases() error {
	var errs []error
	if s.Reader != nil {
		errs = append(errs, s.Reader.Close())
	}
	if s.w != nil {
		s.w.close()
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	for _, db := range []*sql.DB{s.ckpt, s.wdb} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// openDB opens the database for reading and writing, in WAL mode.
func openDB(path, vfs string, extra ...string) (*sql.DB, error) {
	parameters := append([]string{
		"_pragma=busy_timeout(1000)",
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=wal_autocheckpoint(0)", // checkpoints are maintenance's, not the ack path's
		"_pragma=journal_size_limit(67108864)",
		"_pragma=temp_store(MEMORY)",
	}, extra...)
	if vfs != "" {
		parameters = append(parameters, "vfs="+vfs)
	}
	db, err := sql.Open("sqlite", dsn(path, parameters...))
	if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	return db, nil
}

// verifySettings reads back what durability rests on.
func verifySettings(ctx context.Context, q querier) error {
	var version string
	if err := q.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return fmt.Errorf("read SQLite's version: %w", classify(err))
	}
	if err := verifyVersion(version); err != nil {
		return err
	}
	for _, want := range []struct{ pragma, value string }{{"journal_mode", "wal"}, {"synchronous", "2"}} {
		var got string
		if err := q.QueryRowContext(ctx, "PRAGMA "+want.pragma).Scan(&got); err != nil {
			return fmt.Errorf("read %s: %w", want.pragma, classify(err))
		}
		if got != want.value {
			return fmt.Errorf("%w: %s is %s and must be %s, or an acknowledged callback could be lost: put data_dir on a local file system that "+
				"SQLite can use in full", inbox.ErrBroken, want.pragma, got, want.value)
		}
	}
	return nil
}

func verifyVersion(version string) error {
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil || major*1_000_000+minor*1_000+patch < oldestSQLite {
		return fmt.Errorf("%w: this callbackd was built with SQLite %s, and before 3.51.3 it could corrupt a database: build it anew", inbox.ErrBroken, version)
	}
	return nil
}

// emptyLog copies the write-ahead log that the last run left into the database, and empties it. A log whose sync failed may read
// well from the kernel's memory and have a hole on the disk: whatever stood on it or behind it would be lost with the power. What
// is copied from it is written and synced anew. So nothing may be acknowledged before, and a log that cannot be emptied, because
// another program reads from it, refuses the start.
func emptyLog(ctx context.Context, q querier) error {
	const tries = 10 // of a second each, while a reader holds on to the log
	for range tries {
		var busy, frames, copied int
		if err := q.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &copied); err != nil {
			return fmt.Errorf("checkpoint at start: %w", classify(err))
		}
		if busy == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("checkpoint at start: %w", err)
		}
	}
	return fmt.Errorf("checkpoint at start: %w: another program reads the inbox and does not end; end it and start again", inbox.ErrUnavailable)
}

// watched is a file of the store as it was at the start.
type watched struct {
	path string
	info os.FileInfo
}

func watch(paths ...string) ([]watched, error) {
	files := make([]watched, len(paths))
	for i, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("open inbox: %w", err)
		}
		files[i] = watched{path, info}
	}
	return files, nil
}

// inPlace reports whether the files are still those that were opened. SQLite goes on writing to a file that was removed or replaced, and
// what it writes there is gone when it is closed.
func inPlace(files []watched) error {
	for _, f := range files {
		if info, err := os.Stat(f.path); err != nil || !os.SameFile(info, f.info) {
			return fmt.Errorf("%w: %s was removed or replaced while callbackd ran; put it back, or restore a backup with `callbackd inbox restore`, "+
				"and start again", inbox.ErrBroken, f.path)
		}
	}
	return nil
}

// load reads what the writer keeps in memory, and notes the start of the run.
func (s *Store) load(ctx context.Context) error {
	if err := s.conn.QueryRowContext(ctx, `SELECT 1 + max(
		(SELECT coalesce(max(seq), 0) FROM entry),
		(SELECT coalesce(max(seq), 0) FROM sighting),
		coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_seq'), 0))`).Scan(&s.nextSeq); err != nil {
		return fmt.Errorf("read last entry: %w", classify(err))
	}
	if err := s.loadHandlers(ctx); err != nil {
		return err
	}
	allHeld, err := s.Reader.DeliveriesHeld(ctx)
	if err != nil {
		return err
	}
	s.held.Store(allHeld)
	var held int
	if err := s.conn.QueryRowContext(ctx, "SELECT count(*) FROM entry WHERE held = 1").Scan(&held); err != nil {
		return fmt.Errorf("count quarantined entries: %w", classify(err))
	}
	s.o.Metrics.Quarantined.Set(float64(held))
	if s.o.NoReceiver {
		return nil
	}
	return s.noteStart(ctx)
}

// loadHandlers reads the handlers' numbers, and what is known of each.
func (s *Store) loadHandlers(ctx context.Context) error {
	rows, err := s.conn.QueryContext(ctx, `SELECT id, name, in_order, paused_at <> 0,
		(SELECT count(*) FROM delivery WHERE handler = id AND state = 0),
		(SELECT count(*) FROM delivery WHERE handler = id AND state = 2) FROM handler`)
	if err != nil {
		return fmt.Errorf("read handlers: %w", classify(err))
	}
	defer rows.Close()
	for rows.Next() {
		var id, pending, dead int64
		var name string
		var k known
		if err := rows.Scan(&id, &name, &k.order, &k.paused, &pending, &dead); err != nil {
			return fmt.Errorf("read handlers: %w", classify(err))
		}
		s.handlers.add(map[string]int64{name: id})
		s.handlers.change(id, func(to *known) { *to = k })
		s.notePaused(id, name, k.paused)
		s.o.Metrics.Pending.WithLabelValues(name).Set(float64(pending))
		s.o.Metrics.DeadLetters.WithLabelValues(name).Set(float64(dead))
		s.o.Metrics.Lag.Add(name, int(pending))
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read handlers: %w", classify(err))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
