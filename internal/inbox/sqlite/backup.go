package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"callbackd/internal/disk"
	"callbackd/internal/inbox"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Backup writes a verified copy of the inbox to path, which must not exist, while the inbox is in use.
func (r *Reader) Backup(ctx context.Context, path string) (Verified, error) {
	var file string
	if err := r.db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
		return Verified{}, r.report(fmt.Errorf("find the database: %w", err))
	}
	return backupDB(ctx, file, "", path, embedded)
}

// backupDB copies a database of any version that m knows. The copy gets its name when it is verified and on the disk. Entries that are
// corrupt in the database are so in the copy, and noted in it, for the rest is worth a backup all the more.
func backupDB(ctx context.Context, from, vfs, to string, m migrations) (v Verified, err error) {
	if _, err := os.Lstat(to); err == nil {
		return v, fmt.Errorf("backup: %s exists, and a backup overwrites nothing: name another file", to)
	}
	db, err := openDB(from, vfs)
	if err != nil {
		return v, err
	}
	defer db.Close()
	// The copy holds what the inbox holds: it is for its owner alone, as CreateTemp makes it.
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".partial-")
	if err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	partial := f.Name()
	defer func() { err = errors.Join(err, f.Close(), removeFile(partial)) }()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, partial); err != nil {
		return v, fmt.Errorf("backup: %w", classify(err))
	}
	if v, err = verifyCopy(ctx, db, partial, m); err != nil {
		return v, fmt.Errorf("backup: the copy is not good: %w", err)
	}
	if err := f.Sync(); err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	if err := nameNew(partial, to); err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	return v, nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// nameNew gives a file its name, unless there is a file of that name by now.
func nameNew(file, name string) error {
	err := os.Link(file, name)
	if err == nil || errors.Is(err, os.ErrExist) {
		return err
	}
	// Not every file system can link, but backups go to any.
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s: %w", name, os.ErrExist)
	}
	return os.Rename(file, name)
}

// verifyCopy verifies a copy of db, and notes in it the entries that are corrupt in both.
func verifyCopy(ctx context.Context, db *sql.DB, path string, m migrations) (Verified, error) {
	v, err := inspect(ctx, path, m)
	if err != nil {
		return v, err
	}
	for _, seq := range v.Corrupt {
		err := digestOf(db.QueryRowContext(ctx, `SELECT `+digestColumns+` WHERE e.seq = ?`, seq))
		if !errors.Is(err, inbox.ErrCorruptEntry) && !errors.Is(err, sql.ErrNoRows) {
			return v, errors.Join(&inbox.CorruptError{Seq: seq, Detail: "its bytes have changed in the copy"}, classify(err))
		}
	}
	note, err := json.Marshal(v.Corrupt)
	if err != nil {
		return v, err
	}
	return v, alter(ctx, path, `INSERT INTO meta (key, value) VALUES ('corrupt', '`+string(note)+`')
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`)
}

// Verified says what Verify read.
type Verified struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
	// Corrupt are entries that were corrupt already when the backup was made.
	Corrupt []int64 `json:"corrupt,omitempty"`
}

// Verify reads a backup through: its version, its structure, and every entry against its digest.
func Verify(ctx context.Context, path string) (Verified, error) {
	return verify(ctx, path, embedded)
}

func verify(ctx context.Context, path string, m migrations) (Verified, error) {
	v, err := inspect(ctx, path, m)
	if err != nil {
		return v, err
	}
	db, err := openStill(path)
	if err != nil {
		return v, err
	}
	defer db.Close()
	known, err := knownCorrupt(ctx, db)
	if err != nil {
		return v, err
	}
	var damage []error
	for _, seq := range v.Corrupt {
		if !slices.Contains(known, seq) {
			damage = append(damage, &inbox.CorruptError{Seq: seq, Detail: "its bytes have changed since the backup was made"})
		}
	}
	const named = 10
	if len(damage) > 0 {
		return v, fmt.Errorf("%s is damaged in %d of %d entries: use another backup: %w", path, len(damage), v.Entries,
			errors.Join(damage[:min(len(damage), named)]...))
	}
	return v, nil
}

