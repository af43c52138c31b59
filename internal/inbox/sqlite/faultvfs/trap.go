package faultvfs

import (
	"slices"

	sqlite3 "modernc.org/sqlite/lib"
)

// Fault orders an operation to fail. Its zero value fails the next write, once, with SQLITE_IOERR_WRITE.
type Fault struct {
	Op     Op
	Role   Role  // Any: files of every role
	After  int   // matching operations that pass first; 2 fails the third
	Code   int32 // a SQLite result code; zero takes the SQLITE_IOERR_... of the operation
	Torn   int   // of a failed write, this many first bytes still reach the file
	Sticky bool  // fails every matching operation from there on, until cleared
}

func (a Fault) code() int32 {
	switch {
	case a.Code != sqlite3.SQLITE_OK:
		return a.Code
	case a.Op == Sync:
		return sqlite3.SQLITE_IOERR_FSYNC
	case a.Op == Truncate:
		return sqlite3.SQLITE_IOERR_TRUNCATE
	default:
		return sqlite3.SQLITE_IOERR_WRITE
	}
}

// Trap is a fault or a stall that was set. It is safe for concurrent use.
type Trap struct {
	fs      *FS
	fault   Fault
	stalls  bool
	reached chan struct{} // closed by the first hit
	cleared chan struct{} // closed by Clear

	// Under fs.mu.
	left int // matching operations that still pass
	hits int
}

// Fail sets a fault. Faults set together each count every matching operation; where several come due on the same one, the
// first set decides and all are hit.
func (f *FS) Fail(a Fault) *Trap { return f.set(a, false) }

// Stall holds every matching operation, once after of them have passed, until Clear lets them go on; it then meets the
// faults set by that time. Nothing else frees a stalled operation: not a context, not closing the database.
func (f *FS) Stall(op Op, role Role, after int) *Trap {
	return f.set(Fault{Op: op, Role: role, After: after, Sticky: true}, true)
}

func (f *FS) set(a Fault, stalls bool) *Trap {
	t := &Trap{fs: f, fault: a, stalls: stalls, left: a.After,
		reached: make(chan struct{}), cleared: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traps = append(f.traps, t)
	return t
}

// Reached is closed once the trap has failed, or holds, its first operation.
func (t *Trap) Reached() <-chan struct{} { return t.reached }

// Hits is how many operations the trap has failed or held.
func (t *Trap) Hits() int {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	return t.hits
}

// Clear takes the trap away and lets go what it holds. Clearing twice, or a fault that is spent, does nothing.
func (t *Trap) Clear() {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	select {
	case <-t.cleared:
	default:
		close(t.cleared)
	}
	t.fs.traps = slices.DeleteFunc(t.fs.traps, func(o *Trap) bool { return o == t })
}

// meets counts an operation against the trap and reports whether it is caught. The caller holds fs.mu.
func (t *Trap) meets(op Op, role Role) bool {
	if t.fault.Op != op || t.fault.Role != Any && t.fault.Role != role {
		return false
	}
	if t.left > 0 {
		t.left--
		return false
	}
	if t.hits++; t.hits == 1 {
		close(t.reached)
	}
	return true
}

// admit takes one operation past the traps: it counts it, holds it as long as stalls say, and returns the fault that it
// must fail with, or nil.
func (f *FS) admit(op Op, role Role) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[role][op]++
	var held []*Trap
	for _, t := range f.traps {
		if t.stalls && t.meets(op, role) {
			held = append(held, t)
		}
	}
	f.mu.Unlock()
	for _, t := range held {
		<-t.cleared
	}
	f.mu.Lock()

	var due *Fault
	f.traps = slices.DeleteFunc(f.traps, func(t *Trap) bool {
		if t.stalls || !t.meets(op, role) {
			return false
		}
		if due == nil {
			due = &t.fault
		}
		return !t.fault.Sticky
	})
	return due
}
