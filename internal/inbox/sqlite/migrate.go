package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"go.uber.org/zap"
)

// migrations is a directory of numbered SQL files.
type migrations struct {
	files fs.FS
	dir   string
}

//go:embed migrations/*.sql
var files embed.FS

var embedded = migrations{files, "migrations"}

// ErrNewer is a database that a newer callbackd has written.
var ErrNewer = errors.New("the inbox was written by a newer callbackd")

func (m migrations) provider(db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(m.files, m.dir)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

// versions are the database's and the newest that this program knows.
func (m migrations) versions(ctx context.Context, db *sql.DB) (current, newest int64, err error) {
	p, err := m.provider(db)
	if err != nil {
		return 0, 0, err
	}
	for _, source := range p.ListSources() {
		newest = max(newest, source.Version)
	}
	var exists int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`).Scan(&exists); err != nil {
		return 0, 0, fmt.Errorf("read the inbox's version: %w", classify(err))
	}
	if exists == 0 {
		return 0, newest, nil
	}
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&current); err != nil {
		return 0, 0, fmt.Errorf("read the inbox's version: %w", classify(err))
	}
	if current > newest {
		return current, newest, fmt.Errorf("%w: it has version %d and this one knows none after %d: run the newer callbackd, or restore the "+
			"backup that it made before it migrated, which lacks what arrived since", ErrNewer, current, newest)
	}
	return current, newest, nil
}

// checkVersion refuses a database that this program does not understand.
func checkVersion(ctx context.Context, path, vfs string, m migrations) error {
	db, err := openReadOnly(path, vfs)
	if err != nil {
		return err
	}
	defer db.Close()
	current, newest, err := m.versions(ctx, db)
	if err == nil && current < newest {
		err = fmt.Errorf("the inbox has version %d and this callbackd needs %d: start `callbackd serve` once, which migrates it", current, newest)
	}
	return err
}

// migrate brings the database up to the newest version. Before it changes one that exists, it makes a verified backup beside it; if the
// change fails, it puts that back.
func migrate(ctx context.Context, path string, o Options) (err error) {
	if err := createFile(path, o.Log); err != nil {
		return err
	}
	db, err := openDB(path, o.VFS)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	current, newest, err := o.migrations.versions(ctx, db)
	if err != nil || current == newest {
		return err
	}
	backup := ""
	if current > 0 {
		if backup, err = backupVersion(ctx, path, current, o); err != nil {
			return fmt.Errorf("backup before migration, nothing was changed: %w", err)
		}
		o.Log.Info("migrating the inbox, after a verified backup", zap.Int64("from_version", current), zap.Int64("to_version", newest),
			zap.String("backup", filepath.Base(backup)))
	}
	p, err := o.migrations.provider(db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		err = fmt.Errorf("migrate the inbox from version %d to %d: %w", current, newest, classify(err))
		if backup == "" {
			return err
		}
		return errors.Join(err, putBack(backup, path, current, db))
	}
	return nil
}

// backupVersion makes the backup of a version, which takes the place of earlier ones of that version: a start that fails again and again
// must not fill the disk.
func backupVersion(ctx context.Context, path string, version int64, o Options) (string, error) {
	pattern := fmt.Sprintf("%s.version-%d.", path, version)
	earlier, err := filepath.Glob(pattern + "*")
	if err != nil {
		return "", fmt.Errorf("look for earlier backups: %w", err)
	}
	backup := pattern + o.Now().UTC().Format("20060102T150405.000000Z")
	if _, err := backupDB(ctx, path, o.VFS, backup, o.migrations); err != nil {
		return "", err
	}
	for _, e := range earlier {
		if err := removeFile(e); err != nil {
			return "", fmt.Errorf("remove an earlier backup: %w", err)
		}
	}
	return backup, nil
}

// putBack undoes a migration that failed. Of several, some may have been done.
func putBack(backup, path string, version int64, db *sql.DB) error {
	failed := func(err error) error {
		return fmt.Errorf("the backup %s could not be put back: restore it with `callbackd inbox restore`: %w", backup, err)
	}
	if err := db.Close(); err != nil { // which also puts the log into the database
		return failed(err)
	}
	partial := path + ".restoring"
	if err := copyFile(backup, partial); err != nil {
		return failed(err)
	}
	if err := errors.Join(removeFile(path+"-wal"), removeFile(path+"-shm")); err != nil {
		return failed(err)
	}
	if err := errors.Join(os.Rename(partial, path), syncDir(filepath.Dir(path))); err != nil {
		return failed(err)
	}
	return fmt.Errorf("the inbox is again as it was, at version %d, and a backup of it is %s: run the callbackd that you ran before, and report this",
		version, backup)
}
