package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/inbox"
)

func stamp() string { return "20260302T090000Z" }

func TestABackupIsWholeWhileAppendsGoOn(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	register(t, s, "audit")
	before := fill(t, s, variety()[:500])
	ctx, stop := context.WithCancel(t.Context())
	var appending sync.WaitGroup
	for worker := range 4 {
		appending.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				mustAppend(t, s, testArrival(fmt.Sprintf("%d.%d", worker, n), "audit"))
			}
		})
	}
	operator, err := OpenReader(t.Context(), s.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	path := filepath.Join(t.TempDir(), "backup.db")
	v, err := operator.Backup(t.Context(), path)
	stop()
	appending.Wait()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != v.Bytes {
		t.Errorf("the backup has mode %v and %d bytes, %v; %d were verified", info.Mode(), info.Size(), err, v.Bytes)
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
		t.Errorf("beside the backup there are %v", list)
	}
	if v.Entries < int64(len(before)) || len(v.Corrupt) != 0 {
		t.Errorf("verified were %+v, and %d entries were there before", v, len(before))
	}
	if again, err := Verify(t.Context(), path); err != nil || again.Entries != v.Entries {
		t.Errorf("verified again: %+v, %v", again, err)
	}
}

func TestABackupOverwritesNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t, dated)
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), path); err == nil || !strings.Contains(err.Error(), "overwrites nothing") {
		t.Errorf("got %v", err)
	}
	// A file that comes into being while the backup is made.
	other := path + ".other"
	if err := os.WriteFile(other, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := nameNew(other, path); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file now has %q, %v", data, err)
	}
	if _, err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "none", "backup.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into a folder that is not there: %v", err)
	}
}

