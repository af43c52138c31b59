package inbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Committer carries out one batch in one transaction.
type Committer interface {
	// Prepare does all that can be done of an append before its turn: those who append are many, and the writer is one. Its error refuses
	// the append.
	Prepare(a *Append) error
	// Commit MUST NOT return nil unless everything in the batch is durable. It fills the receipt of each append. Its errors
	// wrap ErrUnavailable or ErrBroken; after either, nothing of the batch was stored.
	Commit(appends []*Append, settlements []Settlement) error
}

// Append is an arrival on its way into the store.
type Append struct {
	Arrival Arrival
	Receipt Receipt
	// Prepared is what the committer has made of the arrival.
	Prepared any

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
// commit, with no waiting for its own sake. Appends go before settlements; a task comes with each round.
type Writer struct {
	committer Committer
	o         WriterOptions
	metrics   *Metrics
	now       func() time.Time // for what is recorded; what is measured takes time.Now, which no change of the system's clock disturbs

	mu          sync.Mutex
	work        *sync.Cond
	appends     []*Append
	appendBytes int // of their bodies
	settlements []Settlement
	retryAt     time.Time // settlements wait until then after a failure
	tasks       []*task
	closed      bool
	roundFrom   time.Time     // when the round under way began; zero for none
	average     time.Duration // of the rounds with appends
	arrived     int           // appends since counted
	counted     time.Time
	arriving    atomic.Int64 // appends a second, until busyUntil
	busyUntil   atomic.Int64 // when what arrived last is long ago, in nanoseconds

	status  atomic.Pointer[status]
	noting  sync.Mutex // held while status changes
	refused int64      // arrivals since the store became unavailable; under noting
	outages []Outage
	broken  chan struct{} // closed when the store is broken
	stopped chan struct{} // closed when the loop has ended
}

// round is what the writer does at once: one transaction, and then one task.
type round struct {
	appends     []*Append
	settlements []Settlement
	task        *task
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
	a := &Append{Arrival: arrival, done: make(chan struct{})}
	if err := w.committer.Prepare(a); err != nil {
		w.metrics.failed(err)
		return Receipt{}, err
	}
	a.queuedAt = time.Now()
	if err := w.admit(ctx, a); err != nil {
		w.metrics.failed(err)
		w.shed()
		return Receipt{}, err
	}
	<-a.done
	w.metrics.appendSeconds.Observe(time.Since(a.queuedAt).Seconds())
	if a.err != nil {
		w.metrics.failed(a.err)
		return Receipt{}, a.err
	}
	return a.Receipt, nil
}

func (w *Writer) admit(ctx context.Context, a *Append) error {
	if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: the time for the ack had passed before the append: %w", ErrOverloaded, err)
	} else if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = a.queuedAt.Add(w.o.Budget)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refusal(); err != nil {
		return err
	}
	if wait := w.expectedWait(a.queuedAt); a.queuedAt.Add(wait).After(deadline) {
		return fmt.Errorf("%w: %d appends are queued and the ack would take %s", ErrOverloaded, len(w.appends), wait.Round(time.Millisecond))
	}
	w.appends = append(w.appends, a)
	w.appendBytes += len(a.Arrival.Entry.Body)
	w.metrics.queued.Set(float64(len(w.appends)))
	w.work.Signal()
	return nil
}

// refusal is the error of a writer that takes nothing any more. w.mu is held.
func (w *Writer) refusal() error {
	if w.isBroken() {
		return w.Status()
	}
	if w.closed {
		return ErrClosed
	}
	return nil
}

func (w *Writer) isBroken() bool {
	select {
	case <-w.broken:
		return true
	default:
		return false
	}
}

// expectedWait guesses how long an append that is queued now will take. A round that takes longer than the average is
// expected to take as long again: that is how a stalled disk shows. An idle writer takes any append, whatever the average, or it
// would never learn that a stall is over. w.mu is held.
func (w *Writer) expectedWait(now time.Time) time.Duration {
	if w.roundFrom.IsZero() && len(w.appends) == 0 {
		return 0
	}
	ahead := 1 + max(len(w.appends)/w.o.MaxBatch, w.appendBytes/w.o.MaxBatchBytes)
	wait := time.Duration(ahead) * w.average
	if !w.roundFrom.IsZero() {
		elapsed := now.Sub(w.roundFrom)
		wait += max(w.average-elapsed, elapsed)
	}
	return wait
}

