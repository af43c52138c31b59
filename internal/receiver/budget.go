package receiver

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// budget bounds the memory of all requests in flight. Half of it is parted evenly among the listeners, and no other listener can
// take what is a listener's own; the other half is for whoever needs it first. So a listener whose requests all stall takes nothing
// that the others cannot do without.
type budget struct {
	own int64 // of each listener

	mu     sync.Mutex
	common int64         // free, of what is nobody's own
	taken  int64         // by all
	freed  chan struct{} // closed when something is given back; nil while nobody waits

	bytes prometheus.Gauge
}

func newBudget(size int64, listeners int, bytes prometheus.Gauge) *budget {
	own := size / 2 / int64(max(listeners, 1))
	return &budget{own: own, common: size - own*int64(listeners), bytes: bytes}
}

// part is what one listener has taken of the budget.
type part struct {
	budget *budget
	taken  int64
}

// move changes what p has taken by n. It reports false, and changes nothing, if the budget does not hold n more. b.mu is held.
func (p *part) move(n int64) bool {
	b := p.budget
	common := max(p.taken+n, b.own) - max(p.taken, b.own)
	if common > b.common {
		return false
	}
	b.common -= common
	b.taken += n
	p.taken += n
	b.bytes.Add(float64(n))
	return true
}

// take takes n, or returns a channel that is closed when it is worth another try.
func (p *part) take(n int64) (freed <-chan struct{}, ok bool) {
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.move(n) {
		return nil, true
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return b.freed, false
}

func (p *part) give(n int64) {
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	p.move(-n)
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// share is what one request has taken of its listener's part. The request MUST release it, whatever happens.
type share struct {
	part  *part
	taken int64
	// patience is how long the request waits for memory, and afterwards what is left of that time.
	patience time.Duration
	waits    prometheus.Counter
}

// reserve takes the first n bytes. It waits for them as long as there is patience.
func (s *share) reserve(n int64) error {
	freed, ok := s.part.take(n)
	if !ok {
		s.waits.Inc()
		from := time.Now()
		defer func() { s.patience -= time.Since(from) }()
		timeout := time.NewTimer(s.patience)
		defer timeout.Stop()
		for !ok {
			select {
			case <-freed:
			case <-timeout.C:
				return errInFlight
			}
			freed, ok = s.part.take(n)
		}
	}
	s.taken = n
	return nil
}

// grow makes the share n bytes. It does not wait: requests that hold memory and wait for more would wait for one another.
func (s *share) grow(n int64) error {
	if _, ok := s.part.take(n - s.taken); !ok {
		return errInFlight
	}
	s.taken = n
	return nil
}

func (s *share) release() {
	s.part.give(s.taken)
	s.taken = 0
}
