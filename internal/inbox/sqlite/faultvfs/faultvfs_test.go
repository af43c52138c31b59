package faultvfs_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"callbackd/internal/inbox/sqlite/faultvfs"
)

// rig is a database on a fault VFS, with one table t(v) and one connection, so that statements come in order.
type rig struct {
	*faultvfs.FS
	t    *testing.T
	db   *sql.DB
	path string
}

// newRig opens the database with the pragmas, given as name(value). The table is there and durable.
func newRig(t *testing.T, pragmas ...string) *rig {
	t.Helper()
	fs, err := faultvfs.New()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{FS: fs, t: t, path: filepath.Join(t.TempDir(), "x.db")}
	r.db = open(t, r.path, append(pragmas, "vfs="+fs.Name())...)
	t.Cleanup(func() {
		r.db.Close()
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	})
	r.exec("CREATE TABLE t(v)")
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return r
}

// open opens a database with one connection; an argument with "=" is a parameter, any other a pragma.
func open(t *testing.T, path string, args ...string) *sql.DB {
	t.Helper()
	for i, a := range args {
		if !strings.Contains(a, "=") {
			args[i] = "_pragma=" + a
		}
	}
	db, err := sql.Open("sqlite", "file:"+path+"?"+strings.Join(args, "&"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

func (r *rig) exec(query string, args ...any) {
	r.t.Helper()
	if _, err := r.db.Exec(query, args...); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

// insert is a transaction of one row, its text a page long, so that commits differ in size from frames of one page.
func (r *rig) insert(v int) error {
	_, err := r.db.Exec("INSERT INTO t VALUES(?)", row(v))
	return err
}

func row(v int) string { return fmt.Sprintf("%04d%s", v, strings.Repeat(".", 5000)) }

// cut returns the rows found after a power cut now, and fails the test if the database is not whole.
func (r *rig) cut() []int {
	r.t.Helper()
	dir := r.t.TempDir()
	if err := r.PowerCut(dir); err != nil {
		r.t.Fatal(err)
	}
	return rows(r.t, filepath.Join(dir, "x.db"))
}

// rows reads a database by the default VFS.
func rows(t *testing.T, path string) []int {
	t.Helper()
	db := open(t, path)
	defer db.Close()
	return query(t, db)
}

func query(t *testing.T, db *sql.DB) []int {
	t.Helper()
	var ok string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		t.Fatalf("integrity check: %q, %v", ok, err)
	}
	found, err := db.Query("SELECT v FROM t ORDER BY v")
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var all []int
	for found.Next() {
		var s string
		var v int
		if err := found.Scan(&s); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(s, "%04d", &v); err != nil || s != row(v) {
			t.Fatalf("row %.8q is damaged: %v", s, err)
		}
		all = append(all, v)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// code is the SQLite result code of an error, zero for none.
func code(t *testing.T, err error) int {
	t.Helper()
	var e *sqlite.Error
	switch {
	case err == nil:
		return sqlite3.SQLITE_OK
	case !errors.As(err, &e):
		t.Errorf("not an error of SQLite: %v", err)
		return -1
	}
	return e.Code()
}

func same(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: rows %v, want %v", what, got, want)
	}
}

func TestFault(t *testing.T) {
	t.Parallel()
	wal := []string{"journal_mode(WAL)", "synchronous(FULL)"}
	rollback := []string{"journal_mode(DELETE)", "synchronous(EXTRA)"} // FULL leaves the journal to come back
	for _, tc := range []struct {
		name    string
		pragmas []string
		fault   faultvfs.Fault
		want    int
	}{
		{"zero value", wal, faultvfs.Fault{}, sqlite3.SQLITE_IOERR_WRITE},
		{"disk full", wal, faultvfs.Fault{Code: sqlite3.SQLITE_FULL}, sqlite3.SQLITE_FULL},
		{"third write", wal, faultvfs.Fault{After: 2, Code: sqlite3.SQLITE_FULL}, sqlite3.SQLITE_FULL},
		{"write of the log", wal, faultvfs.Fault{Role: faultvfs.WAL}, sqlite3.SQLITE_IOERR_WRITE},
		{"write of the database", rollback, faultvfs.Fault{Role: faultvfs.Main}, sqlite3.SQLITE_IOERR_WRITE},
		{"write of the journal", rollback, faultvfs.Fault{Role: faultvfs.Other}, sqlite3.SQLITE_IOERR_WRITE},
		{"torn write", wal, faultvfs.Fault{After: 3, Torn: 1000}, sqlite3.SQLITE_IOERR_WRITE},
		{"sync", wal, faultvfs.Fault{Op: faultvfs.Sync}, sqlite3.SQLITE_IOERR_FSYNC},
		{"second sync", wal, faultvfs.Fault{Op: faultvfs.Sync, After: 1}, sqlite3.SQLITE_IOERR_FSYNC},
		{"sync of the journal", rollback, faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.Other}, sqlite3.SQLITE_IOERR_FSYNC},
		{"sync, other code", wal, faultvfs.Fault{Op: faultvfs.Sync, Code: sqlite3.SQLITE_IOERR}, sqlite3.SQLITE_IOERR},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tc.pragmas...)
			trap := r.Fail(tc.fault)
			if got := code(t, r.insert(1)); got != tc.want {
				t.Errorf("code %d, want %d", got, tc.want)
			}
			same(t, "after the failure", query(t, r.db))
			if err := r.insert(2); err != nil {
				t.Errorf("the fault must be spent: %v", err)
			}
			if trap.Hits() != 1 {
				t.Errorf("%d hits, want 1", trap.Hits())
			}
			same(t, "at the end", query(t, r.db), 2)
			same(t, "after a power cut", r.cut(), 2)
		})
	}
}

