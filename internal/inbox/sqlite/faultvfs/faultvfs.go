// Package faultvfs is a SQLite VFS for tests: the host's default VFS with failures that can be ordered. It makes a chosen
// write, sync or truncation fail, tears a write, holds operations back, and shows what a power cut would leave of the
// files.
//
//	fs, err := faultvfs.New()
//	db, err := sql.Open("sqlite", "file:/path/x.db?vfs="+fs.Name()+"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//	fs.Fail(faultvfs.Fault{Op: faultvfs.Write, Role: faultvfs.WAL, Code: sqlite3.SQLITE_FULL})
//
// Every operation takes this way:
//
//	SQLite -> counted -> stalls -> faults -> default VFS -> recorded as not yet durable -> a sync of that file -> durable
//	                                  `----> error code                                       `-> PowerCut writes these
//
// Promises:
//
//   - Every write, truncation and deletion SQLite asks for through this VFS is seen; memory mapping, size hints and chunk
//     sizes, which go around xWrite and xTruncate, are switched off.
//   - The image of a power cut holds, for each file, what was written before the start of its last successful sync, and
//     nothing else. A file created here and never synced is absent. A file that had content when it was first opened here
//     starts with that content durable.
//   - A sync that failed, by order or for real, loses the writes it was to make durable: the file still shows them, but no
//     later sync brings them back, as on Linux. Only writing them again does.
//   - A deletion is durable once SQLite has synced the folder, with that deletion or a later one there or with the first
//     sync of a new journal or log, or once a file created anew under the name is synced. Until then the old content
//     comes back.
//
// Limits:
//
//   - Nothing unsynced survives a cut here; a real disk may keep any part of it, in any order, down to a sector. The image
//     is the worst case for loss, not for disorder.
//   - A successful sync makes the file's own name durable too, which is so on the usual Linux file systems.
//   - Files must be reached through one FS only while it is in use: changes made around it are not seen.
//   - The -shm file, temporary files and reads are left alone: never failed, never part of the image.
//   - Contents are kept in memory, so this is for databases of a test's size.
package faultvfs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Role says what a file is to SQLite.
type Role uint8

const (
	Any   Role = iota // in a Fault, a Stall or a question: every role
	Main              // a main or attached database
	WAL               // its write-ahead log
	Other             // rollback journals and temporary files
)

// Op is an operation that can be counted, failed and stalled.
type Op uint8

const (
	Write Op = iota
	Sync
	Truncate
)

// Counts is how many operations SQLite has asked for, those that failed or are stalled included.
type Counts struct{ Writes, Syncs, Truncates int }

// FS is one registered VFS. It is safe for concurrent use.
//
// A caller MUST Clear its stalls before closing the databases that wait in them, and close the databases before the FS.
type FS struct {
	name string
	vfs  uintptr               // our sqlite3_vfs
	base *sqlite3.Tsqlite3_vfs // the one it is a copy of
	hook hooks

	mu     sync.Mutex
	closed bool
	files  map[uintptr]*file                        // by sqlite3_file: what is open
	tables map[uintptr]*sqlite3.Tsqlite3_io_methods // by the table it is a copy of: ours
	nodes  map[string]*node                         // by full path: what the disk is known to hold
	clock  uint64                                   // number of the last change
	counts [Other + 1][Truncate + 1]int
	traps  []*Trap // in the order they were set
}

// New registers a VFS under a name of its own, beside the default one, which stays the default.
func New() (*FS, error) {
	f := &FS{
		files:  make(map[uintptr]*file),
		tables: make(map[uintptr]*sqlite3.Tsqlite3_io_methods),
		nodes:  make(map[string]*node),
	}
	if err := f.register(); err != nil {
		return nil, fmt.Errorf("register fault VFS: %w", err)
	}
	return f, nil
}

// Name is the value for the vfs parameter of a data source name.
func (f *FS) Name() string { return f.name }