// backedUp is a store with a few entries, and a backup of it.
func backedUp(t testing.TB) (*Store, string) {
	t.Helper()
	s := newStore(t, dated)
	register(t, s, "audit")
	for n := range 5 {
		a := testArrival(fmt.Sprint(n), "audit")
		a.Entry.Body = fmt.Appendf(nil, "<body number=%q>%s</body>", fmt.Sprint(n), strings.Repeat("text ", 2000))
		mustAppend(t, s, a)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	if _, err := s.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return s, path
}

// edit changes a file, which must have the text in it.
func edit(t testing.TB, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(from)) {
		t.Fatalf("%q is not in %s", from, path)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(from), []byte(to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamageToABackupIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	_, good := backedUp(t)
	dir := t.TempDir()
	for name, c := range map[string]struct {
		damage func(path string)
		want   string
	}{
		"a bit of a body":   {func(path string) { edit(t, path, `<body number="2">`, `<body number="3">`) }, "entry 3"},
		"a bit of a column": {func(path string) { edit(t, path, "request-4", "request-5") }, "entry 5"},
		"a missing end": {func(path string) {
			if err := os.Truncate(path, 20_000); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		"another file": {func(path string) {
			if err := os.WriteFile(path, []byte("this is no database, only a text of some length"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not an inbox of callbackd"},
		"an empty file": {func(path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}, "not an inbox of callbackd"},
		"a log beside it": {func(path string) {
			if err := os.WriteFile(path+"-wal", []byte("frames"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "callbackd inbox backup"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := copyFile(good, path); err != nil {
				t.Fatal(err)
			}
			c.damage(path)
			if _, err := Verify(t.Context(), path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Verify says %v, want %q", err, c.want)
			}
			target := t.TempDir()
			if _, _, err := Restore(t.Context(), path, target, stamp); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Restore says %v, want %q", err, c.want)
			}
			if list, _ := os.ReadDir(target); len(list) != 0 {
				t.Errorf("a refused restore left %v", list)
			}
		})
	}
}

// One corrupt entry must not cost the operator all backups, nor the restore of one; what became corrupt later is told apart.
func TestWhatIsCorruptAlreadyDoesNotPreventABackup(t *testing.T) {
	t.Parallel()
	s, _ := backedUp(t)
	execute(t, s, `UPDATE body SET data = x'00' WHERE seq = 2`)
	execute(t, s, `DELETE FROM body WHERE seq = 4`)
	path := filepath.Join(t.TempDir(), "backup.db")
	v, err := s.Backup(t.Context(), path)
	if err != nil || v.Entries != 5 || !slices.Equal(v.Corrupt, []int64{2, 4}) {
		t.Fatalf("backed up %+v, %v", v, err)
	}
	if v, _, err := Restore(t.Context(), path, t.TempDir(), stamp); err != nil || !slices.Equal(v.Corrupt, []int64{2, 4}) {
		t.Errorf("restored %+v, %v", v, err)
	}
	edit(t, path, `<body number="0">`, `<body number="9">`)
	var c *inbox.CorruptError
	if _, err := Verify(t.Context(), path); !errors.As(err, &c) || c.Seq != 1 || strings.Contains(err.Error(), "entry 2") {
		t.Errorf("after the backup was damaged: %v", err)
	}
}

func TestARestoredInboxHoldsItsDeliveries(t *testing.T) {
	t.Parallel()
	s, path := backedUp(t)
	o := s.o
	lost := mustAppend(t, s, testArrival("after the backup", "audit"))
	if _, err := s.Replay(t.Context(), replayOf([]int64{1}, to("audit"), false)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v, kept, err := Restore(t.Context(), path, o.Dir, stamp)
	if err != nil || v.Entries != 5 || kept != filepath.Join(o.Dir, File+".before-restore."+stamp()) {
		t.Fatalf("restored %+v, kept %s, %v", v, kept, err)
	}
	if r, err := OpenReader(t.Context(), o.Dir); err != nil {
		t.Errorf("before the next start: %v", err)
	} else {
		_ = r.Close()
	}
	s = reopen(t, openStore(t, o)) // held over any number of starts
	register(t, s, "audit")
	if got := claimed(t, s, "audit"); len(got) != 0 {
		t.Fatalf("%d deliveries were made of a restored inbox", len(got))
	}
	if stats, err := s.Stats(t.Context()); err != nil || !stats.Held {
		t.Errorf("stats say %+v, %v", stats, err)
	}
	if r := mustAppend(t, s, testArrival("3", "audit")); !r.Duplicate {
		t.Error("the restore lost the keys")
	}
	if r := mustAppend(t, s, testArrival("after the backup", "audit")); r.Duplicate || r.ID == lost.ID {
		t.Errorf("the platform's copy of what the backup has not makes %+v", r)
	}
	dry, done := bothWays(t, s, func(dryRun bool) (bool, error) { return s.ReleaseDeliveries(t.Context(), dryRun) })
	if !dry || !done {
		t.Errorf("released %v, and %v in a dry run", done, dry)
	}
	select {
	case <-s.Wake("audit"):
	default:
		t.Error("the release woke nobody")
	}
	if got := claimed(t, s, "audit"); len(got) != 6 {
		t.Errorf("%d deliveries after the release, want 6", len(got))
	}
	if held, err := s.ReleaseDeliveries(t.Context(), false); err != nil || held {
		t.Errorf("released again: %v, %v", held, err)
	}
	// Delivery IDs are never given again, though the backup does not know of the replay that came after it.
	if r, err := s.Replay(t.Context(), replayOf([]int64{1}, to("audit"), false)); err != nil || r.Replay <= 1 {
		t.Errorf("the next replay is %+v, %v", r, err)
	}
	// The way back.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if v, _, err := Restore(t.Context(), kept, o.Dir, func() string { return "again" }); err != nil || v.Entries != 6 {
		t.Errorf("the inbox of before is restored as %+v, %v", v, err)
	}
}

func TestARestoreWaitsForNobodyButRefuses(t *testing.T) {
	t.Parallel()
	s, path := backedUp(t)
	o := s.o
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	operator, err := OpenReader(t.Context(), o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	before, err := os.ReadFile(filepath.Join(o.Dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if _, kept, err := Restore(t.Context(), path, o.Dir, stamp); err == nil || kept != "" || !strings.Contains(err.Error(), "another program has the inbox open") {
		t.Errorf("beside an open reader: kept %q, %v", kept, err)
	}
	if after, err := os.ReadFile(filepath.Join(o.Dir, File)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the refused restore changed the inbox, %v", err)
	}
	if err := operator.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Restore(t.Context(), path, o.Dir, stamp); err != nil {
		t.Errorf("after it ended: %v", err)
	}
}

// What a crash left in the write-ahead log is in the inbox that is kept, and not in the one that is restored.
func TestARestoreAfterACrashKeepsTheLogsContent(t *testing.T) {
	t.Parallel()
	s, path := backedUp(t)
	o := s.o
	crashed := t.TempDir()
	mustAppend(t, s, testArrival("after the backup"))
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(databaseFile(s)+suffix, filepath.Join(crashed, File)+suffix); err != nil {
			t.Fatal(err)
		}
	}
	_, kept, err := Restore(t.Context(), path, crashed, stamp)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(t.Context(), kept); err != nil || v.Entries != 6 {
		t.Errorf("kept are %+v, %v; want 6 entries", v, err)
	}
	o.Dir = crashed
	if got, _ := allSeqs(t, openStore(t, o).Reader, inbox.Query{}); len(got) != 5 {
		t.Errorf("restored are %v, want 5", got)
	}
}

func TestARestoreReplacesAnInboxThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	_, path := backedUp(t)
	dir := t.TempDir()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.WriteFile(filepath.Join(dir, File)+suffix, bytes.Repeat([]byte("garbage"), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, kept, err := Restore(t.Context(), path, dir, stamp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept + "-wal"); err != nil {
		t.Errorf("the log of the damaged inbox was not kept: %v", err)
	}
	s := newStore(t, dated, func(o *Options) { o.Dir = dir })
	if got, _ := allSeqs(t, s.Reader, inbox.Query{Body: true}); len(got) != 5 {
		t.Errorf("restored are %v", got)
	}
}
