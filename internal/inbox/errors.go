package inbox

import "errors"

var (
	// ErrUnavailable is a store that cannot take anything just now: the disk is full, the database is locked. It recovers by
	// itself, and nothing was stored.
	ErrUnavailable = errors.New("inbox unavailable")
	// ErrOverloaded is an append that was not queued because it could not be acknowledged in time.
	ErrOverloaded = errors.New("inbox overloaded")
	// ErrBroken is a store that nothing may be acknowledged from any more: a sync failed, or the database is corrupt. The
	// process has to end.
	ErrBroken = errors.New("inbox broken")
	// ErrClosed is an inbox that was closed.
	ErrClosed = errors.New("inbox closed")
	// ErrCorruptEntry is an entry whose bytes are not those that were stored.
	ErrCorruptEntry = errors.New("entry does not match its digest")
	// ErrNotFound is an entry that is not there.
	ErrNotFound = errors.New("no such entry")
)
