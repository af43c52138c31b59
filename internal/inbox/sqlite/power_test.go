package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"callbackd/internal/inbox"
	"callbackd/internal/inbox/sqlite/faultvfs"
)

// TestNoPowerCutCostsAnAck cuts the power before the n-th sync of a load, for every n, and compares what a start finds with what had
// been acknowledged at that moment.
func TestNoPowerCutCostsAnAck(t *testing.T) {
	t.Parallel()
	from := blank(t)
	for n := 0; ; n++ {
		if !workWithPowerCut(t, from, n) {
			if n < 8 {
				t.Errorf("the load has only %d syncs", n)
			}
			return
		}
		if t.Failed() {
			t.Fatalf("power cut before sync %d", n)
		}
	}
}

// workWithPowerCut reports whether the load came as far as the n-th sync.
func workWithPowerCut(t *testing.T, from string, n int) bool {
	t.Helper()
	fs := newFaults(t)
	s := openCopy(t, from, fs.Name())
	l := newLedger()
	stall := fs.Stall(faultvfs.Sync, faultvfs.Any, n)
	defer stall.Clear()
	done := make(chan struct{})
	go func() { defer close(done); l.work(s) }()
	select {
	case <-stall.Reached():
	case <-done:
	}
	before := l.remember()
	image := powerCut(t, fs)
	stall.Clear()
	<-done
	before.check(t, image)
	if n%4 == 0 { // and when all is done
		l.remember().check(t, powerCut(t, fs))
	}
	return stall.Hits() > 0
}

// TestNoPowerCutDuringAStartCostsAnAck cuts the power again, before each sync of the start that follows the first cut.
func TestNoPowerCutDuringAStartCostsAnAck(t *testing.T) {
	t.Parallel()
	image, l := imageWithLog(t)
	for n := 0; ; n++ {
		fs := newFaults(t)
		dir := t.TempDir()
		copyDir(t, image, dir)
		stall := fs.Stall(faultvfs.Sync, faultvfs.Any, n)
		opened := make(chan *Store, 1)
		go func() {
			s, err := Open(context.Background(), testOptions(t, func(o *Options) { o.Dir, o.VFS = dir, fs.Name() }))
			if err != nil {
				t.Error(err)
			}
			opened <- s
		}()
		var s *Store
		select {
		case <-stall.Reached():
			l.remember().check(t, powerCut(t, fs))
			stall.Clear()
			s = <-opened
		case s = <-opened:
			stall.Clear()
		}
		if s == nil {
			return
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if stall.Hits() == 0 {
			if n < 3 {
				t.Errorf("a start has only %d syncs", n)
			}
			return
		}
	}
}

// imageWithLog is what a power cut left of a store whose write-ahead log holds acknowledged entries, and their ledger.
func imageWithLog(t *testing.T) (dir string, l *ledger) {
	t.Helper()
	fs := newFaults(t)
	s := openCopy(t, blank(t), fs.Name())
	l = newLedger()
	l.send(s, "a", "b", "c", "a")
	l.deliver(s)
	return powerCut(t, fs), l
}

// TestStartEmptiesTheLogBeforeTheFirstAck: what the last run left in the log is copied and synced anew, and a start that cannot do so
// is refused.
func TestStartEmptiesTheLogBeforeTheFirstAck(t *testing.T) {
	t.Parallel()
	image, _ := imageWithLog(t)
	t.Run("the database is synced", func(t *testing.T) {
		t.Parallel()
		fs := newFaults(t)
		dir := t.TempDir()
		copyDir(t, image, dir)
		openStore(t, testOptions(t, func(o *Options) { o.Dir, o.VFS = dir, fs.Name() }))
		if c := fs.Counts(faultvfs.Main); c.Writes == 0 || c.Syncs == 0 {
			t.Errorf("the start made the operations %+v on the database", c)
		}
		if c := fs.Counts(faultvfs.WAL); c.Truncates == 0 {
			t.Errorf("the start made the operations %+v on the log", c)
		}
	})
	t.Run("a sync that fails refuses the start", func(t *testing.T) {
		t.Parallel()
		fs := newFaults(t)
		dir := t.TempDir()
		copyDir(t, image, dir)
		fs.Fail(faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.Main, Sticky: true})
		s, err := Open(t.Context(), testOptions(t, func(o *Options) { o.Dir, o.VFS = dir, fs.Name() }))
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, inbox.ErrBroken) {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("a reader that holds on to the log refuses the start until it ends", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		copyDir(t, image, dir)
		reader, err := openReadOnly(filepath.Join(dir, File), "")
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		tx, err := reader.Begin()
		if err != nil {
			t.Fatal(err)
		}
		var entries int
		if err := tx.QueryRow(`SELECT count(*) FROM entry`).Scan(&entries); err != nil || entries != 3 {
			t.Fatalf("%d entries, %v", entries, err)
		}
		// With the store's own setting each try would take a second.
		writer := openSQL(t, filepath.Join(dir, File), "_pragma=busy_timeout(5)&_pragma=synchronous(FULL)")
		if err := emptyLog(t.Context(), writer); !errors.Is(err, inbox.ErrUnavailable) || !strings.Contains(err.Error(), "another program") {
			t.Errorf("while the reader reads: %v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := emptyLog(t.Context(), writer); err != nil {
			t.Errorf("after the reader: %v", err)
		}
		if info, err := os.Stat(filepath.Join(dir, File+"-wal")); err != nil || info.Size() > 0 {
			t.Errorf("the log is %v, %v, want it empty", info, err)
		}
	})
}

// TestSettingsThatDurabilityRestsOnAreReadBack: another journal mode or another synchronous setting is refused, in words that say why.
func TestSettingsThatDurabilityRestsOnAreReadBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if err := verifySettings(t.Context(), s.conn); err != nil {
		t.Errorf("as the store sets them: %v", err)
	}
	for _, tc := range []struct{ parameters, want string }{
		{"_pragma=journal_mode(DELETE)&_pragma=synchronous(FULL)", "journal_mode is delete and must be wal"},
		{"_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)", "synchronous is 1 and must be 2"},
		{"_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)", "synchronous is 0 and must be 2"},
	} {
		db := openSQL(t, filepath.Join(t.TempDir(), "x.db"), tc.parameters)
		if err := verifySettings(t.Context(), db); !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.parameters, err, tc.want)
		}
	}
	for version, refused := range map[string]bool{"3.51.2": true, "3.50.9": true, "2.99.99": true, "": true, "3.51.3": false, "3.52.0": false, "4.0.0": false} {
		if err := verifyVersion(version); (err != nil) != refused {
			t.Errorf("SQLite %q: %v", version, err)
		}
	}
}

// TestStartOnAFileSystemWithoutWALIsRefused: without shared memory SQLite stays in another journal mode, and says nothing.
func TestStartOnAFileSystemWithoutWALIsRefused(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), testOptions(t, func(o *Options) { o.VFS = "unix-dotfile" }))
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, inbox.ErrBroken) || !strings.Contains(err.Error(), "journal_mode") {
		t.Errorf("open: %v", err)
	}
}
