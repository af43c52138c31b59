package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"callbackd/internal/inbox"
)

// Backup writes a verified copy of the inbox to path, which must not exist, while the inbox is in use.
func (r *Reader) Backup(ctx context.Context, path string) (Verified, error) {
	var file string
	if err := r.db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
		return Verified{}, r.report(fmt.Errorf("find the database: %w", err))
	}
	return backupDB(ctx, file, "", path)
}

func backupDB(ctx context.Context, from, vfs, to string) (v Verified, err error) {
	if _, err := os.Stat(to); err == nil {
		return v, fmt.Errorf("%s exists: a backup overwrites nothing", to)
	}
	db, err := openDB(from, vfs)
	if err != nil {
		return v, err
	}
	defer db.Close()
	partial := to + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, os.ErrNotExist) {
		return v, fmt.Errorf("backup: %w", err)
	}
	// The copy holds what the inbox holds: for its owner alone.
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	defer f.Close()
	defer func() {
		if err != nil {
			_ = os.Remove(partial)
		}
	}()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, partial); err != nil {
		return v, fmt.Errorf("backup: %w", classify(err))
	}
	if v, err = Verify(ctx, partial); err != nil {
		return v, fmt.Errorf("backup: the copy is not good: %w", err)
	}
	if err := f.Sync(); err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	if err := os.Rename(partial, to); err != nil {
		return v, fmt.Errorf("backup: %w", err)
	}
	return v, syncDir(filepath.Dir(to))
}

// Verified says what Verify read.
type Verified struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Verify reads a database file through: its structure, and every entry against its digest.
func Verify(ctx context.Context, path string) (v Verified, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return v, err
	}
	v.Bytes = info.Size()
	db, err := sql.Open("sqlite", dsn(path, "mode=ro", "immutable=1"))
	if err != nil {
		return v, err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return v, fmt.Errorf("check the structure of %s: %w", filepath.Base(path), classify(err))
	}
	if verdict != "ok" {
		return v, fmt.Errorf("%w: %s: %s", inbox.ErrBroken, filepath.Base(path), verdict)
	}
	if _, _, err := embedded.versions(ctx, db); err != nil {
		return v, err
	}
	r := &Reader{db: db, broken: func(error) {}}
	after := int64(0)
	for {
		entries, err := r.Find(ctx, inbox.Query{After: after, Body: true})
		if err != nil {
			return v, err
		}
		if len(entries) == 0 {
			return v, nil
		}
		v.Entries += int64(len(entries))
		after = entries[len(entries)-1].Seq
	}
}

// Restore puts a backup in the place of the inbox in dir, whose lock the caller holds, and holds its deliveries until they are
// released: the handlers may have seen them. The inbox that was there is kept beside it, under the name that is returned.
func Restore(ctx context.Context, backup, dir string, now func() string) (v Verified, kept string, err error) {
	if v, err = Verify(ctx, backup); err != nil {
		return v, "", err
	}
	path := filepath.Join(dir, File)
	partial := path + ".restoring"
	if err := copyFile(backup, partial); err != nil {
		return v, "", fmt.Errorf("restore: %w", err)
	}
	defer os.Remove(partial)
	if err := holdDeliveries(ctx, partial); err != nil {
		return v, "", fmt.Errorf("restore: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		kept = path + ".before-restore." + now()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return v, "", fmt.Errorf("restore: %w", err)
			}
		}
	}
	if err := os.Rename(partial, path); err != nil {
		return v, kept, fmt.Errorf("restore: %w", err)
	}
	return v, kept, syncDir(dir)
}
