package platform

import (
	"errors"
	"sync"
	"time"

	"callbackd/internal/callback"
)

// Archived is a message in the archive: one that was never acknowledged.
type Archived struct {
	RequestID string           `json:"request_id,omitempty"` // empty where the message has none
	Service   callback.Service `json:"service"`
	Account   string           `json:"account"`
	Tries     int              `json:"tries"`
	Failure   string           `json:"last_failure"`
	At        time.Time        `json:"archived_at"`
	Bytes     int              `json:"bytes"`
}

// ErrNotArchived says that the archive holds no such message.
var ErrNotArchived = errors.New("the archive holds no message with this RequestId")

// archive keeps the messages that were never acknowledged, for so long and so many. The oldest give way.
type archive struct {
	keep  time.Duration
	count int // messages at most
	bytes int // of their bodies at most

	mu      sync.Mutex
	kept    []archived // the oldest first
	held    int        // bytes
	dropped int
}

type archived struct {
	Archived
	message Message
}

// The archive's bounds. They are the simulator's own: the platform's are not known.
const (
	archiveCount = 100_000
	archiveBytes = 256 << 20
)

// add keeps a message, and reports how many older ones had to give way.
func (a *archive) add(account string, m Message, d delivery, now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(now)
	a.kept = append(a.kept, archived{Archived{RequestID: m.RequestID, Service: m.Service, Account: account, Tries: d.tries,
		Failure: d.failure, At: now, Bytes: len(m.Body)}, m})
	a.held += len(m.Body)
	before := a.dropped
	for len(a.kept) > a.count || a.held > a.bytes {
		a.drop()
		a.dropped++
	}
	return a.dropped - before
}

// expire forgets what is too old.
func (a *archive) expire(now time.Time) {
	for len(a.kept) > 0 && !now.Before(a.kept[0].At.Add(a.keep)) {
		a.drop()
	}
}

func (a *archive) drop() {
	a.held -= len(a.kept[0].message.Body)
	a.kept[0] = archived{} // so that its body is let go
	a.kept = a.kept[1:]
}

// list is what the archive holds, the oldest first.
func (a *archive) list(now time.Time) []Archived {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(now)
	list := make([]Archived, 0, len(a.kept))
	for i := range a.kept {
		list = append(list, a.kept[i].Archived)
	}
	return list
}

// take removes the messages that match, in their order.
func (a *archive) take(now time.Time, match func(Archived) bool) []archived {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(now)
	var taken, left []archived
	for _, x := range a.kept {
		if match(x.Archived) {
			taken = append(taken, x)
			a.held -= len(x.message.Body)
		} else {
			left = append(left, x)
		}
	}
	a.kept = left
	return taken
}