func TestFaultOfOtherRoleAndOpPasses(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	traps := []*faultvfs.Trap{
		r.Fail(faultvfs.Fault{Role: faultvfs.Main, Sticky: true}),
		r.Fail(faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.Main, Sticky: true}),
		r.Fail(faultvfs.Fault{Op: faultvfs.Truncate, Sticky: true}),
		r.Fail(faultvfs.Fault{Role: faultvfs.WAL, After: 1000}),
	}
	if err := r.insert(1); err != nil {
		t.Fatal(err)
	}
	for i, trap := range traps {
		if trap.Hits() != 0 {
			t.Errorf("fault %d has %d hits", i, trap.Hits())
		}
		trap.Clear()
	}
}

func TestTruncateFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(TRUNCATE)")
	r.Fail(faultvfs.Fault{Op: faultvfs.Truncate})
	if got := code(t, r.insert(1)); got != sqlite3.SQLITE_IOERR_TRUNCATE {
		t.Errorf("code %d, want %d", got, sqlite3.SQLITE_IOERR_TRUNCATE)
	}
}

func TestStickyFaultFailsUntilCleared(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	trap := r.Fail(faultvfs.Fault{Role: faultvfs.WAL, Code: sqlite3.SQLITE_FULL, Sticky: true})
	for v := range 5 {
		if got := code(t, r.insert(v)); got != sqlite3.SQLITE_FULL {
			t.Errorf("insert %d: code %d, want %d", v, got, sqlite3.SQLITE_FULL)
		}
	}
	if trap.Hits() < 5 {
		t.Errorf("%d hits, want 5 or more", trap.Hits())
	}
	trap.Clear()
	trap.Clear()
	if err := r.insert(9); err != nil {
		t.Fatal(err)
	}
	same(t, "at the end", query(t, r.db), 9)
}

func TestFaultsSetTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	r.Fail(faultvfs.Fault{Op: faultvfs.Sync, Code: sqlite3.SQLITE_FULL})
	r.Fail(faultvfs.Fault{Op: faultvfs.Sync, Code: sqlite3.SQLITE_IOERR})
	r.Fail(faultvfs.Fault{Op: faultvfs.Sync, After: 1})
	var got []int
	for v := range 3 {
		got = append(got, code(t, r.insert(v)))
	}
	same(t, "codes", got, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_OK)
}

func TestTornWriteReachesTheFile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ torn, want int64 }{{-1, 0}, {0, 0}, {10, 10}, {32, 32}, {99, 32}} {
		t.Run(fmt.Sprint(tc.torn), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
			// The log is empty, and its header of 32 bytes comes first.
			r.Fail(faultvfs.Fault{Role: faultvfs.WAL, Torn: int(tc.torn)})
			if got := code(t, r.insert(1)); got != sqlite3.SQLITE_IOERR_WRITE {
				t.Errorf("code %d, want %d", got, sqlite3.SQLITE_IOERR_WRITE)
			}
			info, err := os.Stat(r.path + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() != tc.want {
				t.Errorf("%d bytes in the file, want %d", info.Size(), tc.want)
			}
		})
	}
}

