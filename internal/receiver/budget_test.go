package receiver

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

func testBudget(size int64, listeners int) (*budget, []*part) {
	b := newBudget(size, listeners, prometheus.NewGauge(prometheus.GaugeOpts{Name: "bytes"}))
	parts := make([]*part, listeners)
	for i := range parts {
		parts[i] = &part{budget: b}
	}
	return b, parts
}

func (p *part) share(patience time.Duration) *share {
	return &share{part: p, patience: patience, waits: prometheus.NewCounter(prometheus.CounterOpts{Name: "waits"})}
}

// TestBudgetNeverOverflowsAndKeepsEachItsOwn takes and gives at random.
func TestBudgetNeverOverflowsAndKeepsEachItsOwn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1000).Draw(t, "size")
		b, parts := testBudget(size, rapid.IntRange(1, 5).Draw(t, "listeners"))
		for range rapid.IntRange(1, 50).Draw(t, "moves") {
			p := rapid.SampledFrom(parts).Draw(t, "listener")
			if n := rapid.Int64Range(-p.taken, 2*size).Draw(t, "bytes"); n < 0 {
				p.give(-n)
			} else if _, ok := p.take(n); !ok && p.taken+n <= b.own {
				t.Fatalf("%d refused to a listener that has %d of its own %d", n, p.taken, b.own)
			}
			var sum int64
			for _, p := range parts {
				sum += p.taken
			}
			if sum != b.taken || sum > size {
				t.Fatalf("the listeners have %d, the budget says %d of %d", sum, b.taken, size)
			}
		}
		for _, p := range parts {
			p.give(p.taken)
		}
		if b.taken != 0 || b.common != size-b.own*int64(len(parts)) {
			t.Fatalf("after all was given back %d are taken and %d in common", b.taken, b.common)
		}
	})
}

func TestARequestWaitsForItsFirstMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, parts := testBudget(100, 1)
		first, second := parts[0].share(time.Second), parts[0].share(time.Second)
		if err := first.reserve(80); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(600*time.Millisecond, first.release)
		from := time.Now()
		if err := second.reserve(30); err != nil || time.Since(from) != 600*time.Millisecond {
			t.Errorf("%v after %s, want the memory after 600 ms", err, time.Since(from))
		}
		if second.patience != 400*time.Millisecond {
			t.Errorf("%s of patience left, want 400 ms", second.patience)
		}
		second.release()
	})
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, parts := testBudget(100, 1)
		first, small, second := parts[0].share(time.Second), parts[0].share(time.Second), parts[0].share(time.Second)
		if err := errors.Join(first.reserve(75), small.reserve(5)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(300*time.Millisecond, small.release) // which is not enough
		from := time.Now()
		if err := second.reserve(30); !errors.Is(err, errInFlight) || time.Since(from) != time.Second {
			t.Errorf("%v after %s, want a refusal after 1 s", err, time.Since(from))
		}
		second.release()
		first.release()
		if b.taken != 0 {
			t.Errorf("%d taken after all was released", b.taken)
		}
	})
}

// TestARequestThatHasMemoryDoesNotWaitForMore, for what it waits for may be held by one that waits for it.
func TestARequestThatHasMemoryDoesNotWaitForMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, parts := testBudget(100, 1)
		first, second := parts[0].share(time.Second), parts[0].share(time.Second)
		if err := errors.Join(first.reserve(40), second.reserve(40)); err != nil {
			t.Fatal(err)
		}
		from := time.Now()
		if err := errors.Join(first.grow(60), second.grow(50)); !errors.Is(err, errInFlight) || time.Since(from) != 0 {
			t.Errorf("%v after %s, want the second one refused at once", err, time.Since(from))
		}
		if first.taken != 60 || second.taken != 40 {
			t.Errorf("%d and %d taken, want 60 and 40", first.taken, second.taken)
		}
	})
}

// TestManyRequestsShareLittleMemory has requests contend for the memory of a few; each gets its own in the end.
func TestManyRequestsShareLittleMemory(t *testing.T) {
	t.Parallel()
	b, parts := testBudget(1000, 2)
	var requests sync.WaitGroup
	for i := range 64 {
		requests.Go(func() {
			for range 100 {
				s := parts[i%2].share(time.Minute)
				if err := s.reserve(rand.Int64N(400)); err != nil {
					t.Error(err)
				}
				_ = s.grow(s.taken + rand.Int64N(200)) // which may be refused
				s.release()
			}
		})
	}
	requests.Wait()
	if b.taken != 0 {
		t.Errorf("%d taken after all was released", b.taken)
	}
}