// Close unregisters the VFS. While files are open through it, it does nothing and returns ErrInUse: SQLite would go on
// calling into it. It MUST NOT run while a database is being opened through it. Counts and PowerCut work on afterwards.
func (f *FS) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	if n := len(f.files); n > 0 {
		return fmt.Errorf("close fault VFS %s: %w: %d files", f.name, ErrInUse, n)
	}
	f.closed = true
	return f.unregister()
}

// Counts returns the operations so far on files of the role.
func (f *FS) Counts(role Role) Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	var c Counts
	for r, n := range f.counts {
		if role == Any || role == Role(r) {
			c.Writes += n[Write]
			c.Syncs += n[Sync]
			c.Truncates += n[Truncate]
		}
	}
	return c
}

// PowerCut writes into dir every file, under its base name, as it would be found had the power failed at this moment. The
// FS and its databases go on undisturbed. dir is created if need be and must be empty, so that no file of an earlier cut
// gets in between; two files of one base name are an error.
func (f *FS) PowerCut(dir string) error {
	image, err := f.image()
	if err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	switch entries, err := os.ReadDir(dir); {
	case err != nil:
		return fmt.Errorf("cut power: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("cut power: %w: %s", ErrNotEmpty, dir)
	}
	for name, data := range image {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("cut power: %w", err)
		}
	}
	return nil
}

// register and unregister are the only users of a TLS of their own; every hook runs on that of its connection.

func (f *FS) register() error {
	tls := libc.NewTLS()
	defer tls.Close()
	def := sqlite3.Xsqlite3_vfs_find(tls, 0)
	if def == 0 {
		return errNoDefault
	}
	f.base = at[sqlite3.Tsqlite3_vfs](def)
	own, err := alloc[sqlite3.Tsqlite3_vfs](tls)
	if err != nil {
		return err
	}
	f.vfs = own
	// No two VFSs are registered at one address, so the address makes a name.
	f.name = fmt.Sprintf("fault-%x", own)
	zName, err := libc.CString(f.name)
	if err != nil {
		sqlite3.Xsqlite3_free(tls, own)
		return err
	}
	f.hook = hooks{open: f.open, remove: f.remove,
		close: f.close, write: f.write, truncate: f.truncate, sync: f.sync, control: f.control}

	// The list of VFSs, which runs through the original, is guarded by SQLite's main mutex.
	main := sqlite3.Xsqlite3_mutex_alloc(tls, sqlite3.SQLITE_MUTEX_STATIC_MAIN)
	sqlite3.Xsqlite3_mutex_enter(tls, main)
	v := at[sqlite3.Tsqlite3_vfs](own)
	*v = *f.base
	sqlite3.Xsqlite3_mutex_leave(tls, main)
	v.FpNext, v.FzName = 0, zName
	v.FxOpen, v.FxDelete = address(&f.hook.open), address(&f.hook.remove)

	if rc := sqlite3.Xsqlite3_vfs_register(tls, own, 0); rc != sqlite3.SQLITE_OK {
		libc.Xfree(tls, zName)
		sqlite3.Xsqlite3_free(tls, own)
		return codeError(rc)
	}
	live.Store(f, nil)
	return nil
}

// unregister is called with f.mu held and no file open.
func (f *FS) unregister() error {
	tls := libc.NewTLS()
	defer tls.Close()
	if rc := sqlite3.Xsqlite3_vfs_unregister(tls, f.vfs); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("unregister fault VFS %s: %w", f.name, codeError(rc))
	}
	live.Delete(f)
	for _, t := range f.tables {
		sqlite3.Xsqlite3_free(tls, addressOf(t))
	}
	libc.Xfree(tls, at[sqlite3.Tsqlite3_vfs](f.vfs).FzName)
	sqlite3.Xsqlite3_free(tls, f.vfs)
	f.tables, f.vfs = nil, 0
	return nil
}

// live keeps every registered FS reachable: SQLite holds its hooks as integers, which the garbage collector does not
// see. It mirrors SQLite's own list of VFSs, which is as global.
var live sync.Map