func TestPowerCutAfterEveryCommit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		journal, synchronous string
		loses                bool
	}{
		{"WAL", "EXTRA", false},
		{"WAL", "FULL", false},
		{"WAL", "NORMAL", true},
		{"WAL", "OFF", true},
		{"DELETE", "EXTRA", false},
		{"DELETE", "FULL", true}, // the deletion of the journal, which is the commit, is not synced
		{"TRUNCATE", "FULL", false},
		{"PERSIST", "FULL", false},
	} {
		t.Run(tc.journal+" "+tc.synchronous, func(t *testing.T) {
			t.Parallel()
			// Mapping and chunks would let writes go around the VFS.
			r := newRig(t, "journal_mode("+tc.journal+")", "synchronous(FULL)", "mmap_size(1000000)", "wal_autocheckpoint(20)")
			r.exec("PRAGMA synchronous = " + tc.synchronous)
			var committed []int
			var lost int
			for v := range 60 {
				if err := r.insert(v); err != nil {
					t.Fatal(err)
				}
				committed = append(committed, v)
				if tc.synchronous == "OFF" && v > 0 {
					continue // promises nothing, not even a whole file
				}
				found := r.cut()
				if !slices.Equal(found, committed[:len(found)]) {
					t.Fatalf("rows %v are not the first of %d", found, len(committed))
				}
				lost = max(lost, len(committed)-len(found))
			}
			if lost > 0 != tc.loses {
				t.Errorf("up to %d commits lost, want a loss: %t", lost, tc.loses)
			}
			same(t, "on the disk itself", query(t, r.db), committed...)
		})
	}
}

// TestCutAtEveryStep cuts the power before the n-th write, sync or truncation of a run, or at its failure, for every n.
func TestCutAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		op     faultvfs.Op
		set    func(r *rig, op faultvfs.Op, after int) *faultvfs.Trap
		enough int
	}{
		{"before a write", faultvfs.Write, stall, 50},
		{"before a sync", faultvfs.Sync, stall, 15},
		{"before a truncation", faultvfs.Truncate, stall, 1},
		{"after a failed write", faultvfs.Write, fail, 50},
		{"after a torn write", faultvfs.Write, tear, 50},
		{"after a failed sync", faultvfs.Sync, fail, 15},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(5)")
				trap := tc.set(r, tc.op, n)
				if !r.cutAt(trap) {
					if n < tc.enough {
						t.Errorf("only %d steps, want %d", n, tc.enough)
					}
					return
				}
			}
		})
	}
}

func stall(r *rig, op faultvfs.Op, after int) *faultvfs.Trap {
	return r.Stall(op, faultvfs.Any, after)
}

func fail(r *rig, op faultvfs.Op, after int) *faultvfs.Trap {
	return r.Fail(faultvfs.Fault{Op: op, After: after, Sticky: true})
}

func tear(r *rig, op faultvfs.Op, after int) *faultvfs.Trap {
	return r.Fail(faultvfs.Fault{Op: op, After: after, Torn: 700, Sticky: true})
}

// cutAt runs a fixed load, cuts the power when the trap is reached and reports whether it was.
func (r *rig) cutAt(trap *faultvfs.Trap) bool {
	r.t.Helper()
	const load = 10
	var acked atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for v := range load {
			if r.insert(v) != nil {
				return
			}
			acked.Add(1)
		}
		r.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}()
	defer func() {
		trap.Clear()
		<-done
	}()
	select {
	case <-trap.Reached():
	case <-done:
	}
	least := int(acked.Load())
	found := r.cut()
	// A commit that has not returned may be there all the same, but never without those before it.
	if len(found) < least || len(found) > load || !slices.IsSorted(found) || len(found) > 0 && found[len(found)-1] != len(found)-1 {
		r.t.Errorf("rows %v after %d commits", found, least)
	}
	return trap.Hits() > 0
}

// TestPowerCutWhileWriting cuts at any moment of a run with several connections.
func TestPowerCutWhileWriting(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(10)", "busy_timeout(10000)")
	r.db.SetMaxOpenConns(4)
	var next, stop atomic.Int64
	var mu sync.Mutex
	var acked []int
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for stop.Load() == 0 {
				v := int(next.Add(1))
				if err := r.insert(v); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked = append(acked, v)
				mu.Unlock()
			}
		})
	}
	defer writers.Wait()
	defer stop.Store(1)
	for range 30 {
		mu.Lock()
		before := slices.Clone(acked)
		mu.Unlock()
		found := r.cut()
		for _, v := range before {
			if _, ok := slices.BinarySearch(found, v); !ok {
				t.Errorf("row %d was committed and is lost", v)
			}
		}
	}
}