// Settle queues the ends of attempts. They are written when appends leave room, and again if that fails; the engine ends the
// claims when they are durable. After a crash, a settlement that was not written yet is a delivery made again.
func (w *Writer) Settle(s ...Settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isBroken() {
		return // those deliveries will be made again
	}
	w.settlements = append(w.settlements, s...)
	w.metrics.queuedSettlements.Set(float64(len(w.settlements)))
	w.work.Signal()
}

// Unsettled is how many settlements wait to be written.
func (w *Writer) Unsettled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.settlements)
}

// Do runs a task between two transactions, alone with the store, and returns its error. Tasks must be short: acks wait. ctx decides
// on whether the task begins; once begun it is waited for, so that what it writes to is the caller's again.
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
	case <-ctx.Done():
		if w.withdraw(t) {
			return ctx.Err()
		}
		<-t.done
	}
	return t.err
}

// withdraw takes a task back that has not begun.
func (w *Writer) withdraw(t *task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.tasks, t)
	if i < 0 {
		return false
	}
	w.tasks = slices.Delete(w.tasks, i, i+1)
	return true
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
		// Whoever is about to append goes first: a moment with much to do then fills a transaction, and one with nothing to do
		// costs nothing.
		runtime.Gosched()
		r, ok := w.take()
		if !ok {
			return
		}
		if len(r.appends)+len(r.settlements) > 0 {
			w.commit(r.appends, r.settlements)
		}
		if r.task != nil {
			w.perform(r.task)
		}
		w.endRound(len(r.appends))
	}
}

// take waits for work. A task comes with every round, so that neither waits for the other to run dry.
func (w *Writer) take() (r round, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.isBroken() && len(w.appends) == 0 && len(w.tasks) == 0 && !w.settlementsReady() {
		switch {
		case w.closed:
			return r, false
		case len(w.settlements) > 0:
			timer := time.AfterFunc(time.Until(w.retryAt), w.nudge)
			w.work.Wait()
			timer.Stop()
		default:
			w.work.Wait()
		}
	}
	if w.isBroken() {
		return r, false
	}
	r.appends = w.takeAppends()
	if w.settlementsReady() {
		r.settlements = w.takeSettlements(len(r.appends) > 0)
	}
	if len(w.tasks) > 0 {
		r.task, w.tasks = w.tasks[0], w.tasks[1:]
	}
	w.roundFrom = time.Now()
	return r, true
}

// nudge wakes the loop. With the lock, so that it cannot come between the loop's look and its wait.
func (w *Writer) nudge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.work.Broadcast()
}

// settlementsReady reports whether settlements are to be written now. A closed writer makes its last try at once. w.mu is held.
func (w *Writer) settlementsReady() bool {
	return len(w.settlements) > 0 && (w.closed || !time.Now().Before(w.retryAt))
}

// takeAppends and takeSettlements let go of what they take, so that no finished body is kept alive by the queue. w.mu is held.

func (w *Writer) takeAppends() []*Append {
	n, bytes := 0, 0
	for n < len(w.appends) && n < w.o.MaxBatch {
		body := len(w.appends[n].Arrival.Entry.Body)
		if n > 0 && bytes+body > w.o.MaxBatchBytes {
			break
		}
		bytes += body
		n++
	}
	batch := w.appends[:n:n]
	if n == len(w.appends) {
		w.appends = nil
	} else {
		w.appends = slices.Clone(w.appends[n:])
	}
	w.appendBytes -= bytes
	w.metrics.queued.Set(float64(len(w.appends)))
	return batch
}

func (w *Writer) takeSettlements(besideOthers bool) []Settlement {
	n := min(len(w.settlements), w.o.MaxSettlements)
	if besideOthers {
		n = min(n, besideAppends)
	}
	batch := w.settlements[:n:n]
	if w.settlements = w.settlements[n:]; len(w.settlements) == 0 {
		w.settlements = nil
	}
	w.metrics.queuedSettlements.Set(float64(len(w.settlements)))
	return batch
}

func (w *Writer) commit(appends []*Append, settlements []Settlement) {
	from := time.Now()
	err := guarded(func() error { return w.committer.Commit(appends, settlements) })
	w.metrics.commitSeconds.Observe(time.Since(from).Seconds())
	if len(appends) > 0 {
		w.metrics.batchSize.Observe(float64(len(appends)))
	}
	w.note(err, len(appends))
	for _, a := range appends {
		if a.err == nil {
			a.err = err
		}
		close(a.done)
	}
	if err != nil && len(settlements) > 0 {
		w.keep(settlements)
	}
}

