package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Committer carries out one batch in one transaction.
type Committer interface {
	// Commit MUST NOT return nil unless everything in the batch is durable. It fills the receipt of each append. Its errors
	// wrap ErrUnavailable or ErrBroken; after either, nothing of the batch was stored.
	Commit(appends []*Append, settlements []Settlement) error
}

// Append is an arrival on its way into the store.
type Append struct {
	Arrival Arrival
	Receipt Receipt

	queuedAt time.Time
	err      error
	done     chan struct{}
}

// Fail is for the committer: this append failed and its batch did not.
func (a *Append) Fail(err error) { a.err = err }

// WriterOptions bound a Writer. Zero fields mean the defaults.
type WriterOptions struct {
	MaxBatch       int // appends in one transaction; default 256
	MaxBatchBytes  int // of their bodies; default 8 MiB
	MaxSettlements int // in one transaction without appends; default 2,048
	// Budget is how long an append may take to be acknowledged; one that would take longer is refused at once. Default 3 s.
	Budget time.Duration
	// RetryAfter is the pause before a batch of settlements is tried again. Default 1 s.
	RetryAfter time.Duration
}

// besideAppends bounds the settlements in a transaction that has appends, so that a backlog being delivered does not slow
// the acks.
const besideAppends = 128

// Writer is the one writer of a store. It gathers what arrives while a transaction is being committed into the next one: group
// commit, with no waiting for its own sake. Appends go before settlements, settlements before tasks.
type Writer struct {
	committer Committer
	o         WriterOptions
	metrics   *Metrics
	now       func() time.Time

	mu          sync.Mutex
	work        *sync.Cond
	appends     []*Append
	settlements []Settlement
	retryAt     time.Time // settlements wait until then after a failure
	tasks       []*task
	closed      bool

	commitFrom atomic.Int64 // when the transaction under way began, in nanoseconds since the epoch; 0 for none
	average    atomic.Int64 // of the duration of transactions with appends, in nanoseconds
	status     atomic.Pointer[status]
	refused    atomic.Int64 // appends that failed since the store became unavailable
	noting     sync.Mutex   // held while status changes
	outages    []Outage
	broken     chan struct{} // closed when the store is broken
	stopped    chan struct{} // closed when the loop has ended
}

type status struct {
	err   error
	since time.Time
}

type task struct {
	run  func() error
	err  error
	done chan struct{}
}

// NewWriter starts a writer. The caller MUST Close it.
func NewWriter(c Committer, o WriterOptions, m *Metrics, now func() time.Time) *Writer {
	for _, d := range []struct {
		field     *int
		byDefault int
	}{{&o.MaxBatch, 256}, {&o.MaxBatchBytes, 8 << 20}, {&o.MaxSettlements, 2048}} {
		if *d.field == 0 {
			*d.field = d.byDefault
		}
	}
	if o.Budget == 0 {
		o.Budget = 3 * time.Second
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = time.Second
	}
	w := &Writer{committer: c, o: o, metrics: m, now: now, broken: make(chan struct{}), stopped: make(chan struct{})}
	w.work = sync.NewCond(&w.mu)
	w.status.Store(&status{})
	go w.loop()
	return w
}

// Append stores an arrival and returns when it is durable. ctx decides on admission only: with a deadline that the queue cannot
// meet, or none and a queue longer than the budget, the answer is ErrOverloaded and nothing was queued. Once queued, the
// append is waited for to its end.
func (w *Writer) Append(ctx context.Context, arrival Arrival) (Receipt, error) {
	if err := ctx.Err(); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrOverloaded, err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = w.now().Add(w.o.Budget)
	}
	a := &Append{Arrival: arrival, queuedAt: w.now(), done: make(chan struct{})}
	if err := w.admit(a, deadline); err != nil {
		return Receipt{}, err
	}
	<-a.done
	w.metrics.appendSeconds.Observe(w.now().Sub(a.queuedAt).Seconds())
	if a.err != nil {
		w.refused.Add(1)
	}
	return a.Receipt, a.err
}

func (w *Writer) admit(a *Append, deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refusal(); err != nil {
		return err
	}
	if wait := w.expectedWait(a.queuedAt); a.queuedAt.Add(wait).After(deadline) {
		return fmt.Errorf("%w: %d appends are queued and the ack would take %s", ErrOverloaded, len(w.appends), wait.Round(time.Millisecond))
	}
	w.appends = append(w.appends, a)
	w.metrics.queued.Set(float64(len(w.appends)))
	w.work.Signal()
	return nil
}

// refusal is the error of a writer that takes nothing any more. w.mu is held.
func (w *Writer) refusal() error {
	select {
	case <-w.broken:
		return w.Status()
	default:
	}
	if w.closed {
		return ErrClosed
	}
	return nil
}

// expectedWait guesses how long an append that is queued now will take. A transaction that takes longer than the average is
// expected to take as long again: that is how a stalled disk shows. w.mu is held.
func (w *Writer) expectedWait(now time.Time) time.Duration {
	average := time.Duration(w.average.Load())
	ahead := time.Duration(len(w.appends)/w.o.MaxBatch + 1)
	wait := ahead * average
	if from := w.commitFrom.Load(); from != 0 {
		wait += max(average, now.Sub(time.Unix(0, from)))
	}
	return wait
}

// Settle queues the ends of attempts. They are written when appends leave room, and again if that fails; the engine ends the
// claims when they are durable. After a crash, a settlement that was not written yet is a delivery made again.
func (w *Writer) Settle(s ...Settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settlements = append(w.settlements, s...)
	w.work.Signal()
}