// TestFailedSyncLosesItsWrites: a checkpoint that is tried again after a failed sync succeeds, but on pages that the disk
// never got.
func TestFailedSyncLosesItsWrites(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "journal_mode(WAL)", "synchronous(NORMAL)")
			if err := r.insert(1); err != nil {
				t.Fatal(err)
			}
			if fails {
				r.Fail(faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.WAL})
				if _, err := r.db.Exec("PRAGMA wal_checkpoint"); code(t, err) != sqlite3.SQLITE_IOERR_FSYNC {
					t.Fatalf("checkpoint: %v", err)
				}
			}
			// The sync of the log succeeds this time; the database is not synced.
			r.Fail(faultvfs.Fault{Op: faultvfs.Sync, Role: faultvfs.Main})
			if _, err := r.db.Exec("PRAGMA wal_checkpoint"); code(t, err) != sqlite3.SQLITE_IOERR_FSYNC {
				t.Fatalf("checkpoint: %v", err)
			}
			want := []int{1}
			if fails {
				want = nil
			}
			same(t, "after a power cut", r.cut(), want...)
		})
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	if err := r.insert(0); err != nil { // also writes and syncs the header of the log
		t.Fatal(err)
	}
	for i, tc := range []struct {
		after int
		fault bool
		want  []int // codes of two inserts
	}{
		{0, false, []int{sqlite3.SQLITE_OK, sqlite3.SQLITE_OK}},
		{1, false, []int{sqlite3.SQLITE_OK, sqlite3.SQLITE_OK}},
		{1, true, []int{sqlite3.SQLITE_OK, sqlite3.SQLITE_IOERR_FSYNC}},
	} {
		before := query(t, r.db)
		first, second := 2*i+1, 2*i+2
		trap := r.Stall(faultvfs.Sync, faultvfs.WAL, tc.after)
		t.Cleanup(trap.Clear) // else closing the database of a failed test would hang
		codes := make(chan int, 2)
		go func() {
			codes <- code(t, r.insert(first))
			codes <- code(t, r.insert(second))
		}()
		<-trap.Reached()
		want := before
		if tc.after > 0 {
			want = append(want, first)
		}
		if len(codes) > tc.after {
			t.Error("a commit returned while its sync was held")
		}
		same(t, "power cut in the stall", r.cut(), want...)
		if tc.fault {
			r.Fail(faultvfs.Fault{Op: faultvfs.Sync})
		}
		trap.Clear()
		same(t, "codes", []int{<-codes, <-codes}, tc.want...)
	}
	same(t, "at the end", r.cut(), 0, 1, 2, 3, 4, 5)
}

func TestCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	if err := r.insert(1); err != nil {
		t.Fatal(err)
	}
	total, main, wal := r.Counts(faultvfs.Any), r.Counts(faultvfs.Main), r.Counts(faultvfs.WAL)
	if err := r.insert(2); err != nil {
		t.Fatal(err)
	}
	if r.Counts(faultvfs.Main) != main {
		t.Error("a commit in WAL mode must leave the database alone")
	}
	// A commit here is some frames, each a header and a page, and one sync.
	got := r.Counts(faultvfs.WAL)
	if w := got.Writes - wal.Writes; w < 4 || w%2 != 0 || got.Syncs-wal.Syncs != 1 {
		t.Errorf("log: %+v after %+v", got, wal)
	}
	if w := r.Counts(faultvfs.Any).Writes - total.Writes; w != got.Writes-wal.Writes {
		t.Errorf("%d writes in all", w)
	}
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	if c := r.Counts(faultvfs.Main); c.Writes <= main.Writes || c.Syncs != main.Syncs+1 {
		t.Errorf("database: %+v after %+v", c, main)
	}
	if c := r.Counts(faultvfs.WAL); c.Truncates != wal.Truncates+1 {
		t.Errorf("log: %+v after %+v", c, wal)
	}
	r.exec("PRAGMA journal_mode = DELETE")
	if err := r.insert(3); err != nil {
		t.Fatal(err)
	}
	if c := r.Counts(faultvfs.Other); c.Writes == 0 || c.Syncs == 0 {
		t.Errorf("journal: %+v", c)
	}
}