func knownCorrupt(ctx context.Context, db *sql.DB) (known []int64, err error) {
	var note string
	err = db.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'corrupt'`).Scan(&note)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(note), &known)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was corrupt: %w", classify(err))
	}
	return known, nil
}

// openStill opens a database that nobody writes.
func openStill(path string) (*sql.DB, error) {
	return sql.Open("sqlite", dsn(path, "mode=ro", "immutable=1"))
}

// digestColumns are of every version of the database: migrations add to them and never change them.
const digestColumns = `e.seq, id, received_at, service, kind, account, request_id, facts, digest, b.seq IS NOT NULL, b.data
	FROM entry e LEFT JOIN body b ON b.seq = e.seq`

// inspect reads a database that nobody writes, and reports the corrupt entries; its error is about the whole of it.
func inspect(ctx context.Context, path string, m migrations) (v Verified, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return v, err
	}
	v.Bytes = info.Size()
	if err := refuseLog(path); err != nil {
		return v, err
	}
	db, err := openStill(path)
	if err != nil {
		return v, err
	}
	defer db.Close()
	current, _, err := m.versions(ctx, db)
	if err != nil {
		return v, damaged(path, err)
	}
	if current == 0 {
		return v, fmt.Errorf("%s is not an inbox of callbackd", path)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return v, damaged(path, err)
	}
	if verdict != "ok" {
		return v, damaged(path, errors.New(verdict))
	}
	rows, err := db.QueryContext(ctx, `SELECT `+digestColumns+` ORDER BY e.seq`)
	if err != nil {
		return v, damaged(path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var corrupt *inbox.CorruptError
		switch err := digestOf(rows); {
		case errors.As(err, &corrupt):
			v.Corrupt = append(v.Corrupt, corrupt.Seq)
		case err != nil:
			return v, damaged(path, err)
		}
		v.Entries++
	}
	if err := rows.Err(); err != nil {
		return v, damaged(path, err)
	}
	return v, nil
}

// refuseLog refuses a database of which a part is in a write-ahead log.
func refuseLog(path string) error {
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return fmt.Errorf("%s is no backup but a database in use, for it has a write-ahead log beside it: make a backup of it with "+
			"`callbackd inbox backup`", path)
	}
	return nil
}

// damaged says of a backup what [classify] says of the inbox.
func damaged(path string, err error) error {
	if errors.Is(err, ErrNewer) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", path, err)
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		err = e
	}
	return fmt.Errorf("%s is damaged, or not an inbox of callbackd: use another backup: %w", path, err)
}

// digestOf checks a row of digestColumns.
func digestOf(from row) error {
	var e inbox.Entry
	var id, digest []byte
	var received int64
	var facts string
	var hasBody bool
	if err := from.Scan(&e.Seq, &id, &received, &e.Service, &e.Kind, &e.Account, &e.RequestID, &facts, &digest, &hasBody, &e.Body); err != nil {
		return corruptRow(e.Seq, err)
	}
	e.ID, e.ReceivedAt = uuidString(id), fromMicro(received)
	if sum := e.Digest([]byte(facts)); !hasBody || string(sum[:]) != string(digest) {
		return &inbox.CorruptError{Seq: e.Seq, Detail: "its bytes have changed"}
	}
	return nil
}

// Restore puts a backup in the place of the inbox in dir, whose lock the caller holds, and holds its deliveries until they are
// released: the handlers may have seen them. The inbox that was there is kept beside it, under the name that is returned. A crash
// leaves either inbox.
func Restore(ctx context.Context, backup, dir string, now func() string) (v Verified, kept string, err error) {
	path := filepath.Join(dir, File)
	partial := path + ".restoring"
	defer func() { err = errors.Join(err, removeFile(partial)) }()
	if err := refuseLog(backup); err != nil {
		return v, "", fmt.Errorf("restore: %w", err)
	}
	if err := copyFile(backup, partial); err != nil {
		return v, "", fmt.Errorf("restore: %w", err)
	}
	// What is verified is the copy, for that is what will be used.
	if v, err = Verify(ctx, partial); err != nil {
		return v, "", fmt.Errorf("restore: %s cannot be used, and nothing was changed: %w", backup, err)
	}
	if err := errors.Join(alter(ctx, partial, holdDeliveries), disk.Inherit(partial)); err != nil {
		return v, "", fmt.Errorf("restore: %w", err)
	}
	if kept, err = keepAside(ctx, path, path+".before-restore."+now()); err != nil {
		return v, "", fmt.Errorf("restore: nothing was changed: %w", err)
	}
	if err := os.Rename(partial, path); err != nil {
		return v, kept, fmt.Errorf("restore: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return v, kept, fmt.Errorf("restore: %w", err)
	}
	return v, kept, nil
}

// holdDeliveries also leaves a gap in the numbers of replays: those that came after the backup have been given out.
const holdDeliveries = `INSERT INTO meta (key, value) VALUES ('deliveries_held', '1') ON CONFLICT (key) DO UPDATE SET value = '1';
	INSERT INTO meta (key, value) VALUES ('replay', '1000') ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1000`

// alter changes a copy that is nobody's yet, and leaves it as a single file, on the disk.
func alter(ctx context.Context, path, statements string) error {
	db, err := sql.Open("sqlite", dsn(path, "mode=rw", "_pragma=journal_mode(DELETE)", "_pragma=synchronous(FULL)"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statements); err != nil {
		return fmt.Errorf("change the copy: %w", classify(err))
	}
	return nil
}

// keepAside gives the database at path a second name, as a single file without a log, so that its first one is free to be replaced.
// It is an error if somebody has it open: SQLite would go on to work on files by their names.
func keepAside(ctx context.Context, path, name string) (kept string, err error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	// SQLite throws away the log of a database that it cannot read.
	if err := copyFile(path+"-wal", name+"-wal"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	folded, err := foldLog(ctx, path)
	if err != nil || folded {
		err = errors.Join(err, removeFile(name+"-wal"))
	}
	if err != nil {
		return "", err
	}
	if err := nameNew(path, name); err != nil {
		return "", err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	// Only a database that is too damaged to be opened has these left.
	return name, errors.Join(removeFile(path+"-wal"), removeFile(path+"-shm"))
}

// foldLog puts the write-ahead log into the database, for which it has to be alone with it. It reports false for a database that is too
// damaged for that, which may be why a backup is being restored.
func foldLog(ctx context.Context, path string) (folded bool, err error) {
	db, err := sql.Open("sqlite", dsn(path, "mode=rw", "_pragma=busy_timeout(2000)", "_pragma=synchronous(FULL)"))
	if err != nil {
		return false, err
	}
	defer db.Close()
	var mode string
	err = db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode)
	var e *sqlite.Error
	const primary = 0xff
	if errors.As(err, &e) && (e.Code()&primary == sqlite3.SQLITE_CORRUPT || e.Code()&primary == sqlite3.SQLITE_NOTADB) {
		return false, nil
	}
	if err == nil && mode != "delete" {
		err = fmt.Errorf("journal mode %s", mode)
	}
	if err != nil {
		return false, fmt.Errorf("another program has the inbox open, `callbackd inbox export` or a backup perhaps: try again when it has ended: %w", err)
	}
	return true, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := removeFile(to); err != nil { // what an interrupted restore left
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Sync(), out.Close())
}
