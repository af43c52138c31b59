package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"callbackd/internal/inbox"

	"go.uber.org/zap/zaptest/observer"
)

// upgraded are the migrations of a later callbackd: those of this one and then these.
func upgraded(t testing.TB, later ...string) func(*Options) {
	t.Helper()
	all := migrationsUpTo(t, ownVersion(t))
	for i, text := range later {
		all[fmt.Sprintf("m/%05d_later.sql", ownVersion(t)+i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	}
	return func(o *Options) { o.migrations = migrations{all, "m"} }
}

// migrationsUpTo are those of this callbackd up to a version.
func migrationsUpTo(t testing.TB, version int) fstest.MapFS {
	t.Helper()
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	all := fstest.MapFS{}
	for _, name := range names[:version] {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		all["m/"+filepath.Base(name)] = &fstest.MapFile{Data: text}
	}
	return all
}

// ownVersion is the newest that this callbackd knows.
func ownVersion(t testing.TB) int {
	t.Helper()
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

const addsColumn = `ALTER TABLE entry ADD COLUMN region TEXT NOT NULL DEFAULT 'none';`

// populated is the options of a store that was closed with an entry in it.
func populated(t testing.TB, changes ...func(*Options)) Options {
	t.Helper()
	s := newStore(t, append(changes, dated)...)
	mustAppend(t, s, testArrival("1", "audit"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.o
}

func backupsIn(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, File+".*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAMigrationRunsAtStartAfterAVerifiedBackup(t *testing.T) {
	t.Parallel()
	o := populated(t)
	if got := backupsIn(t, o.Dir); len(got) != 0 {
		t.Fatalf("a new inbox was backed up: %v", got)
	}
	if err := openStore(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	if got := backupsIn(t, o.Dir); len(got) != 0 {
		t.Fatalf("with no migration pending there are %v", got)
	}
	var logs *observer.ObservedLogs
	upgraded(t, addsColumn)(&o)
	observed(&logs)(&o)
	s := openStore(t, o)
	var region string
	if err := s.Reader.db.QueryRow(`SELECT region FROM entry WHERE seq = 1`).Scan(&region); err != nil || region != "none" {
		t.Errorf("the migration gives %q, %v", region, err)
	}
	if r := mustAppend(t, s, testArrival("1", "audit")); !r.Duplicate {
		t.Error("the migration lost the keys")
	}
	backups := backupsIn(t, o.Dir)
	if len(backups) != 1 || !strings.Contains(backups[0], fmt.Sprintf(".version-%d.", ownVersion(t))) || logs.FilterMessageSnippet("verified backup").Len() != 1 {
		t.Fatalf("backups %v, told %v", backups, logs.All())
	}
	if v, err := Verify(t.Context(), backups[0]); err != nil || v.Entries != 1 {
		t.Errorf("the backup has %+v, %v", v, err)
	}
}

func TestAnOlderProgramRefusesANewerStore(t *testing.T) {
	t.Parallel()
	o := populated(t, upgraded(t, addsColumn, `CREATE TABLE further (a);`))
	upgraded(t)(&o)
	_, err := Open(t.Context(), o)
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("version %d and this one knows none after %d", ownVersion(t)+2, ownVersion(t))) {
		t.Errorf("serve says %v", err)
	}
	if _, err := OpenReader(t.Context(), o.Dir); !errors.Is(err, ErrNewer) {
		t.Errorf("a reader says %v", err)
	}
	backup := filepath.Join(t.TempDir(), "newer")
	data, err := os.ReadFile(filepath.Join(o.Dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(backup, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Restore(t.Context(), backup, t.TempDir(), stamp); !errors.Is(err, ErrNewer) {
		t.Errorf("a restore says %v", err)
	}
}

func TestAReaderAsksForTheMigrationThatIsPending(t *testing.T) {
	t.Parallel()
	o := populated(t)
	upgraded(t, addsColumn)(&o)
	err := checkVersion(t.Context(), filepath.Join(o.Dir, File), "", o.migrations)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d and this callbackd needs %d: start `callbackd serve` once", ownVersion(t), ownVersion(t)+1)) {
		t.Errorf("got %v", err)
	}
}

func TestAFailedMigrationLeavesTheInboxAsItWas(t *testing.T) {
	t.Parallel()
	for name, later := range map[string][]string{
		"the only one":        {addsColumn + ` INSERT INTO none VALUES (1);`},
		"the second of three": {addsColumn, `INSERT INTO none VALUES (1);`, `CREATE TABLE further (a);`},
	} {
		t.Run(name, func(t *testing.T) {
			o := populated(t)
			c := newClock()
			newer := o
			newer.Now = c.Now
			upgraded(t, later...)(&newer)
			for range 3 { // as a supervisor does that starts it again and again
				c.Advance(time.Second)
				_, err := Open(t.Context(), newer)
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("at version %d", ownVersion(t))) || !strings.Contains(err.Error(), "run the callbackd that you ran before") {
					t.Fatalf("got %v", err)
				}
				if backups := backupsIn(t, o.Dir); len(backups) != 1 || !strings.Contains(err.Error(), backups[0]) {
					t.Fatalf("backups are %v, and the error says %v", backups, err)
				}
			}
			s := openStore(t, o)
			if e, err := s.Entry(t.Context(), 1); err != nil || e.State != inbox.Pending {
				t.Errorf("the older program reads %+v, %v", e, err)
			}
			var columns int
			if err := s.Reader.db.QueryRow(`SELECT count(*) FROM pragma_table_info('entry') WHERE name = 'region'`).Scan(&columns); err != nil || columns != 0 {
				t.Errorf("a part of the migration is left: %d, %v", columns, err)
			}
		})
	}
}

// Without the backup nothing is changed.
func TestNoMigrationWithoutItsBackup(t *testing.T) {
	t.Parallel()
	o := populated(t)
	c := newClock()
	upgraded(t, addsColumn)(&o)
	o.Now = c.Now
	taken := filepath.Join(o.Dir, File+fmt.Sprintf(".version-%d.", ownVersion(t))+c.Now().Format("20060102T150405.000000Z"))
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "backup before migration, nothing was changed") {
		t.Fatalf("got %v", err)
	}
	if list, err := os.ReadDir(o.Dir); err != nil || slices.ContainsFunc(list, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "partial") }) {
		t.Errorf("left are %v, %v", list, err)
	}
	upgraded(t)(&o)
	openStore(t, o)
}