// Do runs a task between two transactions, alone with the store, and returns its error. Tasks must be short: acks wait.
func (w *Writer) Do(ctx context.Context, run func() error) error {
	t := &task{run: run, done: make(chan struct{})}
	w.mu.Lock()
	if err := w.refusal(); err != nil {
		w.mu.Unlock()
		return err
	}
	w.tasks = append(w.tasks, t)
	w.work.Signal()
	w.mu.Unlock()
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		// The task may still run; its outcome is nobody's then.
		return ctx.Err()
	}
}

// Status is nil while the last transaction succeeded, else its error.
func (w *Writer) Status() error { return w.status.Load().err }

// Broken is closed when the store is broken; Status then says why.
func (w *Writer) Broken() <-chan struct{} { return w.broken }

// Close carries out what is queued and stops. Later calls get ErrClosed.
func (w *Writer) Close() {
	w.mu.Lock()
	w.closed = true
	w.work.Broadcast()
	w.mu.Unlock()
	<-w.stopped
}

func (w *Writer) loop() {
	defer close(w.stopped)
	for {
		appends, settlements, t, ok := w.take()
		if !ok {
			return
		}
		if len(appends)+len(settlements) > 0 {
			w.commit(appends, settlements)
		}
		if t != nil {
			t.err = t.run()
			w.note(t.err)
			close(t.done)
		}
	}
}

// take waits for work. A task comes with every batch, so that neither waits for the other to run dry.
func (w *Writer) take() (appends []*Append, settlements []Settlement, t *task, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.appends) == 0 && len(w.tasks) == 0 && !w.settlementsReady() {
		if w.closed && len(w.settlements) == 0 {
			return nil, nil, nil, false
		}
		if len(w.settlements) > 0 && !w.closed {
			// They wait for retryAt; somebody has to wake us then.
			timer := time.AfterFunc(w.retryAt.Sub(w.now()), w.work.Signal)
			w.work.Wait()
			timer.Stop()
			continue
		}
		if w.closed {
			break // one last try
		}
		w.work.Wait()
	}
	appends = w.takeAppends()
	most := w.o.MaxSettlements
	if len(appends) > 0 {
		most = besideAppends
	}
	if w.settlementsReady() || w.closed {
		n := min(most, len(w.settlements))
		settlements, w.settlements = w.settlements[:n:n], w.settlements[n:]
	}
	if len(w.tasks) > 0 {
		t, w.tasks = w.tasks[0], w.tasks[1:]
	}
	return appends, settlements, t, true
}

func (w *Writer) settlementsReady() bool {
	return len(w.settlements) > 0 && !w.now().Before(w.retryAt)
}

func (w *Writer) takeAppends() []*Append {
	n, bytes := 0, 0
	for n < len(w.appends) && n < w.o.MaxBatch {
		bytes += len(w.appends[n].Arrival.Entry.Body)
		if n > 0 && bytes > w.o.MaxBatchBytes {
			break
		}
		n++
	}
	batch := w.appends[:n:n]
	w.appends = w.appends[n:]
	w.metrics.queued.Set(float64(len(w.appends)))
	return batch
}

func (w *Writer) commit(appends []*Append, settlements []Settlement) {
	from := w.now()
	w.commitFrom.Store(from.UnixNano())
	err := w.committer.Commit(appends, settlements)
	took := w.now().Sub(from)
	w.commitFrom.Store(0)
	w.note(err)
	w.metrics.commitSeconds.Observe(took.Seconds())
	if len(appends) > 0 {
		w.metrics.batchSize.Observe(float64(len(appends)))
		const weight = 8
		old := w.average.Load()
		w.average.Store(old + (int64(took)-old)/weight)
	}
	for _, a := range appends {
		if a.err == nil {
			a.err = err
		}
		close(a.done)
	}
	if err != nil && len(settlements) > 0 {
		w.mu.Lock()
		if w.closed || errors.Is(err, ErrBroken) {
			w.settlements = nil // those deliveries will be made again
		} else {
			w.settlements = append(settlements, w.settlements...)
			w.retryAt = w.now().Add(w.o.RetryAfter)
		}
		w.mu.Unlock()
	}
}

// Report tells the writer that a reader found the store broken. Other errors of readers stop no acks.
func (w *Writer) Report(err error) {
	if errors.Is(err, ErrBroken) {
		w.note(err)
	}
}

// note keeps the outcome of the last use of the store, and fails all that wait when it is broken.
func (w *Writer) note(err error) {
	w.noting.Lock()
	defer w.noting.Unlock()
	old := w.status.Load()
	switch {
	case errors.Is(old.err, ErrBroken):
	case err == nil && old.err != nil:
		w.outages = append(w.outages, Outage{From: old.since, To: w.now(), Reason: old.err.Error(), Refused: w.refused.Swap(0)})
		w.status.Store(&status{})
		w.metrics.available.Set(1)
	case errors.Is(err, ErrBroken):
		w.status.Store(&status{err, w.now()})
		w.metrics.available.Set(0)
		w.fail(err)
	case errors.Is(err, ErrUnavailable) && old.err == nil:
		w.status.Store(&status{err, w.now()})
		w.metrics.available.Set(0)
	}
}

// TakeOutages returns the outages that have ended since it was last called. The engine stores them.
func (w *Writer) TakeOutages() []Outage {
	w.noting.Lock()
	defer w.noting.Unlock()
	ended := w.outages
	w.outages = nil
	return ended
}

func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.broken)
	for _, a := range w.appends {
		a.err = err
		close(a.done)
	}
	for _, t := range w.tasks {
		t.err = err
		close(t.done)
	}
	w.appends, w.tasks, w.settlements = nil, nil, nil
}
