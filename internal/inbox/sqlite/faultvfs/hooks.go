package faultvfs

import (
	"bytes"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// The C signatures, as the transpiled library calls them.
type (
	openFn     = func(tls *libc.TLS, pVfs, zName, pFile uintptr, flags int32, pOutFlags uintptr) int32
	deleteFn   = func(tls *libc.TLS, pVfs, zName uintptr, syncDir int32) int32
	closeFn    = func(tls *libc.TLS, pFile uintptr) int32
	ioFn       = func(tls *libc.TLS, pFile, buf uintptr, n int32, off int64) int32
	truncateFn = func(tls *libc.TLS, pFile uintptr, size int64) int32
	syncFn     = func(tls *libc.TLS, pFile uintptr, flags int32) int32
	sizeFn     = func(tls *libc.TLS, pFile, pSize uintptr) int32
	controlFn  = func(tls *libc.TLS, pFile uintptr, op int32, arg uintptr) int32
)

// hooks are the functions SQLite calls in place of the default VFS's; all others it calls directly. They are kept in the
// FS because SQLite refers to them by address only.
type hooks struct {
	open     openFn
	remove   deleteFn
	close    closeFn
	write    ioFn
	truncate truncateFn
	sync     syncFn
	control  controlFn
}

// file is one open sqlite3_file.
type file struct {
	role Role
	base *sqlite3.Tsqlite3_io_methods // the default VFS's
	node *node                        // nil for a temporary file

	// syncsFolder says that the next sync is one of the folder too: the default VFS does so once for each journal or log
	// that it may have created. Under FS.mu.
	syncsFolder bool
}

func (f *FS) file(pFile uintptr) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[pFile]
}

// open lets the default VFS open the file and then puts our method table in the place of its own.
func (f *FS) open(tls *libc.TLS, pVfs, zName, pFile uintptr, flags int32, pOutFlags uintptr) int32 {
	if rc := call[openFn](f.base.FxOpen)(tls, pVfs, zName, pFile, flags, pOutFlags); rc != sqlite3.SQLITE_OK {
		return rc
	}
	head := at[sqlite3.Tsqlite3_file](pFile)
	o := &file{role: roleOf(flags), base: at[sqlite3.Tsqlite3_io_methods](head.FpMethods),
		syncsFolder: flags&sqlite3.SQLITE_OPEN_CREATE != 0 && flags&journals != 0}
	f.mu.Lock()
	defer f.mu.Unlock()
	table, err := f.table(tls, head.FpMethods)
	if err == nil && zName != 0 && flags&sqlite3.SQLITE_OPEN_DELETEONCLOSE == 0 {
		err = f.attach(tls, o, pFile, libc.GoString(zName))
	}
	if err != nil {
		call[closeFn](o.base.FxClose)(tls, pFile)
		head.FpMethods = 0 // SQLite closes again what has methods
		return sqlite3.SQLITE_CANTOPEN
	}
	f.files[pFile] = o
	head.FpMethods = addressOf(table)
	return sqlite3.SQLITE_OK
}

// journals are the kinds of file whose existence, or not, decides about a transaction.
const journals = sqlite3.SQLITE_OPEN_MAIN_JOURNAL | sqlite3.SQLITE_OPEN_SUPER_JOURNAL | sqlite3.SQLITE_OPEN_WAL

func roleOf(flags int32) Role {
	switch {
	case flags&sqlite3.SQLITE_OPEN_MAIN_DB != 0:
		return Main
	case flags&sqlite3.SQLITE_OPEN_WAL != 0:
		return WAL
	default:
		return Other
	}
}

// table returns our version of a method table of the default VFS, which has one for each way of locking. The caller
// holds f.mu.
func (f *FS) table(tls *libc.TLS, base uintptr) (*sqlite3.Tsqlite3_io_methods, error) {
	if t := f.tables[base]; t != nil {
		return t, nil
	}
	p, err := alloc[sqlite3.Tsqlite3_io_methods](tls)
	if err != nil {
		return nil, err
	}
	t := at[sqlite3.Tsqlite3_io_methods](p)
	*t = *at[sqlite3.Tsqlite3_io_methods](base)
	t.FxClose, t.FxFileControl = address(&f.hook.close), address(&f.hook.control)
	t.FxWrite, t.FxTruncate, t.FxSync = address(&f.hook.write), address(&f.hook.truncate), address(&f.hook.sync)
	f.tables[base] = t
	return t, nil
}

// attach ties the open file to the node of its path. The content of a path met for the first time counts as durable; an
// empty file is as good as none to SQLite. The caller holds f.mu.
func (f *FS) attach(tls *libc.TLS, o *file, pFile uintptr, path string) error {
	if f.nodes[path] == nil {
		data, err := o.content(tls, pFile)
		if err != nil {
			return err
		}
		f.nodes[path] = &node{path: path, present: len(data) > 0, durable: data}
	}
	o.node = f.nodes[path]
	return nil
}

