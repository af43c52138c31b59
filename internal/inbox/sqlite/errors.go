package sqlite

import (
	"errors"
	"fmt"

	"callbackd/internal/inbox"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// classify wraps an error of the driver in ErrBroken or ErrUnavailable where it is one of theirs, with what to do about it.
func classify(err error) error {
	if err == nil || errors.Is(err, inbox.ErrBroken) || errors.Is(err, inbox.ErrUnavailable) {
		return err
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	const primary = 0xff
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return fmt.Errorf("%w: the disk did not confirm a sync; look at the kernel log and the disk's health, then restart callbackd: %w",
			inbox.ErrBroken, err)
	case sqlite3.SQLITE_IOERR_CORRUPTFS:
		return broken(err)
	}
	switch e.Code() & primary {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return broken(err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: the disk of data_dir is full; free space, and it goes on by itself: %w", inbox.ErrUnavailable, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: another program holds a lock on the inbox; end it, and it goes on by itself: %w", inbox.ErrUnavailable, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM:
		return fmt.Errorf("%w: %w", inbox.ErrUnavailable, err)
	}
	return err
}

func broken(err error) error {
	return fmt.Errorf("%w: the database is damaged; keep a copy of data_dir, then restore a backup with `callbackd inbox restore`: %w",
		inbox.ErrBroken, err)
}
