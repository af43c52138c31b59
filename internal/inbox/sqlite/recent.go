package sqlite

import (
	"sync"

	"callbackd/internal/inbox"
)

// recent holds entries as they were stored, until they are claimed: most are within milliseconds, and need not be read back then. What is
// not here is read from the database, so nothing depends on it but the speed.
type recent struct {
	mu      sync.Mutex
	entries map[int64]inbox.Entry
	order   []int64 // as they were stored; some of them may be gone
	bytes   int     // of the bodies
}

const (
	mostRecent      = 1024
	mostRecentBytes = 4 << 20
)

// add keeps entries, and lets go of the oldest for them.
func (r *recent) add(entries []inbox.Entry) {
	if len(entries) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries == nil {
		r.entries = make(map[int64]inbox.Entry)
	}
	for i := range entries {
		e := &entries[i]
		r.entries[e.Seq] = *e
		r.order = append(r.order, e.Seq)
		r.bytes += len(e.Body)
	}
	for len(r.order) > mostRecent || r.bytes > mostRecentBytes {
		r.remove(r.order[0])
		r.order = r.order[1:]
	}
}

// remove lets go of an entry. r.mu is held.
func (r *recent) remove(seq int64) {
	if e, ok := r.entries[seq]; ok {
		r.bytes -= len(e.Body)
		delete(r.entries, seq)
	}
}

// get finds an entry. It stays, for another handler may claim it as well.
func (r *recent) get(seq int64) (inbox.Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[seq]
	return e, ok
}

// forget lets go of everything: some entry is not any more what it was.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries, r.order, r.bytes = nil, nil, 0
}