func TestImageFollowsTruncationsAndDeletions(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	for v := range 50 {
		if err := r.insert(v); err != nil {
			t.Fatal(err)
		}
	}
	r.exec("DELETE FROM t WHERE v NOT LIKE '0007%'")
	r.exec("VACUUM")
	same(t, "vacuumed in the log", r.cut(), 7)
	r.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	same(t, "checkpointed", r.cut(), 7)
	r.db.Close() // deletes the log
	if _, err := os.Stat(r.path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
	same(t, "closed", r.cut(), 7)

	r.db = open(t, r.path, "vfs="+r.Name(), "synchronous(FULL)")
	if err := r.insert(8); err != nil {
		t.Fatal(err)
	}
	same(t, "opened again", r.cut(), 7, 8)
	dir := t.TempDir()
	if err := r.PowerCut(dir); err != nil {
		t.Fatal(err)
	}
	same(t, "files", names(t, dir, "x.db", "x.db-wal"))
}

// names returns the indexes of wanted names that are missing, and -1 for each name too many.
func names(t *testing.T, dir string, want ...string) (odd []int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(want, e.Name()) {
			t.Log("not wanted:", e.Name())
			odd = append(odd, -1)
		}
	}
	for i, w := range want {
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == w }) {
			odd = append(odd, i)
		}
	}
	return odd
}

func TestFileNeverSyncedIsAbsent(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	// The driver sorts pragmas of the name, and the change of the journal mode would be synced.
	lazy := open(t, filepath.Join(t.TempDir(), "lazy.db"), "vfs="+r.Name())
	defer lazy.Close()
	for _, q := range []string{"PRAGMA synchronous = OFF", "PRAGMA journal_mode = WAL", "CREATE TABLE t(v)"} {
		if _, err := lazy.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := r.PowerCut(dir); err != nil {
		t.Fatal(err)
	}
	same(t, "files", names(t, dir, "x.db", "x.db-wal"))
}

func TestFileFromBeforeIsDurable(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	path := filepath.Join(t.TempDir(), "x.db")
	old := open(t, path, "journal_mode(WAL)", "synchronous(OFF)")
	old.Exec("CREATE TABLE t(v)")
	for v := range 40 { // more than one read of the opening
		if _, err := old.Exec("INSERT INTO t VALUES(?)", row(v)); err != nil {
			t.Fatal(err)
		}
	}
	old.Close()
	r.db.Close()
	r2 := &rig{t: t, path: path}
	var err error
	if r2.FS, err = faultvfs.New(); err != nil {
		t.Fatal(err)
	}
	r2.db = open(t, path, "vfs="+r2.Name(), "synchronous(OFF)")
	defer r2.db.Close()
	if err := r2.insert(40); err != nil {
		t.Fatal(err)
	}
	if got := len(r2.cut()); got != 40 {
		t.Errorf("%d rows, want 40", got)
	}
}

func TestPowerCutRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	dir := t.TempDir()
	if err := r.PowerCut(filepath.Join(dir, "new", "folder")); err != nil {
		t.Errorf("into a new folder: %v", err)
	}
	if err := r.PowerCut(dir); !errors.Is(err, faultvfs.ErrNotEmpty) {
		t.Errorf("into a folder with entries: %v", err)
	}
	twin := open(t, filepath.Join(t.TempDir(), "x.db"), "vfs="+r.Name(), "journal_mode(WAL)", "synchronous(FULL)")
	defer twin.Close()
	if _, err := twin.Exec("CREATE TABLE t(v)"); err != nil {
		t.Fatal(err)
	}
	if err := r.PowerCut(t.TempDir()); !errors.Is(err, faultvfs.ErrSameName) {
		t.Errorf("two files of one name: %v", err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, "journal_mode(WAL)", "synchronous(FULL)")
	other, err := faultvfs.New()
	if err != nil {
		t.Fatal(err)
	}
	if other.Name() == r.Name() {
		t.Errorf("two FS of the name %s", r.Name())
	}
	if err := other.Close(); err != nil {
		t.Errorf("unused: %v", err)
	}
	if err := r.insert(1); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); !errors.Is(err, faultvfs.ErrInUse) {
		t.Errorf("with a database open: %v", err)
	}
	if err := r.insert(2); err != nil {
		t.Errorf("after a refused Close: %v", err)
	}
	r.db.Close()
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	same(t, "power cut after Close", r.cut(), 1, 2)
	late := open(t, r.path, "vfs="+r.Name())
	defer late.Close()
	if late.Ping() == nil {
		t.Error("a closed FS still opens databases")
	}
}
