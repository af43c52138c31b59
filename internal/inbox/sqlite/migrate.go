package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
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
		return current, newest, fmt.Errorf("%w: it has version %d and this one knows %d; run the newer callbackd, or restore the backup "+
			"that it made before it migrated", ErrNewer, current, newest)
	}
	return current, newest, nil
}

// checkVersion refuses a database that this program does not understand.
func checkVersion(ctx context.Context, path, vfs string, m migrations) error {
	db, err := openDB(path, vfs, "_query_only=1")
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

// migrate brings the database up to the newest version. Before it changes one that exists, it makes a verified backup beside it.
func migrate(ctx context.Context, path string, o Options) error {
	db, err := openDB(path, o.VFS)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	current, newest, err := o.migrations.versions(ctx, db)
	if err != nil {
		return err
	}
	if current == newest {
		return nil
	}
	if current > 0 {
		backup := fmt.Sprintf("%s.version-%d.%s", path, current, o.Now().UTC().Format("20060102T150405Z"))
		o.Log.Info("backing up the inbox before migrating it", zap.String("backup", filepath.Base(backup)),
			zap.Int64("from_version", current), zap.Int64("to_version", newest))
		if _, err := backupDB(ctx, path, o.VFS, backup); err != nil {
			return fmt.Errorf("backup before migration, nothing was changed: %w", err)
		}
	}
	p, err := o.migrations.provider(db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the inbox: %w", classify(err))
	}
	return nil
}