// keep puts settlements that could not be written back, to be tried again.
func (w *Writer) keep(settlements []Settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.isBroken() {
		return // those deliveries will be made again
	}
	w.settlements = append(settlements, w.settlements...)
	w.metrics.queuedSettlements.Set(float64(len(w.settlements)))
	w.retryAt = time.Now().Add(w.o.RetryAfter)
}

// perform runs a task, unless the transaction before it broke the store.
func (w *Writer) perform(t *task) {
	defer close(t.done)
	if w.isBroken() {
		t.err = w.Status()
		return
	}
	from := time.Now()
	t.err = guarded(t.run)
	w.metrics.taskSeconds.Observe(time.Since(from).Seconds())
	if t.err != nil {
		w.note(t.err, 0)
	}
}

func (w *Writer) endRound(appends int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if appends > 0 {
		const weight = 8
		w.average += (now.Sub(w.roundFrom) - w.average) / weight
	}
	w.roundFrom = time.Time{}
	w.arrived += appends
	if elapsed := now.Sub(w.counted); elapsed >= busySpan {
		if perSecond := float64(w.arrived) / elapsed.Seconds(); perSecond >= busyRate {
			w.arriving.Store(int64(perSecond))
			w.busyUntil.Store(now.Add(2 * busySpan).UnixNano())
		}
		w.arrived, w.counted = 0, now
	}
}

const (
	// busyRate is how many appends a second are many, over a busySpan.
	busyRate = 500
	busySpan = 50 * time.Millisecond
)

// Busy says how many appends arrive a second if they are many: then what can wait should leave them the machine. Else it is 0.
func (w *Writer) Busy() (perSecond float64) {
	if time.Now().UnixNano() >= w.busyUntil.Load() {
		return 0
	}
	return float64(w.arriving.Load())
}

// guarded turns a panic into ErrBroken: nobody knows what state it left the engine in, so that the process has to end, but in
// order and with an answer to everybody who waits.
func guarded(run func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic in %s: %v; restart callbackd, and report this", ErrBroken, panicSite(), p)
		}
	}()
	return run()
}

// panicSite is the function and line that panicked. A deferred function calls it.
func panicSite() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	panicking := false
	for {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf("%s (%s:%d)", f.Function, filepath.Base(f.File), f.Line)
		}
		panicking = panicking || inRuntime
		if !more {
			return "an unknown place"
		}
	}
}

// Report tells the writer that a reader, or a checkpoint beside it, found the store broken. Other errors of theirs stop no acks.
func (w *Writer) Report(err error) {
	if errors.Is(err, ErrBroken) {
		w.note(err, 0)
	}
}

// Recovered is for the engine: a transaction of a task is durable, so the store takes arrivals.
func (w *Writer) Recovered() {
	if w.Status() != nil {
		w.note(nil, 0)
	}
}

// note keeps the outcome of the last use of the store, which refused some arrivals if it failed, and fails all that wait when the
// store is broken.
func (w *Writer) note(err error, appends int) {
	w.noting.Lock()
	defer w.noting.Unlock()
	old := w.status.Load()
	switch {
	case errors.Is(old.err, ErrBroken):
	case err == nil && old.err != nil:
		w.outages = append(w.outages, Outage{From: old.since, To: w.now(), Reason: old.err.Error(), Refused: w.refused})
		w.refused = 0
		w.status.Store(&status{})
		w.metrics.available.Set(1)
	case errors.Is(err, ErrBroken):
		w.status.Store(&status{err, w.now()})
		w.metrics.available.Set(0)
		w.fail(err)
	case errors.Is(err, ErrUnavailable):
		w.refused += int64(appends)
		if old.err == nil {
			w.status.Store(&status{err, w.now()})
			w.metrics.available.Set(0)
		}
	}
}

// shed counts an arrival that was not queued, if that was during an outage.
func (w *Writer) shed() {
	if w.Status() == nil {
		return
	}
	w.noting.Lock()
	defer w.noting.Unlock()
	if w.Status() != nil {
		w.refused++
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

// NoteOutage adds an outage that the store knows nothing of, because arrivals were refused before they came to it.
func (w *Writer) NoteOutage(o Outage) {
	w.noting.Lock()
	defer w.noting.Unlock()
	w.outages = append(w.outages, o)
}

// ReturnOutages takes back what could not be stored.
func (w *Writer) ReturnOutages(ended []Outage) {
	w.noting.Lock()
	defer w.noting.Unlock()
	w.outages = append(ended, w.outages...)
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
	w.appends, w.appendBytes, w.tasks, w.settlements = nil, 0, nil, nil
	w.metrics.queued.Set(0)
	w.metrics.queuedSettlements.Set(0)
	w.work.Broadcast()
}