// content reads the whole file by the default VFS: opening and closing it a second time would drop the locks that this
// process has on it.
func (o *file) content(tls *libc.TLS, pFile uintptr) ([]byte, error) {
	type chunk [1 << 16]byte
	buf, err := alloc[chunk](tls)
	if err != nil {
		return nil, err
	}
	defer sqlite3.Xsqlite3_free(tls, buf)
	if rc := call[sizeFn](o.base.FxFileSize)(tls, pFile, buf); rc != sqlite3.SQLITE_OK {
		return nil, codeError(rc)
	}
	size := *at[int64](buf)
	data := make([]byte, 0, size)
	for off := int64(0); off < size; off = int64(len(data)) {
		n := min(size-off, int64(len(chunk{})))
		if rc := call[ioFn](o.base.FxRead)(tls, pFile, buf, int32(n), off); rc != sqlite3.SQLITE_OK {
			return nil, codeError(rc)
		}
		data = append(data, at[chunk](buf)[:n]...)
	}
	return data, nil
}

func (f *FS) close(tls *libc.TLS, pFile uintptr) int32 {
	f.mu.Lock()
	o := f.files[pFile]
	delete(f.files, pFile)
	f.mu.Unlock()
	return call[closeFn](o.base.FxClose)(tls, pFile)
}

func (f *FS) write(tls *libc.TLS, pFile, buf uintptr, n int32, off int64) int32 {
	o := f.file(pFile)
	fault := f.admit(Write, o.role)
	if fault != nil {
		n = int32(min(max(fault.Torn, 0), int(n)))
	}
	if n > 0 {
		if rc := call[ioFn](o.base.FxWrite)(tls, pFile, buf, n, off); rc != sqlite3.SQLITE_OK {
			return rc
		}
		f.note(o, change{kind: written, off: off, data: bytes.Clone(unsafe.Slice(at[byte](buf), n))})
	}
	if fault != nil {
		return fault.code()
	}
	return sqlite3.SQLITE_OK
}

func (f *FS) truncate(tls *libc.TLS, pFile uintptr, size int64) int32 {
	o := f.file(pFile)
	if fault := f.admit(Truncate, o.role); fault != nil {
		return fault.code()
	}
	rc := call[truncateFn](o.base.FxTruncate)(tls, pFile, size)
	if rc == sqlite3.SQLITE_OK {
		f.note(o, change{kind: truncated, off: size})
	}
	return rc
}

func (f *FS) sync(tls *libc.TLS, pFile uintptr, flags int32) int32 {
	o := f.file(pFile)
	began := f.now() // before a stall: a sync need not cover what is written while it runs
	fault := f.admit(Sync, o.role)
	var rc int32
	if fault != nil {
		rc = fault.code()
	} else {
		rc = call[syncFn](o.base.FxSync)(tls, pFile, flags)
	}
	f.synced(o, began, rc == sqlite3.SQLITE_OK)
	return rc
}

func (f *FS) remove(tls *libc.TLS, pVfs, zName uintptr, syncDir int32) int32 {
	rc := call[deleteFn](f.base.FxDelete)(tls, pVfs, zName, syncDir)
	if rc == sqlite3.SQLITE_OK {
		f.unlinked(libc.GoString(zName), syncDir != 0)
	}
	return rc
}

// control hides the requests by which the default VFS would change a file without xWrite or xTruncate. SQLite treats all
// three as optional.
func (f *FS) control(tls *libc.TLS, pFile uintptr, op int32, arg uintptr) int32 {
	switch op {
	case sqlite3.SQLITE_FCNTL_MMAP_SIZE, sqlite3.SQLITE_FCNTL_SIZE_HINT, sqlite3.SQLITE_FCNTL_CHUNK_SIZE:
		return sqlite3.SQLITE_NOTFOUND
	}
	return call[controlFn](f.file(pFile).base.FxFileControl)(tls, pFile, op, arg)
}

// The transpiled library keeps C pointers and function pointers as integers. These five go between the two worlds; going
// through the address of the integer is how the library itself does it, and what go vet accepts. What they point to is C
// memory, or kept by live: nothing the garbage collector could move or free.

// at is the T at a C address.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// addressOf is the inverse of at.
func addressOf[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// call is the function behind a C function pointer.
func call[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

// address is the C function pointer of a Go function that is kept where f points.
func address[F any](f *F) uintptr { return *(*uintptr)(unsafe.Pointer(f)) }

// alloc returns C memory for a T, not zeroed, to be freed with sqlite3_free.
func alloc[T any](tls *libc.TLS) (uintptr, error) {
	var zero T
	p := sqlite3.Xsqlite3_malloc64(tls, uint64(unsafe.Sizeof(zero)))
	if p == 0 {
		return 0, errNoMemory
	}
	return p, nil
}
